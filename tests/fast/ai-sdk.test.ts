/** The provider under the real AI SDK, in this process and by URL: both have to say the same. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { InvalidArgumentError, UnsupportedFunctionalityError } from '@ai-sdk/provider';
import { embed, embedMany, generateText, isStepCount, type ModelMessage, Output, streamText, tool } from 'ai';
import { z } from 'zod';
import { createTmem, type TmemProvider, type TmemSettings } from '../../src/ai-sdk/index.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import { serve } from '../../src/serve/server.ts';
import type { CompletionEvent, CompletionRequest } from '../../src/serve/types.ts';
import { ScriptedRuntime } from '../support/scripted-runtime.ts';

globalThis.AI_SDK_LOG_WARNINGS = false;

type Script = (request: CompletionRequest) => AsyncIterable<CompletionEvent>;

/** The last event: usage of 10 tokens, 4 of them cached, and 3 of output; with a session a write of two pairs. */
function done({ session }: CompletionRequest, finish: 'stop' | 'length' | 'tool-calls' = 'stop'): CompletionEvent {
  const pair = (id: string) => {
    return { id, instruction: 'What?', output: 'That.', source: 'That.', turn: 0, origin: 'user' as const };
  };
  const write = {
    ...{ id: 'w1', time: '2026-01-01T00:00:00Z', recipe: 'default', verdict: 'committed' as const },
    ...{ pairs: [pair('a'), pair('b')], loss: [1, 0.1], recalled: 2, ms: 1500 },
  };
  return {
    ...{ type: 'done', finish, usage: { promptTokens: 10, cachedTokens: 4, outputTokens: 3 } },
    memory: session === null ? null : { session, writes: [write], contextTokens: 120, budget: 2048 },
  };
}

/** What `done` says of the memory, as the provider tells it. */
const MEMORY = {
  ...{ session: 's', contextTokens: 120, budget: 2048 },
  writes: [{ id: 'w1', verdict: 'committed', pairs: 2, recalled: 2, ms: 1500 }],
};

/** Until the request is interrupted, as a generation is. */
async function untilAborted({ signal }: CompletionRequest): Promise<never> {
  if (!signal?.aborted) await once(signal!, 'abort');
  throw new TmemError('aborted', 'Interrupted.');
}

interface Place {
  readonly tmem: TmemProvider;
  readonly runtime: ScriptedRuntime;
}

type Open = (t: TestContext, script: Script, settings?: TmemSettings) => Promise<Place>;

const transports: readonly { name: string; finish: (unified: string) => string; open: Open }[] = [
  {
    name: 'in process',
    finish: (unified) => unified,
    async open(_, script, settings) {
      const runtime = new ScriptedRuntime({ reply: script });
      return { runtime, tmem: createTmem({ ...settings, runtime }) };
    },
  },
  {
    name: 'by URL',
    finish: (unified) => unified.replace('-', '_'),
    async open(t, script, settings) {
      const runtime = new ScriptedRuntime({ reply: script });
      const server = await serve(runtime, { port: 0, graceMs: 0 });
      t.after(server.close);
      return { runtime, tmem: createTmem({ ...settings, baseURL: `${server.url}/v1` }) };
    },
  },
];

const hello: Script = async function* (request) {
  yield { type: 'waiting' };
  yield { type: 'text', text: 'Hel' };
  yield { type: 'text', text: 'lo.' };
  yield done(request);
};

const SESSION = { tmem: { session: 's' } };
const USAGE = { inputTokens: 10, outputTokens: 3 };

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Without the signal and what was not given. */
function given({ signal, ...request }: CompletionRequest): Record<string, unknown> {
  return JSON.parse(JSON.stringify(request));
}

for (const { name, finish, open } of transports) {
  test(`${name}: a text is generated, with usage, finish reason, metadata and what it did to the memory`, async (t) => {
    const { tmem } = await open(t, hello);
    const result = await generateText({ model: tmem('m'), prompt: 'Hi', providerOptions: SESSION });
    assert.equal(result.text, 'Hello.');
    assert.equal(result.finishReason, 'stop');
    assert.equal(result.rawFinishReason, 'stop');
    assert.deepEqual(
      { inputTokens: result.usage.inputTokens, outputTokens: result.usage.outputTokens },
      USAGE,
      'tokens',
    );
    assert.equal(result.usage.inputTokenDetails.cacheReadTokens, 4);
    assert.equal(result.usage.inputTokenDetails.noCacheTokens, 6);
    assert.equal(result.response.modelId, 'scripted');
    assert.ok(result.response.timestamp instanceof Date);
    assert.deepEqual(result.providerMetadata, { tmem: MEMORY });
    assert.deepEqual(result.warnings, []);
  });

  test(`${name}: a text is streamed piece by piece; the last part tells the same`, async (t) => {
    const { tmem } = await open(t, hello);
    const result = streamText({ model: tmem('m'), prompt: 'Hi', providerOptions: SESSION });
    const pieces: string[] = [];
    for await (const piece of result.textStream) pieces.push(piece);
    assert.deepEqual(pieces, ['Hel', 'lo.']);
    assert.equal(await result.finishReason, 'stop');
    assert.equal((await result.usage).outputTokens, 3);
    assert.deepEqual(await result.providerMetadata, { tmem: MEMORY });
  });

  test(`${name}: the parts of a stream are those of the specification, in its order`, async (t) => {
    const { tmem } = await open(t, async function* (request) {
      yield { type: 'waiting' };
      yield { type: 'text', text: 'I look.' };
      yield { type: 'tool-call', call: { id: 'c1', name: 'look', arguments: '{"at":"a door"}' } };
      yield done(request, 'tool-calls');
    });
    const prompt = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'Hi' }] }];
    const { stream } = await tmem('m').doStream({ prompt, providerOptions: SESSION });
    const parts = await all(stream);
    // The model is told of before the first text; by URL a sign of life may come earlier.
    const order = parts.map(({ type }) => type).filter((type) => type !== 'ping' && type !== 'response-metadata');
    assert.deepEqual(order, [
      ...['stream-start', 'text-start', 'text-delta', 'text-end'],
      ...['tool-input-start', 'tool-input-delta', 'tool-input-end', 'tool-call', 'finish'],
    ]);
    assert.equal(parts.filter(({ type }) => type === 'ping').length, 1);
    assert.equal(parts.filter(({ type }) => type === 'response-metadata').length, 1);
    const call = parts.find((part) => part.type === 'tool-call');
    assert.deepEqual(call, { type: 'tool-call', toolCallId: 'c1', toolName: 'look', input: '{"at":"a door"}' });
    const last = parts.at(-1)!;
    assert.ok(last.type === 'finish');
    assert.deepEqual(last.finishReason, { unified: 'tool-calls', raw: finish('tool-calls') });
    assert.deepEqual(last.usage.inputTokens, { total: 10, noCache: 6, cacheRead: 4, cacheWrite: undefined });
    assert.deepEqual(last.usage.outputTokens, { total: 3, text: 3, reasoning: undefined });
    assert.deepEqual(last.providerMetadata, { tmem: MEMORY });
  });

  test(`${name}: raw events are streamed when they are asked for`, async (t) => {
    const { tmem } = await open(t, hello);
    const raw = async (includeRawChunks: boolean) => {
      const prompt = [{ role: 'user' as const, content: [] }];
      const { stream } = await tmem('m').doStream({ prompt, includeRawChunks });
      return (await all(stream)).filter(({ type }) => type === 'raw').length;
    };
    assert.equal(await raw(false), 0);
    assert.ok((await raw(true)) >= 3);
  });

  test(`${name}: every setting reaches the runtime`, async (t) => {
    const { tmem, runtime } = await open(t, hello);
    await generateText({
      ...{ model: tmem('m'), instructions: 'Be brief.', prompt: 'Hi', maxOutputTokens: 9, temperature: 0.5 },
      ...{ topP: 0.9, topK: 40, seed: 7, stopSequences: ['END'] },
      providerOptions: { tmem: { session: 's', teach: false, retrieve: 2 } },
    });
    assert.deepEqual(given(runtime.requests[0]!), {
      ...{ session: 's', teach: false, retrieve: 2, maxTokens: 9, temperature: 0.5, topP: 0.9, topK: 40, seed: 7 },
      stop: ['END'],
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Hi' },
      ],
    });
  });

  test(`${name}: the provider's session counts where a call names none, and null is none`, async (t) => {
    const { tmem, runtime } = await open(t, hello, { session: 'own' });
    const metadata = [];
    for (const options of [undefined, {}, { session: 's' }, { session: null }]) {
      const call = { model: tmem('m'), prompt: 'Hi', ...(options && { providerOptions: { tmem: options } }) };
      metadata.push((await generateText(call)).providerMetadata?.tmem?.session);
    }
    assert.deepEqual(
      runtime.requests.map(({ session }) => session),
      ['own', 'own', 's', null],
    );
    assert.deepEqual(metadata, ['own', 'own', 's', undefined]);
  });

  test(`${name}: tools are called in several steps, their results are in the next request`, async (t) => {
    const { tmem, runtime } = await open(t, async function* (request) {
      const result = request.messages.findLast(({ role }) => role === 'tool');
      if (result) yield { type: 'text', text: `It is ${result.content}.` };
      else {
        yield { type: 'text', text: 'Let me see.' };
        yield { type: 'tool-call', call: { id: 'c1', name: 'add', arguments: '{"a":2,"b":3}' } };
        yield { type: 'tool-call', call: { id: 'c2', name: 'now', arguments: '' } };
      }
      yield done(request, result ? 'stop' : 'tool-calls');
    });
    const tools = {
      add: tool({
        description: 'Adds two numbers.',
        inputSchema: z.object({ a: z.number(), b: z.number() }),
        execute: async ({ a, b }) => ({ sum: a + b }),
      }),
      now: tool({ inputSchema: z.object({}), execute: async () => 'noon' }),
    };
    for (const streamed of [false, true]) {
      const call = { model: tmem('m'), tools, prompt: '2 + 3?', stopWhen: isStepCount(3) };
      const result = streamed ? streamText(call) : await generateText(call);
      assert.equal((await result.steps).length, 2);
      assert.equal(await result.text, 'It is noon.');
      const [first, second] = runtime.requests.splice(0);
      assert.equal(first!.toolChoice, 'auto');
      assert.deepEqual(
        first!.tools?.map((one) => [one.name, one.description, Object.keys(one.parameters!.properties as object)]),
        [
          ['add', 'Adds two numbers.', ['a', 'b']],
          ['now', undefined, []],
        ],
      );
      assert.deepEqual(
        second!.messages.map((message) => [message.role, message.content]),
        [
          ['user', '2 + 3?'],
          ['assistant', 'Let me see.'],
          ['tool', '{"sum":5}'],
          ['tool', 'noon'],
        ],
      );
      const said = second!.messages[1]!;
      assert.deepEqual(said.role === 'assistant' && said.toolCalls, [
        { id: 'c1', name: 'add', arguments: '{"a":2,"b":3}' },
        { id: 'c2', name: 'now', arguments: '{}' },
      ]);
    }
  });

  test(`${name}: a tool can be required, named or forbidden`, async (t) => {
    const { tmem, runtime } = await open(t, async function* (request) {
      if (request.toolChoice !== 'none') yield { type: 'tool-call', call: { id: 'c', name: 'look', arguments: '{}' } };
      yield done(request, request.toolChoice === 'none' ? 'stop' : 'tool-calls');
    });
    const tools = { look: tool({ inputSchema: z.object({}) }) };
    for (const toolChoice of ['required', 'none', { type: 'tool', toolName: 'look' }] as const)
      await generateText({ model: tmem('m'), prompt: 'Look', tools, toolChoice });
    assert.deepEqual(
      runtime.requests.map(({ toolChoice }) => toolChoice),
      ['required', 'none', { name: 'look' }],
    );
  });

  test(`${name}: an object is generated under its schema, at once and streamed`, async (t) => {
    const { tmem, runtime } = await open(t, async function* (request) {
      yield { type: 'text', text: '{"name":' };
      yield { type: 'text', text: '"Marzipan"}' };
      yield done(request);
    });
    const output = Output.object({ schema: z.object({ name: z.string() }) });
    const call = { model: tmem('m'), prompt: 'Who?', output };
    assert.deepEqual((await generateText(call)).output, { name: 'Marzipan' });
    const streamed = streamText(call);
    const partial = await all(streamed.partialOutputStream);
    assert.deepEqual(partial.at(-1), { name: 'Marzipan' });
    for (const { schema } of runtime.requests) {
      assert.equal(schema?.type, 'object');
      assert.deepEqual(schema.required, ['name']);
      assert.match(schemaToGrammar(schema), /name/, 'a schema as the AI SDK writes it can constrain a generation');
    }
  });

  test(`${name}: texts are embedded in their order`, async (t) => {
    const { tmem, runtime } = await open(t, hello);
    const model = tmem.embeddingModel('e');
    const values = ['one', 'two words', 'three'];
    const { vectors } = await runtime.embed(values);
    const { embedding, usage } = await embed({ model, value: 'two words' });
    assert.deepEqual(embedding, [...vectors[1]!]);
    assert.equal(usage.tokens, 2);
    const { embeddings } = await embedMany({ model, values });
    assert.deepEqual(
      embeddings,
      vectors.map((vector) => [...vector]),
    );
    const { warnings } = await model.doEmbed({ values: ['a'], dimensions: 3 });
    assert.deepEqual(warnings, [{ type: 'unsupported', feature: 'dimensions' }]);
  });

  test(`${name}: a generation that is interrupted rejects with the signal's reason, and ends in the runtime`, async (t) => {
    const ended = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const { tmem } = await open(t, async function* (request) {
      try {
        yield { type: 'text', text: 'One' };
        begun.resolve();
        await untilAborted(request);
      } finally {
        ended.resolve();
      }
    });
    const controller = new AbortController();
    const running = generateText({ model: tmem('m'), prompt: 'Hi', abortSignal: controller.signal });
    await begun.promise;
    controller.abort();
    await assert.rejects(running, { name: 'AbortError' });
    await ended.promise;
    await assert.rejects(generateText({ model: tmem('m'), prompt: 'Hi', abortSignal: AbortSignal.abort() }), {
      name: 'AbortError',
    });
  });

  test(`${name}: an interrupted stream tells so, and ends in the runtime; so does one that nobody reads any more`, async (t) => {
    let ended = Promise.withResolvers<void>();
    const { tmem } = await open(t, async function* (request) {
      try {
        yield { type: 'text', text: 'One' };
        await untilAborted(request);
      } finally {
        ended.resolve();
      }
    });
    const controller = new AbortController();
    const aborted = Promise.withResolvers<void>();
    const result = streamText({
      ...{ model: tmem('m'), prompt: 'Hi', abortSignal: controller.signal },
      onAbort: () => aborted.resolve(),
      onError: ({ error }) => aborted.reject(error),
    });
    for await (const piece of result.textStream) {
      assert.equal(piece, 'One');
      controller.abort();
    }
    await aborted.promise;
    await ended.promise;

    ended = Promise.withResolvers<void>();
    const prompt = [{ role: 'user' as const, content: [] }];
    const { stream } = await tmem('m').doStream({ prompt });
    await stream.cancel();
    await ended.promise;
  });

  test(`${name}: what is wrong with a request is said before anything is streamed`, async (t) => {
    // biome-ignore lint/correctness/useYield: it fails before it says anything
    const { tmem } = await open(t, async function* () {
      throw new TmemError('usage', 'The prompt does not fit.');
    });
    await assert.rejects(generateText({ model: tmem('m'), prompt: 'Hi' }), { message: 'The prompt does not fit.' });
    const prompt = [{ role: 'user' as const, content: [] }];
    await assert.rejects(async () => tmem('m').doStream({ prompt }), { message: 'The prompt does not fit.' });
  });

  test(`${name}: an error after the first text is a part of the stream`, async (t) => {
    const { tmem } = await open(t, async function* () {
      yield { type: 'text', text: 'One' };
      throw new TmemError('failed', 'The engine stopped.');
    });
    const prompt = [{ role: 'user' as const, content: [] }];
    const { stream } = await tmem('m').doStream({ prompt });
    const [error, last] = (await all(stream)).slice(-2);
    assert.ok(error?.type === 'error');
    assert.equal((error.error as Error).message, 'The engine stopped.');
    assert.deepEqual(last?.type === 'finish' && last.finishReason, { unified: 'error', raw: undefined });
    await assert.rejects(generateText({ model: tmem('m'), prompt: 'Hi', maxRetries: 0 }), {
      message: 'The engine stopped.',
    });
  });
}

const inProcess = transports[0]!.open;

test('what is not supported is warned of', async (t) => {
  const { tmem } = await inProcess(t, hello);
  const { warnings } = await tmem('m').doGenerate({
    ...{ presencePenalty: 1, frequencyPenalty: 1, reasoning: 'high', responseFormat: { type: 'json' } },
    prompt: [{ role: 'assistant', content: [{ type: 'reasoning', text: 'Hm.' }] }],
    tools: [{ type: 'provider', id: 'other.search', name: 'search', args: {} }],
  });
  assert.deepEqual(
    warnings.map((warning) => warning.type === 'unsupported' && warning.feature),
    [
      ...['presencePenalty', 'frequencyPenalty', 'reasoning', 'responseFormat JSON without a schema'],
      ...['reasoning in the prompt', 'provider-defined tool other.search'],
    ],
  );
});

test('wrong provider options are named', async (t) => {
  const { tmem } = await inProcess(t, hello);
  for (const [options, said] of [
    [{ sesion: 's' }, /sesion/],
    [{ session: 'a b' }, /session/],
    [{ retrieve: -1 }, /retrieve/],
  ] as const) {
    const providerOptions = { tmem: { ...options } };
    await assert.rejects(generateText({ model: tmem('m'), prompt: 'Hi', providerOptions }), (error: Error) => {
      return InvalidArgumentError.isInstance(error) && said.test(error.message);
    });
  }
});

test('text files are read as text, all others are refused', async (t) => {
  const { tmem, runtime } = await inProcess(t, hello);
  const withFile = (mediaType: string): ModelMessage[] => [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Read this:' },
        { type: 'file', mediaType, data: new TextEncoder().encode('naïve') },
      ],
    },
  ];
  await generateText({ model: tmem('m'), messages: withFile('text/plain') });
  assert.equal(runtime.requests[0]!.messages[0]!.content, 'Read this:\nnaïve');
  await assert.rejects(generateText({ model: tmem('m'), messages: withFile('image/png') }), (error) =>
    UnsupportedFunctionalityError.isInstance(error),
  );
});

test('results of tools are read in all their forms', async (t) => {
  const { tmem, runtime } = await inProcess(t, hello);
  const outputs = [
    { type: 'text', value: 'plain' },
    { type: 'json', value: { a: [1] } },
    { type: 'error-text', value: 'it failed' },
    { type: 'error-json', value: { code: 1 } },
    { type: 'execution-denied', reason: 'not now' },
    {
      type: 'content',
      value: [
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ],
    },
  ] as const;
  const content = outputs.map((output, i) => {
    return { type: 'tool-result' as const, toolCallId: `c${i}`, toolName: 'look', output: structuredClone(output) };
  });
  await tmem('m').doGenerate({ prompt: [{ role: 'tool', content: content as never }] });
  assert.deepEqual(
    runtime.requests[0]!.messages.map(({ content }) => content),
    ['plain', '{"a":[1]}', 'it failed', '{"code":1}', 'not now', 'a\nb'],
  );
});
