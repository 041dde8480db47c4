/**
 * Ten episodes as one memory: N memories of M facts each, written apart; then all of it together on fresh weights of the size of one of them.
 *   node bench/memory/consolidate.ts [--model qwen2.5-coder-1.5b] [--episodes 10] [--facts 8] [--rank 6] [--seed 1]
 */
import { consolidate } from '../../src/memory/consolidate.ts';
import { emptyMemory } from '../../src/memory/types.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { controls, openBench, readOptions, recall, report, spill, writeMany } from './support.ts';

const options = readOptions({ episodes: '10', facts: '8', rank: '6' });
const { engine, recipe } = await openBench(options);
const facts = makeFacts(Number(options.episodes), Number(options.facts), Number(options.seed));
const spilt = await spill(engine);
const separate: number[] = [];
const records = [];
let rank = 0;
for (const [i, list] of facts.entries()) {
  const state = (await writeMany(engine, [asPairs(list, i)], recipe)).at(-1)!;
  separate.push(await recall(engine, list));
  records.push(...state.writes);
  rank += state.weights?.rank ?? 0;
}
const start = performance.now();
const all = { ...emptyMemory(engine.model.fingerprint), writes: records };
const { state, record } = await consolidate(engine, all, recipe, {
  rank: Number(options.rank),
  onEvent: (event) => {
    if (event.type === 'train' && event.event.type === 'step' && event.event.step % 10 === 0)
      console.error(`step ${event.event.step}: loss ${event.event.loss.toFixed(3)}`);
  },
});
const seconds = Math.round((performance.now() - start) / 1000);
const apart = separate.reduce((a, b) => a + b, 0) / separate.length;
const together = await recall(engine, facts.flat());
const figures = {
  ...{ apart, together, ratio: together / apart, rankApart: rank, rankTogether: state.weights!.rank, seconds },
  ...{
    steps: record.loss.length,
    loss: record.loss.at(-1),
    reworded: await recall(engine, facts.flat(), (f) => f.reworded),
  },
  ...{ controls: (await controls(engine)).right, ...(await spilt()) },
};
await engine.close();
report('consolidate', engine, options, figures);
