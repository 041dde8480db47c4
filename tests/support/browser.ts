/** A headless Chromium for tests: that of `TMEM_CHROMIUM`, or one that is installed. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

/** null: there is none on this machine. */
export function chromiumPath(): string | null {
  const named = process.env.TMEM_CHROMIUM;
  if (named) return named;
  if (existsSync('/usr/bin/chromium')) return '/usr/bin/chromium';
  try {
    return execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim() || null;
  } catch {
    return null;
  }
}

export const NO_CHROMIUM = 'there is no Chromium here; install one, or name it in TMEM_CHROMIUM';

export function openBrowser(executablePath: string): Promise<Browser> {
  // The sandbox cannot be used by root, which tests in containers are run by.
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}
