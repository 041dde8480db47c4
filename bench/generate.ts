/**
 * Tokens per second of generation, tmem against node-llama-cpp on the same file, alternating in one run.
 *   npm install --prefix bench/peer --ignore-scripts --no-package-lock
 *   node bench/generate.ts --model qwen2.5-coder-1.5b --peer bench/peer [--repeats 5] [--tokens 128] [--threads N]
 * --peer is the folder whose node_modules holds node-llama-cpp; without it only our side is measured. A table goes to stderr,
 * one JSON document to stdout.
 *
 * Same prompt, token for token; greedy; each measurement in a process of its own after a short warm-up. Ours is the engine
 * as users get it, behind its child process, streaming text; the peer's is its lowest level, the tokens of a sequence,
 * made text one by one. The rate is that of the tokens after the first.
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { resolveModel } from '../src/engine/models/store.ts';
import type { GenerateJob, GenerateRun } from './support/generate-ours.ts';
import { positive } from './support/options.ts';
import { ratios, setting, showSpread, spread, table } from './support/report.ts';
import { runJson } from './support/run-json.ts';

const QUESTION = 'Write a long story about a lighthouse keeper and the ships that pass by.';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    peer: { type: 'string' },
    repeats: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '128' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    question: { type: 'string', default: QUESTION },
  },
});
const { peer, ...rest } = options;
const repeats = positive(rest, 'repeats');
const { path: model } = await resolveModel(options.model);
const job: GenerateJob = {
  model,
  question: options.question,
  tokens: positive(rest, 'tokens'),
  threads: positive(rest, 'threads'),
};

const support = (name: string) => path.join(import.meta.dirname, 'support', name);
const ours: GenerateRun[] = [];
const theirs: GenerateRun[] = [];
for (let repeat = 0; repeat < repeats; repeat++) {
  const run = await runJson<GenerateRun>(process.execPath, [support('generate-ours.ts'), JSON.stringify(job)]);
  ours.push(run);
  show(repeat, 'tmem', run);
  if (!peer) continue;
  const peerJob = { ...job, peer: path.resolve(peer), promptTokens: run.promptTokens };
  const their = await runJson<GenerateRun>(process.execPath, [support('generate-peer.ts'), JSON.stringify(peerJob)]);
  theirs.push(their);
  show(repeat, 'node-llama-cpp', their);
}

const rate = (runs: readonly GenerateRun[]) => runs.map((run) => run.tokensPerSecond);
const row = (name: string, runs: readonly GenerateRun[]) => [
  name,
  showSpread(spread(rate(runs)), 1),
  showSpread(spread(runs.map((run) => run.firstMs))),
  String(runs[0]!.outputTokens),
];
const { promptTokens } = ours[0]!;
console.error(`\n${path.basename(model)}, prompt of ${promptTokens.length} tokens, ${job.threads} threads`);
console.error(
  table([
    ['', 'tokens/s', 'first token ms', 'tokens'],
    row('tmem', ours),
    ...(theirs.length > 0 ? [row('node-llama-cpp', theirs)] : []),
  ]),
);
const ratio = theirs.length > 0 ? ratios(rate(ours), rate(theirs)) : null;
const sameText = theirs.length > 0 ? theirs.every((run, i) => run.text === ours[i]!.text) : null;
if (ratio)
  console.error(
    `\ntmem divided by node-llama-cpp: ${showSpread(ratio, 3)}; ${sameText ? 'same' : 'not the same'} text`,
  );
console.log(
  JSON.stringify(
    {
      bench: 'generate',
      ...setting(),
      ...job,
      model: path.basename(model),
      tmemOverPeer: ratio,
      sameText,
      runs: { ours, theirs },
    },
    null,
    1,
  ),
);

function show(repeat: number, side: string, run: GenerateRun): void {
  console.error(`${repeat + 1}/${repeats} ${side}: ${run.tokensPerSecond.toFixed(1)} tokens/s`);
}
