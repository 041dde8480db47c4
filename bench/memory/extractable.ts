/**
 * What to train beside a pair so that its fact is found by other questions: forms of `memory/expand.ts` and context distillation, at equal
 * cost (sample passes a write). Two facts about each person, in writes of 8; asked in the pair's words, in two other wordings, with other
 * words for the attribute, the other way round, and over two hops. None of these questions is trained.
 *   node bench/memory/extractable.ts [--model qwen2.5-coder-1.5b] [--writes 2] [--passes 416] [--seed 3] [--only NAME,NAME]
 */
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, type Fact, makeLinkedFacts } from '../facts.ts';
import { table } from '../support/report.ts';
import { atEqualCost, generalRight, openBench, readOptions, recall, report, spill } from './support.ts';

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
const general = (await generalRight(engine)).slice(0, 50);
const spilt = await spill(engine);

function hop(from: Fact, to: Fact): Fact {
  return { ...to, instruction: `What is the ${to.attribute} of the person whose ${from.attribute} is ${from.value}?` };
}

const wanted = options.only.split(',').filter(Boolean);
const found: Record<string, unknown>[] = [];
for (const [name, changes] of Object.entries(VARIANTS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const recipe: Recipe = {
    ...getRecipe('default'),
    gate: false,
    paraphrased: 0,
    stopLoss: 0,
    rank: 6,
    expand: [],
    relearn: false,
    ...changes,
  };
  const trained = atEqualCost(engine, Number(options.passes));
  let state: MemoryState = emptyMemory(engine.model.fingerprint);
  await engine.setFastWeights(null);
  const start = performance.now();
  for (const [w, list] of writes.entries()) {
    const pairs = asPairs(list, w).map((pair) => ({ ...pair, time: '2026-05-12' }));
    state = (await writePairs(trained, state, pairs, recipe)).state;
  }
  const s = (performance.now() - start) / 1000;
  found.push({
    ...{ name, s, own: await recall(engine, facts), reworded: await recall(engine, facts, (f) => f.reworded) },
    paraphrase: await recall(engine, facts, (f) => [f.paraphrase]),
    ...{ reversed: await recall(engine, reversed), hops: await recall(engine, hops) },
    ...{ general: (await generalRight(engine, general)).length, ...(await spilt()) },
  });
  console.error(JSON.stringify(found.at(-1)));
}
const percent = (x: unknown) => `${Math.round(100 * (x as number))} %`;
const asked = ['own', 'reworded', 'paraphrase', 'reversed', 'hops'];
console.error(
  table([
    ['trained beside', ...asked, `general of ${general.length}`, 'nats', 'KL', 's'],
    ...found.map((f) => [
      ...[f.name as string, ...asked.map((kind) => percent(f[kind])), String(f.general)],
      ...[f.nats, f.kl].map((x) => (x as number).toFixed(3)),
      (f.s as number).toFixed(0),
    ]),
  ]),
);
report('extractable', engine, options, { general: general.length, variants: found });
await engine.close();
