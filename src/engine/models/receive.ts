/** One request for a file that may be there in part already. */
import type { FileHandle } from 'node:fs/promises';
import { writeError } from '../files.ts';
import { SourceError } from './context.ts';

const STALL_MS = 30_000;

export interface Receiving {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Open for appending, and its path, for errors. */
  readonly file: FileHandle;
  readonly partial: string;
  /** Size of the whole file. Default: as the answer announces it. */
  readonly bytes?: number;
  readonly signal?: AbortSignal | undefined;
  /** Throws a SourceError for an answer that asking again will not change. */
  readonly check: (response: Response) => void;
  /** Told how many bytes of how many are there. */
  readonly onBytes: (size: number, total: number) => void;
}

/**
 * Appends from where the file ends to where the answer does.
 * @throws SourceError when the answer will be no other; TmemError `failed` when the disk is full; any other error when another request may
 * go on.
 */
export async function receive({
  url,
  headers,
  file,
  partial,
  bytes,
  signal,
  check,
  onBytes,
}: Receiving): Promise<void> {
  let { size } = await file.stat();
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error('no data for 30 s')), STALL_MS);
  try {
    const response = await fetch(url, {
      headers: { ...headers, ...(size > 0 && { range: `bytes=${size}-` }) },
      signal: AbortSignal.any([stall.signal, ...(signal ? [signal] : [])]),
    });
    const { status, headers: answered, body } = response;
    if (status === 416) await file.truncate(0);
    if (status === 416 || status === 429 || status >= 500) throw new Error(`status ${status}`);
    check(response);
    if (body === null) throw new SourceError(`answered with status ${status}`);
    if (status === 206 && !answered.get('content-range')?.startsWith(`bytes ${size}-`))
      throw new Error('another range than was asked for');
    if (status !== 206 && size > 0) {
      // Some servers give files only whole.
      await file.truncate(0);
      size = 0;
    }
    const total = bytes ?? size + Number(answered.get('content-length') ?? 0);
    for await (const chunk of body) {
      timer.refresh();
      size += chunk.length;
      if (bytes !== undefined && size > bytes) throw new SourceError('sent more bytes than it announced');
      await file.appendFile(chunk).catch((error) => {
        throw writeError(partial, error);
      });
      onBytes(size, total);
    }
    if (size < total) throw new Error('the connection ended early');
  } finally {
    clearTimeout(timer);
    // An answer that was not read to its end would keep its connection open.
    stall.abort();
  }
}
