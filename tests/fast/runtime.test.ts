/** Sessions side by side on scripted engines, with a real store. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { FastWeights, GenerateRequest } from '../../src/engine/types.ts';
import { openRuntime, type RuntimeOptions } from '../../src/serve/runtime/runtime.ts';
import type { CompletionEvent, CompletionRequest, ConversationMessage, Runtime } from '../../src/serve/types.ts';
import { temporaryHome } from '../support/home.ts';
import { lastMessage, scriptedPolicy } from '../support/scripted.ts';

const filler = (words: number) => Array.from({ length: words }, (_, i) => `w${i}`).join(' ');
const mark = (weights: FastWeights | null) => weights?.tensors[0]?.b[0] ?? 0;

/** Says how its weights are marked, and what it was asked last. */
async function open(t: TestContext, options: Partial<RuntimeOptions> = {}, reply?: (r: GenerateRequest) => string) {
  temporaryHome(t);
  const engines: ReturnType<typeof scriptedPolicy>[] = [];
  const openEngine = async () => {
    const engine = scriptedPolicy((request, weights) =>
      reply ? reply(request) : `${mark(weights) > 0 ? 'knows' : 'blank'} ${lastMessage(request).slice(0, 20)}`,
    );
    engines.push(engine);
    return engine;
  };
  const runtime = await openRuntime({ openEngine, budget: 130, recipe: 'paper', ...options });
  t.after(() => runtime.close());
  return { runtime, engines };
}

async function say(runtime: Runtime, request: CompletionRequest) {
  const events: CompletionEvent[] = [];
  for await (const event of runtime.complete(request)) events.push(event);
  const text = events.flatMap((e) => (e.type === 'text' ? [e.text] : [])).join('');
  const done = events.at(-1) as Extract<CompletionEvent, { type: 'done' }>;
  assert.equal(done.type, 'done');
  return { text, done, events };
}

/** A conversation in which every user message is sent with all that came before. */
function conversation(runtime: Runtime, session: string) {
  const messages: ConversationMessage[] = [];
  return async (content: string, more: Partial<CompletionRequest> = {}) => {
    messages.push({ role: 'user', content });
    const said = await say(runtime, { session, messages: [...messages], ...more });
    messages.push({ role: 'assistant', content: said.text });
    return said;
  };
}

test('a conversation that passes its budget is written, told of, and answered with the new weights', async (t) => {
  const { runtime, engines } = await open(t);
  const talk = conversation(runtime, 'ann');
  assert.equal(engines.length, 1, 'nothing trains yet');
  assert.equal((await talk(`The sky is blue. ${filler(20)}`)).text, 'blank The sky is blue. w0 ');
  assert.equal((await talk(`The dog is old. ${filler(20)}`)).done.memory!.writes.length, 0);
  const third = await talk(`The car is red. ${filler(40)}`);
  const { writes, contextTokens, budget } = third.done.memory!;
  assert.deepEqual(
    writes[0]!.pairs.map((p) => p.output),
    ['blue', 'old'],
  );
  assert.ok(contextTokens <= budget);
  assert.match(third.text, /^knows The car/);
  assert.ok(third.events.some((e) => e.type === 'memory' && e.event.type === 'write'));
  assert.equal(engines.length, 2);
  assert.equal(mark(engines[0]!.weights), 0, 'requests without a session are not answered from it');
  assert.equal((await say(runtime, { session: null, messages: [{ role: 'user', content: 'hi' }] })).text, 'blank hi');
});

test('what a session has learned and heard outlives the server', async (t) => {
  const { runtime } = await open(t);
  const talk = conversation(runtime, 'ann');
  await talk(`The sky is blue. ${filler(20)}`);
  await runtime.write('ann');
  await talk('The dog is old.');
  const before = await runtime.info('ann');
  await runtime.close();
  const engine = async () => scriptedPolicy((_, weights) => (mark(weights) > 0 ? 'knows' : 'blank'));
  const again = await openRuntime({ openEngine: engine, budget: 130, recipe: 'paper' });
  const after = await again.info('ann');
  assert.deepEqual(after, before);
  assert.equal((await again.ask('ann', 'what?')).answer, 'knows');
  assert.equal((await again.ask('ann', 'what?', { memory: false })).answer, 'blank');
  await again.close();
});

test('a request that is not to teach is answered from the memory and leaves nothing', async (t) => {
  const { runtime } = await open(t);
  const talk = conversation(runtime, 'ann');
  await talk('The sky is blue.');
  await runtime.write('ann');
  const before = await runtime.info('ann');
  const messages: ConversationMessage[] = [{ role: 'user', content: '### Task: a title' }];
  const { text, done } = await say(runtime, { session: 'ann', teach: false, messages });
  assert.match(text, /^knows/);
  assert.deepEqual(done.memory!.writes, []);
  assert.deepEqual(await runtime.info('ann'), before);
});

/** TMEM_PROBES=10000 for as many. */
const PROBES = Number(process.env.TMEM_PROBES ?? 500);

test('requests of many sessions at once hear and learn nothing of one another', async (t) => {
  const { runtime } = await open(t, { budget: 30_000, openSessions: 8 }, (request) =>
    typeof request.prompt === 'string' ? '' : request.prompt.map((m) => m.content).join('\n'),
  );
  const names = Array.from({ length: 10 }, (_, i) => `user${i}`);
  const secret = (name: string) => `secret-of-${name}-`;
  for (const name of names) await say(runtime, { session: name, messages: [{ role: 'user', content: secret(name) }] });
  let probes = 0;
  const leaks: string[] = [];
  const probe = async (i: number) => {
    const name = names[i % names.length]!;
    const messages: ConversationMessage[] = [{ role: 'user', content: `${secret(name)}${i}` }];
    const { text } = await say(runtime, { session: name, teach: false, messages });
    probes++;
    for (const other of names) if (other !== name && text.includes(secret(other))) leaks.push(`${name}: ${text}`);
  };
  for (let i = 0; i < PROBES; i += 50) await Promise.all(Array.from({ length: 50 }, (_, j) => probe(i + j)));
  assert.deepEqual([probes, leaks.length], [PROBES, 0]);
  for (const name of names)
    assert.ok((await runtime.info(name)).working.every(({ turn }) => turn.content.includes(secret(name))));
});

test('a reader who leaves ends its answer, and the session is free again', async (t) => {
  const { runtime } = await open(t, {}, () => filler(500));
  for await (const event of runtime.complete({ session: 'ann', messages: [{ role: 'user', content: 'hi' }] }))
    if (event.type === 'text') break;
  const leaving = new AbortController();
  const request = { session: null, messages: [{ role: 'user' as const, content: 'hi' }], signal: leaving.signal };
  await assert.rejects(
    async () => {
      for await (const event of runtime.complete(request)) if (event.type === 'text') leaving.abort();
    },
    { code: 'aborted' },
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { running, waiting } = runtime.status();
  assert.deepEqual({ running, waiting }, { running: 0, waiting: 0 });
  assert.equal((await runtime.info('ann')).busy, false);
});

test('tools are called, answered from, and not taken for facts', async (t) => {
  const tools = [{ name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } }];
  const { runtime, engines } = await open(t, { budget: 4000 }, (request) =>
    lastMessage(request).startsWith('Result of weather')
      ? 'It is mild.'
      : '{"tool": "weather", "arguments": {"city": "Ghent"}}',
  );
  const messages: ConversationMessage[] = [{ role: 'user', content: 'How warm is it?' }];
  const first = await say(runtime, { session: 'ann', messages, tools });
  const call = first.events.find((e) => e.type === 'tool-call')!.call;
  assert.deepEqual([call.name, call.arguments, first.text], ['weather', '{"city":"Ghent"}', '']);
  assert.equal(first.done.finish, 'tool-calls');
  messages.push({ role: 'assistant', content: '', toolCalls: [call] });
  messages.push({ role: 'tool', callId: call.id, content: 'The air is warm.' });
  assert.equal((await say(runtime, { session: 'ann', messages, tools })).text, 'It is mild.');
  const system = engines[0]!.calls.findLast((c) => c.type === 'generate')!.request.prompt[0] as { content: string };
  assert.match(system.content, /"name":"weather"/);
  assert.equal((await runtime.info('ann')).working.length, 4);
  await runtime.write('ann');
  const { state } = await runtime.info('ann');
  assert.deepEqual(
    state.writes.flatMap((w) => w.pairs),
    [],
    'what a tool has said is not trained on',
  );
});

test('a forced call is one by its grammar', async (t) => {
  const { runtime, engines } = await open(t, {}, () => '{"tool": "a", "arguments": {}}');
  const tools = [{ name: 'a' }, { name: 'b', parameters: { type: 'object', properties: {} } }];
  const messages: ConversationMessage[] = [{ role: 'user', content: 'go' }];
  const schemas = [];
  for (const toolChoice of ['required', { name: 'b' }] as const) {
    await say(runtime, { session: null, messages, tools, toolChoice });
    schemas.push(JSON.stringify(engines[0]!.calls.findLast((c) => c.type === 'generate')!.request.schema));
  }
  assert.match(schemas[0]!, /anyOf.*"a".*"b"/);
  assert.doesNotMatch(schemas[1]!, /"a"/);
  const { text } = await say(runtime, { session: null, messages, tools, toolChoice: 'none' });
  assert.equal(text, '{"tool": "a", "arguments": {}}');
});

test('a memory is undone, edited, branched, forgotten, brought in, exported and removed', async (t) => {
  const { runtime } = await open(t);
  const talk = conversation(runtime, 'ann');
  await talk('The sky is blue.');
  const first = await runtime.write('ann');
  await talk('The dog is old.');
  await runtime.write('ann');
  assert.equal((await runtime.undo('ann'))!.pairs[0]!.output, 'old');
  const [sky] = first!.pairs;
  assert.deepEqual(await runtime.recall('ann', [sky!.id]), [
    { pair: sky!.id, answer: 'knows What is the sky?', ok: false },
  ]);
  await runtime.branch('ann', 'ann2');
  const edited = await runtime.edit('ann', sky!.id, 'grey');
  assert.equal(edited.superseded![0]!.pair, sky!.id);
  assert.deepEqual((await runtime.forget('ann', 'grey', { dryRun: true })).removed.length, 1);
  assert.equal((await runtime.info('ann')).state.writes.length, 2);
  const { removed, verified } = await runtime.forget('ann', 'sky');
  assert.deepEqual([removed.length, verified], [2, true]);
  assert.deepEqual(
    (await runtime.info('ann')).state.writes.flatMap((w) => w.pairs),
    [],
  );
  assert.equal((await runtime.info('ann2')).state.writes[0]!.pairs[0]!.output, 'blue');
  assert.match((await runtime.export('ann2', 'jsonl')).toString(), /"output":"blue"/);
  assert.equal((await runtime.export('ann2', 'gguf')).subarray(0, 4).toString(), 'GGUF');
  const [imported] = await runtime.import('bob', [{ instruction: 'Who?', output: 'Bob.' }]);
  assert.equal(imported!.verdict, 'committed');
  await runtime.remove('bob');
  assert.deepEqual(await runtime.sessions(), ['ann', 'ann2']);
  await assert.rejects(runtime.info('bob'), { code: 'missing' });
});

test('work on a memory says how it goes', async (t) => {
  const { runtime } = await open(t);
  const talk = conversation(runtime, 'ann');
  await talk('The sky is blue.');
  const told = new Map<string, string[]>();
  const step = (name: string) => ({
    onProgress: (message: string) => void told.set(name, [...(told.get(name) ?? []), message]),
  });
  await runtime.write('ann', step('write'));
  const [pair] = (await runtime.info('ann')).state.writes[0]!.pairs;
  await runtime.edit('ann', pair!.id, 'grey', step('edit'));
  await runtime.consolidate('ann', step('consolidate'));
  await runtime.import('ann', [{ instruction: 'Who?', output: 'Bob.' }], step('import'));
  await runtime.verify('ann', step('verify'));
  await runtime.forget('ann', 'grey', step('forget'));
  for (const name of ['write', 'edit', 'consolidate', 'import', 'verify', 'forget'])
    assert.ok(
      told.get(name)?.some((message) => message.startsWith('writing')),
      `${name}: ${told.get(name)}`,
    );
  assert.ok(told.get('write')!.includes('found 1 pairs'));
});

test('what was consolidated is forgotten, too, when it was all there was', async (t) => {
  const { runtime } = await open(t);
  await runtime.import('ann', [{ instruction: 'Who?', output: 'Bob.' }]);
  await runtime.consolidate('ann');
  assert.ok((await runtime.info('ann')).state.weights);
  assert.equal((await runtime.forget('ann', 'Bob')).verified, true);
  assert.equal((await runtime.info('ann')).state.weights, null);
  assert.equal((await runtime.ask('ann', 'Who?')).answer, 'blank Who?');
  assert.deepEqual(await runtime.verify('ann'), { ok: true });
});

test('an open session that is given back and wanted at once is opened again', async (t) => {
  const { runtime } = await open(t, { openSessions: 1, budget: 4000 });
  const names = ['a', 'b', 'c'];
  await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      say(runtime, { session: names[i % 3]!, messages: [{ role: 'user', content: `message ${i}` }] }),
    ),
  );
  assert.equal(runtime.status().open, 1);
  for (const [i, name] of names.entries()) {
    const users = (await runtime.info(name)).working.filter(({ turn }) => turn.role === 'user');
    assert.equal(users.length, 10, `${name} ${i}`);
  }
});

test('listeners hear what happens in their session alone', async (t) => {
  const { runtime } = await open(t);
  const heard: string[] = [];
  const end = runtime.watch('ann', ({ session, event }) => void heard.push(`${session} ${event.type}`));
  await say(runtime, { session: 'ann', messages: [{ role: 'user', content: 'The sky is blue.' }] });
  await say(runtime, { session: 'bob', messages: [{ role: 'user', content: 'The dog is old.' }] });
  await runtime.write('ann');
  assert.ok(heard.includes('ann write') && heard.every((h) => h.startsWith('ann ')));
  const { length } = heard;
  end();
  await say(runtime, { session: 'ann', messages: [{ role: 'user', content: 'The car is red.' }] });
  assert.equal(heard.length, length);
});
