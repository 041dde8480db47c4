import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights, Sample } from '../../src/engine/types.ts';
import type { Recipe } from '../../src/memory/recipe.ts';
import type { MemoryState, Pair, WriteEvent, WriteRecord } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { fact, facts, fresh, learner, RECIPE, render, trainings } from '../support/learner.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-replay-'));
process.env.TMEM_HOME = home; // the base model's own answers are kept there
after(() => rmSync(home, { recursive: true, force: true }));

const WEIGHTS: FastWeights = {
  ...{ rank: 1, alpha: 1 },
  tensors: [{ name: 'blk.0.ffn_up.weight', a: new Float32Array(4), b: new Float32Array(4), inputs: 4, outputs: 4 }],
};

/** A ledger of writes with these pairs each. */
function ledger(state: MemoryState, ...writes: [WriteRecord['verdict'], Pair[]][]): MemoryState {
  const records = writes.map(
    ([verdict, pairs], i): WriteRecord => ({
      ...{ id: `w${i}`, time: '', recipe: 'default', loss: [], recalled: 0, ms: 0 },
      verdict,
      pairs,
    }),
  );
  return { ...state, weights: state.weights ?? WEIGHTS, writes: [...state.writes, ...records] };
}

const questionOf = (sample: Sample) => /What is the \w+\?/.exec(sample.prompt)![0];

/** What the last training replayed. */
const replayed = (engine: ScriptedEngine) => trainings(engine).at(-1)!.replay!.map(questionOf);

test('the pairs remembered worst are replayed, more of them where more are forgotten, and none of a refused write', async () => {
  const committed = [...facts('a', 12), ...facts('b', 8)];
  // The scripted engine's losses rise from pair to pair: 0, .05, .1, ...
  const worst = committed.map((pair) => pair.instruction).reverse();
  const recipe: Recipe = { ...RECIPE, init: 'svd', anchors: 0, replay: 4 };
  const replay = async (changes: Partial<Recipe>) => {
    const engine = learner();
    const state = ledger(
      fresh(engine),
      ['committed', facts('a', 12)],
      ['refused', facts('bad', 9)],
      ['committed', facts('b', 8)],
    );
    await writePairs(engine, state, [fact('new')], { ...recipe, ...changes });
    return replayed(engine);
  };
  assert.deepEqual(await replay({ replayForgotten: 0 }), worst.slice(0, 4));
  assert.deepEqual(await replay({ replayForgotten: 3, stopLoss: 0.6 }), worst.slice(0, 7), 'no more than allowed');
  assert.deepEqual(await replay({ replayForgotten: 9, stopLoss: 0.6 }), worst.slice(0, 8), 'those of a loss of .6 on');
  assert.deepEqual(await replay({ replayForgotten: 9, stopLoss: 1 }), worst.slice(0, 4), 'none is forgotten');
  assert.deepEqual(await replay({ replay: 0, replayForgotten: 9 }), []);
});

test('earlier pairs that are forgotten after the training are trained on, with those replayed, from the weights that it gave', async () => {
  const recipe: Recipe = { ...RECIPE, anchors: 0, replay: 4, replayForgotten: 3, stopLoss: 0.6 };
  const write = async (changes: Partial<Recipe>, earlier = 20) => {
    const engine = learner();
    const events: WriteEvent[] = [];
    const before = ledger(fresh(engine), ['committed', facts('a', earlier)]);
    const options = { onEvent: (event: WriteEvent) => void events.push(event) };
    const { state, record } = await writePairs(engine, before, [fact('new')], { ...recipe, ...changes }, options);
    return { state, record, events, trained: trainings(engine) };
  };
  // The scripted engine's losses rise from pair to pair: 0, .05, .1, ...
  const worst = facts('a', 20).map((pair) => pair.instruction);
  worst.reverse();

  const once = await write({ extraEpochs: 0 });
  assert.equal(once.trained.length, 1);

  const { state, record, events, trained } = await write({ extraEpochs: 7 });
  assert.equal(trained.length, 2);
  const [first, second] = trained.map((request) => ({ ...request, replay: request.replay!.map(questionOf) }));
  assert.deepEqual(first!.replay, worst.slice(0, 7));
  assert.deepEqual(second!.replay, worst.slice(0, 7));
  assert.deepEqual([second!.epochs, second!.stop], [7, { ...first!.stop, share: 1 }]);
  assert.deepEqual([second!.samples, second!.frozen, second!.still], [first!.samples, first!.frozen, first!.still]);
  assert.deepEqual(
    second!.weights.tensors.map(({ a }) => a),
    first!.weights.tensors.map(({ a }) => a),
  );
  assert.notDeepEqual(second!.weights, first!.weights, 'B is where the first training left it');
  assert.ok(state.weights!.rank > second!.weights.rank);

  const told = events.flatMap((event) => (event.type === 'replay' ? [event.pairs] : []));
  assert.deepEqual(told, [7, 7]);
  const steps = events.flatMap((e) => (e.type === 'train' && e.event.type === 'step' ? [e.event.step] : []));
  assert.deepEqual(
    steps,
    record.loss.map((_, i) => i + 1),
    'steps are counted over both',
  );

  const unreplayed = await write({ extraEpochs: 7, replay: 0 });
  assert.deepEqual(
    unreplayed.trained.map(({ replay }) => replay!.map(questionOf)),
    [[], worst.slice(0, 3)],
    'no more than allowed',
  );
  assert.equal((await write({ extraEpochs: 7, stopLoss: 1 })).trained.length, 1, 'none is forgotten');
  assert.equal((await write({ extraEpochs: 7 }, 0)).trained.length, 1, 'there is none');
});

/** The questions whose losses were looked at last, of which the weakest were to be replayed. */
function candidates(engine: ScriptedEngine): string[] {
  return engine.calls
    .flatMap((call) => (call.type === 'evaluate' ? [call.request.samples] : []))
    .at(-1)!
    .map(questionOf);
}

test('the candidates of replay are spread over all committed pairs, come round to each of them, and none is of a refused write', async () => {
  const recipe: Recipe = { ...RECIPE, init: 'svd', replay: 1, anchors: 0 };
  const committed = [...facts('a', 600), ...facts('b', 424)];
  const places = new Map(committed.map((pair, i) => [pair.instruction, i]));
  const seen = new Set<string>();
  for (let empty = 0; empty < 40; empty++) {
    const engine = learner();
    const state = ledger(
      fresh(engine),
      ['committed', facts('a', 600)],
      ['refused', facts('bad', 9)],
      ['committed', facts('b', 424)],
      ...Array.from({ length: empty }, (): ['empty', []] => ['empty', []]),
    );
    await writePairs(engine, state, [fact('new')], recipe);
    const taken = candidates(engine);
    assert.deepEqual(replayed(engine), taken.slice(-1), 'the one with the highest loss');
    assert.deepEqual(
      taken.map((question) => Math.floor(places.get(question)! / 4)),
      Array.from({ length: 256 }, (_, i) => i),
      'one of every four',
    );
    for (const question of taken) seen.add(question);
  }
  assert.equal(seen.size, committed.length);
});

test('of few earlier pairs all are replayed; none without replay', async () => {
  const engine = learner();
  const state = ledger(fresh(engine), ['committed', facts('a', 3)], ['refused', facts('bad', 2)]);
  const kept = facts('a', 3).map((pair) => pair.instruction);
  await writePairs(engine, state, [fact('new')], RECIPE);
  assert.deepEqual(replayed(engine), kept);
  await writePairs(engine, state, [fact('new')], { ...RECIPE, replay: 0 });
  assert.deepEqual(replayed(engine), []);
});

test('a write is kept from acting on all earlier pairs that stand, also on those that are not replayed', async () => {
  const engine = learner();
  const state = ledger(fresh(engine), ['committed', facts('a', 12)], ['refused', facts('bad', 2)]);
  await writePairs(engine, state, [fact('new')], { ...RECIPE, still: 0.1 });
  await writePairs(engine, state, [fact('new')], { ...RECIPE, still: 0 });
  const [held, free] = trainings(engine);
  assert.deepEqual(held!.still, { samples: await render(engine, facts('a', 12)), strength: 0.1 });
  assert.equal(free!.still, undefined);
});

test('an answer that was replaced, by an earlier write or by this one, is neither replayed nor kept still', async () => {
  const engine = learner();
  const state = ledger(
    fresh(engine),
    ['committed', [fact('dog', 'Rex'), fact('job', 'baker'), fact('town', 'Ghent')]],
    ['committed', [fact('job', 'pilot')]],
    ['refused', [fact('town', 'Oslo')]],
  );
  const dog = { ...fact('dog', 'Bruno'), instruction: 'what is  the dog' };
  await writePairs(engine, state, [dog], { ...RECIPE, anchors: 0, still: 0.1 });
  const stands = [fact('job', 'pilot'), fact('town', 'Ghent')];
  const [training] = trainings(engine);
  assert.deepEqual(training!.samples, await render(engine, [dog]));
  assert.deepEqual(training!.replay, await render(engine, stands));
  assert.deepEqual(training!.still?.samples, await render(engine, stands));
});
