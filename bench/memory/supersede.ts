/**
 * Facts that change: N facts are written, then each with another value; the newest value is to be answered, the old one never.
 *   node bench/memory/supersede.ts [--model qwen2.5-coder-1.5b] [--facts 50] [--each 8] [--seed 1]
 */
import { holds } from '../../src/memory/recall.ts';
import { asPairs, changed, makeFacts } from '../facts.ts';
import { ask, controls, openBench, readOptions, report, writeMany } from './support.ts';

const options = readOptions({ facts: '50', each: '8' });
const { engine, recipe } = await openBench(options);
const [count, each] = [Number(options.facts), Number(options.each)];
const old = makeFacts(Math.ceil(count / each), each, Number(options.seed))
  .flat()
  .slice(0, count);
const now = changed(old, Number(options.seed) + 1);
const groups = [old, now].flatMap((facts) =>
  Array.from({ length: Math.ceil(count / each) }, (_, i) => facts.slice(i * each, (i + 1) * each)),
);
const states = await writeMany(engine, groups.map(asPairs), recipe);
const answers = await Promise.all(now.map(({ instruction }) => ask(engine, instruction)));
const found = answers.map((answer, i) => ({
  question: now[i]!.instruction,
  answer,
  newest: holds(answer, now[i]!.value),
  old: holds(answer, old[i]!.value),
}));
const { right } = await controls(engine);
const state = states.at(-1)!;
await engine.close();
report('supersede', engine, options, {
  newest: found.filter((f) => f.newest).length / count,
  old: found.filter((f) => f.old).length / count,
  superseded: state.writes.reduce((n, w) => n + (w.superseded?.length ?? 0), 0),
  controls: right,
  wrong: found.filter((f) => !f.newest),
});
