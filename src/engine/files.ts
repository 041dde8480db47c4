/** Files as every room needs them: whole or not at all. */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TmemError } from './errors.ts';

/** Takes one piece of the file; resolves once it is handed to the system. */
export type WriteChunk = (chunk: Uint8Array) => Promise<void>;

/**
 * Writes a file so that a reader sees the old one or the whole new one, never a part: a temporary name in the same
 * folder (made if need be), fsync, rename. The temporary file is removed on any failure.
 * Errors of `produce` pass through unchanged.
 * @throws TmemError `failed` when the disk is full or the file cannot be written.
 */
export async function writeFileAtomic(
  path: string,
  produce: (write: WriteChunk) => Promise<void> | void,
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
  const guard = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (error) {
      throw writeError(path, error);
    }
  };
  await guard(mkdir(folder, { recursive: true }));
  const file = await guard(open(temporary, 'wx'));
  try {
    try {
      // Chained, so that a producer that does not await still writes in order and reports the first failure.
      let queue: Promise<void> = Promise.resolve();
      await produce((chunk) => {
        queue = queue.then(() => guard(writeAll(file, chunk)));
        queue.catch(() => {});
        return queue;
      });
      await queue;
      await guard(file.sync());
    } finally {
      await file.close();
    }
    await guard(rename(temporary, path));
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Turns an error of the file system into one sentence for the user; a TmemError is handed on as it is. */
export function writeError(path: string, error: unknown): TmemError {
  if (error instanceof TmemError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new TmemError('failed', `The disk is full: could not write ${path}; free some space and try again.`, {
      cause: error,
    });
  const reason = code ?? (error instanceof Error ? error.message : String(error));
  return new TmemError('failed', `Could not write ${path} (${reason}); check the folder and its permissions.`, {
    cause: error,
  });
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  let done = 0;
  while (done < chunk.length) done += (await file.write(chunk, done, chunk.length - done)).bytesWritten;
}

/** Makes the rename itself durable; not every system can sync a folder, and then the rename is all there is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => null);
  await handle?.sync().catch(() => {});
  await handle?.close();
}
