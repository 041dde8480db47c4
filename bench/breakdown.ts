/**
 * Where the time of a write goes, from "write" to the next token of the new weights, without extraction: 16 made-up facts, default recipe,
 * on a memory that holds one write already (so that earlier pairs are replayed and what is kept between writes is there).
 *   node bench/breakdown.ts [--model qwen2.5-coder-1.5b] [--pairs 16] [--recipe default] [--seed 1]
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import { complete, type Engine } from '../src/engine/types.ts';
import { withMethods } from '../src/engine/with-methods.ts';
import { getRecipe } from '../src/memory/recipe.ts';
import { emptyMemory } from '../src/memory/types.ts';
import { writePairs } from '../src/memory/write.ts';
import { asPairs, makeFacts } from './facts.ts';
import { positive } from './support/options.ts';
import { peakMiB } from './support/peak-memory.ts';
import { setting, table } from './support/report.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    pairs: { type: 'string', default: '16' },
    recipe: { type: 'string', default: 'default' },
    seed: { type: 'string', default: '1' },
  },
});
const count = positive({ pairs: options.pairs }, 'pairs');
const { path: model } = await resolveModel(options.model);
const engine = await LlamaEngine.open({ modelPath: model });
const recipe = getRecipe(options.recipe);
const [before, now] = makeFacts(2, count, Number(options.seed)).map(asPairs);
const { state } = await writePairs(engine, emptyMemory(engine.model.fingerprint), before!, recipe);

const spent = new Map<string, number>();
const add = (what: string, ms: number) => spent.set(what, (spent.get(what) ?? 0) + ms);
async function timed<T>(what: string, work: Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work;
  add(what, performance.now() - start);
  return result;
}
const watched: Engine = withMethods(engine, {
  initialise: (request) => timed('A (keys of the new pairs)', engine.initialise(request)),
  train: async (request, onEvent) => {
    const start = performance.now();
    const result = await engine.train(request, onEvent);
    const epochs = result.epochs.reduce((n, e) => n + e.ms, 0);
    add('prefix of the pairs', result.prefixMs);
    add(`${result.epochs.length} epochs`, epochs);
    add('losses before, penalties, looks', performance.now() - start - result.prefixMs - epochs);
    return result;
  },
  setFastWeights: (weights) => timed('adapter and swap', engine.setFastWeights(weights)),
});
const start = performance.now();
const { record } = await writePairs(watched, state, now!, recipe);
const known = [...spent.values()].reduce((a, b) => a + b, 0);
add('quiz, gate, anchors', performance.now() - start - known);
const { ms } = await complete(engine, { prompt: [{ role: 'user', content: now![0]!.instruction }], maxTokens: 1 });
add('first token after the swap', ms);
const total = performance.now() - start;
await engine.close();

const rows = [...spent].map(([what, time]) => ({ what, seconds: time / 1000, share: time / total }));
console.error(
  table([
    ['', 's', '%'],
    ...rows.map((r) => [r.what, r.seconds.toFixed(2), (100 * r.share).toFixed(0)]),
    ['together', (total / 1000).toFixed(2), ''],
  ]),
);
console.log(
  JSON.stringify(
    {
      bench: 'breakdown',
      ...setting(),
      model: path.basename(model),
      pairs: count,
      recipe: recipe.name,
      recalled: record.recalled,
      steps: record.loss.length,
      seconds: total / 1000,
      peakMiB: peakMiB(),
      rows,
    },
    null,
    1,
  ),
);
