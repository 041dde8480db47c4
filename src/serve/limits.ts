/** What one client may ask for, and the end of requests: by themselves, by their client, by the clock or with the server. */
import { TmemError } from '../engine/errors.ts';
import { ApiError } from './errors.ts';
import type { Runtime } from './types.ts';

export interface Limits {
  readonly bodyBytes: number;
  /** Most tokens that one completion may be allowed to generate. Default: the context of the engine. */
  readonly maxTokens: number;
  /** Requests that one key (or everybody, without keys) may have running at once; event streams are counted on their own. */
  readonly perKey: number;
  /** Completions that may wait for the model. */
  readonly queue: number;
  readonly timeoutMs: number;
}

export const DEFAULT_LIMITS: Omit<Limits, 'maxTokens'> = {
  bodyBytes: 4 * 1024 * 1024,
  perKey: 32,
  queue: 64,
  timeoutMs: 10 * 60_000,
};

/** Seconds after which a client that was turned away had better ask again. */
const RETRY_SECONDS = 5;

/** A request that was let in. */
export interface Ticket {
  /** Fires when its client goes away, when its time is over, and when the server stops without waiting any longer. */
  readonly signal: AbortSignal;
  /** Ends it; the first call counts. */
  end(): void;
}

export interface TicketOptions {
  /** Fires when the client goes away. */
  readonly client: AbortSignal;
  /** Completions that it will ask the runtime for. Default 0. */
  readonly completions?: number;
  /** It looks on until its client has enough: no timeout, and a stopping server does not wait for it. Default false. */
  readonly watches?: boolean;
}

export class Admission {
  readonly #runtime: Runtime;
  readonly #limits: Limits;
  readonly #counts = new Map<string, number>();
  readonly #tickets = new Set<{ readonly watches: boolean; abort(reason: Error): void }>();
  #completions = 0;
  #stopped = false;
  #emptied: () => void = () => {};

  constructor(runtime: Runtime, limits: Limits) {
    this.#runtime = runtime;
    this.#limits = limits;
  }

  /** @throws ApiError 503 when the server is stopping. */
  checkOpen(): void {
    if (this.#stopped)
      throw new ApiError(503, 'The server is shutting down.', { code: 'shutting_down', retryAfter: RETRY_SECONDS });
  }

  /** @throws ApiError 429 when the key has too many requests running, 503 when too many wait or the server is stopping. */
  admit(owner: string, { client, completions = 0, watches = false }: TicketOptions): Ticket {
    this.checkOpen();
    const { perKey, queue, timeoutMs } = this.#limits;
    const key = `${watches ? 'watch' : 'work'} ${owner}`;
    const count = this.#counts.get(key) ?? 0;
    if (count >= perKey)
      throw new ApiError(429, `There are ${count} requests running already; wait for one to end.`, {
        code: 'too_many_requests',
        retryAfter: RETRY_SECONDS,
      });
    // Those that were let in and do not run yet wait, whether the runtime has seen them or not.
    const waiting = this.#completions - this.#runtime.status().running;
    if (completions > 0 && waiting >= queue)
      throw new ApiError(503, `${waiting} requests are waiting already; try again later.`, {
        code: 'queue_full',
        retryAfter: RETRY_SECONDS,
      });

    const controller = new AbortController();
    const gone = () => ticket.abort(new TmemError('aborted', 'The client has closed the connection.'));
    const late = () =>
      ticket.abort(new ApiError(408, `It took longer than ${timeoutMs / 1000} s.`, { code: 'timeout' }));
    const timer = watches ? undefined : setTimeout(late, timeoutMs);
    const end = () => {
      if (!this.#tickets.delete(ticket)) return;
      clearTimeout(timer);
      client.removeEventListener('abort', gone);
      this.#completions -= completions;
      const left = this.#counts.get(key)! - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
      if (this.#tickets.size === 0) this.#emptied();
    };
    const ticket = {
      watches,
      abort: (reason: Error) => {
        controller.abort(reason);
        // A client that no longer reads would keep its place for ever.
        end();
      },
    };
    this.#tickets.add(ticket);
    this.#counts.set(key, count + 1);
    this.#completions += completions;
    if (client.aborted) gone();
    else client.addEventListener('abort', gone, { once: true });
    return { signal: controller.signal, end };
  }

  /** Lets nobody in any more. Resolves when the last request has ended, which those are made to that last longer than `ms`. */
  async stop(ms: number): Promise<void> {
    this.#stopped = true;
    const stop = () =>
      new ApiError(503, 'The server is shutting down.', { code: 'shutting_down', retryAfter: RETRY_SECONDS });
    for (const ticket of [...this.#tickets]) if (ticket.watches) ticket.abort(stop());
    if (this.#tickets.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#emptied = resolve;
    const timer = setTimeout(() => {
      for (const ticket of [...this.#tickets]) ticket.abort(stop());
    }, ms);
    await promise;
    clearTimeout(timer);
  }
}
