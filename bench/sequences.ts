/**
 * Many generations at once: tokens per second of 1, 8 and 16 sequences that share a prompt of some 500 tokens, in one run.
 *   node bench/sequences.ts [--model qwen2.5-coder-1.5b] [--repeats 3] [--tokens 48] [--threads N]
 * The shared prompt is in the KV cache before the clock starts. A table goes to stderr, one JSON document to stdout.
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import { complete } from '../src/engine/types.ts';
import { makeFacts } from './facts.ts';
import { positive } from './support/options.ts';
import { ratios, setting, showSpread, spread, table } from './support/report.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    repeats: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '48' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
  },
});
const COUNTS = [1, 8, 16];
const repeats = positive(options, 'repeats');
const tokens = positive(options, 'tokens');
const threads = positive(options, 'threads');
const { path: model } = await resolveModel(options.model);
const engine = await LlamaEngine.open({ modelPath: model, threads });
const facts = makeFacts(1, 30, 1)[0]!;
const shared = `${facts.map((f) => f.output).join(' ')}\n\nWrite a long story about`;
const sharedTokens = (await engine.tokenize(shared)).length;

/** Tokens per second of n stories at once. */
async function rate(n: number): Promise<number> {
  const prompts = facts.slice(0, n).map((f) => `${shared} number ${f.value}:`);
  const start = performance.now();
  const done = await Promise.all(prompts.map((prompt) => complete(engine, { prompt, maxTokens: tokens })));
  return done.reduce((sum, d) => sum + d.outputTokens, 0) / ((performance.now() - start) / 1000);
}

await complete(engine, { prompt: shared, maxTokens: 1 });
const found = new Map(COUNTS.map((n) => [n, [] as number[]]));
for (let repeat = 0; repeat < repeats; repeat++) {
  for (const n of COUNTS) found.get(n)!.push(await rate(n));
  console.error(
    `${repeat + 1}/${repeats}: ${COUNTS.map((n) => `${n}: ${found.get(n)!.at(-1)!.toFixed(1)}`).join(', ')} tokens/s`,
  );
}
await engine.close();
const results = COUNTS.map((n) => ({
  sequences: n,
  tokensPerSecond: spread(found.get(n)!),
  overOne: ratios(found.get(n)!, found.get(1)!),
}));
console.error(
  table([
    ['sequences', 'tokens/s', 'over one'],
    ...results.map((r) => [String(r.sequences), showSpread(r.tokensPerSecond, 1), showSpread(r.overOne, 2)]),
  ]),
);
console.log(
  JSON.stringify(
    { bench: 'sequences', ...setting(), model: path.basename(model), threads, sharedTokens, tokens, results },
    null,
    1,
  ),
);
