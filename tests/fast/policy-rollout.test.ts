import assert from 'node:assert/strict';
import { test } from 'node:test';
import { extractionContext } from '../../src/agent/context.ts';
import { NOTE_SCHEMA, PAIRS_SCHEMA } from '../../src/agent/extract.ts';
import { CONDENSE, EXTRACTION } from '../../src/agent/prompts.ts';
import { hashOf } from '../../src/engine/adapter/fast-weights.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { complete, type GenerateRequest } from '../../src/engine/types.ts';
import type { Task } from '../../src/policy/environment.ts';
import { episodeFigures } from '../../src/policy/metrics.ts';
import { type Action, type Deltas, Recorder } from '../../src/policy/recorder.ts';
import { type RolloutSettings, rollOut, rollOutGroups } from '../../src/policy/rollout.ts';
import { onePolicy, quickSettings, skyEnvironment } from '../support/policy.ts';
import { extractFacts, lastMessage, said, scriptedPolicy } from '../support/scripted.ts';

const settings = (own: Partial<RolloutSettings> = {}) => quickSettings({ rollout: own }).rollout;
const recorder = (engine: ScriptedEngine, own: Partial<RolloutSettings> = {}, deltas: Deltas = new Map()) =>
  new Recorder(engine, 'memory', 7, deltas, settings(own));
const ask = (content: string): GenerateRequest => ({ prompt: [{ role: 'user', content }] });
const generated = (engine: ScriptedEngine) =>
  engine.calls.filter((call) => call.type === 'generate').map(({ request }) => request);
const task = async (own: Partial<Task> = {}): Promise<Task> => ({
  ...(await skyEnvironment.episode(1, 'train')),
  ...own,
});
const where = (deltas: Deltas = new Map()) => ({ name: 'memory', seed: 7, deltas });

test('an action is recorded with the tokens of its prompt and answer, its context, and its Delta', async () => {
  const engine = new ScriptedEngine({ reply: () => 'It is blue.' });
  const deltas: Deltas = new Map();
  const one = recorder(engine, {}, deltas);
  await complete(one.engine, ask('before'));
  const delta = onePolicy(1, 2);
  await one.engine.setFastWeights(delta);
  await complete(one.engine, ask('under Delta'));
  await complete(one.engine, { ...ask('without it'), fastWeights: false });
  await one.engine.setFastWeights(onePolicy(1, 3));
  await complete(one.engine, ask('under the next'));
  const other = hashOf(onePolicy(1, 3));
  assert.deepEqual(
    one.actions.map((action) => action.delta),
    [null, hashOf(delta), null, other],
  );
  assert.deepEqual(
    [...deltas],
    [
      [hashOf(delta), delta],
      [other, onePolicy(1, 3)],
    ],
  );
  const [first] = one.actions;
  assert.equal(await engine.detokenize(first!.prompt), await engine.renderChat(first!.context));
  assert.equal(await engine.detokenize(first!.answer), 'It is blue.');
  assert.deepEqual(
    [first!.kind, first!.text, first!.finish, [...first!.logProbs]],
    ['ordinary', 'It is blue.', 'end', [0, 0, 0]],
  );
  const requests = generated(engine);
  assert.deepEqual(
    requests.map(({ memory, fastWeights }) => [memory, fastWeights]),
    [
      ['memory', undefined],
      ['memory', undefined],
      ['memory', false],
      ['memory', undefined],
    ],
  );
});

test('actions are sampled plainly at one temperature, whatever the agent asks for', async () => {
  const engine = new ScriptedEngine({ reply: () => '{"pairs": []}' });
  const one = recorder(engine, { grammar: false });
  await complete(one.engine, { ...ask('x'), schema: PAIRS_SCHEMA, temperature: 0.7, topP: 0.9, topK: 5, seed: 1 });
  const [{ temperature, topP, topK, schema, logProbs }] = generated(engine) as [GenerateRequest];
  assert.deepEqual([temperature, topP, topK, schema, logProbs], [1, undefined, undefined, undefined, 0]);
});

test('pairs, notes and notes made shorter are extractions', async () => {
  const engine = new ScriptedEngine({ reply: () => '{"pairs": []}' });
  const one = recorder(engine);
  await complete(one.engine, { ...ask('x'), schema: PAIRS_SCHEMA });
  await complete(one.engine, { ...ask('x'), schema: NOTE_SCHEMA });
  await complete(one.engine, {
    prompt: [{ role: 'system', content: CONDENSE.system }, ...[{ role: 'user' as const, content: 'x' }]],
  });
  await complete(one.engine, ask('x'));
  assert.deepEqual(
    one.actions.map(({ kind }) => kind),
    ['extraction', 'extraction', 'extraction', 'ordinary'],
  );
});

test('an extraction that cannot be read counts as one that found nothing, and is recorded as it was said', async () => {
  const engine = new ScriptedEngine({ reply: () => 'Sure, here are some facts' });
  const one = recorder(engine);
  const { text } = await complete(one.engine, { ...ask('x'), schema: PAIRS_SCHEMA });
  assert.deepEqual(JSON.parse(text), { memory: '', pairs: [] });
  assert.equal(one.actions[0]!.text, 'Sure, here are some facts');
});

test('an episode whose extractions cannot be read remembers nothing of its turns', async () => {
  const engine = scriptedPolicy((request) => (JSON.stringify(request.prompt).includes('blue') ? 'blue' : 'unknown'));
  const wordless = scriptedPolicy((request) => (JSON.stringify(request.prompt).includes('blue') ? 'blue' : 'unknown'));
  const right = await rollOut(engine, await task(), settings(), where());
  assert.deepEqual([right.answers, right.reward], [['blue'], 1]);
  // Without its schema the scripted policy does not know that it is asked to extract, and says "blue".
  const wrong = await rollOut(wordless, await task(), settings({ grammar: false }), where());
  assert.deepEqual([wrong.answers, wrong.reward], [['unknown'], 0]);
});

test('of the examples of an extraction only the first ones are kept if so many are wanted', async () => {
  const engine = new ScriptedEngine({ reply: (request) => (request.schema ? extractFacts(request) : 'fine') });
  await rollOut(engine, await task(), settings({ examples: 1 }), where());
  const [part] = generated(engine).filter(({ schema }) => schema === PAIRS_SCHEMA);
  const messages = part!.prompt as readonly { content: string }[];
  assert.equal(messages.length, 4);
  assert.equal(messages[0]!.content, EXTRACTION.system);
  assert.ok(messages[1]!.content.includes(EXTRACTION.examples[0]!.part));
  assert.match(lastMessage(part!), /The sky is blue/);
});

test('an extraction in lines is asked for with examples in lines, and the agent is given its pairs', async () => {
  const written = 'The sky is blue.\nHello!\n-';
  const engine = new ScriptedEngine({ reply: () => written });
  const one = recorder(engine, { format: 'lines', grammar: false });
  const context = extractionContext({ earlier: [], part: [said('The sky is blue.')] });
  const { text } = await complete(one.engine, { prompt: context, schema: PAIRS_SCHEMA });
  assert.deepEqual(JSON.parse(text), { pairs: [{ output: 'The sky is blue.', instruction: 'The sky is what?' }] });
  assert.equal(one.actions[0]!.text, written);
  const [system, , example, , nothing] = one.actions[0]!.context;
  assert.doesNotMatch(system!.content, /JSON/);
  assert.match(example!.content, /^Ingrid adopted a parrot on 3 June 2019\.$/m);
  assert.equal(nothing!.content, '-');
  assert.deepEqual(one.actions[0]!.context.at(-1), context.at(-1));
});

test('the turns before a part are shown with it as many as wanted', async () => {
  const shown = async (earlierTurns: number) => {
    const engine = scriptedPolicy();
    const turns = [said('The sky is blue.'), said('The sea is green.')];
    await rollOut(engine, await task({ turns }), settings({ earlierTurns }), where());
    return generated(engine).filter(
      (of) => of.schema === PAIRS_SCHEMA && lastMessage(of).startsWith(EXTRACTION.earlier),
    );
  };
  assert.equal((await shown(0)).length, 0);
  assert.equal((await shown(1)).length, 1);
});

test('without a note the pairs are all that is kept, and no action is spent on one', async () => {
  const engine = scriptedPolicy();
  const { actions } = await rollOut(engine, await task(), settings({ note: false }), where());
  assert.deepEqual(
    actions.map(({ kind }) => kind),
    ['extraction', 'extraction', 'ordinary'],
  );
  assert.ok(generated(engine).every(({ schema }) => schema !== NOTE_SCHEMA));
  assert.match(JSON.stringify(actions.at(-1)!.context), /blue/);
});

test('an episode that writes twice has actions under two versions of Delta, and both are kept', async () => {
  const engine = scriptedPolicy(() => 'blue');
  const deltas: Deltas = new Map();
  const long = await task({
    turns: [said('The sky is blue.')],
    async play(agent) {
      await agent.observe(said('The sky is blue.'));
      await agent.settle();
      const { text } = await agent.answer({ text: 'What is the sky?' });
      await agent.observe(said('The sea is green.'));
      await agent.settle();
      return [text, (await agent.answer({ text: 'What is the sea?' })).text];
    },
  });
  const { actions } = await rollOut(
    engine,
    long,
    settings({ write: 'weights', recipe: 'paper', note: false }),
    where(deltas),
  );
  const versions = actions.map(({ delta }) => delta);
  const [first, second] = [...deltas.keys()];
  assert.equal(deltas.size, 2);
  // Extraction, answer, extraction under the Delta of the first write, answer.
  assert.deepEqual(versions, [null, first, first, second]);
  for (const [hash, weights] of deltas) assert.equal(hashOf(weights), hash);
  assert.equal(engine.memories.get('memory'), null, 'the Delta of the episode is taken out at its end');
  assert.equal(engine.weights, null, 'no episode touches the weights without a name');
});

test('extractions can be sampled under theta0 alone', async () => {
  const engine = scriptedPolicy(() => 'blue');
  const own = { write: 'weights', recipe: 'paper', extractUnderDelta: false } as const;
  const { actions } = await rollOut(engine, await task(), settings(own), where());
  const extractions = actions.filter(({ kind }) => kind === 'extraction');
  assert.ok(extractions.length > 0 && extractions.every(({ delta }) => delta === null));
  assert.notEqual(actions.at(-1)!.delta, null);
});

test('what a write asks for itself is no action', async () => {
  const engine = scriptedPolicy(() => 'blue');
  const { actions } = await rollOut(engine, await task(), settings({ write: 'weights', recipe: 'paper' }), where());
  const asked = generated(engine).length;
  const scored = engine.calls.filter((call) => call.type === 'score').length;
  assert.ok(scored > 0, 'the pairs of the write are asked');
  assert.equal(actions.length, 4);
  assert.ok(asked >= actions.length);
});

test('episodes that pass a limit are marked, and get no more actions', async () => {
  const engine = scriptedPolicy(() => 'one two three four');
  const short = await rollOut(engine, await task(), settings({ maxTokens: 2 }), where());
  assert.ok(short.truncated);
  assert.ok(short.actions.every(({ answer }) => answer.length <= 2));
  const few = await rollOut(engine, await task(), settings({ maxActions: 3 }), where());
  assert.deepEqual([few.actions.length, few.truncated, few.answers], [3, true, ['']]);
  const spent = await rollOut(engine, await task(), settings({ maxCompletionLength: 6 }), where());
  assert.ok(spent.truncated && spent.actions.length < 4);
  assert.ok(!(await rollOut(engine, await task(), settings(), where())).truncated);
});

test('the seed of an action follows from the episode and its context, not from when it runs', async () => {
  const seeds = async (seed: number) => {
    const engine = scriptedPolicy();
    const deltas: Deltas = new Map();
    await rollOut(engine, await task(), settings(), { name: 'memory', seed, deltas });
    return new Map(generated(engine).map((request) => [JSON.stringify(request.prompt), request.seed]));
  };
  const [one, again, other] = [await seeds(1), await seeds(1), await seeds(2)];
  assert.deepEqual([...one].sort(), [...again].sort());
  assert.equal(new Set(one.values()).size, one.size, 'different contexts have different seeds');
  assert.ok([...one].every(([prompt, seed]) => other.get(prompt) !== seed));
});

test('the same context twice in an episode is sampled with two seeds', async () => {
  const engine = new ScriptedEngine({ reply: () => 'fine' });
  const one = recorder(engine);
  await complete(one.engine, ask('x'));
  await complete(one.engine, ask('x'));
  const [first, second] = generated(engine);
  assert.notEqual(first!.seed, second!.seed);
});

test('groups run side by side under names of their own, in order', async () => {
  const engine = scriptedPolicy(() => 'blue');
  const tasks = [await task({ id: 'first' }), await task({ id: 'second' })];
  let ended = 0;
  const groups = await rollOutGroups(engine, tasks, 3, settings(), {
    ...{ seed: 1, deltas: new Map() },
    onEpisode: () => ended++,
  });
  assert.deepEqual(
    groups.map((group) => group.map((rollout) => rollout.task.id)),
    [Array(3).fill('first'), Array(3).fill('second')],
  );
  assert.equal(ended, 6);
  assert.equal(new Set(generated(engine).map(({ memory }) => memory)).size, 6);
});

test("how much of what is asked was written down is the share of the right answers' words in the extractions", async () => {
  const questions = ['the blue Danube', 'red', '1889'].map((gold) => ({ text: 'Which?', gold }));
  const action = (kind: Action['kind'], text: string) => ({ kind, text }) as Action;
  const extractions = [action('extraction', 'It was blue.'), action('extraction', 'Built in 1889')];
  const rollout = { reward: 0, truncated: false, answers: [], task: await task({ questions }) };
  const figures = (...actions: Action[]) => episodeFigures({ ...rollout, actions });
  assert.equal(figures(...extractions, action('ordinary', 'red')).extracted, (1 / 2 + 0 + 1) / 3);
  assert.equal(figures(action('ordinary', 'red')).extracted, undefined);
});

test('an episode that fails ends the others, and its error is told', async () => {
  const engine = scriptedPolicy(() => 'blue');
  const bad = await task({ reward: () => 2, id: 'odd' });
  const playing = rollOutGroups(engine, [bad, await task()], 4, settings({ parallel: 2 }), {
    seed: 1,
    deltas: new Map(),
  });
  await assert.rejects(playing, /The reward of task odd is 2; it must be from 0 to 1\./);
  const calls = engine.calls.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(engine.calls.length, calls, 'nothing runs any more');
});
