/** The session that is meant when none is named: `TMEM_SESSION`, or the one switched to. */
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';

const file = () => path.join(tmemHome(), 'current-session');

/** undefined: none, so that a conversation leaves nothing behind. */
export async function currentSession(): Promise<string | undefined> {
  if (process.env.TMEM_SESSION) return process.env.TMEM_SESSION;
  const name = await readFile(file(), 'utf8').catch(() => '');
  return name.trim() || undefined;
}

/** @throws TmemError `failed` when it cannot be kept. */
export async function switchSession(name: string | undefined): Promise<void> {
  if (name === undefined) await rm(file(), { force: true });
  else await writeFileAtomic(file(), (write) => write(Buffer.from(`${name}\n`)));
}
