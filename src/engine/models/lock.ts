import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeError } from '../files.ts';
import { checkInterrupted, type PullContext } from './context.ts';

const POLL_MS = 200;
const HEARTBEAT_MS = 10_000;
/** A lock whose holder has not touched it for this long is left over, whatever its pid says (pids are used again). */
const STALE_MS = 60_000;
/** Between a holder's creating the file and writing its name into it. */
const UNNAMED_MS = 5000;

/**
 * Runs `work` while holding a lock file that names its holder. Waits for another holder, also one in this process; a
 * lock whose process is gone is taken over.
 * @throws TmemError `aborted` when the signal fires while waiting, `failed` when the lock cannot be written.
 */
export async function withLock<T>(path: string, context: PullContext, work: () => Promise<T>): Promise<T> {
  const owner = `${process.pid} ${hostname()} ${randomBytes(8).toString('hex')}`;
  let waiting = false;
  while (!(await create(path, owner))) {
    checkInterrupted(context);
    if (await takeAway(path)) continue;
    if (!waiting) context.onNote?.('Another pull of this model is running; waiting for it.');
    waiting = true;
    await sleep(POLL_MS, undefined, { signal: context.signal }).catch(() => checkInterrupted(context));
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if ((await content(path)) === owner) await rm(path, { force: true });
  }
}

async function create(path: string, owner: string): Promise<boolean> {
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'wx');
    try {
      await file.writeFile(owner);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw writeError(path, error);
  }
}

/** Removes a stale lock. False while its holder lives. */
async function takeAway(path: string): Promise<boolean> {
  const owner = await content(path);
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => null,
  );
  if (age === null) return true;
  const [pid, host] = (owner ?? '').split(' ');
  const unnamed = host === undefined && age > UNNAMED_MS;
  if (!unnamed && age < STALE_MS && (host !== hostname() || isAlive(Number(pid)))) return false;
  // Two waiters may both find it stale: only the one whose rename brings back what it has read may go on.
  const aside = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return true;
  }
  if ((await content(aside)) !== owner) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
  return true;
}

function content(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
