/** OpenAI's own client, and curl, against the server. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import { calling } from '../support/scripted-runtime.ts';
import { saying, served } from '../support/serving.ts';

const MODEL = 'tmem';
const weatherTool = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'The weather in a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const call = { id: 'call_1', name: 'weather', arguments: '{"city":"Paris"}' };

test('A chat is answered whole', async (t) => {
  const { client, runtime } = await served(t, () => 'Hello there!');
  const answer = await client.chat.completions.create({
    model: MODEL,
    messages: [
      { role: 'developer', content: 'Be kind.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Hi.' },
          { type: 'text', text: 'How are you?' },
        ],
      },
    ],
    temperature: 0.5,
    top_p: 0.9,
    seed: 7,
    max_completion_tokens: 20,
    max_tokens: 10,
    stop: ['!'],
  });
  assert.equal(answer.object, 'chat.completion');
  assert.equal(answer.model, runtime.model.name);
  assert.partialDeepStrictEqual(answer.choices, [
    { index: 0, message: { role: 'assistant', content: 'Hello there' }, finish_reason: 'stop', logprobs: null },
  ]);
  assert.partialDeepStrictEqual(answer.usage, { prompt_tokens: 6, completion_tokens: 2, total_tokens: 8 });
  const { signal, ...request } = runtime.requests[0]!;
  assert.ok(signal);
  assert.deepEqual(JSON.parse(JSON.stringify(request)), {
    session: null,
    teach: true,
    messages: [
      { role: 'system', content: 'Be kind.' },
      { role: 'user', content: 'Hi.\nHow are you?' },
    ],
    temperature: 0.5,
    topP: 0.9,
    seed: 7,
    maxTokens: 20,
    stop: ['!'],
  });
});

test('A chat is answered as a stream', async (t) => {
  const { client } = await served(t, () => 'Hello there, you!');
  const stream = client.chat.completions.stream({
    model: MODEL,
    messages: saying('Hi'),
    stream_options: { include_usage: true },
  });
  const deltas: string[] = [];
  stream.on('content', (delta) => deltas.push(delta));
  assert.equal((await stream.finalMessage()).content, 'Hello there, you!');
  assert.deepEqual(deltas, ['Hello', ' there,', ' you!']);
  assert.equal((await stream.totalUsage()).completion_tokens, 3);
});

test('Tools are called, whole and as a stream, and their results come back under their names', async (t) => {
  const { client, runtime } = await served(t, ({ messages }) =>
    messages.at(-1)!.role === 'tool' ? 'It rains.' : calling(call),
  );
  const asked = { model: MODEL, messages: saying('The weather in Paris?'), tools: [weatherTool] };
  const whole = await client.chat.completions.create({ ...asked, tool_choice: 'required' });
  const { message, finish_reason } = whole.choices[0]!;
  assert.equal(finish_reason, 'tool_calls');
  assert.equal(message.content, null);
  const wanted = [
    { id: 'call_1', type: 'function' as const, function: { name: 'weather', arguments: call.arguments } },
  ];
  assert.deepEqual(message.tool_calls, wanted);
  const streamed = await client.chat.completions.stream(asked).finalMessage();
  assert.partialDeepStrictEqual(streamed.tool_calls, wanted);
  const next = await client.chat.completions.create({
    ...asked,
    messages: [...asked.messages, message, { role: 'tool', tool_call_id: 'call_1', content: 'rain' }],
    tool_choice: { type: 'function', function: { name: 'weather' } },
  });
  assert.equal(next.choices[0]!.message.content, 'It rains.');
  assert.deepEqual(
    runtime.requests.map(({ toolChoice }) => toolChoice),
    ['required', undefined, { name: 'weather' }],
  );
  assert.deepEqual(runtime.requests[2]!.tools, [weatherTool.function]);
  assert.deepEqual(runtime.requests[2]!.messages.slice(1), [
    { role: 'assistant', content: '', toolCalls: [call] },
    { role: 'tool', content: 'rain', callId: 'call_1', name: 'weather' },
  ]);
});

test('A schema reaches the runtime, and its answer the client as an object', async (t) => {
  const { client, runtime } = await served(t, () => '{"city":"Paris"}');
  const City = z.object({ city: z.string() });
  const parsed = await client.chat.completions.parse({
    model: MODEL,
    messages: saying('A city?'),
    response_format: zodResponseFormat(City, 'city'),
  });
  assert.deepEqual(parsed.choices[0]!.message.parsed, { city: 'Paris' });
  assert.match(schemaToGrammar(runtime.requests[0]!.schema!), /city/);
  await client.chat.completions.create({
    model: MODEL,
    messages: saying('A city?'),
    response_format: { type: 'json_object' },
  });
  assert.equal(runtime.requests[1]!.schema!.$ref, '#/$defs/object');
});

test('Log-probabilities are told of every token', async (t) => {
  const { client, runtime } = await served(t, () => 'Grüß dich');
  const { choices } = await client.chat.completions.create({
    model: MODEL,
    messages: saying('Hi'),
    logprobs: true,
    top_logprobs: 2,
  });
  assert.equal(runtime.requests[0]!.logProbs, 2);
  const { content } = choices[0]!.logprobs!;
  assert.deepEqual(
    content!.map(({ token }) => token),
    ['Grüß', ' dich'],
  );
  assert.deepEqual(content![0]!.bytes, [...Buffer.from('Grüß')]);
  assert.deepEqual(
    content![0]!.top_logprobs.map(({ logprob }) => logprob),
    [-0.5, -1.5],
  );
});

test('Of several completions each has its own seed, and only the first may teach', async (t) => {
  const { client, runtime } = await served(t, ({ seed }) => `It is ${seed}.`);
  const asked = { model: MODEL, messages: saying('A number?'), n: 3, seed: -1, temperature: 1, user: 'ann' };
  const { choices, usage } = await client.chat.completions.create(asked);
  assert.deepEqual(
    choices.map(({ index, message }) => [index, message.content]),
    [
      [0, 'It is 4294967295.'],
      [1, 'It is 0.'],
      [2, 'It is 1.'],
    ],
  );
  assert.equal(usage!.completion_tokens, 9);
  assert.deepEqual(
    runtime.requests.map(({ teach }) => teach),
    [true, false, false],
  );
  const texts = ['', '', ''];
  for await (const { choices } of await client.chat.completions.create({ ...asked, stream: true }))
    for (const { index, delta } of choices) texts[index] += delta.content ?? '';
  assert.deepEqual(
    texts,
    choices.map(({ message }) => message.content),
  );
});

test('The model is listed', async (t) => {
  const { client, runtime } = await served(t, () => '');
  const { data } = await client.models.list();
  assert.deepEqual(data, [{ id: 'scripted', object: 'model', created: runtime.created, owned_by: 'tmem' }]);
  assert.equal((await client.models.retrieve('scripted')).id, 'scripted');
  await assert.rejects(client.models.retrieve('gpt-4o'), (error: InstanceType<typeof OpenAI.APIError>) => {
    assert.deepEqual([error.status, error.code, error.param], [404, 'model_not_found', 'model']);
    return true;
  });
});

test('Embeddings are the same as numbers and as base64', async (t) => {
  const { client } = await served(t, () => '');
  const input = ['one text', 'another'];
  const [packed, plain] = await Promise.all([
    client.embeddings.create({ model: MODEL, input }),
    client.embeddings.create({ model: MODEL, input, encoding_format: 'float' }),
  ]);
  assert.deepEqual(
    packed.data.map(({ embedding }) => [...embedding]),
    plain.data.map(({ embedding }) => embedding),
  );
  assert.equal(plain.data[1]!.index, 1);
  assert.ok(Math.abs(Math.hypot(...plain.data[0]!.embedding) - 1) < 1e-6);
  assert.deepEqual(plain.usage, { prompt_tokens: 3, total_tokens: 3 });
});

test('Without an embedding model embeddings are missing', async (t) => {
  const { client } = await served(t, { reply: () => '', dimensions: 0 });
  await assert.rejects(client.embeddings.create({ model: MODEL, input: 'x' }), OpenAI.NotFoundError);
});

test('The responses API answers whole, as a stream, with tools and with a schema', async (t) => {
  const { client, runtime } = await served(t, ({ messages, tools }) =>
    tools && messages.at(-1)!.role === 'user' ? calling(call) : 'It rains.',
  );
  const whole = await client.responses.create({ model: MODEL, input: 'The weather?', instructions: 'Be brief.' });
  assert.deepEqual([whole.status, whole.output_text, whole.usage!.output_tokens], ['completed', 'It rains.', 2]);
  assert.deepEqual(runtime.requests[0]!.messages, [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'The weather?' },
  ]);
  const { type, function: weather } = weatherTool;
  const tool = { type, ...weather, strict: false };
  const stream = client.responses.stream({ model: MODEL, input: 'The weather?', tools: [tool] });
  const final = await stream.finalResponse();
  assert.partialDeepStrictEqual(final.output, [
    { type: 'function_call', call_id: 'call_1', name: 'weather', arguments: call.arguments, status: 'completed' },
  ]);
  const next = await client.responses.create({
    model: MODEL,
    input: [
      { role: 'user', content: 'The weather?' },
      { role: 'assistant', content: 'I shall look.' },
      { type: 'function_call', call_id: 'call_1', name: 'weather', arguments: call.arguments },
      { type: 'function_call_output', call_id: 'call_1', output: 'rain' },
    ],
    tools: [tool],
    text: { format: { type: 'json_schema', name: 'x', schema: { type: 'string' } } },
    max_output_tokens: 1,
  });
  assert.deepEqual([next.status, next.incomplete_details], ['incomplete', { reason: 'max_output_tokens' }]);
  assert.deepEqual(runtime.requests[2]!.messages.slice(1), [
    { role: 'assistant', content: 'I shall look.', toolCalls: [call] },
    { role: 'tool', content: 'rain', callId: 'call_1', name: 'weather' },
  ]);
  assert.deepEqual(runtime.requests[2]!.schema, { type: 'string' });
  await assert.rejects(
    client.responses.create({ model: MODEL, input: 'And now?', previous_response_id: 'resp_1' }),
    (error: InstanceType<typeof OpenAI.APIError>) => error.status === 400 && error.param === 'previous_response_id',
  );
});

test('An error of a stream is an error of the client', async (t) => {
  const { client } = await served(t, function* () {
    yield { type: 'text', text: 'Well' };
    throw new TypeError('no');
  });
  const stream = await client.chat.completions.create({ model: MODEL, messages: saying('Hi'), stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, OpenAI.APIError);
});

const run = promisify(execFile);
const noCurl = spawnSync('curl', ['--version']).error ? 'there is no curl' : false;

test('curl gets an answer and a stream', { skip: noCurl }, async (t) => {
  const { url } = await served(t, () => 'Hello there!');
  const ask = async (body: object) => {
    const data = ['-H', 'Content-Type: application/json', '-d', JSON.stringify(body)];
    return (await run('curl', ['-sS', '-N', `${url}/v1/chat/completions`, ...data])).stdout;
  };
  assert.equal(JSON.parse(await ask({ messages: saying('Hi') })).choices[0].message.content, 'Hello there!');
  const lines = (await ask({ messages: saying('Hi'), stream: true })).trim().split('\n\n');
  assert.equal(lines.at(-1), 'data: [DONE]');
  const text = lines.slice(0, -1).map((line) => JSON.parse(line.slice('data: '.length)).choices[0].delta.content ?? '');
  assert.equal(text.join(''), 'Hello there!');
});
