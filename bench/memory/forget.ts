/**
 * Forgetting: N facts in writes of 16; some are forgotten (the writes from theirs on made again without them), and a model that never saw
 * them is made from the whole ledger. What the model thinks of the forgotten answers, and what is left of the others.
 *   node bench/memory/forget.ts [--model qwen2.5-coder-1.5b] [--facts 100] [--each 16] [--forget 1,10] [--never 1,10] [--seed 1]
 * `--never` names those for which that other model is made; for a number that it leaves out, what was forgotten is compared with the base
 * model alone. A ledger names its recipe and holds no settings, so there is no `--set` here.
 */
import { prove } from '../../src/memory/prove.ts';
import { rebuild } from '../../src/memory/rebuild.ts';
import type { MemoryState } from '../../src/memory/types.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { controls, openForRebuild, readOptions, recall, report, writeMany } from './support.ts';

const options = readOptions({ facts: '100', each: '16', forget: '1,10', never: '' });
const { engine, recipe } = await openForRebuild(options);
const [count, each] = [Number(options.facts), Number(options.each)];
const writes = Math.ceil(count / each);
const facts = makeFacts(writes, each, Number(options.seed)).flat().slice(0, count);
const lists = Array.from({ length: writes }, (_, i) => facts.slice(i * each, (i + 1) * each));
const history = await writeMany(engine, lists.map(asPairs), recipe);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const numbers = (list: string) => list.split(',').map(Number);
const neverSeen = numbers(options.never || options.forget);
// From the middle of the ledger on, so that writes before and after theirs are there.
const from = Math.floor(writes / 2);
const first = from * each;
/** The history, with the writes before theirs as that other model makes them, once it has. */
let apart: readonly MemoryState[] = history;
const results = [];
for (const n of numbers(options.forget)) {
  const gone = new Set(Array.from({ length: n }, (_, i) => first + Math.floor((i * (count - first)) / n)));
  const pairs = lists.flatMap(asPairs).filter((_, i) => gone.has(i));
  const ids = new Set(pairs.map(({ id }) => id));
  const keeps = ({ id }: { id: string }) => !ids.has(id);
  const others = facts.filter((_, i) => !gone.has(i));
  await engine.setFastWeights(history.at(-1)!.weights);
  const othersBefore = await recall(engine, others);
  const start = performance.now();
  const after = (await rebuild(engine, history, { from, keeps })).at(-1)!;
  const seconds = (performance.now() - start) / 1000;
  const othersAfter = await recall(engine, others);
  const compared = neverSeen.includes(n);
  let never = after;
  if (compared) {
    const other = await rebuild(engine, apart, { from: apart === history ? 0 : from, keeps });
    apart = [...other.slice(0, from + 1), ...history.slice(from + 1)];
    never = other.at(-1)!;
  }
  const weights = { before: history.at(-1)!.weights, after: after.weights, never: never.weights };
  const { same, deviation, proofs } = await prove(engine, pairs, weights);
  const forgotten = facts.filter((_, i) => gone.has(i));
  const result = {
    forgotten: n,
    seconds: Math.round(seconds),
    recalled: await recall(engine, forgotten),
    logProb: {
      before: mean(proofs.map((p) => p.before)),
      after: mean(proofs.map((p) => p.after)),
      ...(compared && { never: mean(proofs.map((p) => p.never)) }),
      base: mean(proofs.map((p) => p.base)),
    },
    ...(compared && { same, deviation }),
    ...{ othersBefore, othersAfter },
    controls: (await controls(engine)).right,
  };
  console.error(JSON.stringify(result));
  results.push(result);
}
await engine.close();
report('forget', engine, options, { results });
