/**
 * How a write grows with its pairs: 16, 32, 64, 128 and 256 made-up facts, epochs of SGD in steps of 16.
 *   node bench/scaling.ts [--model qwen2.5-coder-1.5b] [--counts 16,32,64,128,256] [--epochs 2] [--threads N]
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { resolveModel } from '../src/engine/models/store.ts';
import { makeFacts } from './facts.ts';
import { positive } from './support/options.ts';
import { setting, table } from './support/report.ts';
import { runJson } from './support/run-json.ts';
import type { WriteJob, WriteRun } from './support/write-ours.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    counts: { type: 'string', default: '16,32,64,128,256' },
    epochs: { type: 'string', default: '2' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
  },
});
const { path: model } = await resolveModel(options.model);
const [epochs, threads] = [positive(options, 'epochs'), positive(options, 'threads')];
const results = [];
for (const count of options.counts.split(',').map(Number)) {
  const pairs = makeFacts(1, count, 1)[0]!.map(({ instruction, output }) => ({ instruction, output }));
  const job: WriteJob = {
    model,
    pairs,
    optimizer: { kind: 'sgd', lr: 5e-4 },
    ...{ epochs, batch: 16, rank: 6, layers: 4, threads },
  };
  const run = await runJson<WriteRun>(process.execPath, [
    path.join(import.meta.dirname, 'support/write-ours.ts'),
    JSON.stringify(job),
  ]);
  const epochMs = Math.min(...run.epochMs);
  results.push({ pairs: count, fastestEpochMs: epochMs, msPerToken: epochMs / run.tokens, ...run });
  console.error(`${count} pairs: epoch ${epochMs.toFixed(0)} ms`);
}
console.error(
  table([
    ['pairs', 'tokens', 'epoch ms', 'ms a token', 'write ms', 'peak MiB'],
    ...results.map((r) => [
      String(r.pairs),
      String(r.tokens),
      r.fastestEpochMs.toFixed(0),
      r.msPerToken.toFixed(2),
      r.writeMs.toFixed(0),
      (r.writePeakMiB ?? r.peakMiB).toFixed(0),
    ]),
  ]),
);
console.log(
  JSON.stringify({ bench: 'scaling', ...setting(), model: path.basename(model), epochs, threads, results }, null, 1),
);
