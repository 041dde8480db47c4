/** Events of work that goes on by itself, for one reader who may leave. */
import { TmemError } from '../../engine/errors.ts';

/**
 * Runs the work and yields what it emits. A reader who leaves, or a signal that fires, ends the stream at once: the work is told by its own
 * signal and goes on as long as it must.
 */
export async function* streamOf<E>(
  work: (emit: (event: E) => void, signal: AbortSignal) => Promise<void>,
  given?: AbortSignal,
): AsyncGenerator<E> {
  const left = new AbortController();
  const signal = given ? AbortSignal.any([given, left.signal]) : left.signal;
  const events: E[] = [];
  let wake = () => {};
  let end: { error?: unknown } | undefined;
  work((event) => {
    events.push(event);
    wake();
  }, signal).then(
    () => {
      end = {};
      wake();
    },
    (error: unknown) => {
      end = { error };
      wake();
    },
  );
  const onAbort = () => wake();
  given?.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      if (given?.aborted) throw new TmemError('aborted', 'Interrupted.');
      const event = events.shift();
      if (event !== undefined) yield event;
      else if (end?.error) throw end.error;
      else if (end) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    given?.removeEventListener('abort', onAbort);
    left.abort();
  }
}

/** Waits for something that goes on by itself only as long as the signal lets. */
export async function whileWanted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(new TmemError('aborted', 'Interrupted.'));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  work.catch(() => {});
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', abort));
}
