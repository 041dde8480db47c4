/**
 * One memory write by tmem's engine, in this process: what `bench/write.ts` measures on our side.
 *   node write-ours.ts '{"model": …, "pairs": […], "optimizer": …, "epochs": 5, "batch": 16, "rank": 6, "layers": 4, "threads": 2}'
 * Prints one JSON document, a `WriteRun`.
 */
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import type { Optimizer } from '../../src/engine/types.ts';
import { peakMiB, resetPeak } from './peak-memory.ts';

export interface WriteJob {
  /** Path of the GGUF. */
  readonly model: string;
  readonly pairs: readonly { readonly instruction: string; readonly output: string }[];
  readonly optimizer: Optimizer;
  readonly epochs: number;
  readonly batch: number;
  readonly rank: number;
  readonly layers: number;
  readonly threads: number;
}

/** What both sides report of one write. */
export interface WriteRun {
  /** Until the write can begin: model, A0, what training needs beside the running model. */
  readonly loadMs: number;
  readonly epochMs: readonly number[];
  /** From having the pairs to having the trained weights: templates, tokens, prefix pass, all epochs. */
  readonly writeMs: number;
  readonly loss: readonly number[];
  readonly tokens: number;
  readonly answerTokens: number;
  /** Of the process from its start; includes loading. */
  readonly peakMiB: number;
  /** During the write alone; null where the system cannot tell. */
  readonly writePeakMiB: number | null;
}

const job = JSON.parse(process.argv[2]!) as WriteJob;
const started = performance.now();
const engine = await LlamaEngine.open({ modelPath: job.model, threads: job.threads });
const weights = await engine.initialise({ init: { kind: 'svd' }, rank: job.rank, layers: job.layers });
const loadMs = performance.now() - started;
const loadPeak = peakMiB();
const fresh = resetPeak();

const begin = performance.now();
const samples = await Promise.all(job.pairs.map((p) => engine.renderSample(p.instruction, p.output)));
const { optimizer, epochs, batch } = job;
const result = await engine.train({ samples, weights, optimizer, epochs, batch });
const writeMs = performance.now() - begin;
const writePeak = peakMiB();
await engine.close();

const run: WriteRun & { readonly prefixMs: number } = {
  loadMs,
  prefixMs: result.prefixMs,
  epochMs: result.epochs.map((e) => e.ms),
  writeMs,
  loss: result.steps.map((s) => s.loss),
  tokens: result.tokens,
  answerTokens: result.answerTokens,
  peakMiB: Math.max(loadPeak, writePeak),
  writePeakMiB: fresh ? writePeak : null,
};
console.log(JSON.stringify(run));
