import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { type PullProgress, SourceError } from '../../src/engine/models/context.ts';
import { download, fetchData, hashOfFile } from '../../src/tasks/fetch-data.ts';

const CONTENT = randomBytes(200_000);
const SHA = createHash('sha256').update(CONTENT).digest('hex');

let server: Server;
let url: string;
let home: string;
let requests: IncomingMessage[] = [];
/** Answers a request; by default with the content, or the part of it that is asked for. */
let answer: (request: IncomingMessage, response: ServerResponse) => void;

function serve(request: IncomingMessage, response: ServerResponse, drop = 0): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const range = `bytes ${from}-${CONTENT.length - 1}/${CONTENT.length}`;
  response.writeHead(from > 0 ? 206 : 200, {
    'content-length': CONTENT.length - from,
    ...(from > 0 ? { 'content-range': range } : {}),
  });
  if (drop === 0) response.end(CONTENT.subarray(from));
  else response.write(CONTENT.subarray(from, from + drop), () => setTimeout(() => response.destroy(), 20));
}

before(async () => {
  server = createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'tmem-data-'));
  requests = [];
  answer = serve;
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const env = (more: Record<string, string> = {}) => ({ TMEM_HOME: home, HF_ENDPOINT: url, ...more });
const target = () => join(home, 'data', 'CL-bench.jsonl');

test('data is fetched from its home into the data folder, once', async () => {
  const events: PullProgress[] = [];
  const notes: string[] = [];
  const given = { env: env(), onProgress: (e: PullProgress) => events.push(e), onNote: (n: string) => notes.push(n) };
  assert.equal(await fetchData('clbench', given), target());
  assert.deepEqual(readFileSync(target()), CONTENT);
  assert.equal(requests[0]!.url, '/datasets/tencent/CL-bench/resolve/main/CL-bench.jsonl');
  assert.match(notes[0]!, /evaluation only/);
  const last = events.at(-1)!;
  assert.deepEqual([last.received, last.total, last.phase], [CONTENT.length, CONTENT.length, 'download']);
  assert.ok(!existsSync(`${target()}.incomplete`) && !existsSync(`${target()}.lock`));
  assert.equal(await fetchData('clbench', given), target());
  assert.equal(requests.length, 1);
});

test('the hash of a file is that of its content, also after it changed', async () => {
  const file = join(home, 'data.json');
  writeFileSync(file, CONTENT);
  assert.equal(await hashOfFile(file, { env: env() }), SHA);
  writeFileSync(file, 'other');
  assert.equal(await hashOfFile(file, { env: env() }), createHash('sha256').update('other').digest('hex'));
});

test('the token is sent to the hub, and to no other host', async () => {
  await fetchData('clbench', { env: env({ HF_TOKEN: 'secret' }) });
  assert.equal(requests[0]!.headers.authorization, 'Bearer secret');
  await download(`${url}/file`, join(home, 'file'), { env: env({ HF_TOKEN: 'secret' }) });
  assert.equal(requests[1]!.headers.authorization, undefined);
});

test('a dropped connection is taken up where it broke, and what came is kept for the next call', async () => {
  let drops = 1;
  answer = (request, response) => serve(request, response, drops-- > 0 ? 50_000 : 0);
  await fetchData('clbench', { env: env() });
  assert.deepEqual(readFileSync(target()), CONTENT);
  assert.equal(requests[1]!.headers.range, 'bytes=50000-');
  rmSync(target());

  drops = 3;
  requests = [];
  await assert.rejects(fetchData('clbench', { env: env() }), { code: 'missing', message: /what came of it is kept/ });
  const kept = statSync(`${target()}.incomplete`).size;
  assert.equal(requests.length, 3);
  assert.ok(kept > 0 && kept < CONTENT.length);
  await fetchData('clbench', { env: env() });
  assert.equal(requests[3]!.headers.range, `bytes=${kept}-`);
  assert.deepEqual(readFileSync(target()), CONTENT);
});

test('a server that gives only whole files, or refuses the range, sends it anew', async () => {
  const file = join(home, 'file');
  for (const refuse of [false, true]) {
    writeFileSync(`${file}.incomplete`, 'something else');
    answer = (request, response) => {
      if (refuse && request.headers.range) response.writeHead(416).end();
      else response.end(CONTENT);
    };
    await download(`${url}/file`, file, { env: env() });
    assert.deepEqual(readFileSync(file), CONTENT);
  }
});

test('what cannot be had is said with what to give instead', async () => {
  const failing = (status: number, headers = {}) => {
    answer = (_, response) => void response.writeHead(status, headers).end('<html>');
  };
  const missing = (reason: RegExp) => (error: Error & { code?: string }) => {
    assert.equal(error.code, 'missing');
    assert.match(error.message, /^Could not fetch the data of clbench: .+ give a copy of CL-bench\.jsonl by --data\.$/);
    assert.match(error.message, reason);
    return true;
  };
  failing(404);
  await assert.rejects(fetchData('clbench', { env: env() }), missing(/status 404/));
  failing(200, { 'content-type': 'text/html; charset=utf-8' });
  await assert.rejects(fetchData('clbench', { env: env() }), missing(/a web page/));
  failing(503);
  await assert.rejects(fetchData('clbench', { env: env() }), missing(/status 503/));
  await assert.rejects(
    fetchData('clbench', { env: { ...env(), HF_ENDPOINT: 'http://127.0.0.1:1' } }),
    missing(/cannot be had/),
  );
  await assert.rejects(fetchData('clbench', { env: env({ HF_HUB_OFFLINE: '1' }) }), missing(/HF_HUB_OFFLINE is set/));
  assert.ok(!existsSync(target()));
  await assert.rejects(fetchData('squad', { env: env() }), {
    code: 'missing',
    message: /squad; give its file by --data\.$/,
  });
});

test('an interrupted download ends, and goes on from where it stopped', async () => {
  const controller = new AbortController();
  answer = (request, response) => {
    serve(request, response, 50_000);
    setTimeout(() => controller.abort(), 10);
  };
  const file = join(home, 'file');
  const context = { env: env(), signal: controller.signal };
  await assert.rejects(download(`${url}/file`, file, context), { code: 'aborted' });
  assert.ok(!existsSync(file));
  answer = serve;
  await download(`${url}/file`, file, { env: env() });
  assert.deepEqual(readFileSync(file), CONTENT);
  answer = (_, response) => void response.writeHead(403).end();
  await assert.rejects(download(`${url}/other`, join(home, 'other'), { env: env() }), SourceError);
});
