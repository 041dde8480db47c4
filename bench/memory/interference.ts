/**
 * What keeps a write from overwriting earlier facts, or the model: the same stream of writes under one remedy after the other, each write at
 * the same cost (sample passes), without the gate. At the end recall of the last write, of the first, of all, of all in other words; general
 * questions; nats and KL on ordinary text.
 *   node bench/memory/interference.ts [--model qwen2.5-coder-0.5b] [--writes 6] [--facts 8] [--passes 416] [--seed 7] [--only 'NAME;NAME']
 */
import type { Engine, InitialiseRequest } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { writeTogether } from '../../src/memory/consolidate.ts';
import { standingPairs } from '../../src/memory/ledger.ts';
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { atEqualCost, openBench, readOptions, recall } from './support.ts';
import { compareVariants } from './variants.ts';

const { optimizer, stopLoss, stopShare, patience, replayForgotten, extraEpochs } = getRecipe('default');
/** Random rows of A are of another size than the keys', and want a larger rate. */
const PLAIN_ADAMW = { kind: 'adamw', lr: 5e-3, eps: 1e-8, beta1: 0.5 } as const;
const DEFAULT: Partial<Recipe> = { gate: false, paraphrased: 0 };
/** The default without other wordings and without a second look, and as many replayed however many are forgotten. */
const PAIRS_ALONE: Partial<Recipe> = { ...DEFAULT, expand: [], replayForgotten: 0, extraEpochs: 0 };
/** B is pulled back to nothing at every step. */
const TRUST = { ...optimizer, weightDecay: 70 };
const FORGOTTEN: Partial<Recipe> = { ...PAIRS_ALONE, replayForgotten };
/** Nothing but a LoRA per write. */
const PLAIN: Partial<Recipe> = {
  ...{ ...PAIRS_ALONE, rankPerPair: 0, init: 'random', replay: 0, anchors: 0, still: 0 },
  ...{ stopLoss: 0, stopShare: 1, patience: 0, optimizer: PLAIN_ADAMW },
};
const STOP: Partial<Recipe> = { stopLoss, stopShare, patience };
const REPLAYED: Partial<Recipe> = { ...PLAIN, ...STOP, replay: 16 };
const KEYS: Partial<Recipe> = { ...PLAIN, ...STOP, init: 'keys', optimizer };
const KEYS_REPLAYED: Partial<Recipe> = { ...KEYS, replay: 16 };

interface Remedy {
  readonly name: string;
  readonly recipe: Recipe;
  readonly engine?: (engine: Engine) => Engine;
  /** All pairs of the ledger are trained anew instead of a shard on top. */
  readonly together?: boolean;
  /** With the recipe's own epochs instead of as many as the others may cost. */
  readonly asPublished?: boolean;
}

const of = (name: string, changes: Partial<Recipe>, rest: Partial<Remedy> = {}): Remedy => ({
  name,
  recipe: { ...getRecipe('default'), ...changes },
  ...rest,
});

/** Rows of A made orthogonal to those of all earlier shards (O-LoRA, arXiv 2310.14152). */
function orthogonal(engine: Engine): Engine {
  return withMethods(engine, {
    initialise: async (request: InitialiseRequest) => {
      const weights = await engine.initialise(request);
      const earlier = new Map(request.frozen?.tensors.map((t) => [t.name, t.a]));
      for (const { name, a, inputs } of weights.tensors) {
        const basis: Float64Array[] = [];
        const row = (x: Float32Array, r: number) => Float64Array.from(x.subarray(r * inputs, (r + 1) * inputs));
        const project = (x: Float64Array) => {
          for (const q of basis) {
            const along = x.reduce((sum, v, i) => sum + v * q[i]!, 0);
            for (let i = 0; i < inputs; i++) x[i]! -= along * q[i]!;
          }
          return Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
        };
        const before = earlier.get(name) ?? new Float32Array(0);
        for (let r = 0; r < before.length / inputs; r++) {
          const x = row(before, r);
          const length = project(x);
          if (length > 1e-6) basis.push(x.map((v) => v / length));
        }
        for (let r = 0; r < weights.rank; r++) {
          const x = row(a, r);
          project(x);
          a.set(x, r * inputs);
        }
      }
      return weights;
    },
  });
}

const REMEDIES: readonly Remedy[] = [
  { name: 'paper, 5 epochs as published', recipe: getRecipe('paper'), asPublished: true },
  { name: 'paper', recipe: getRecipe('paper') },
  of('random shards', PLAIN),
  of('+ stop at recall', { ...PLAIN, ...STOP }),
  of('+ stop, replay 16', REPLAYED),
  of('+ stop, replay 16, anchors 8', { ...REPLAYED, anchors: 8 }),
  of('+ stop, replay 16, KL on 8 anchors', { ...REPLAYED, anchors: 8, distributions: true }),
  of('+ stop, replay 16, trust region', {
    ...REPLAYED,
    optimizer: { ...PLAIN_ADAMW, weightDecay: 10 },
  }),
  of('+ stop, replay 16, rank 24', { ...REPLAYED, rank: 24 }),
  of('+ stop, replay 16, orthogonal', REPLAYED, { engine: orthogonal }),
  of('+ stop, replay 16, null space', { ...KEYS_REPLAYED, init: 'null-space' }),
  of('keys', KEYS),
  of('keys, replay 16', KEYS_REPLAYED),
  of('keys, replay 16, trust region', { ...KEYS_REPLAYED, optimizer: TRUST }),
  of('keys, replay 16, orthogonal', KEYS_REPLAYED, { engine: orthogonal }),
  of('keys, replay 16, KL on 8 anchors', { ...KEYS_REPLAYED, anchors: 8, distributions: true }),
  of('keys, replay 16, still, anchors 2', PAIRS_ALONE),
  of('that, KL on its 2 anchors', { ...PAIRS_ALONE, distributions: true }),
  of('that, trust region', { ...PAIRS_ALONE, optimizer: TRUST }),
  of('that, replay 32', { ...PAIRS_ALONE, replay: 32 }),
  of('that, rank 16', { ...PAIRS_ALONE, rank: 16 }),
  of('that, up to 32 forgotten ones more', FORGOTTEN),
  of('the last, looked at again after training', { ...FORGOTTEN, extraEpochs }),
  of('default: the last, also other wordings', DEFAULT),
  of('default, trust region', { ...DEFAULT, optimizer: TRUST }),
  of('keys of all pairs, B anew', { ...PAIRS_ALONE, rank: 16, replay: 0 }, { together: true }),
];

const options = readOptions({
  model: 'qwen2.5-coder-0.5b',
  seed: '7',
  writes: '6',
  facts: '8',
  passes: '416',
  only: '',
});
const { engine } = await openBench(options);
const facts = makeFacts(Number(options.writes), Number(options.facts), Number(options.seed));
const all = facts.flat();

async function write({ recipe, engine: change, together = false, asPublished = false }: Remedy) {
  const changed = change ? change(engine) : engine;
  let state: MemoryState = emptyMemory(engine.model.fingerprint);
  let steps = 0;
  for (const [w, list] of facts.entries()) {
    const pairs = asPairs(list, w);
    const before = standingPairs(state.writes);
    const trained = asPublished ? changed : atEqualCost(changed, Number(options.passes));
    const { state: next, record } = await (together
      ? writeTogether(trained, state, [...before, ...pairs], recipe, {})
      : writePairs(trained, state, pairs, recipe));
    // The record of a write of all says nothing new; the next one needs its pairs.
    state = together ? { ...next, writes: [...state.writes, { ...record, pairs }] } : next;
    steps += record.loss.length;
  }
  return { steps };
}

await compareVariants(
  'interference',
  engine,
  options,
  REMEDIES.map((remedy) => ({ name: remedy.name, write: () => write(remedy) })),
  {
    last: () => recall(engine, facts.at(-1)!),
    first: () => recall(engine, facts[0]!),
    all: () => recall(engine, all),
    reworded: () => recall(engine, all, (f) => f.reworded),
  },
);
await engine.close();
