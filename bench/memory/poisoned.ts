/**
 * Broken writes on a memory of one good write: each must be refused, and leave what is served as it was, bit by bit.
 *   node bench/memory/poisoned.ts [--model qwen2.5-coder-1.5b] [--facts 8] [--times 3] [--seed 1]
 */
import type { Engine } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import type { Recipe } from '../../src/memory/recipe.ts';
import type { Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { fingerprintOf, openBench, readOptions, report, writeMany } from './support.ts';

interface Poison {
  readonly name: string;
  readonly pairs?: (pairs: Pair[]) => Pair[];
  readonly recipe?: (recipe: Recipe) => Recipe;
  readonly engine?: (engine: Engine) => Engine;
}

const rotated = <T>(list: readonly T[]) => list.map((_, i) => list[(i + 1) % list.length]!);
const POISONS: readonly Poison[] = [
  {
    name: 'labels of other questions',
    pairs: (pairs) => rotated(pairs).map((other, i) => ({ ...pairs[i]!, output: other.output })),
  },
  {
    name: 'general facts turned wrong',
    pairs: (pairs) =>
      pairs.map((pair, i) => {
        const [question, wrong] = WRONG[i % WRONG.length]!;
        return { ...pair, instruction: question, output: wrong, source: wrong };
      }),
    // Every one of them alone is learned easily: what must be noticed is that the model is not itself any more.
    recipe: (recipe) => ({ ...recipe, optimizer: { ...recipe.optimizer, lr: recipe.optimizer.lr * 10 }, stopLoss: 0 }),
  },
  {
    name: 'learning rate times 1000',
    recipe: (recipe) => ({ ...recipe, optimizer: { ...recipe.optimizer, lr: recipe.optimizer.lr * 1000 } }),
  },
  {
    name: 'NaN in the weights that are trained',
    engine: (engine) =>
      withMethods(engine, {
        train: (request, onEvent) => {
          const tensors = request.weights.tensors.map((t, i) => (i === 0 ? { ...t, b: t.b.with(3, Number.NaN) } : t));
          return engine.train({ ...request, weights: { ...request.weights, tensors } }, onEvent);
        },
      }),
  },
  {
    name: 'pairs that contradict one another',
    pairs: (pairs) =>
      pairs.flatMap((pair, i) => [pair, { ...pair, id: `${pair.id}x`, output: rotated(pairs)[i]!.output }]),
  },
];
const WRONG = [
  ['What is the capital of Spain?', 'The capital of Spain is Oslo.'],
  ['What is 9 times 7?', '9 times 7 is 12.'],
  ['What is the opposite of hot?', 'The opposite of hot is purple.'],
  ['Which planet is known as the red planet?', 'Venus is known as the red planet.'],
] as const;

const options = readOptions({ facts: '8', times: '3' });
const { engine, recipe } = await openBench(options);
const times = Number(options.times);
const [good, ...lists] = makeFacts(1 + POISONS.length * times, Number(options.facts), Number(options.seed)).map(
  asPairs,
);
const [, state] = await writeMany(engine, [good!], recipe);
const asked = good!.map(({ instruction, output }) => ({ question: instruction, answer: output }));
// Twice: of an empty cache, as a write leaves it that was undone, and of one that holds the prompts, as after one that was not begun.
await engine.setFastWeights(state!.weights);
const before = [await fingerprintOf(engine, asked), await fingerprintOf(engine, asked)];
const results = [];
for (const [i, pairs] of lists.entries()) {
  const poison = POISONS[i % POISONS.length]!;
  const poisoned = poison.engine?.(engine) ?? engine;
  const { record, state: after } = await writePairs(
    poisoned,
    state!,
    poison.pairs?.(pairs) ?? pairs,
    poison.recipe?.(recipe) ?? recipe,
  );
  const now = await fingerprintOf(engine, asked);
  const untouched =
    after.weights === state!.weights && before.some((then) => now.every((x, k) => Object.is(x, then[k])));
  const result = { poison: poison.name, verdict: record.verdict, reason: record.reason ?? null, untouched };
  console.error(JSON.stringify(result));
  results.push(result);
  if (record.verdict === 'committed') await engine.setFastWeights(state!.weights);
}
await engine.close();
const caught = results.filter((r) => r.verdict === 'refused' && r.untouched).length;
report('poisoned', engine, options, { caught, of: results.length, results });
