/**
 * Moving to another base model: N facts written on one model, their ledger written again on another; recall there against a fresh write
 * of the same facts at once.
 *   node bench/memory/migrate.ts [--from qwen2.5-coder-0.5b] [--model qwen2.5-coder-1.5b] [--writes 2] [--facts 16] [--seed 1]
 */
import { standingPairs } from '../../src/memory/ledger.ts';
import { writeAll } from '../../src/memory/transfer.ts';
import { emptyMemory } from '../../src/memory/types.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { controls, openBench, readOptions, recall, report, writeMany } from './support.ts';

const options = readOptions({ from: 'qwen2.5-coder-0.5b', writes: '2', facts: '16' });
const lists = makeFacts(Number(options.writes), Number(options.facts), Number(options.seed));
const facts = lists.flat();
const old = await openBench({ ...options, model: options.from });
const source = (await writeMany(old.engine, lists.map(asPairs), old.recipe)).at(-1)!;
const before = await recall(old.engine, facts);
await old.engine.close();

const { engine, recipe } = await openBench(options);
const empty = emptyMemory(engine.model.fingerprint);
await writeAll(engine, empty, standingPairs(source.writes), recipe, { onWritten: async () => {} });
const migrated = { recall: await recall(engine, facts), controls: (await controls(engine)).right };
await engine.setFastWeights(null);
await writeMany(engine, lists.map(asPairs), recipe);
const fresh = { recall: await recall(engine, facts), controls: (await controls(engine)).right };
await engine.close();
report('migrate', engine, options, { source: before, migrated, fresh });
