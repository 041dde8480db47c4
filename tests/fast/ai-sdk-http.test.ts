/** The provider by URL: what a server, or a proxy in front of it, may do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { APICallError, InvalidResponseDataError } from '@ai-sdk/provider';
import { embed, generateText, isStepCount, streamText, tool } from 'ai';
import fc from 'fast-check';
import { z } from 'zod';
import { createTmem, type TmemSettings } from '../../src/ai-sdk/index.ts';
import { type ServerSentEvent, serverSentEvents } from '../../src/ai-sdk/sse.ts';

globalThis.AI_SDK_LOG_WARNINGS = false;

interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Record<string, unknown>;
}

/** A server whose requests are answered by a function, which is told how many there were before. */
async function serving(
  t: TestContext,
  answer: (response: ServerResponse, before: number) => unknown,
  settings: TmemSettings = {},
) {
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray();
    const body = JSON.parse(Buffer.concat(chunks).toString());
    answer(response, asked.push({ path: request.url!, headers: request.headers, body }) - 1);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(close);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return { asked, url, close, tmem: createTmem({ baseURL: url, ...settings }) };
}

const chunk = (delta: object, finish_reason: string | null = null, more: object = {}) =>
  `data: ${JSON.stringify({ id: 'chatcmpl-7', created: 1e9, model: 'base', choices: [{ delta, finish_reason }], ...more })}\n\n`;
const DONE = 'data: [DONE]\n\n';

const streaming = (text: string) => (response: ServerResponse) =>
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Request-Id': 'r1' }).end(text);
const refusing = (status: number, message: string, headers: Record<string, string> = {}) => {
  const body = JSON.stringify({ error: { message, type: 'server_error', param: null, code: null } });
  return (response: ServerResponse) => response.writeHead(status, headers).end(body);
};

const HELLO = chunk({ content: 'Hello.' }) + chunk({}, 'stop') + DONE;
const prompt = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'Hi' }] }];

async function partsOf(stream: AsyncIterable<{ type: string }>) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts as { type: string; error?: unknown; finishReason?: { unified: string } }[];
}

test('a request goes to the path under the base URL, with key, session and headers, of which the later count', async (t) => {
  const headers = { 'X-One': 'provider', 'X-Two': 'provider' };
  const { url, asked } = await serving(t, streaming(HELLO));
  const tmem = createTmem({ baseURL: `${url}/`, apiKey: 'k', headers });
  const { response } = await generateText({
    ...{ model: tmem('m'), prompt: 'Hi', headers: { 'x-one': 'call' } },
    providerOptions: { tmem: { session: 's', retrieve: 2 } },
  });
  const [{ path, headers: sent, body } = assert.fail()] = asked;
  assert.equal(path, '/v1/chat/completions');
  assert.deepEqual(
    ['authorization', 'x-tmem-session', 'x-one', 'x-two', 'content-type'].map((name) => sent[name]),
    ['Bearer k', 's', 'call', 'provider', 'application/json'],
  );
  assert.deepEqual(body, {
    ...{ model: 'm', stream: true, stream_options: { include_usage: true }, tmem: { retrieve: 2 } },
    messages: [{ role: 'user', content: 'Hi' }],
  });
  assert.equal(response.id, 'chatcmpl-7');
  assert.equal(response.modelId, 'base');
  assert.equal(response.timestamp.getTime(), 1e12);
  assert.equal(response.headers?.['x-request-id'], 'r1');
});

test('without an address it asks where the environment says, with the key from there', async (t) => {
  const { url, asked } = await serving(t, streaming(HELLO));
  const { TMEM_BASE_URL, TMEM_API_KEY } = process.env;
  t.after(() => {
    for (const [name, value] of Object.entries({ TMEM_BASE_URL, TMEM_API_KEY }))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  });
  process.env.TMEM_BASE_URL = url;
  process.env.TMEM_API_KEY = 'from-env';
  await generateText({ model: createTmem()('m'), prompt: 'Hi' });
  assert.equal(asked[0]!.headers.authorization, 'Bearer from-env');
});

test('a fetch of one’s own is used', async () => {
  const urls: unknown[] = [];
  const tmem = createTmem({
    baseURL: 'http://nowhere.invalid/v1',
    fetch: async (url) => {
      urls.push(url);
      return new Response(HELLO);
    },
  });
  assert.equal((await generateText({ model: tmem('m'), prompt: 'Hi' })).text, 'Hello.');
  assert.deepEqual(urls, ['http://nowhere.invalid/v1/chat/completions']);
});

test('a server that is busy is asked again after the time that it names', async (t) => {
  const { tmem, asked } = await serving(t, (response, before) => {
    const busy = refusing(before === 0 ? 429 : 503, 'Too many at once.', { 'Retry-After': '0' });
    (before < 2 ? busy : streaming(HELLO))(response);
  });
  assert.equal((await generateText({ model: tmem('m'), prompt: 'Hi' })).text, 'Hello.');
  assert.equal(asked.length, 3);
});

test('a refusal says what the server says, and whether asking again makes sense', async (t) => {
  const cases = [
    [refusing(400, 'The prompt does not fit.'), false],
    [refusing(401, 'This key is not known.'), false],
    [refusing(429, 'Too many at once.'), true],
    [refusing(503, 'The server is stopping.'), true],
    [refusing(409, 'The write was refused.', { 'X-Should-Retry': 'false' }), false],
  ] as const;
  let at = 0;
  const { tmem, url } = await serving(t, (response) => cases[at]![0](response));
  for (; at < cases.length; at++) {
    const error = await tmem('m')
      .doStream({ prompt })
      .then(
        () => assert.fail('it was refused'),
        (e) => e,
      );
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.isRetryable, cases[at]![1], error.message);
    assert.match(error.message, /^(The|This|Too) .*\.$/);
    assert.equal(error.url, `${url}/chat/completions`);
    assert.equal((error.requestBodyValues as { model: string }).model, 'm');
  }
});

test('a page of a proxy is told by its status', async (t) => {
  const { tmem } = await serving(t, (response) => response.writeHead(502).end('<html>Bad Gateway</html>'));
  const failed = generateText({ model: tmem('m'), prompt: 'Hi', maxRetries: 0 });
  await assert.rejects(failed, { statusCode: 502, message: /answered 502 Bad Gateway/, isRetryable: true });
  const page = await serving(t, (response) => response.end('<html>Log in</html>'));
  await assert.rejects(embed({ model: page.tmem.embeddingModel('e'), value: 'x' }), (error) =>
    InvalidResponseDataError.isInstance(error),
  );
});

test('a server that is not there is named, with how to start it', async (t) => {
  const { tmem, close } = await serving(t, streaming(HELLO));
  await close();
  const failed = generateText({ model: tmem('m'), prompt: 'Hi', maxRetries: 0 });
  await assert.rejects(failed, (error: Error) => {
    return APICallError.isInstance(error) && error.isRetryable && /ECONNREFUSED.*tmem serve/.test(error.message);
  });
});

test('signs of life are pings, and are no part of the text', async (t) => {
  const text = `: waiting\n\n: writing 3 of 12 steps\n\n${HELLO}`;
  const { tmem } = await serving(t, streaming(text));
  const { stream } = await tmem('m').doStream({ prompt });
  assert.equal((await partsOf(stream)).filter(({ type }) => type === 'ping').length, 2);
  assert.equal(await streamText({ model: tmem('m'), prompt: 'Hi' }).text, 'Hello.');
});

test('arguments of several calls that come bit by bit are put together', async (t) => {
  const calls = (...tool_calls: object[]) => chunk({ tool_calls });
  const { tmem } = await serving(
    t,
    streaming(
      calls({ index: 0, id: 'a', type: 'function', function: { name: 'look', arguments: '' } }) +
        calls({ index: 0, function: { arguments: '{"at":' } }) +
        calls({ index: 1, id: 'b', function: { name: 'look', arguments: '{"at":2}' } }) +
        calls({ index: 0, function: { arguments: '1}' } }) +
        chunk({}, 'tool_calls') +
        DONE,
    ),
  );
  const look = tool({ inputSchema: z.object({ at: z.number() }) });
  const result = await generateText({ model: tmem('m'), prompt: 'Hi', tools: { look }, stopWhen: isStepCount(1) });
  assert.deepEqual(
    result.toolCalls.map(({ toolCallId, input }) => [toolCallId, input]),
    [
      ['a', { at: 1 }],
      ['b', { at: 2 }],
    ],
  );
});

test('a stream that ends without an end is told as interrupted, and its unfinished calls are not made', async (t) => {
  const half = { tool_calls: [{ index: 0, id: 'a', function: { name: 'look', arguments: '{"a' } }] };
  const { tmem } = await serving(t, streaming(chunk({ content: 'Hel' }) + chunk(half)));
  const { finishReason, content, usage } = await tmem('m').doGenerate({ prompt });
  assert.deepEqual(finishReason, { unified: 'interrupted', raw: undefined });
  assert.deepEqual(content, [{ type: 'text', text: 'Hel' }]);
  assert.equal(usage.inputTokens.total, undefined);
});

test('an error in the stream, a broken connection and an answer of another kind are parts of the stream', async (t) => {
  const error = `data: ${JSON.stringify({ error: { message: 'The engine stopped.' } })}\n\n`;
  const breaking = (response: ServerResponse) => {
    response.writeHead(200).write(chunk({ content: 'Hel' }));
    setTimeout(() => response.destroy(), 20);
  };
  for (const [answer, said] of [
    [streaming(chunk({ content: 'Hel' }) + error), /: The engine stopped\.$/],
    [breaking, /broke off/],
    [streaming('data: nonsense\n\n'), /cannot be read/],
  ] as const) {
    const { tmem } = await serving(t, answer);
    const { stream } = await tmem('m').doStream({ prompt });
    const [failed, last] = (await partsOf(stream)).slice(-2);
    assert.match(String(failed?.error), said);
    assert.equal(last?.finishReason?.unified, 'error');
  }
});

const events = async (pieces: readonly Uint8Array[]): Promise<ServerSentEvent[]> => {
  const all = [];
  for await (const event of serverSentEvents(
    (async function* () {
      yield* pieces;
    })(),
  ))
    all.push(event);
  return all;
};
const bytes = (text: string) => new TextEncoder().encode(text);

test('server-sent events are read as specified', async () => {
  const text =
    '\uFEFFdata: a\ndata:b\n\n: hi\nevent: x\nid: 1\nretry: 5\ndata\n\nevent: dropped\n\ndata:  c\r\n\rdata: cut off\n';
  assert.deepEqual(await events([bytes(text)]), [
    { type: 'event', name: 'message', data: 'a\nb' },
    { type: 'comment', text: 'hi' },
    { type: 'event', name: 'x', data: '' },
    { type: 'event', name: 'message', data: ' c' },
  ]);
});

test('server-sent events are the same however their bytes are cut', async () => {
  const part = fc.constantFrom('data: é', 'data:', ':', 'event: x', ' ', '🙂', '\n', '\r', '\r\n', '\n\n', 'id: 1');
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 20 }), fc.array(fc.nat(8), { minLength: 1 }), async (parts, sizes) => {
      const whole = bytes(parts.join(''));
      const pieces: Uint8Array[] = [];
      for (let at = 0, i = 0; at < whole.length; i++) {
        const end = at + (sizes[i % sizes.length]! || 1);
        pieces.push(whole.subarray(at, end));
        at = end;
      }
      assert.deepEqual(await events(pieces), await events([whole]));
    }),
    { numRuns: 300 },
  );
});
