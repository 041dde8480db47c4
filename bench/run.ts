/**
 * All benches of speed one after the other, and their figures in one table and one JSON file.
 *   npm run bench -- [--python venv/bin/python] [--dtypes float32,bfloat16] [--peer bench/peer] [--model qwen2.5-coder-1.5b] [--repeats 2]
 *     [--out bench-results.json]
 * Takes half an hour on two slow cores, hours with bfloat16 on a processor without instructions for it. Without --python and --peer only
 * our side of the comparisons is measured. Nothing else should run on the machine meanwhile. What the memory keeps is measured by
 * those in bench/memory.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findBlas } from '../src/engine/native/blas.ts';
import { type Spread, setting, showSpread, table } from './support/report.ts';
import { runJson } from './support/run-json.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    python: { type: 'string' },
    peer: { type: 'string' },
    repeats: { type: 'string', default: '2' },
    dtypes: { type: 'string', default: 'float32' },
    out: { type: 'string', default: 'bench-results.json' },
  },
});
const { model, python, peer, repeats, dtypes, out } = options;

interface Results {
  readonly write: {
    readonly best: string | null;
    readonly peftOverTmem: Record<string, { epoch: Spread; write: Spread; peak: Spread }>;
  };
  readonly share: { readonly results: readonly { readonly blas: string | null; readonly share: number }[] } | null;
  readonly scaling: { readonly results: readonly { readonly pairs: number; readonly msPerToken: number }[] };
  readonly breakdown: { readonly seconds: number };
  readonly lookup: {
    readonly results: readonly { parts: string; ratio: Spread; decodingRatio: Spread | null; sameText: boolean }[];
  };
  readonly sequences: { readonly results: readonly { sequences: number; overOne: Spread }[] };
  readonly generate: { readonly tmemOverPeer: Spread | null };
}

const run = <K extends keyof Results>(bench: K, ...args: string[]): Promise<Results[K]> => {
  console.error(`\n== ${bench}`);
  return runJson(process.execPath, [path.join(import.meta.dirname, `${bench}.ts`), '--model', model, ...args]);
};
const results: Results = {
  write: await run('write', '--repeats', repeats, '--dtypes', dtypes, ...(python ? ['--python', python] : [])),
  share: findBlas() ? await run('share') : null,
  scaling: await run('scaling', '--epochs', '1'),
  breakdown: await run('breakdown'),
  lookup: await run('lookup', '--repeats', '1'),
  sequences: await run('sequences', '--repeats', repeats),
  generate: await run('generate', '--repeats', repeats, ...(peer ? ['--peer', peer] : [])),
};

const best = results.write.best ? results.write.peftOverTmem[results.write.best] : undefined;
const show = (spread: Spread | null | undefined) => (spread ? showSpread(spread, 2) : 'not measured');
const perToken = results.scaling.results.map((r) => r.msPerToken);
console.error('\n== together');
console.error(
  table([
    ['figure', 'value'],
    [`epoch, PEFT (${results.write.best ?? '-'}) over tmem`, show(best?.epoch)],
    ['write of 5 epochs, the same', show(best?.write)],
    ['peak memory, the same', show(best?.peak)],
    ...(results.share?.results ?? []).map((r) => [
      `share of the best GEMMs here, step by ${r.blas ?? 'ggml alone'}`,
      `${(100 * r.share).toFixed(0)} %`,
    ]),
    ['cost of a token, most over fewest pairs', (perToken.at(-1)! / perToken[0]!).toFixed(2)],
    ['from a write of 16 pairs to the next token, s', results.breakdown.seconds.toFixed(1)],
    ...results.lookup.results.map((r) => [
      `extraction, parts ${r.parts}, plain over lookup`,
      `${show(r.ratio)}${r.decodingRatio ? `, decoding ${show(r.decodingRatio)}` : ''}, ${r.sameText ? 'same' : 'another'} text`,
    ]),
    ...results.sequences.results.slice(1).map((r) => [`${r.sequences} sequences over one`, show(r.overOne)]),
    ['generation, tmem over node-llama-cpp', show(results.generate.tmemOverPeer)],
  ]),
);
writeFileSync(out, `${JSON.stringify({ ...setting(), model, results }, null, 1)}\n`);
console.error(`\n${out}`);
