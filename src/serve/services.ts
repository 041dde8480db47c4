/** What the routes share. */
import type { Context } from 'hono';
import type { Admission, Limits } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { Owner } from './owner.ts';
import type { Runtime } from './types.ts';

export interface Services {
  readonly runtime: Runtime;
  readonly limits: Limits;
  readonly admission: Admission;
  readonly metrics: Metrics;
  /** Milliseconds of silence after which a stream sends a comment; undefined: as usual. */
  readonly quietMs?: number | undefined;
  /** Told of errors that are not the client's. */
  readonly onError: (error: unknown) => void;
}

export type Env = { Variables: { owner: Owner } };
export type Ctx = Context<Env>;

/** The header of a request as `sessionOf` and others read it. */
export const headerOf = (c: Ctx) => (name: string) => c.req.header(name);
