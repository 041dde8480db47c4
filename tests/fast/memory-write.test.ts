import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { TmemError } from '../../src/engine/errors.ts';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights } from '../../src/engine/types.ts';
import { GATE, GATE_TALK } from '../../src/memory/anchors.ts';
import { divergence } from '../../src/memory/gate.ts';
import { ORDINARY, ordinarySamples } from '../../src/memory/ordinary.ts';
import { normalise } from '../../src/memory/recall.ts';
import { getRecipe, recipeNames } from '../../src/memory/recipe.ts';
import { anchorSamples } from '../../src/memory/samples.ts';
import type { MemoryState, Pair, WriteEvent, WriteRecord } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import {
  begun,
  fact,
  facts,
  fresh,
  type Habits,
  initialisations,
  learner,
  leavesAsWas,
  PAPER,
  RECIPE,
  render,
  trainings,
} from '../support/learner.ts';
import { lastMessage } from '../support/scripted.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-write-'));
process.env.TMEM_HOME = home; // the base model's own answers are kept there
after(() => rmSync(home, { recursive: true, force: true }));

const ASKED_BY_THE_GATE: readonly string[] = [...GATE, ...GATE_TALK.map((messages) => messages.at(-1)!.content)];

test('an empty list of pairs is a record and nothing else: no training, no question, the weights as they were', async () => {
  const engine = learner();
  const state = await begun(engine);
  const calls = engine.calls.length;
  const events: WriteEvent[] = [];
  const written = await writePairs(engine, state, [], RECIPE, { onEvent: (e) => events.push(e) });
  assert.equal(engine.calls.length, calls);
  assert.equal(written.state.weights, state.weights);
  assert.equal(written.record.verdict, 'empty');
  assert.deepEqual(written.state.writes, [...state.writes, written.record]);
  assert.deepEqual(events, [{ type: 'verdict', record: written.record }]);
});

test('a committed write is in force, on record, and told step by step', async () => {
  const engine = learner({ recalls: 2 });
  const pairs = facts('a', 3);
  const events: WriteEvent[] = [];
  const start = { ...fresh(engine), explicit: 'notes' };
  const { state, record } = await writePairs(engine, start, pairs, RECIPE, { onEvent: (e) => events.push(e) });
  const { request } = engine.calls.find((call) => call.type === 'train')!;
  const steps = RECIPE.epochs;
  assert.equal(engine.weights, state.weights);
  assert.ok(state.weights!.tensors[0]!.b.every((x) => x === steps));
  assert.deepEqual(state, { ...start, weights: state.weights, writes: [record] });
  assert.deepEqual([record.verdict, record.recipe, record.reason], ['committed', 'test', undefined]);
  assert.deepEqual(record.pairs, pairs);
  assert.equal(record.recalled, 2);
  assert.deepEqual(
    record.loss,
    Array.from({ length: steps }, (_, i) => 2 / (1 + i)),
  );
  assert.deepEqual(request.optimizer, RECIPE.optimizer);
  assert.deepEqual([request.epochs, request.batch], [RECIPE.epochs, RECIPE.batch]);
  assert.deepEqual(request.stop, { samples: 3, loss: RECIPE.stopLoss, share: RECIPE.stopShare, patience: 2 });

  assert.deepEqual(events[0], { type: 'write-start', pairs: 3, anchors: RECIPE.anchors });
  const told = events.flatMap((e) => (e.type === 'train' && e.event.type === 'step' ? [e] : []));
  assert.deepEqual(
    told.map((e) => [e.event.type === 'step' && e.event.loss, e.totalSteps]),
    record.loss.map((loss) => [loss, steps]),
  );
  const quizzes = (kind: string) => events.flatMap((e) => (e.type === 'quiz' && e.kind === kind ? [e] : []));
  assert.deepEqual(
    quizzes('pair').map((e) => [e.question, e.ok]),
    pairs.map((pair, i) => [pair.instruction, i < 2]),
  );
  assert.deepEqual(
    quizzes('anchor').map((e) => [e.question, e.ok]),
    ASKED_BY_THE_GATE.map((prompt) => [prompt, true]),
  );
  assert.deepEqual(events.at(-1), { type: 'verdict', record });
});

test('pairs are asked with an empty context and the new weights in force; what they do not say token by token is generated', async () => {
  const engine = learner({ recalls: 1 });
  const pairs = facts('a', 2);
  const { state } = await writePairs(engine, fresh(engine), pairs, RECIPE);
  const trained = engine.calls.findIndex((call) => call.type === 'train');
  const [set, ...asked] = engine.calls.slice(trained + 1);
  assert.deepEqual(set, { type: 'set', weights: state.weights });
  const prompts = (type: 'score' | 'generate') =>
    asked.flatMap((call) =>
      call.type === type && call.request.fastWeights === undefined ? [call.request.prompt] : [],
    );
  const question = (pair: Pair) => [{ role: 'user', content: pair.instruction }];
  assert.deepEqual(prompts('score'), pairs.map(question));
  assert.deepEqual(prompts('generate'), [question(pairs[1]!)]);
});

test('beside the pairs are trained: earlier pairs, and ordinary prompts with the own answers of the base model', async () => {
  const engine = learner();
  const state = await begun(engine);
  const pairs = facts('second', 2);
  await writePairs(engine, state, pairs, RECIPE);
  const own = (prompts: readonly { instruction: string }[]) =>
    prompts.map(({ instruction }) => ({ instruction, output: `on: ${instruction}`, whole: true }));
  const [first, second] = trainings(engine);
  const n = RECIPE.anchors;
  assert.deepEqual(first!.samples, [
    ...(await render(engine, facts('first', 3))),
    ...(await anchorSamples(engine, own(ORDINARY.slice(0, n)))),
  ]);
  assert.deepEqual(second!.samples, [
    ...(await render(engine, pairs)),
    ...(await anchorSamples(engine, own(ORDINARY.slice(n, 2 * n)))),
  ]);
  assert.deepEqual(first!.replay, []);
  assert.deepEqual(second!.replay, await render(engine, facts('first', 3)));
  assert.equal(second!.stop!.samples, 2);
  const { init } = initialisations(engine)[1]!;
  assert.ok(init.kind === 'keys');
  assert.deepEqual(init.samples, await render(engine, pairs));
  assert.deepEqual(init.ordinary, await ordinarySamples(engine));
  assert.deepEqual([init.scale, init.ridge], [RECIPE.scale, RECIPE.ridge]);
});

test('no prompt of the gate is ever trained on, over many writes', async () => {
  const engine = learner();
  let state = fresh(engine);
  for (let i = 0; i < 10; i++) state = (await writePairs(engine, state, [fact(`f${i}`)], RECIPE)).state;
  const texts = [
    ...trainings(engine).flatMap(({ samples, replay }) => [...samples, ...replay!]),
    ...initialisations(engine).flatMap(({ init }) => (init.kind === 'keys' ? [...init.samples, ...init.ordinary] : [])),
  ].map((sample) => sample.prompt);
  assert.ok(texts.length > 400);
  for (const prompt of GATE) assert.ok(!texts.some((text) => text.includes(prompt)), prompt);
});

const refusals: { name: string; habits: Habits; pairs: number; reason: RegExp; recalled: number }[] = [
  { name: 'two ordinary answers changed', habits: { spoilt: 2 }, pairs: 4, reason: /^2 of 16 ordinary/, recalled: 4 },
  { name: 'all ordinary answers changed', habits: { spoilt: 16 }, pairs: 4, reason: /^16 of 16 ordinary/, recalled: 4 },
  { name: 'nothing is recalled', habits: { recalls: 0 }, pairs: 4, reason: /only 0 of 4 pairs/, recalled: 0 },
  { name: 'too little is recalled', habits: { recalls: 1 }, pairs: 5, reason: /only 1 of 5 pairs/, recalled: 1 },
];

for (const { name, habits, pairs, reason, recalled } of refusals)
  test(`refused when ${name}: weights and state as before, bit for bit, and the write on record`, async () => {
    const engine = learner(habits);
    const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
    weights.tensors[0]!.b.set([0.1, -0.2, Number.EPSILON]);
    const state: MemoryState = { ...fresh(engine), weights, explicit: 'notes' };
    await engine.setFastWeights(weights);
    await leavesAsWas(engine, state, async () => {
      const written = await writePairs(engine, state, facts('a', pairs), RECIPE);
      assert.equal(written.record.verdict, 'refused');
      assert.match(written.record.reason!, reason);
      assert.equal(written.record.recalled, recalled);
      assert.equal(written.record.loss.length, RECIPE.epochs);
      assert.deepEqual(written.state, { ...state, writes: [written.record] });
      assert.equal(written.state.weights, weights);
    });
    assert.equal(trainings(engine).length, 1, 'it was tried');
    const tried = engine.calls.flatMap((call) => (call.type === 'set' ? [call.weights] : [])).slice(1, -1);
    const sizes = tried.map((stacked) => Math.fround(Math.max(...stacked!.tensors[0]!.b) / RECIPE.epochs));
    // A smaller Delta may spare the ordinary answers, but it recalls no more.
    assert.deepEqual(sizes, habits.spoilt ? [1, 0.8, 0.6].map(Math.fround) : [1]);
    const { record } = await writePairs(engine, state, facts('a', pairs), { ...RECIPE, gate: false });
    assert.equal(record.verdict, 'committed', 'without the gate it passes');
  });

test('a write that spoils ordinary answers is tried with less of its Delta; the earlier ones stay as they are', async () => {
  const engine = learner({ spoilt: 12, spoiltAbove: 0.7 * RECIPE.epochs });
  const frozen = await engine.initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
  frozen.tensors[0]!.b.fill(0.5);
  const { state, record } = await writePairs(engine, { ...fresh(engine), weights: frozen }, facts('a', 2), RECIPE);
  assert.equal(record.verdict, 'committed');
  assert.equal(record.recalled, 2);
  const { rank, tensors } = state.weights!;
  assert.equal(rank, 2 + RECIPE.rank);
  const b = tensors[0]!.b;
  for (let at = 0; at < b.length; at++)
    assert.equal(b[at], at % rank < 2 ? 0.5 : Math.fround(0.6 * RECIPE.epochs), `number ${at} of B`);
  assert.equal(engine.weights, state.weights);
});

test('the gate lets pass: one changed ordinary answer of twelve, a quarter of the pairs recalled', async () => {
  const engine = learner({ spoilt: 1, recalls: 1 });
  const { record } = await writePairs(engine, fresh(engine), facts('a', 4), RECIPE);
  assert.equal(record.verdict, 'committed');
});

test('a training that diverges is refused with its reason, with the gate on and off', async () => {
  for (const gate of [true, false]) {
    const engine = learner();
    const state = await begun(engine);
    engine.train = async (_, onEvent) => {
      onEvent?.({ type: 'step', epoch: 1, step: 1, loss: 3, gradNorm: 1, ms: 0 });
      onEvent?.({ type: 'step', epoch: 1, step: 2, loss: Number.NaN, gradNorm: 1, ms: 0 });
      throw new TmemError('failed', 'The loss is not finite.');
    };
    await leavesAsWas(engine, state, async () => {
      const { state: next, record } = await writePairs(engine, state, facts('a', 2), { ...RECIPE, gate });
      assert.deepEqual([record.verdict, record.reason], ['refused', 'The loss is not finite.']);
      assert.deepEqual(record.loss, [3, Number.NaN]);
      assert.equal(record.recalled, 0);
      assert.deepEqual(next.writes, [...state.writes, record]);
      assert.equal(next.weights, state.weights);
    });
  }
});

test('a training that diverges is tried once more, more slowly', async () => {
  const engine = learner();
  const state = fresh(engine);
  const { train } = engine;
  const rates: number[] = [];
  engine.train = async (request, onEvent) => {
    rates.push(request.optimizer.lr);
    onEvent?.({ type: 'step', epoch: 1, step: 1, loss: rates.length === 1 ? Number.NaN : 2, gradNorm: 1, ms: 0 });
    if (rates.length === 1) throw new TmemError('failed', 'The loss is not finite.');
    return train.call(engine, request, onEvent);
  };
  const { record } = await writePairs(engine, state, facts('a', 2), RECIPE);
  assert.equal(record.verdict, 'committed');
  assert.equal(rates.length, 2);
  assert.ok(rates[1]! < rates[0]! / 2);
  assert.ok(record.loss.every(Number.isFinite), 'the losses are of the second try');
});

for (const [flaw, pairs, reason] of [
  ['contradict each other', [fact('a', 'one'), fact('b'), fact('a', 'two')], /two pairs answer "What is the a\?"/],
  [
    'do not say what their source says',
    [fact('a'), ...facts('b', 2).map((pair) => ({ ...pair, output: 'anything' }))],
    /^2 of 3 pairs do not say/,
  ],
] as const)
  test(`pairs that ${flaw} are refused before anything is trained`, async () => {
    const engine = learner();
    const state = await begun(engine);
    const before = trainings(engine).length;
    await leavesAsWas(engine, state, async () => {
      const { record } = await writePairs(engine, state, [...pairs], RECIPE);
      assert.equal(record.verdict, 'refused');
      assert.match(record.reason!, reason);
    });
    assert.equal(trainings(engine).length, before);
    const { record } = await writePairs(engine, state, [...pairs], { ...RECIPE, gate: false });
    assert.equal(record.verdict, 'committed', 'without the gate they pass');
  });

test('other ways to ask are written by the base model, asked, kept on record, and never trained on', async () => {
  const other = (question: string) => question.replace('What is the', 'Do you know the');
  const engine: ScriptedEngine = learner();
  const reply = engine.generate;
  engine.generate = async function* (request) {
    const asked = /Say this question in other words, in two ways: (.*)$/.exec(lastMessage(request))?.[1];
    if (!asked) yield* reply.call(engine, request);
    else {
      assert.equal(request.fastWeights, false);
      const text = JSON.stringify([other(asked), asked]);
      yield { type: 'done', text, finish: 'end', promptTokens: 1, cachedTokens: 0, outputTokens: 1, ms: 0 };
    }
  };
  const pairs = facts('a', 2);
  const { record } = await writePairs(engine, fresh(engine), pairs, { ...RECIPE, paraphrased: 2 });
  const asked = record.quiz!.filter(({ kind }) => kind === 'paraphrase');
  assert.deepEqual(
    asked.map(({ pair, question, ok }) => [pair, question, ok]),
    pairs.map((pair) => [pair.id, other(pair.instruction), false]),
    'the second one is the question itself, and this model knows only what it was trained on',
  );
  assert.equal(record.recalled, 2, 'only the own pairs are counted');
  assert.ok(trainings(engine).every(({ samples }) => samples.every(({ prompt }) => !prompt.includes('Do you know'))));
});

test('a write after which earlier pairs are not recalled any more is refused', async () => {
  let forgets = false;
  const engine = learner();
  const { score } = engine;
  engine.score = async (request) => {
    const result = await score.call(engine, request);
    const early = JSON.stringify(request.prompt).includes('the first');
    return forgets && early ? { ...result, greedy: result.greedy.map(() => false) } : result;
  };
  const { generate } = engine;
  engine.generate = async function* (request) {
    if (!forgets || !JSON.stringify(request.prompt).includes('the first')) yield* generate.call(engine, request);
    else
      yield { type: 'done', text: 'no idea', finish: 'end', promptTokens: 1, cachedTokens: 0, outputTokens: 2, ms: 0 };
  };
  const state = await begun(engine);
  const kept = await writePairs(engine, state, facts('a', 2), RECIPE);
  assert.deepEqual(
    kept.record.quiz!.filter(({ kind }) => kind === 'earlier').map(({ pair, ok }) => [pair, ok]),
    facts('first', 3).map(({ id }) => [id, true]),
  );
  forgets = true;
  const { record } = await writePairs(engine, state, facts('b', 2), RECIPE);
  assert.deepEqual([record.verdict, record.reason], ['refused', 'only 0 of 3 earlier pairs were still recalled']);
});

test('the divergence of two distributions, of which some tokens are known', () => {
  const log = (...p: number[]) => p.map(Math.log);
  assert.equal(divergence(log(0.5, 0.25), log(0.5, 0.25)), 0);
  // 0.5 ln 2 - 0.25 ln 2 + 0.25 ln (0.25 / 0.25)
  assert.ok(Math.abs(divergence(log(0.5, 0.25), log(0.25, 0.5)) - 0.25 * Math.LN2) < 1e-12);
  // What is known of p has moved to the rest of q.
  assert.ok(Math.abs(divergence(log(0.9), log(0.1)) - (0.9 * Math.log(9) - 0.1 * Math.log(9))) < 1e-12);
});

test('whatever else goes wrong comes out, with the earlier weights in force', async () => {
  const engine = learner();
  const state = await begun(engine);
  for (const error of [new TmemError('missing', 'Not an architecture to train.'), new Error('the engine died')]) {
    engine.train = () => Promise.reject(error);
    await leavesAsWas(engine, state, () => assert.rejects(writePairs(engine, state, facts('a', 2), RECIPE), error));
  }
});

test('interrupted in the middle of training, of the quiz or of the gate: the earlier weights are in force again', async () => {
  const when: Record<string, (event: WriteEvent) => boolean> = {
    start: (e) => e.type === 'write-start',
    training: (e) => e.type === 'train' && e.event.type === 'step' && e.event.step === 3,
    quiz: (e) => e.type === 'quiz' && e.kind === 'pair',
    gate: () => false,
  };
  for (const [moment, is] of Object.entries(when)) {
    const controller = new AbortController();
    let writes = 0;
    const engine = learner({
      onReply: ({ fastWeights, prompt }) => {
        const gate = fastWeights && GATE.some((text) => typeof prompt !== 'string' && prompt[0]!.content === text);
        if (gate && moment === 'gate' && writes === 1) controller.abort();
      },
    });
    const state = await begun(engine);
    writes++;
    const verdicts: WriteRecord[] = [];
    const onEvent = (event: WriteEvent) => {
      if (event.type === 'verdict') verdicts.push(event.record);
      if (is(event)) controller.abort();
    };
    const pairs = [fact('a', 'one two three four'), fact('b', 'one')];
    await leavesAsWas(engine, state, async () => {
      await assert.rejects(
        writePairs(engine, state, pairs, RECIPE, { signal: controller.signal, onEvent }),
        { code: 'aborted' },
        moment,
      );
    });
    assert.ok(controller.signal.aborted, moment);
    assert.deepEqual(verdicts, [], moment);
    const { record } = await writePairs(engine, state, pairs, RECIPE);
    assert.equal(record.verdict, 'committed', `${moment}: it can be tried again`);
  }
});

test('a shard is trained on top of the frozen earlier ones and stacked beside them', async () => {
  const engine = learner();
  const first = await begun(engine);
  const { state } = await writePairs(engine, first, facts('b', 2), RECIPE);
  const [begin, next] = initialisations(engine);
  assert.equal(begin!.frozen, undefined);
  assert.equal(next!.frozen, first.weights);
  assert.notEqual(begin!.seed, next!.seed);
  assert.deepEqual([next!.rank, next!.layers], [RECIPE.rank, RECIPE.layers]);
  const { frozen, weights } = trainings(engine)[1]!;
  assert.equal(frozen, first.weights);
  assert.ok(weights.tensors[0]!.b.every((x) => x === 0));

  const R = RECIPE.rank;
  const stacked = state.weights!;
  assert.deepEqual([stacked.rank, stacked.alpha], [2 * R, 2 * R]);
  const { a, b, inputs, outputs } = stacked.tensors[0]!;
  const [e] = first.weights!.tensors;
  const [t] = weights.tensors;
  assert.deepEqual([a.length, b.length], [2 * R * inputs, outputs * 2 * R]);
  assert.deepEqual(a, Float32Array.from([...e!.a, ...t!.a]));
  const steps = RECIPE.epochs;
  for (let o = 0; o < outputs; o++) {
    const row = b.subarray(o * 2 * R, (o + 1) * 2 * R);
    assert.deepEqual(row.slice(0, R), e!.b.slice(o * R, (o + 1) * R));
    assert.ok(row.subarray(R).every((x) => x === steps));
  }
});

test('the recipe of the paper goes on with its one B, and trains on nothing but the pairs', async () => {
  const engine = learner();
  const first = await begun(engine, PAPER);
  const { state } = await writePairs(engine, first, facts('b', 20), PAPER);
  assert.deepEqual(
    initialisations(engine).map(({ init, rank, layers }) => [init, rank, layers]),
    [[{ kind: 'svd' }, 6, 4]],
  );
  const [one, two] = trainings(engine);
  assert.deepEqual(one!.optimizer, { kind: 'sgd', lr: 5e-4 });
  assert.deepEqual([two!.epochs, two!.batch], [5, 16]);
  assert.equal(two!.weights, first.weights);
  assert.equal(two!.frozen, undefined);
  assert.deepEqual(two!.samples, await render(engine, facts('b', 20)));
  assert.equal(state.weights!.rank, 6);
  assert.equal(state.weights!.tensors[0]!.a, first.weights!.tensors[0]!.a);
  const bs = (weights: FastWeights | null) => weights!.tensors[0]!.b[0];
  assert.deepEqual([bs(first.weights), bs(state.weights)], [5, 5 + 10], 'an epoch of 20 pairs is two steps');
  const asked = engine.calls.flatMap((call) => (call.type === 'score' ? [lastMessage(call.request)] : []));
  assert.deepEqual(
    asked,
    [...facts('first', 3), ...facts('b', 20)].map((pair) => pair.instruction),
    'no gate',
  );
});

test('ordinary prompts, prompts of the gate and the control questions of the demo are all different', () => {
  const controls = readFileSync(new URL('../../assets/demo/controls.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((line): string => JSON.parse(line).question);
  assert.ok(controls.length >= 12);
  const all = [...ORDINARY.map((o) => o.instruction), ...GATE, ...controls].map(normalise);
  assert.deepEqual(
    all.filter((prompt, i) => all.indexOf(prompt) !== i),
    [],
  );
});

test('a recipe that there is none of is refused with the names of those there are', () => {
  assert.deepEqual(recipeNames, ['default', 'paper']);
  assert.throws(() => getRecipe('magic'), { code: 'usage', message: /"magic".* default, paper\./ });
  for (const name of recipeNames) assert.equal(getRecipe(name).name, name);
  const { gate, replay, anchors } = getRecipe('default');
  assert.ok(gate && replay > 0 && anchors > 0, 'the default is guarded');
});
