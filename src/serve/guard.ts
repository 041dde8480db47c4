/** Which pages and hosts may speak to the server, and with which key. */
import type { MiddlewareHandler } from 'hono';
import { ApiError } from './errors.ts';
import type { KeyFile } from './keys.ts';
import { Owner } from './owner.ts';
import type { Env } from './services.ts';

/** Whether only this machine can reach an address. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);

/**
 * Refuses pages of other sites, which a browser would let send requests to this machine (by another `Origin`), or take for pages of this
 * server because their name leads here (DNS rebinding: by another `Host`, which only a server on loopback can tell).
 */
export function sameSite(loopback: boolean, origins: readonly string[]): MiddlewareHandler<Env> {
  return async (c, next) => {
    const host = c.req.header('host') ?? '';
    if (loopback && !isLoopback(host.replace(/:\d+$/, '')))
      throw new ApiError(403, `The server is not reached as ${host}; use localhost.`, { code: 'wrong_host' });
    const origin = c.req.header('origin');
    if (origin !== undefined && !origins.includes('*') && !origins.includes(origin) && hostOf(origin) !== host)
      throw new ApiError(403, `Pages of ${origin} may not use the server; start it with --cors ${origin}.`, {
        code: 'wrong_origin',
      });
    await next();
  };
}

function hostOf(origin: string): string | null {
  return URL.parse(origin)?.host ?? null;
}

/** Finds whose request it is. @param keys undefined: the server is open. */
export function authenticate(keys: KeyFile | undefined): MiddlewareHandler<Env> {
  const everybody = new Owner();
  return async (c, next) => {
    if (!keys) {
      c.set('owner', everybody);
      return next();
    }
    const given = /^Bearer\s+(\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
    if (given === undefined)
      throw new ApiError(401, 'An API key is needed, as `Authorization: Bearer KEY`.', { code: 'missing_api_key' });
    const key = await keys.find(given);
    if (!key) throw new ApiError(401, 'The API key is not known.', { code: 'invalid_api_key' });
    c.set('owner', new Owner(key));
    return next();
  };
}
