/**
 * What keeps a write from overwriting earlier facts, or the model: the same stream of writes under one remedy after the other, each write at
 * the same cost (sample passes), without the gate. At the end recall of the last write, of the first, of all, of all in other words; general
 * questions; nats and KL on ordinary text.
 *   node bench/memory/interference.ts [--model qwen2.5-coder-0.5b] [--writes 6] [--facts 8] [--passes 416] [--seed 7] [--only NAME,NAME]
 */
import type { Engine, InitialiseRequest } from '../../src/engine/types.ts';
import { writeTogether } from '../../src/memory/consolidate.ts';
import { standingPairs } from '../../src/memory/ledger.ts';
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { table } from '../support/report.ts';
import { withMethods } from '../support/watched.ts';
import { atEqualCost, generalRight, openBench, readOptions, recall, report, spill } from './support.ts';

/** Nothing but a LoRA per write with random rows of A; its scale wants a larger rate than the keys'. */
const PLAIN: Partial<Recipe> = {
  ...{ gate: false, paraphrased: 0, expand: [], rank: 6, rankPerPair: 0, init: 'random', replay: 0, relearn: false },
  ...{ anchors: 0, still: 0 },
  ...{ stopLoss: 0, stopShare: 1, patience: 0, optimizer: { kind: 'adamw', lr: 5e-3, eps: 1e-8, beta1: 0.5 } },
};
const STOP: Partial<Recipe> = { stopLoss: 0.4, stopShare: 0.9, patience: 8 };
const { optimizer } = getRecipe('default');
const KEYS: Partial<Recipe> = { ...PLAIN, ...STOP, init: 'keys', optimizer };
const DEFAULT: Partial<Recipe> = { gate: false, paraphrased: 0, expand: [], rank: 6, relearn: false };

interface Variant {
  readonly name: string;
  readonly recipe: Recipe;
  readonly engine?: (engine: Engine) => Engine;
  /** All pairs of the ledger are trained anew instead of a shard on top. */
  readonly together?: boolean;
}

const of = (name: string, changes: Partial<Recipe>, rest: Partial<Variant> = {}): Variant => ({
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

const VARIANTS: readonly Variant[] = [
  { name: 'paper, 5 epochs as published', recipe: getRecipe('paper') },
  { name: 'paper', recipe: { ...getRecipe('paper'), epochs: 0 } },
  of('random shards', PLAIN),
  of('+ stop at recall', { ...PLAIN, ...STOP }),
  of('+ stop, replay 16', { ...PLAIN, ...STOP, replay: 16 }),
  of('+ stop, replay 16, anchors 8', { ...PLAIN, ...STOP, replay: 16, anchors: 8 }),
  of('+ stop, replay 16, KL on 8 anchors', { ...PLAIN, ...STOP, replay: 16, anchors: 8, distributions: true }),
  of('+ stop, replay 16, trust region', {
    ...{ ...PLAIN, ...STOP, replay: 16 },
    optimizer: { kind: 'adamw', lr: 5e-3, eps: 1e-8, beta1: 0.5, weightDecay: 10 },
  }),
  of('+ stop, replay 16, rank 24', { ...PLAIN, ...STOP, replay: 16, rank: 24 }),
  of('+ stop, replay 16, orthogonal', { ...PLAIN, ...STOP, replay: 16 }, { engine: orthogonal }),
  of('+ stop, replay 16, null space', { ...KEYS, init: 'null-space', replay: 16 }),
  of('keys', KEYS),
  of('keys, replay 16', { ...KEYS, replay: 16 }),
  of('keys, replay 16, trust region', { ...KEYS, replay: 16, optimizer: { ...optimizer, weightDecay: 70 } }),
  of('keys, replay 16, orthogonal', { ...KEYS, replay: 16 }, { engine: orthogonal }),
  of('keys, replay 16, KL on 8 anchors', { ...KEYS, replay: 16, anchors: 8, distributions: true }),
  of('keys, replay 16, still, anchors 2', DEFAULT),
  of('that, KL on its 2 anchors', { ...DEFAULT, distributions: true }),
  of('that, forgotten ones learned anew', { ...DEFAULT, relearn: true }),
  of('that, replay 32', { ...DEFAULT, replay: 32 }),
  of('that, rank 16', { ...DEFAULT, rank: 16 }),
  of('default: that, also other wordings, forgotten ones learned anew', { gate: false, paraphrased: 0 }),
  of('keys of all pairs, B anew', { ...DEFAULT, rank: 16, replay: 0 }, { together: true }),
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
const general = (await generalRight(engine)).slice(0, 50);
const spilt = await spill(engine);
const wanted = options.only.split(',').filter(Boolean);
const found: Record<string, unknown>[] = [];
for (const { name, recipe, engine: change, together = false } of VARIANTS) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const changed = change ? change(engine) : engine;
  const trained = recipe.epochs === 5 ? changed : atEqualCost(changed, Number(options.passes));
  let state: MemoryState = emptyMemory(engine.model.fingerprint);
  await engine.setFastWeights(null);
  let steps = 0;
  const start = performance.now();
  for (const [w, list] of facts.entries()) {
    const pairs = asPairs(list, w);
    const before = standingPairs(state.writes);
    const { state: next, record } = await (together
      ? writeTogether(trained, state, [...before, ...pairs], recipe, {})
      : writePairs(trained, state, pairs, recipe));
    // The record of a write of all says nothing new; the next one needs its pairs.
    state = together ? { ...next, writes: [...state.writes, { ...record, pairs }] } : next;
    steps += record.loss.length;
  }
  const s = (performance.now() - start) / 1000;
  const { nats, kl } = await spilt();
  const figures = {
    last: await recall(engine, facts.at(-1)!),
    first: await recall(engine, facts[0]!),
    all: await recall(engine, all),
    reworded: await recall(engine, all, (f) => f.reworded),
    general: (await generalRight(engine, general)).length,
    ...{ nats, kl, steps, s },
  };
  found.push({ name, ...figures });
  console.error(JSON.stringify(found.at(-1)));
}
const percent = (x: unknown) => `${Math.round(100 * (x as number))} %`;
console.error(
  table([
    ['', 'last', 'first', 'all', 'reworded', `general of ${general.length}`, 'nats', 'KL', 'steps', 's'],
    ...found.map((f) => [
      ...[f.name as string, percent(f.last), percent(f.first), percent(f.all), percent(f.reworded), String(f.general)],
      ...[f.nats, f.kl].map((x) => (x as number).toFixed(3)),
      ...[String(f.steps), (f.s as number).toFixed(0)],
    ]),
  ]),
);
report('interference', engine, options, { general: general.length, variants: found });
await engine.close();
