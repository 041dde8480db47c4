/** Server-sent events (WHATWG HTML, section 9.2) as the body of a response. */
import type { Context } from 'hono';

/** Milliseconds of silence after which a comment is sent, so that proxies keep the connection. */
export const QUIET_MS = 10_000;

export interface SseEvent {
  /** Default: none, which is `message` for the browser. */
  readonly event?: string;
  readonly data: unknown;
}

export const frame = ({ event, data }: SseEvent): string =>
  `${event === undefined ? '' : `event: ${event}\n`}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;

/** Ignored by clients. */
export const comment = (text: string): string => `: ${text.replace(/[\r\n]+/g, ' ')}\n\n`;

/**
 * Sends what the generator gives as it comes, no faster than the client takes it. The generator is ended when the client goes away.
 * @param frames never throws: what goes wrong is a frame, too
 */
export function sseResponse(c: Context, frames: AsyncGenerator<string>): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await frames.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      await frames.return(undefined);
    },
  });
  return c.body(body, 200, {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-cache, no-transform',
    // nginx would gather the events otherwise.
    'X-Accel-Buffering': 'no',
    // Tells the HTTP adapter not to wait for more before it sends the headers.
    'Transfer-Encoding': 'chunked',
  });
}

/** Hands on what comes, and ends with what `onError` makes of an error. */
export async function* endingWith(
  frames: AsyncGenerator<string>,
  onError: (error: unknown) => string,
): AsyncGenerator<string> {
  try {
    yield* frames;
  } catch (error) {
    yield onError(error);
  }
}

/** Something from one of several sources; null after a while without any. */
export type Followed<T> = { readonly index: number; readonly event: T } | null;

/**
 * Events of several sources in the order in which they come. Sources are asked for the next event only when the last one was taken.
 * @throws the signal's reason as soon as it fires, without waiting for the sources; and what a source throws.
 */
export async function* follow<T>(
  sources: readonly AsyncIterable<T>[],
  { signal, quietMs = QUIET_MS }: { readonly signal: AbortSignal; readonly quietMs?: number | undefined },
): AsyncGenerator<Followed<T>> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = (index: number) => {
    const waited = iterators[index]!.next().then((result) => ({ index, result }));
    // Nobody may be there any more when it fails.
    waited.catch(() => {});
    return waited;
  };
  const leave = () => {
    for (const iterator of iterators) iterator.return?.().catch(() => {});
  };
  const pending = new Map(iterators.map((_, index) => [index, next(index)]));
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const abort = () => {
    aborted.reject(signal.reason);
    // Also when nobody asks for the next event any more.
    leave();
  };
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    while (pending.size > 0) {
      const quiet = Promise.withResolvers<null>();
      const timer = setTimeout(quiet.resolve, quietMs, null);
      const first = await Promise.race([aborted.promise, ...pending.values(), quiet.promise]).finally(() =>
        clearTimeout(timer),
      );
      if (first === null) yield null;
      else if (first.result.done) pending.delete(first.index);
      else {
        yield { index: first.index, event: first.result.value };
        pending.set(first.index, next(first.index));
      }
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', abort);
    leave();
  }
}
