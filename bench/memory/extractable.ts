/**
 * What to train beside a pair so that its fact is found by other questions: forms of `memory/expand.ts` and context distillation, at equal
 * cost (sample passes a write). Two facts about each person, in writes of 8; asked in the pair's words, in two other wordings, with other
 * words for the attribute, the other way round, and over two hops. None of these questions is trained.
 *   node bench/memory/extractable.ts [--model qwen2.5-coder-1.5b] [--writes 2] [--passes 416] [--seed 3] [--only 'NAME;NAME']
 */
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, type Fact, makeLinkedFacts } from '../facts.ts';
import { atEqualCost, openBench, readOptions, recall } from './support.ts';
import { compareVariants } from './variants.ts';

const PEOPLE_A_WRITE = 4;
const VARIANTS: Record<string, Partial<Recipe>> = {
  'pairs alone': {},
  paraphrase: { expand: ['paraphrase'] },
  reversed: { expand: ['reversed'] },
  statement: { expand: ['statement'] },
  dated: { expand: ['dated'] },
  'paraphrase, statement': { expand: ['paraphrase', 'statement'] },
  'all forms': { expand: ['paraphrase', 'reversed', 'statement', 'dated'] },
  distilled: { distil: true },
  'distilled, paraphrase': { distil: true, expand: ['paraphrase'] },
};

const options = readOptions({ seed: '3', writes: '2', passes: '416', only: '' });
const { engine } = await openBench(options);
const people = makeLinkedFacts(PEOPLE_A_WRITE * Number(options.writes), Number(options.seed));
const writes = Array.from({ length: Number(options.writes) }, (_, w) =>
  people.slice(w * PEOPLE_A_WRITE, (w + 1) * PEOPLE_A_WRITE).flat(),
);
const facts = people.flat();
/** By its person, the other fact; asked by this one's value. */
const hops = people.flatMap(([one, other]) => [hop(one, other), hop(other, one)]);
const reversed = facts.map((f) => ({ ...f, instruction: `Whose ${f.attribute} is ${f.value}?`, value: f.person }));
function hop(from: Fact, to: Fact): Fact {
  return { ...to, instruction: `What is the ${to.attribute} of the person whose ${from.attribute} is ${from.value}?` };
}

/** Like the default but for what it trains beside a pair, and no early end, so that all cost the same. */
const PAIRS_ALONE: Recipe = {
  ...getRecipe('default'),
  ...{ gate: false, paraphrased: 0, stopLoss: 0, extraEpochs: 0, expand: [] },
};

async function write(recipe: Recipe): Promise<Record<string, number>> {
  let state: MemoryState = emptyMemory(engine.model.fingerprint);
  for (const [w, list] of writes.entries()) {
    const pairs = asPairs(list, w).map((pair) => ({ ...pair, time: '2026-05-12' }));
    state = (await writePairs(atEqualCost(engine, Number(options.passes)), state, pairs, recipe)).state;
  }
  return {};
}

await compareVariants(
  'extractable',
  engine,
  options,
  Object.entries(VARIANTS).map(([name, changes]) => ({ name, write: () => write({ ...PAIRS_ALONE, ...changes }) })),
  {
    own: () => recall(engine, facts),
    reworded: () => recall(engine, facts, (f) => f.reworded),
    paraphrase: () => recall(engine, facts, (f) => [f.paraphrase]),
    reversed: () => recall(engine, reversed),
    hops: () => recall(engine, hops),
  },
);
await engine.close();
