/** Where, and on which state of the code, something was measured. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';

/** Where and on which state of the code a bench ran. */
export interface Setting {
  readonly time: string;
  /** Commit of the checkout, with `+` when files differ from it; null outside one. */
  readonly commit: string | null;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGB: number;
  readonly platform: string;
  readonly node: string;
}

export function setting(): Setting {
  return {
    time: new Date().toISOString(),
    commit: commit(),
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGB: Math.round(os.totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
  };
}

function commit(): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    return git('rev-parse', '--short', 'HEAD').trim() + (git('status', '--porcelain').trim() ? '+' : '');
  } catch {
    return null;
  }
}
