/** Measures every request from its beginning to the end of its response, streams included. */
import type { HttpBindings } from '@hono/node-server';
import type { MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import type { Metrics } from './metrics.ts';
import type { Env } from './services.ts';

export function measured(metrics: Metrics): MiddlewareHandler<Env> {
  return async (c, next) => {
    const began = performance.now();
    const { outgoing } = (c.env ?? {}) as Partial<HttpBindings>;
    // Called after the routes have run, so that the last one that fits is known.
    const record = () =>
      metrics.request({
        method: c.req.method,
        route: routePath(c, -1),
        status: c.res.status,
        seconds: (performance.now() - began) / 1000,
      });
    outgoing?.once('close', record);
    await next();
    if (!outgoing) record();
  };
}
