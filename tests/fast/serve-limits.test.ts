/** How much a client may ask for, who is turned away, and how requests and the server end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serve } from '../../src/serve/server.ts';
import type { CompletionEvent } from '../../src/serve/types.ts';
import { ScriptedRuntime } from '../support/scripted-runtime.ts';
import { framesOf, saying, served, until } from '../support/serving.ts';

const CHAT = { messages: saying('Hi') };

/** An answer that comes when it is let; meanwhile the request runs. */
function held() {
  const { promise, resolve } = Promise.withResolvers<void>();
  const reply = async function* (): AsyncGenerator<CompletionEvent> {
    yield { type: 'text', text: 'Well,' };
    await promise;
    yield { type: 'text', text: ' yes.' };
  };
  return { reply, release: resolve };
}

/** Generates until it is stopped. */
const endless = function* (): Generator<CompletionEvent> {
  for (;;) yield { type: 'text', text: 'and ' };
};

async function errorOf(response: Response) {
  return { status: response.status, ...(await response.json()).error };
}

test('A body that is too large is refused, whether it says so or not', async (t) => {
  const { post, url, runtime } = await served(t, () => '', { limits: { bodyBytes: 1000 } });
  const large = JSON.stringify({ messages: saying('x'.repeat(2000)) });
  const announced = await errorOf(await post('/v1/chat/completions', large));
  assert.deepEqual([announced.status, announced.code], [413, 'request_too_large']);
  const chunked = httpRequest(`${url}/v1/chat/completions`, { method: 'POST' });
  for (let i = 0; i < large.length; i += 100) chunked.write(large.slice(i, i + 100));
  chunked.end();
  const [response] = await once(chunked, 'response');
  assert.equal(response.statusCode, 413);
  response.resume();
  assert.equal(runtime.requests.length, 0);
  assert.equal((await post('/v1/chat/completions', CHAT)).status, 200);
});

test('More tokens than allowed are refused, and named as they were asked for', async (t) => {
  const { post } = await served(t, () => '', { limits: { maxTokens: 100 } });
  for (const param of ['max_tokens', 'max_completion_tokens']) {
    assert.equal((await post('/v1/chat/completions', { ...CHAT, [param]: 100 })).status, 200);
    const refused = await errorOf(await post('/v1/chat/completions', { ...CHAT, [param]: 101 }));
    assert.deepEqual([refused.status, refused.param], [400, param]);
  }
});

test('A key that asks for too much at once has to wait, and may go on afterwards', async (t) => {
  const { reply, release } = held();
  const { post, runtime } = await served(t, reply, { limits: { perKey: 2 } });
  const running = [1, 2].map(() => post('/v1/chat/completions', CHAT));
  await until(() => runtime.status().running === 2);
  const refused = await post('/v1/chat/completions', CHAT);
  assert.equal(refused.headers.get('retry-after'), '5');
  assert.deepEqual((await errorOf(refused)).type, 'rate_limit_error');
  release();
  for (const response of await Promise.all(running)) assert.equal(response.status, 200);
  assert.equal((await post('/v1/chat/completions', CHAT)).status, 200);
});

test('A queue that is full turns requests away', async (t) => {
  const { reply, release } = held();
  const { post, runtime } = await served(t, { reply, atOnce: 1 }, { limits: { queue: 2 } });
  const let_in = [1, 2, 3].map(() => post('/v1/chat/completions', CHAT));
  await until(() => runtime.status().waiting === 2);
  const refused = await post('/v1/chat/completions', CHAT);
  assert.equal(refused.headers.get('retry-after'), '5');
  assert.partialDeepStrictEqual(await errorOf(refused), { status: 503, code: 'queue_full' });
  release();
  for (const response of await Promise.all(let_in)) assert.equal(response.status, 200);
});

test('What takes too long is ended: with 408 as a whole, with an error as a stream', async (t) => {
  const { post, runtime } = await served(t, endless, { limits: { timeoutMs: 50 } });
  const whole = await post('/v1/chat/completions', CHAT);
  assert.equal(whole.headers.get('x-should-retry'), 'false');
  assert.partialDeepStrictEqual(await errorOf(whole), { status: 408, code: 'timeout' });
  const frames = await framesOf(await post('/v1/chat/completions', { ...CHAT, stream: true }));
  assert.equal(JSON.parse(frames.at(-1)!.data!).error.code, 'timeout');
  await until(() => runtime.status().running === 0);
});

test('What hangs without listening to its signal is answered all the same', async (t) => {
  const { post } = await served(
    t,
    async function* (): AsyncGenerator<CompletionEvent> {
      yield { type: 'waiting' };
      await new Promise(() => {});
    },
    { limits: { timeoutMs: 50 } },
  );
  assert.equal((await post('/v1/chat/completions', CHAT)).status, 408);
});

test('500 clients that go away at any moment leave nothing running', async (t) => {
  const { post, runtime, client } = await served(
    t,
    { reply: endless, atOnce: 20 },
    { limits: { perKey: 1000, queue: 1000 } },
  );
  const leave = async (i: number) => {
    const gone = new AbortController();
    const stream = i % 2 === 0;
    const [path, body] =
      i % 5 === 0 ? ['responses', { input: 'Hi' }] : ['chat/completions', { ...CHAT, n: 1 + (i % 3) }];
    const answer = post(`/v1/${path}`, { ...body, stream }, {}, gone.signal);
    // Some after the answer has begun, the others whenever it is: before, while it waits, or while it is made.
    if (stream && i % 4 === 0) await answer;
    await sleep((i * 7) % 40);
    gone.abort();
    await answer.then((response) => response.text()).catch(() => {});
  };
  for (let i = 0; i < 500; i += 50) await Promise.all(Array.from({ length: 50 }, (_, j) => leave(i + j)));
  await until(() => runtime.status().running === 0 && runtime.status().waiting === 0);
  assert.ok(runtime.requests.length >= 125);
  const asked = client.chat.completions.create({ model: '', messages: saying('Hi'), max_tokens: 2 });
  assert.equal((await asked).choices[0]!.finish_reason, 'length');
});

test('A client that goes away in the middle of a stream ends the generation at once', async (t) => {
  const { post, runtime } = await served(t, endless);
  const gone = new AbortController();
  const response = await post('/v1/chat/completions', { ...CHAT, stream: true }, {}, gone.signal);
  await response.body!.getReader().read();
  assert.equal(runtime.status().running, 1);
  gone.abort();
  await until(() => runtime.status().running === 0);
  assert.ok(runtime.requests[0]!.signal!.aborted);
});

test('A server on loopback is reached by names of this machine only', async (t) => {
  const { url, runtime } = await served(t, () => '');
  const { port } = new URL(url);
  const get = async (headers: Record<string, string>) => {
    const request = httpRequest(`${url}/v1/models`, { headers }).end();
    const [response] = await once(request, 'response');
    response.resume();
    return response.statusCode;
  };
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`, 'localhost'])
    assert.equal(await get({ host }), 200, host);
  for (const host of [`evil.example:${port}`, `localhost.evil.example:${port}`, '10.0.0.1', `127.0.0.1.nip.io:${port}`])
    assert.equal(await get({ host }), 403, host);
  const host = `127.0.0.1:${port}`;
  assert.equal(await get({ host, origin: url }), 200);
  for (const origin of ['http://evil.example', 'null', `http://localhost:${port}`])
    assert.equal(await get({ host, origin }), 403, origin);
  assert.equal(runtime.requests.length, 0);
});

test('Pages of other origins may use the server when they are named', async (t) => {
  const { url } = await served(t, () => '', { cors: ['https://app.example'] });
  const ask = (method: string, origin: string) =>
    fetch(`${url}/v1/models`, { method, headers: { origin, 'Access-Control-Request-Method': 'POST' } });
  const preflight = await ask('OPTIONS', 'https://app.example');
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get('access-control-allow-origin'), 'https://app.example');
  const got = await ask('GET', 'https://app.example');
  assert.deepEqual([got.status, got.headers.get('access-control-allow-origin')], [200, 'https://app.example']);
  for (const method of ['OPTIONS', 'GET']) {
    const refused = await ask(method, 'https://other.example');
    assert.deepEqual([refused.status, refused.headers.get('access-control-allow-origin')], [403, null]);
  }
});

test('A server that closes ends what runs, refuses what comes, and then closes its runtime', async (t) => {
  const { reply, release } = held();
  const { post, runtime, close, url } = await served(t, reply, { graceMs: 5000 });
  const running = post('/v1/chat/completions', CHAT);
  const watching = await fetch(`${url}/v1/memory/sessions/ann/events`);
  await until(() => runtime.status().running === 1);
  const closed = close();
  const refused = await post('/v1/chat/completions', CHAT);
  assert.equal(refused.headers.get('retry-after'), '5');
  assert.partialDeepStrictEqual(await errorOf(refused), { status: 503, code: 'shutting_down' });
  await watching.text();
  assert.ok(!runtime.closed);
  release();
  assert.equal((await (await running).json()).choices[0].message.content, 'Well, yes.');
  await closed;
  assert.ok(runtime.closed);
  await assert.rejects(fetch(url));
});

test('A server that closes does not wait longer than it is told to', async (t) => {
  const { post, runtime, close } = await served(t, endless, { graceMs: 20 });
  const whole = post('/v1/chat/completions', CHAT);
  const stream = await post('/v1/chat/completions', { ...CHAT, stream: true });
  await until(() => runtime.status().running === 2);
  await close();
  assert.equal((await whole).status, 503);
  assert.equal(JSON.parse((await framesOf(stream)).at(-1)!.data!).error.code, 'shutting_down');
});

test('A client that sends half a request does not keep the server from closing', async (t) => {
  const { url, close } = await served(t, () => '');
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Length: 100\r\n\r\n{`);
  await sleep(20);
  await close();
  socket.destroy();
});

test('Nobody but this machine is let in without keys, unless that is wished', async () => {
  const runtime = new ScriptedRuntime({ reply: () => '' });
  await assert.rejects(serve(runtime, { host: '0.0.0.0', port: 0 }), { code: 'usage', message: /--insecure/ });
  const { url, close } = await serve(runtime, { host: '0.0.0.0', port: 0, insecure: true });
  try {
    const { port } = new URL(url);
    const request = httpRequest(`http://127.0.0.1:${port}/health`, { headers: { host: 'my-box.example' } }).end();
    const [response] = await once(request, 'response');
    assert.equal(response.statusCode, 200);
    response.resume();
    await assert.rejects(serve(runtime, { port: Number(port), host: '0.0.0.0', insecure: true }), {
      code: 'usage',
      message: /EADDRINUSE/,
    });
  } finally {
    await close();
  }
});
