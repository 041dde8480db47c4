/**
 * One process at a time in a folder. Who wants in leaves a file of its own, whose name says who it is, and then looks for
 * others: if there are any that live it goes away again. No file is ever used twice, so removing one whose process is gone
 * takes nothing from anybody, and of two that come at the same moment both may leave but never both stay.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Name of its file. */
  readonly file: string;
}

export interface Lock {
  release(): Promise<void>;
}

const ATTEMPTS = 4;
/** Files of this process. One with its pid that is not among them is left from an earlier process with the same pid. */
const held = new Set<string>();

/** The lock on a folder, or who has it. */
export async function acquireLock(folder: string): Promise<Lock | Holder> {
  for (let attempt = 1; ; attempt++) {
    const file = `lock.${process.pid}.${encodeURIComponent(hostname())}.${randomUUID()}`;
    const release = async () => {
      held.delete(file);
      await rm(join(folder, file), { force: true });
    };
    held.add(file);
    await writeFile(join(folder, file), '', { flag: 'wx' });
    const other = await findOther(folder, file);
    if (!other) return { release };
    await release();
    if (attempt === ATTEMPTS) return other;
    await sleep(5 + Math.random() * 30); // it may be one that has come at the same moment and leaves too
  }
}

/** Another holder that lives; files of those that do not are removed. */
async function findOther(folder: string, mine: string): Promise<Holder | null> {
  for (const file of await readdir(folder)) {
    const match = /^lock\.(\d+)\.(.+)\.[0-9a-f-]{36}$/.exec(file);
    if (!match || file === mine) continue;
    const holder = { pid: Number(match[1]), host: decodeURIComponent(match[2]!), file };
    if (isAlive(holder)) return holder;
    await rm(join(folder, file), { force: true });
  }
  return null;
}

function isAlive({ pid, host, file }: Holder): boolean {
  if (host !== hostname()) return true; // another machine on a shared disk: we cannot know, so we keep out
  if (pid === process.pid) return held.has(file);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
