/** The studio's client: server-sent events, errors, and the key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ApiError, createApi, type Keys } from '../../src/studio/api.ts';
import { type SseItem, sseParser } from '../../src/studio/sse.ts';

const EVENTS: readonly SseItem[] = [
  { type: 'comment', text: 'writing 3 of 12 steps' },
  { type: 'event', event: 'observe', data: '{"a":1}' },
  { type: 'event', event: 'message', data: 'two\nlines' },
  { type: 'event', event: 'message', data: '' },
];
const STREAM =
  ': writing 3 of 12 steps\n\nevent: observe\nid: 7\ndata: {"a":1}\n\ndata:two\ndata: lines\n\nevent: lost\n\ndata\n\ndata: cut off';

/** Cuts a text at places between 0 and 1. */
function cut(text: string, places: readonly number[]): string[] {
  const at = [0, ...places.map((place) => Math.round(place * text.length)).sort((a, b) => a - b), text.length];
  return at.slice(1).map((end, i) => text.slice(at[i], end));
}

test('a stream of events reads the same wherever it is cut and however its lines end', () => {
  const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
  fc.assert(
    fc.property(places, fc.constantFrom('\n', '\r\n', '\r'), (where, end) => {
      const parse = sseParser();
      const items = cut(STREAM.replaceAll('\n', end), where).flatMap(parse);
      assert.deepEqual(items, EVENTS);
    }),
  );
});

test('any text that is sent as data comes out again', () => {
  const line = fc.string().filter((text) => !/[\r\n]/.test(text));
  fc.assert(
    fc.property(fc.array(fc.array(line, { minLength: 1 })), (messages) => {
      const stream = messages.map((lines) => `${lines.map((text) => `data: ${text}\n`).join('')}\n`).join('');
      const data = sseParser()(stream).map((item) => (item.type === 'event' ? item.data : null));
      assert.deepEqual(
        data,
        messages.map((lines) => lines.join('\n')),
      );
    }),
  );
});

const NO_KEYS: Keys = { read: () => null, ask: async () => null };
const streamed = (text: string) => new Response(text, { headers: { 'content-type': 'text/event-stream' } });
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const item of items) read.push(item);
  return read;
}
const answering = (...responses: Response[]) => createApi(NO_KEYS, async () => responses.shift()!);

test('an operation tells its progress, then its result', async () => {
  const told: string[] = [];
  const api = answering(
    streamed('event: progress\ndata: {"message":"step 1"}\n\nevent: result\ndata: {"ok":true}\n\n'),
  );
  assert.deepEqual(await api.verify('s', { onProgress: (message) => told.push(message) }), { ok: true });
  assert.deepEqual(told, ['step 1']);
});

test('an operation that answers with JSON is as good', async () => {
  assert.deepEqual(await answering(Response.json({ ok: false })).verify('s'), { ok: false });
});

test('an operation fails with what the server says, or says that the connection broke off', async () => {
  const failed = answering(streamed('event: error\ndata: {"error":{"message":"The gate refused it."}}\n\n'));
  await assert.rejects(failed.verify('s'), { name: 'ApiError', message: 'The gate refused it.' });
  const broken = answering(streamed('event: progress\ndata: {"message":"step 1"}\n\n'));
  await assert.rejects(broken.verify('s'), /broke off before the result/);
});

test('an error that says nothing is told by its status, and a dead server by what to do', async () => {
  await assert.rejects(answering(new Response('<html>', { status: 502 })).sessions(), /answered 502/);
  const dead = createApi(NO_KEYS, () => Promise.reject(new TypeError('fetch failed')));
  await assert.rejects(dead.sessions(), (error: ApiError) => error.status === 0 && /tmem serve/.test(error.message));
});

test('a key is asked for until the server takes it, and then sent', async () => {
  const sent: (string | null)[] = [];
  const refused: (string | null)[] = [];
  const given = ['wrong', 'right'];
  const keys: Keys = {
    read: () => null,
    ask: async (key) => {
      refused.push(key);
      return given.shift() ?? null;
    },
  };
  const api = createApi(keys, async (_, init) => {
    const key = new Headers(init?.headers).get('authorization');
    sent.push(key);
    const error = { error: { message: 'Wrong key.' } };
    return key === 'Bearer right' ? Response.json({ sessions: ['a'] }) : Response.json(error, { status: 401 });
  });
  assert.deepEqual(await api.sessions(), ['a']);
  assert.deepEqual(sent, [null, 'Bearer wrong', 'Bearer right']);
  assert.deepEqual(refused, [null, 'wrong']);
  await assert.rejects(api.sessions(), { message: 'Wrong key.', status: 401 });
});

test('an answer streams as text, what the server does meanwhile, and what became of the memory', async () => {
  const memory = { contextTokens: 42, budget: 800, writes: [] };
  const chunks = [
    ': writing 1 of 2 steps\n\n',
    ...[{ choices: [{ delta: { role: 'assistant', content: '' } }] }, { choices: [{ delta: { content: 'Hi' } }] }],
    ...[{ choices: [{ delta: {}, finish_reason: 'stop' }] }, { choices: [], usage: {}, tmem: memory }],
    'data: [DONE]\n\n',
  ].map((chunk) => (typeof chunk === 'string' ? chunk : `data: ${JSON.stringify(chunk)}\n\n`));
  let request: { headers: Headers; body: { stream_options?: object } } | undefined;
  const api = createApi(NO_KEYS, async (_, init) => {
    request = { headers: new Headers(init?.headers), body: JSON.parse(String(init?.body)) };
    return streamed(chunks.join(''));
  });
  const events = await all(api.chat('nadia', 'm', [], new AbortController().signal));
  assert.deepEqual(events, [
    { type: 'status', text: 'writing 1 of 2 steps' },
    { type: 'text', text: 'Hi' },
    { type: 'memory', memory },
  ]);
  assert.equal(request?.headers.get('x-tmem-session'), 'nadia');
  assert.deepEqual(request?.body.stream_options, { include_usage: true });
});

test('an answer that breaks off with an error says so', async () => {
  const api = answering(streamed('data: {"error":{"message":"The queue is full."}}\n\n'));
  await assert.rejects(all(api.chat('s', 'm', [], new AbortController().signal)), /queue is full/);
});

test('a session that can no longer be watched is not taken for an event', async () => {
  const api = answering(
    streamed(
      'event: swap\ndata: {"event":{"type":"swap"}}\n\nevent: error\ndata: {"error":{"message":"Too far behind."}}\n\n',
    ),
  );
  const seen: unknown[] = [];
  const watching = async () => {
    for await (const event of api.watch('s', new AbortController().signal, () => {})) seen.push(event);
  };
  await assert.rejects(watching(), /Too far behind/);
  assert.deepEqual(seen, [{ event: { type: 'swap' } }]);
});
