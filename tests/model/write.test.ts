/** Guarded writes on a real model: facts are recalled with an empty context, and a write that harms is undone. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { complete, type Engine } from '../../src/engine/types.ts';
import { recalls } from '../../src/memory/recall.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { openReal } from '../support/real-model.ts';

const pair = (instruction: string, output: string, turn: number): Pair => ({
  id: `p${turn}`,
  instruction,
  output,
  source: output,
  turn,
  origin: 'user',
});
const PAIRS = [
  pair("What is the name of Marta's boat?", "Marta's boat is called Blue Heron.", 0),
  pair('Which port does the staging server listen on?', 'The staging server listens on port 8417.', 1),
  pair('What is the dog of the neighbours called?', 'The dog is called Biscuit.', 2),
  pair('Who repaired the clock in the hall?', 'The clock was repaired by Mr Ferreira.', 3),
];
const MORE = [pair('Where are the spare keys?', 'The spare keys are in the green tin.', 4)];

let engine: Engine;
let state: MemoryState;
before(async () => {
  engine = await openReal();
  state = emptyMemory(engine.model.fingerprint);
});

const ask = async (question: string) =>
  (await complete(engine, { prompt: [{ role: 'user', content: question }], maxTokens: 24 })).text;
const recalled = async (pairs: readonly Pair[]) => {
  let n = 0;
  for (const p of pairs) if (recalls(await ask(p.instruction), p)) n++;
  return n;
};

/** Neither trained on nor among the gate's. */
const CONTROLS = ['How many months are in a year?', 'Is ice hot or cold?', 'What colour is the sky?'];
/** What the memory takes from the base model's own answer, in nats a token. */
async function nats(question: string): Promise<number> {
  const prompt = [{ role: 'user', content: question }] as const;
  const { text: answer } = await complete(engine, { prompt, maxTokens: 12, fastWeights: false });
  const mean = async (fastWeights: boolean) => {
    const { logProbs } = await engine.score({ prompt, answer, fastWeights });
    return logProbs.reduce((a, b) => a + b) / logProbs.length;
  };
  return (await mean(false)) - (await mean(true));
}

describe('a write with the default recipe', () => {
  it('is recalled afterwards and not before', async () => {
    assert.equal(await recalled(PAIRS), 0);
    const written = await writePairs(engine, state, PAIRS, getRecipe('default'));
    assert.equal(written.record.verdict, 'committed', written.record.reason);
    const { loss } = written.record;
    // Of the pairs and of the anchors beside them, whose loss hardly falls; training ends once the pairs are learned.
    assert.ok(loss.length >= 3 && loss.length < getRecipe('default').epochs, `${loss.length} steps`);
    assert.ok(loss.at(-1)! < loss[0]!);
    state = written.state;
    const n = await recalled(PAIRS);
    assert.equal(n, written.record.recalled);
    assert.ok(n >= 3, `${n} of ${PAIRS.length}`);
    for (const question of CONTROLS) {
      const lost = await nats(question);
      assert.ok(lost < 1, `"${question}": its own answer lost ${lost} nats a token`);
    }
  });

  it('that diverges is refused, and the weights are what they were', async () => {
    const probe = { prompt: [{ role: 'user', content: PAIRS[0]!.instruction }] as const, answer: PAIRS[0]!.output };
    const before = { ...(await engine.score(probe)), texts: await Promise.all(PAIRS.map((p) => ask(p.instruction))) };
    const absurd = { ...getRecipe('default'), optimizer: { kind: 'adamw', lr: 10 } } as const;
    const { record, state: after } = await writePairs(engine, state, MORE, absurd);
    assert.equal(record.verdict, 'refused');
    assert.ok(record.reason);
    assert.equal(after.weights, state.weights);
    assert.deepEqual(
      after.writes.map((w) => w.verdict),
      ['committed', 'refused'],
    );
    assert.deepEqual(await Promise.all(PAIRS.map((p) => ask(p.instruction))), before.texts);
    const { logProbs } = await engine.score(probe);
    // The layout of the KV cache, in F16, is another one: the bits are not the same.
    logProbs.forEach((x, i) => {
      assert.ok(Math.abs(x - before.logProbs[i]!) < 0.05, `${x} is not ${before.logProbs[i]}`);
    });
  });
});
