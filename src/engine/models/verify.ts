import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { TmemError } from '../errors.ts';
import { writeFileAtomic } from '../files.ts';
import { tmemHome } from '../home.ts';
import { checkInterrupted, Meter, type PullContext } from './context.ts';

const Verified = z.strictObject({
  path: z.string(),
  bytes: z.number(),
  mtimeMs: z.number(),
  sha256: z.string(),
  source: z.string(),
});

/** A file that was read whole: its hash holds while size and time of change stay. */
export type Verified = z.infer<typeof Verified>;

/**
 * SHA-256 (hex) of a file, with progress.
 * @throws TmemError `aborted`, or `missing` when the file cannot be read.
 */
export async function hashFile(path: string, context: PullContext): Promise<string> {
  const hash = createHash('sha256');
  try {
    const { size } = await stat(path);
    const meter = new Meter(context, { source: 'disk', file: basename(path), phase: 'verify', total: size });
    let read = 0;
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal: context.signal })) {
      hash.update(chunk);
      read += chunk.length;
      meter.update(read);
    }
  } catch (error) {
    checkInterrupted(context);
    const { code, message } = error as NodeJS.ErrnoException;
    throw new TmemError('missing', `${path} cannot be read (${code ?? message}); check the path and the disk.`, {
      cause: error,
    });
  }
  return hash.digest('hex');
}

/** What is remembered of a file, or null when nothing is or when the file changed since. */
async function recall(path: string, context: PullContext): Promise<Verified | null> {
  try {
    const [text, { size, mtimeMs }] = await Promise.all([
      readFile(await recordPath(path, context), 'utf8'),
      stat(path),
    ]);
    const record = Verified.parse(JSON.parse(text));
    // The record may have been made under another name of the same file.
    return record.bytes === size && record.mtimeMs === mtimeMs ? { ...record, path } : null;
  } catch {
    // No record, an unreadable one or no file: it is to be read again.
    return null;
  }
}

/**
 * Size and hash of a file; hashed only when it changed since the last time.
 * @throws TmemError `missing` when the file cannot be read, `aborted`.
 */
export async function verify(path: string, source: string, context: PullContext): Promise<Verified> {
  return (await recall(path, context)) ?? remember(path, await hashFile(path, context), source, context);
}

/** Notes down a hash that was just computed over the file. */
export async function remember(path: string, sha256: string, source: string, context: PullContext): Promise<Verified> {
  const { size, mtimeMs } = await stat(path);
  const record: Verified = { path, bytes: size, mtimeMs, sha256, source };
  // It only saves time: a home that cannot be written must not keep a model from being used.
  await writeFileAtomic(await recordPath(path, context), (write) =>
    write(Buffer.from(`${JSON.stringify(record)}\n`)),
  ).catch(() => {});
  return record;
}

/** Not beside the model itself: that may lie in a folder of the user or of other tools. */
async function recordPath(path: string, { env }: PullContext): Promise<string> {
  const name = createHash('sha256')
    .update(await realpath(path))
    .digest('hex');
  return join(tmemHome(env), 'verified', `${name.slice(0, 32)}.json`);
}
