import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights, TrainRequest } from '../../src/engine/types.ts';
import { ABLATIONS, ablation } from '../../src/methods/ablations.ts';
import { raw, trainedSummary } from '../../src/methods/raw.ts';
import { getMethod } from '../../src/methods/registry.ts';
import type { MethodSpec } from '../../src/methods/types.ts';
import { filler, generated, reading, shownIn, talk } from '../support/methods.ts';
import { isPart, lastMessage, said, scriptedPolicy } from '../support/scripted.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-methods-'));
process.env.TMEM_HOME = home; // the base model's own answers are kept there
after(() => rmSync(home, { recursive: true, force: true }));

const [tmem, tmemAware, tmemWeights, tmemRetrieve, explicit] = [
  'tmem',
  'tmem-aware',
  'tmem-weights',
  'tmem-retrieve',
  'explicit',
].map(getMethod) as [MethodSpec, MethodSpec, MethodSpec, MethodSpec, MethodSpec];

const trainings = (engine: ScriptedEngine): TrainRequest[] =>
  engine.calls.flatMap((call) => (call.type === 'train' ? [call.request] : []));

/** With fast weights it answers what it was trained on; all else it answers in its own words. */
function learner(): ScriptedEngine {
  const engine: ScriptedEngine = scriptedPolicy((request, weights: FastWeights | null) => {
    const question = lastMessage(request);
    const samples = weights ? trainings(engine).flatMap((training) => training.samples) : [];
    const trained = samples.findLast(({ prompt }) => prompt.includes(` ${question} `));
    return trained ? trained.answer.replace(/ <\|end\|>$/, '') : `on: ${question}`;
  });
  return engine;
}

const SUBJECTS = ['sky', 'door', 'dog', 'sea'];
const SKY = { text: 'What is the sky?', maxTokens: 20 };

test('tmem: what was read is answered from weights and notes together', async () => {
  const engine = learner();
  const method = await reading(tmem, engine, talk(SUBJECTS));
  assert.equal((await method.answer(SKY)).text, 'skyish');
  const asked = generated(engine).at(-1)!;
  assert.match(shownIn(asked), /Notes from earlier conversations:\nTalk skyish doorish/);
  assert.equal(asked.fastWeights, undefined, 'those in force');
  const { text, items, weights } = await method.kept();
  assert.match(text, /^Talk skyish/);
  assert.equal(items, 4);
  const [tensor] = engine.weights!.tensors;
  assert.equal(weights, 4 * (tensor!.a.length + tensor!.b.length));
});

test('tmem-weights: the question alone is seen, and no text is kept', async () => {
  const engine = learner();
  const method = await reading(tmemWeights, engine, talk(SUBJECTS));
  assert.equal((await method.answer(SKY)).text, 'skyish');
  assert.deepEqual(generated(engine).at(-1)!.prompt, [{ role: 'user', content: SKY.text }]);
  const { text, weights } = await method.kept();
  assert.equal(text, '');
  assert.ok(weights > 0);
});

test('tmem-retrieve: the five nearest pairs are beside the notes', async () => {
  const engine = learner();
  const turns = Array.from({ length: 8 }, (_, i) => said(`The dog${i} is dog${i}ish.`));
  const method = await reading(tmemRetrieve, engine, turns);
  await method.answer({ text: 'What is the dog6, what is the dog2?' });
  const pairs = shownIn(generated(engine).at(-1)!).match(/^What is the \w+\? -> \w+$/gm)!;
  assert.equal(pairs.length, 2, 'those that share something with it');
  await method.answer({ text: 'dog0 dog1 dog2 dog3 dog4 dog5 dog6?' });
  assert.equal(shownIn(generated(engine).at(-1)!).match(/ -> /g)!.length, 5);
  assert.match((await method.kept()).text, /\nWhat is the dog7\? dog7ish$/);
});

test('tmem-hybrid: the nearest turns are beside the question, which the base model answers', async () => {
  const engine = learner();
  const turns = Array.from({ length: 20 }, (_, i) => said(`The dog${i} is dog${i}ish.`));
  const method = await reading(getMethod('tmem-hybrid'), engine, turns);
  await method.answer({ text: 'What is the dog6?\nAnswer shortly.', query: 'What is the dog6?' });
  const request = generated(engine).at(-1)!;
  const shown = shownIn(request);
  assert.doesNotMatch(shown, /^What is the dog6\? dog6ish$/m);
  assert.match(shown, /^User: The dog6 is dog6ish\.$/m);
  assert.equal(request.fastWeights, false);
  assert.ok((await method.kept()).weights > 0);
});

test('tmem-hybrid: of the nearest pairs those are shown whose turn is not', async () => {
  const engine = learner();
  const method = await reading(getMethod('tmem-hybrid-text'), engine, talk(SUBJECTS, 60), { budget: 240 });
  await method.answer({ text: `What about ${SUBJECTS.join(', ')}?` });
  const shown = shownIn(generated(engine).at(-1)!);
  const parts = (subject: string) => [`The ${subject} is ${subject}ish.`, `${subject}59`];
  const turns = SUBJECTS.filter((subject) => parts(subject).every((part) => shown.includes(part)));
  const pairs = SUBJECTS.filter((subject) => shown.includes(`What is the ${subject}? ${subject}ish`));
  assert.ok(turns.length > 0 && pairs.length > 0, `${turns} and ${pairs}`);
  assert.deepEqual([...turns, ...pairs].sort(), [...SUBJECTS].sort());
});

test('what the weights are sure of is shown to the base model as a recollection, beside notes or beside turns', async () => {
  for (const [name, beside] of [
    ['tmem-recall', /Talk skyish/],
    ['tmem-hybrid', /\[[^\]]*\] Ann: The sky is skyish\./],
  ] as const) {
    const engine = learner();
    const method = await reading(getMethod(name), engine, talk(SUBJECTS));
    const question = { text: 'What is the sky?\nAnswer shortly.', query: 'What is the sky?' };
    const { text } = await method.answer(question);
    const [recalling, answering] = generated(engine).slice(-2);
    assert.deepEqual(recalling!.prompt, [{ role: 'user', content: 'What is the sky?' }]);
    assert.notEqual(recalling!.fastWeights, false);
    assert.equal(answering!.fastWeights, false);
    assert.match(shownIn(answering!), /^As far as you remember, from Sunday 1 March 2026: skyish$/m);
    assert.match(shownIn(answering!), beside);
    assert.equal(text, 'on: What is the sky?\nAnswer shortly.', 'the base model answers');

    const score = engine.score.bind(engine);
    engine.score = async (request) => {
      const scored = await score(request);
      return { ...scored, logProbs: scored.logProbs.map(() => -5) };
    };
    const before = generated(engine).length;
    await method.answer({ text: 'Who is Ulla?' });
    assert.doesNotMatch(shownIn(generated(engine).at(-1)!), /As far as you remember/, 'not sure of it');
    assert.equal(generated(engine).length - before, 10, 'asked nine times before it was answered');
    const other = await method.as?.('tmem-recall');
    await other!.answer({ text: 'Who is Ulla?' });
    assert.equal(generated(engine).length - before, 11, 'what was said is known to other variants of the reading');
  }
});

test('a recollection of what was said on no known day has none', async () => {
  const engine = learner();
  const method = await reading(getMethod('tmem-recall'), engine, [said('The sky is skyish.')]);
  await method.answer({ text: 'What is the sky?' });
  assert.match(shownIn(generated(engine).at(-1)!), /^As far as you remember: skyish$/m);
});

test('variants that read in the same way answer from one reading as they would from their own', async () => {
  const engine = learner();
  const turns = talk(SUBJECTS);
  const method = await reading(tmem, engine, turns);
  const trained = trainings(engine).length;
  const asked = { text: 'What is the sky?', query: 'sky' };
  for (const name of ['tmem-weights', 'tmem-retrieve', 'tmem-recall', 'tmem-hybrid', 'tmem-hybrid-text']) {
    const other = await method.as?.(name);
    const answer = await other!.answer(asked);
    const request = generated(engine).at(-1)!;
    assert.equal(trainings(engine).length, trained, 'nothing is trained again');

    const itself = learner();
    const own = await reading(getMethod(name), itself, turns);
    assert.deepEqual([answer, await other!.kept()], [await own.answer(asked), await own.kept()], name);
    assert.deepEqual(request.prompt, generated(itself).at(-1)!.prompt, name);
  }
  for (const name of ['tmem-aware', 'explicit', 'rag', 'tmem:layers=2', 'tmem-weights:budget=400'])
    assert.equal(await method.as?.(name), undefined, name);

  const other = await reading(getMethod('tmem:layers=2'), learner(), turns);
  assert.equal(await other.as?.('tmem-weights'), undefined);
  assert.ok(await other.as?.('tmem-weights:layers=2'));
});

test('tmem-aware: the extraction sees the question', async () => {
  for (const spec of [tmem, tmemAware]) {
    const engine = learner();
    await reading(spec, engine, talk(SUBJECTS), { task: 'Which door?' });
    const parts = generated(engine).filter(isPart).map(lastMessage);
    assert.equal(parts.length, SUBJECTS.length);
    assert.ok(parts.every((part) => part.includes('Which door?') === spec.aware));
  }
});

test('explicit: nothing is trained, the facts are in the notes', async () => {
  const engine = learner();
  const method = await reading(explicit, engine, talk(SUBJECTS));
  assert.deepEqual(trainings(engine), []);
  const { text, items, weights } = await method.kept();
  assert.deepEqual([items, weights], [text.split('\n').length, 0]);
  assert.ok(SUBJECTS.every((subject) => text.includes(`${subject}ish`)));
  await method.answer(SKY);
  assert.ok(shownIn(generated(engine).at(-1)!).includes('skyish'));
});

test('tmem writes when the budget is reached, before it is asked to settle', async () => {
  const engine = learner();
  const method = await tmem.open({ engine, budget: 400 });
  for (const turn of talk(SUBJECTS, 150)) await method.observe(turn);
  assert.ok(trainings(engine).length >= 1);
  assert.equal(engine.weights !== null, true);
});

test('raw: the turns themselves are what is trained, each after a prompt with its number and date', async () => {
  const engine = learner();
  const method = await reading(raw, engine, [...talk(['sky', 'door']), said('The dog is dogish.')]);
  const [training] = trainings(engine);
  assert.equal(trainings(engine).length, 1);
  assert.deepEqual(training!.samples.slice(0, 3), [
    await engine.renderSample(
      'What was said on Sunday 1 March 2026, in message 1?',
      '[Sunday 1 March 2026] Ann: The sky is skyish.',
    ),
    await engine.renderSample(
      'What was said on Monday 2 March 2026, in message 2?',
      '[Monday 2 March 2026] Ben: The door is doorish.',
    ),
    await engine.renderSample('What was said in message 3?', 'User: The dog is dogish.'),
  ]);
  assert.ok(training!.samples.length > 3, 'anchors');
  const { text, items, weights } = await method.kept();
  assert.deepEqual([text, items], ['', 3]);
  assert.ok(weights > 0);
  await method.answer(SKY);
  const asked = generated(engine).at(-1)!;
  assert.deepEqual(asked.prompt, [{ role: 'user', content: SKY.text }]);
  assert.equal(asked.fastWeights, true);
});

test('raw: turns of one day are not taken for answers to one question, and earlier ones are replayed', async () => {
  const engine = learner();
  const day = SUBJECTS.map((subject) =>
    said(`The ${subject} is ${subject}ish. ${filler(150)}`, { time: '2026-03-01' }),
  );
  const method = await reading(raw, engine, day, { budget: 400 });
  assert.equal((await method.kept()).items, 4);
  const [, second] = trainings(engine);
  assert.deepEqual(
    second!.replay!.map(({ answer }) => /The \w+/.exec(answer)![0]),
    ['The sky', 'The door'],
  );
});

test('raw: a long turn is trained in pieces of at most 250 tokens', async () => {
  const engine = learner();
  const method = await reading(raw, engine, [said(filler(600))]);
  assert.equal((await method.kept()).items, 3);
  const read = trainings(engine)[0]!
    .samples.slice(0, 3)
    .map(({ answer }) => answer.replace(/^User: | <\|end\|>$/g, ''));
  assert.equal(read.join('').replace(/\s+/g, ' '), filler(600));
});

test('settings behind a name are those of its writes', async () => {
  const engine = learner();
  const spec = getMethod('tmem-weights:recipe=paper+init=random+rank=2+epochs=3+layers=1+trainsA=yes');
  assert.equal(spec.name, 'tmem-weights:recipe=paper+init=random+rank=2+epochs=3+layers=1+trainsA=yes');
  assert.match(spec.description, /weights alone\. Settings: recipe=paper/);
  await reading(spec, engine, talk(SUBJECTS));
  const made = engine.calls.find((call) => call.type === 'initialise');
  assert.ok(made?.type === 'initialise');
  const { init, rank, layers } = made.request;
  assert.deepEqual([init.kind, rank, layers], ['random', 2, 1]);
  const { epochs, optimizer, trainsA } = trainings(engine)[0]!;
  assert.deepEqual([epochs, optimizer.kind, trainsA], [3, 'sgd', true]);
});

test('a budget behind a name is in the place of the one that all methods have', async () => {
  const [small, large] = [learner(), learner()];
  await reading(getMethod('tmem:budget=200'), small, talk(SUBJECTS, 60));
  await reading(tmem, large, talk(SUBJECTS, 60));
  assert.ok(trainings(small).length > trainings(large).length);
});

test('settings that there are none of are refused with those that there are', () => {
  for (const name of ['tmem:rank=six', 'tmem:speed=1', 'tmem:rank', 'tmem:', 'tmem:init=best'])
    assert.throws(() => getMethod(name), { code: 'usage', message: /give KEY=VALUE.*recipe, init, rank/ }, name);
  assert.throws(() => getMethod('tmem:recipe=none'), { code: 'usage', message: /no recipe "none"/ });
  assert.throws(() => getMethod('none:rank=2'), { code: 'usage', message: /no method "none:rank=2"/ });
});

test('every method of an ablation is there', () => {
  for (const name of Object.keys(ABLATIONS)) {
    const specs = ablation(name).map(getMethod);
    assert.ok(specs.length > 2);
    assert.equal(new Set(specs.map((spec) => spec.name)).size, specs.length);
  }
  assert.throws(() => ablation('colour'), { code: 'usage', message: /choose one of supervision, init/ });
});

test('trained-summary: what is trained is a summary of each section', async () => {
  const engine: ScriptedEngine = scriptedPolicy((request) =>
    lastMessage(request).includes('What comes next:') ? 'All is well.' : 'no',
  );
  await reading(trainedSummary, engine, talk(SUBJECTS));
  const [training] = trainings(engine);
  assert.match(training!.samples[0]!.answer, /^All is well\./);
  const silent: ScriptedEngine = scriptedPolicy(() => ' ');
  await reading(trainedSummary, silent, talk(SUBJECTS));
  assert.equal(trainings(silent).length, 0, 'an empty one is not');
});
