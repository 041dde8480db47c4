/** A Hugging Face hub on this machine, with its faults: what the wire of `src/engine/models/hub.ts` is tested against. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Hub {
  readonly url: string;
  /** `user/repo` to its files. */
  readonly repos: Map<string, Map<string, Uint8Array>>;
  /** Old name to new name: answered with a redirect within the hub. */
  readonly renamed: Map<string, string>;
  /** Every request, in order. `bytes`: it asked for the file itself, at the second host. */
  readonly requests: { kind: 'api' | 'resolve' | 'bytes'; method: string; range?: string; authorization?: string }[];
  /** What goes wrong; may be changed between requests. */
  readonly faults: Faults;
  close(): Promise<void>;
}

export interface Faults {
  /** Token that every request to the hub must carry. */
  token?: string;
  /** The next answers with bytes end after this many of them. */
  dropAfter?: number[];
  /** Sends other bytes than announced. */
  wrongBytes?: boolean;
  /** Answers every range with the whole file. */
  ignoreRange?: boolean;
  /** Answers every request for a range with 416. */
  refuseRange?: boolean;
  /** Status of every answer with bytes. */
  status?: number;
  /** Never answers. */
  silent?: boolean;
  /** Milliseconds between pieces of 16 KiB. */
  pace?: number;
}

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';

export async function startHub(faults: Faults = {}): Promise<Hub> {
  const repos: Hub['repos'] = new Map();
  const renamed: Hub['renamed'] = new Map();
  const requests: Hub['requests'] = [];
  const note = (kind: Hub['requests'][number]['kind'], { method = '', headers }: IncomingMessage) =>
    requests.push({ kind, method, range: headers.range, authorization: headers.authorization });

  const store = await listen((request, response) => {
    note('bytes', request);
    const [, user, repo, ...file] = decodeURIComponent(request.url ?? '').split('/');
    const content = repos.get(`${user}/${repo}`)?.get(file.join('/'));
    if (content) serve(content, faults, request, response);
    else response.writeHead(404).end();
  });
  const hub = await listen((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://hub').pathname);
    const [, api, name, , file] = /^\/(api\/models\/)?([^/]+\/[^/]+)(\/resolve\/main\/(.*))?$/.exec(path) ?? [];
    note(api ? 'api' : 'resolve', request);
    if (faults.silent) return;
    if (faults.token && request.headers.authorization !== `Bearer ${faults.token}`) {
      response.writeHead(401).end();
      return;
    }
    const moved = renamed.get(name ?? '');
    const files = repos.get(name ?? '');
    const content = files?.get(file ?? '');
    if (moved) response.writeHead(307, { location: request.url?.replace(name!, moved) }).end();
    else if (api && files)
      response.end(JSON.stringify({ sha: COMMIT, siblings: [...files.keys()].map((rfilename) => ({ rfilename })) }));
    else if (content)
      response
        .writeHead(302, {
          location: `${store.url}/${name}/${file}`,
          etag: '"not-the-hash"',
          'x-linked-etag': `"${createHash('sha256').update(content).digest('hex')}"`,
          'x-linked-size': content.length,
          'x-repo-commit': COMMIT,
        })
        .end();
    else response.writeHead(404).end();
  });
  return {
    url: hub.url,
    repos,
    renamed,
    requests,
    faults,
    close: async () => {
      for (const { server } of [hub, store]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

async function serve(content: Uint8Array, faults: Faults, request: IncomingMessage, response: ServerResponse) {
  if (faults.status) return void response.writeHead(faults.status).end();
  const from = faults.ignoreRange ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (from > 0 && faults.refuseRange) return void response.writeHead(416).end();
  const body = faults.wrongBytes ? content.map((byte) => byte ^ 1) : content;
  response.writeHead(from > 0 ? 206 : 200, {
    'content-length': body.length - from,
    ...(from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
  });
  const drop = faults.dropAfter?.shift();
  const end = drop === undefined ? body.length : Math.min(body.length, from + drop);
  for (let at = from; at < end && !response.destroyed; at += 16384) {
    const piece = body.subarray(at, Math.min(end, at + 16384));
    await new Promise<void>((resolve) => response.write(piece, () => resolve()));
    if (faults.pace) await new Promise((resolve) => setTimeout(resolve, faults.pace));
  }
  if (end < body.length) response.destroy();
  else response.end();
}

async function listen(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ server: Server; url: string }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}
