/** The weights are a view of the ledger, on a real model: made again they are the same, and without a pair they do not know it. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { compareWeights } from '../../src/engine/adapter/fast-weights.ts';
import type { Engine, TrainCheckpoint } from '../../src/engine/types.ts';
import type { Checkpoints } from '../../src/memory/checkpoints.ts';
import { consolidate } from '../../src/memory/consolidate.ts';
import { rebuild } from '../../src/memory/rebuild.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState, type Pair, type WriteEvent } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { openReal } from '../support/real-model.ts';

const pair = (id: string, instruction: string, output: string): Pair => ({
  ...{ id, instruction, output, source: output },
  ...{ turn: 0, origin: 'user' },
});
const FORGOTTEN = pair(
  'port',
  'Which port does the staging server listen on?',
  'The staging server listens on port 8417.',
);
const KEPT = [
  pair('boat', "What is the name of Marta's boat?", "Marta's boat is called Blue Heron."),
  pair('dog', 'What is the dog of the neighbours called?', 'The dog is called Biscuit.'),
  pair('clock', 'Who repaired the clock in the hall?', 'The clock was repaired by Mr Ferreira.'),
];
const LATER = [pair('keys', 'Where are the spare keys?', 'The spare keys are in the green tin.')];

let engine: Engine;
const history: MemoryState[] = [];
before(async () => {
  engine = await openReal();
  history.push(emptyMemory(engine.model.fingerprint));
  for (const pairs of [[FORGOTTEN, ...KEPT], LATER]) {
    const { state, record } = await writePairs(engine, history.at(-1)!, pairs, getRecipe('default'));
    assert.equal(record.verdict, 'committed', record.reason);
    history.push(state);
  }
});

/** Mean log-probability of a pair's answer. */
async function known({ instruction, output }: Pair, fastWeights = true): Promise<number> {
  const prompt = [{ role: 'user', content: instruction }] as const;
  const { logProbs } = await engine.score({ prompt, answer: output, fastWeights });
  return logProbs.reduce((a, b) => a + b) / logProbs.length;
}

describe('a memory made again from its ledger', () => {
  it('is the same', async () => {
    const again = await rebuild(engine, history);
    assert.equal(again.length, history.length);
    for (const [i, state] of again.entries()) {
      const { deviation } = compareWeights(history[i]!.weights, state.weights);
      assert.ok(deviation < 1e-3, `B of write ${i} differs by ${deviation}`);
    }
  });

  it('without a pair does not know it, and knows the others', async () => {
    await engine.setFastWeights(history.at(-1)!.weights);
    const all = [FORGOTTEN, ...KEPT, ...LATER];
    const before = await Promise.all(all.map((p) => known(p)));
    const never = await Promise.all(all.map((p) => known(p, false)));
    const states = await rebuild(engine, history, { keeps: (p) => p.id !== FORGOTTEN.id });
    assert.deepEqual(
      states.at(-1)!.writes.map((w) => w.pairs.map((p) => p.id)),
      [KEPT.map((p) => p.id), ['keys']],
    );
    const after = await Promise.all(all.map((p) => known(p)));
    assert.ok(before[0]! > never[0]! + 1, `it was known: ${before[0]} against ${never[0]}`);
    assert.ok(after[0]! < never[0]! + 0.25 * (before[0]! - never[0]!), `${after[0]} is not near ${never[0]}`);
    all.slice(1).forEach((p, i) => {
      const [was, is] = [before[i + 1]!, after[i + 1]!];
      assert.ok(is > was - 0.5, `${p.id}: ${is} after ${was}`);
    });
  });
});

describe('a consolidation that is broken off', () => {
  it('goes on where it was, to the same bits', async () => {
    const state = history.at(-1)!;
    // Long enough to be broken off behind its first checkpoint.
    const recipe = { ...getRecipe('default'), stopLoss: 0.01 };
    const whole = await consolidate(engine, state, recipe);
    const kept = new Map<string, TrainCheckpoint>();
    const checkpoints: Checkpoints = {
      load: (key) => kept.get(key),
      save: (key, checkpoint) => kept.set(key, checkpoint),
    };
    const [breaking, told] = [new AbortController(), [] as number[]];
    const onEvent = (event: WriteEvent) => {
      if (event.type !== 'train' || event.event.type !== 'step') return;
      told.push(event.event.step);
      if (told.length === 9) breaking.abort();
    };
    await assert.rejects(consolidate(engine, state, recipe, { checkpoints, onEvent, signal: breaking.signal }), {
      code: 'aborted',
    });
    assert.equal(kept.size, 1);
    told.length = 0;
    const rest = await consolidate(engine, state, recipe, { checkpoints, onEvent });
    assert.ok(told[0]! > 1 && told[0]! <= 9, `it goes on with step ${told[0]}`);
    assert.deepEqual(rest.record.loss, whole.record.loss);
    assert.deepEqual(compareWeights(rest.state.weights, whole.state.weights).same, true);
  });
});
