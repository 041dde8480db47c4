/** The server: the application on a port, and its end. */
import { createServer } from 'node:http';
import { isIPv6 } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { TmemError } from '../engine/errors.ts';
import { type AppOptions, createApp } from './app.ts';
import { isLoopback } from './guard.ts';
import type { Runtime } from './types.ts';

export interface ServeOptions extends Omit<AppOptions, 'loopback'> {
  /** Default 127.0.0.1. */
  readonly host?: string | undefined;
  /** Default 8484; 0: any that is free. */
  readonly port?: number | undefined;
  /** Let others than this machine in without keys. Default false. */
  readonly insecure?: boolean | undefined;
  /** Milliseconds that running requests have when the server closes. Default 30 s. */
  readonly graceMs?: number | undefined;
}

export interface Serving {
  readonly url: string;
  /** Refuses new requests, lets running ones end, then closes the runtime. */
  close(): Promise<void>;
}

/** Milliseconds in which the last bytes of what has ended go out. */
const FLUSH_MS = 1000;

/** @throws TmemError `usage` for a host that others than this machine can reach, without keys. */
export function checkReachable({ host = '127.0.0.1', keys, insecure }: ServeOptions): void {
  if (!isLoopback(host) && !keys && !insecure)
    throw new TmemError(
      'usage',
      `Everybody who can reach ${host} could use the server; make a key with \`tmem keys create NAME\`, or add --insecure.`,
    );
}

/** @throws TmemError `usage` for a host that is not safe without keys, or a port that cannot be had. */
export async function serve(runtime: Runtime, options: ServeOptions = {}): Promise<Serving> {
  const { host = '127.0.0.1', port = 8484, insecure = false, graceMs = 30_000, ...rest } = options;
  checkReachable({ host, keys: rest.keys, insecure });
  const { app, stop } = createApp(runtime, { ...rest, loopback: isLoopback(host) });
  const server = createServer(getRequestListener(app.fetch, { overrideGlobalObjects: false }));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new TmemError('usage', `Port ${port} of ${host} cannot be had (${cause.code}); choose another with --port.`, {
          cause,
        }),
      ),
    );
    server.listen(port, host.replace(/^\[|\]$/g, ''), resolve);
  });
  const address = server.address() as { port: number };
  const close = async () => {
    await stop(graceMs);
    const closed = new Promise((resolve) => server.close(resolve));
    // A connection is idle once its last answer has gone out.
    const idle = setInterval(() => server.closeIdleConnections(), FLUSH_MS / 50);
    const late = setTimeout(() => server.closeAllConnections(), FLUSH_MS);
    await closed;
    clearInterval(idle);
    clearTimeout(late);
    await runtime.close();
  };
  let closing: Promise<void> | undefined;
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${address.port}`,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}
