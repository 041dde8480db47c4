/** Streams of the server, frame by frame, against the orders that OpenAI's documentation shows. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { CompletionEvent } from '../../src/serve/types.ts';
import { calling, type ScriptedRuntimeOptions } from '../support/scripted-runtime.ts';
import { framesOf, saying, served } from '../support/serving.ts';

interface Fixture {
  readonly frames: readonly { event?: string; data: unknown }[];
}

const fixture = (name: string): Fixture =>
  JSON.parse(readFileSync(new URL(`../fixtures/serve/${name}.json`, import.meta.url), 'utf8'));

const weather = { id: 'call_a', name: 'weather', arguments: '{"city":"Paris"}' };
const clock = { id: 'call_b', name: 'clock', arguments: '{}' };
const tools = ['weather', 'clock'].map((name) => ({ type: 'function', function: { name } }));
const CHAT = { messages: saying('Hi'), stream: true };
const RESPONSE = { input: 'Hi', stream: true };

const CASES: { name: string; path: string; body: object; reply: ScriptedRuntimeOptions['reply'] }[] = [
  { name: 'chat-text', path: 'chat/completions', body: CHAT, reply: () => 'Hello there!' },
  {
    name: 'chat-usage',
    path: 'chat/completions',
    body: { ...CHAT, stream_options: { include_usage: true } },
    reply: () => 'Hello there!',
  },
  { name: 'chat-length', path: 'chat/completions', body: { ...CHAT, max_tokens: 1 }, reply: () => 'Hello there!' },
  { name: 'chat-tools', path: 'chat/completions', body: { ...CHAT, tools }, reply: () => calling(weather, clock) },
  {
    name: 'chat-logprobs',
    path: 'chat/completions',
    body: { ...CHAT, logprobs: true, top_logprobs: 1 },
    reply: () => 'Hello there!',
  },
  { name: 'responses-text', path: 'responses', body: RESPONSE, reply: () => 'Hello there!' },
  { name: 'responses-tools', path: 'responses', body: RESPONSE, reply: () => calling(weather) },
  {
    name: 'responses-length',
    path: 'responses',
    body: { ...RESPONSE, max_output_tokens: 1 },
    reply: () => 'Hello there!',
  },
];

for (const { name, path, body, reply } of CASES)
  test(`The frames of a stream are those of ${name}`, async (t) => {
    const { post } = await served(t, reply);
    const response = await post(`/v1/${path}`, body);
    assert.match(response.headers.get('content-type')!, /^text\/event-stream/);
    const frames = (await framesOf(response)).map(({ event, data }) => ({
      ...(event !== undefined && { event }),
      data: data === '[DONE]' ? data : JSON.parse(data!),
    }));
    const expected = fixture(name).frames;
    assert.deepEqual(
      frames.map(({ event, data }) => event ?? (data === '[DONE]' ? data : 'chunk')),
      expected.map(({ event, data }) => event ?? (data === '[DONE]' ? data : 'chunk')),
    );
    for (const [i, frame] of expected.entries()) assert.partialDeepStrictEqual(frames[i], frame, `frame ${i}`);
  });

test('Every chunk of a stream has the same id, time and model', async (t) => {
  const { post, runtime } = await served(t, () => 'one two three');
  const frames = await framesOf(await post('/v1/chat/completions', CHAT));
  const chunks = frames.slice(0, -1).map(({ data }) => JSON.parse(data!));
  assert.equal(new Set(chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size, 1);
  assert.match(chunks[0].id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.equal(chunks[0].model, runtime.model.name);
});

const record = {
  ...{ id: 'w1', time: '2026-01-01', pairs: [], recipe: 'default', verdict: 'committed' as const, reason: 'so' },
  ...{ loss: [Number.NaN], recalled: 0, ms: 7 },
};
const DONE: CompletionEvent = {
  type: 'done',
  finish: 'stop',
  usage: { promptTokens: 1, cachedTokens: 0, outputTokens: 1 },
  memory: { session: 'ann', writes: [record], contextTokens: 5, budget: 100 },
};
const TOLD = {
  session: 'ann',
  contextTokens: 5,
  budget: 100,
  writes: [{ id: 'w1', verdict: 'committed', reason: 'so', pairs: 0, recalled: 0, ms: 7 }],
};

test('What was written is told with the usage, or with the end when no usage is asked for', async (t) => {
  const { post } = await served(t, () => [{ type: 'text', text: 'Yes.' }, DONE]);
  for (const include_usage of [true, false]) {
    const body = { ...CHAT, stream_options: { include_usage } };
    const frames = await framesOf(await post('/v1/chat/completions', body, { 'X-Tmem-Session': 'ann' }));
    const chunks = frames.slice(0, -1).map(({ data }) => JSON.parse(data!));
    assert.deepEqual(
      chunks.map(({ tmem }) => tmem),
      [...chunks.slice(1).map(() => undefined), TOLD],
    );
    assert.equal(chunks.at(-1).choices[0]?.finish_reason, include_usage ? undefined : 'stop');
  }
  const whole = await post('/v1/chat/completions', { messages: saying('Hi') }, { 'X-Tmem-Session': 'ann' });
  assert.deepEqual((await whole.json()).tmem, TOLD);
});

test('Waiting and writing are comments', async (t) => {
  const training = { type: 'step' as const, epoch: 1, step: 3, loss: 1, gradNorm: 1, ms: 1 };
  const { post } = await served(t, () => [
    { type: 'waiting' },
    { type: 'memory', event: { type: 'swap', weights: true } },
    { type: 'memory', event: { type: 'write', event: { type: 'train', event: training, totalSteps: 12 } } },
    { type: 'text', text: 'Yes.' },
  ]);
  const frames = await framesOf(await post('/v1/chat/completions', CHAT));
  assert.deepEqual(
    frames.flatMap(({ comment }) => comment ?? []),
    ['waiting', 'writing 3 of 12 steps'],
  );
});

test('A stream that has nothing to say says so, before its first event and after it', async (t) => {
  const slowly = async function* (): AsyncGenerator<CompletionEvent> {
    await new Promise((resolve) => setTimeout(resolve, 60));
    yield { type: 'text', text: 'At' };
    await new Promise((resolve) => setTimeout(resolve, 60));
    yield { type: 'text', text: ' last.' };
  };
  const { post } = await served(t, slowly, { quietMs: 20 });
  const frames = await framesOf(await post('/v1/chat/completions', CHAT));
  const order = frames.map(
    ({ comment, data }) => comment ?? JSON.parse(data!.replace('[DONE]', '{}')).choices?.[0].delta,
  );
  const [at, last] = ['At', ' last.'].map((text) => order.findIndex((delta) => delta?.content === text));
  assert.ok(order.slice(0, at).includes('still at work'));
  assert.ok(order.slice(at, last).includes('still at work'));
});

test('What goes wrong before the first event has its status, what goes wrong later is the last event', async (t) => {
  const { post, failures } = await served(t, ({ messages }) =>
    messages[0]!.content === 'at once'
      ? (() => {
          throw new TypeError('x');
        })()
      : (function* (): Generator<CompletionEvent> {
          yield { type: 'text', text: 'Well' };
          throw new TypeError('y');
        })(),
  );
  const error = { message: 'The server failed; its log says more.', type: 'server_error', param: null, code: 'failed' };
  const atOnce = await post('/v1/chat/completions', { ...CHAT, messages: saying('at once') });
  assert.deepEqual([atOnce.status, await atOnce.json()], [500, { error }]);
  const later = await framesOf(await post('/v1/chat/completions', CHAT));
  assert.deepEqual(JSON.parse(later.at(-1)!.data!), { error });
  const response = await framesOf(await post('/v1/responses', RESPONSE));
  const { sequence_number, ...told } = JSON.parse(response.at(-1)!.data!);
  assert.deepEqual(
    [response.at(-1)!.event, told],
    ['error', { type: 'error', code: 'failed', message: error.message, param: null }],
  );
  assert.equal(sequence_number, response.filter(({ data }) => data).length - 1);
  assert.deepEqual(
    failures.map((failure) => (failure as Error).message),
    ['x', 'y', 'y'],
  );
});
