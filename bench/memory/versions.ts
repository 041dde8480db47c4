/**
 * Versions of a memory: undo gives the same logits, what is made again from the ledger the same bits, and two branches that learn
 * contradicting facts do not hear of each other.
 *   node bench/memory/versions.ts [--model qwen2.5-coder-1.5b] [--writes 3] [--facts 8] [--seed 1]
 */
import { compareWeights } from '../../src/engine/adapter/fast-weights.ts';
import { rebuild } from '../../src/memory/rebuild.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, changed, makeFacts } from '../facts.ts';
import { fingerprintOf, openForRebuild, readOptions, recall, report, writeMany } from './support.ts';

const options = readOptions({ writes: '3', facts: '8' });
const { engine, recipe } = await openForRebuild(options);
const facts = makeFacts(Number(options.writes), Number(options.facts), Number(options.seed));
const history = await writeMany(engine, facts.map(asPairs), recipe);
const [before, last] = [history.at(-2)!, history.at(-1)!];

const asked = facts.flat().map(({ instruction, output }) => ({ question: instruction, answer: output }));
await engine.setFastWeights(before.weights);
const then = await fingerprintOf(engine, asked);
await engine.setFastWeights(last.weights);
await engine.setFastWeights(before.weights);
const undone = await fingerprintOf(engine, asked);
const undo = undone.every((x, i) => Object.is(x, then[i]));

const again = await rebuild(engine, history);
const verify = again.map((state, i) => compareWeights(history[i]!.weights, state.weights)).every(({ same }) => same);

const one = facts.at(-1)!;
const other = changed(one, Number(options.seed) + 1);
const writes = Number(options.writes);
const branch = async (list: typeof one) => {
  await engine.setFastWeights(before.weights);
  return (await writePairs(engine, before, asPairs(list, writes), recipe)).state;
};
const branches = [await branch(one), await branch(other)];
const found = [];
for (const [i, state] of branches.entries()) {
  await engine.setFastWeights(state.weights);
  const [own, others] = i === 0 ? [one, other] : [other, one];
  found.push({ own: await recall(engine, own), leaked: await recall(engine, others) });
}
await engine.close();
report('versions', engine, options, { undoSameLogits: undo, verifySameBits: verify, branches: found });
