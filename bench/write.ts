/**
 * One memory write, tmem against PyTorch + PEFT, alternating in one run: the same GGUF, the same pairs, the same step-0 adapter.
 *   node bench/write.ts --model qwen2.5-coder-1.5b --python venv/bin/python [--repeats 3] [--pairs FILE] [--threads N] [--dtypes float32]
 * The peer's packages are named in support/peft_write.py; without --python only our side is measured. Both of PEFT's dtypes
 * run, and the faster one counts; --dtypes leaves one out. A table goes to stderr, one JSON document to stdout.
 *
 * What is compared: `epoch`, the median of the run's epochs; `write`, everything from having the pairs to having the trained
 * weights while the model is loaded (templates and tokens, our prefix pass, all epochs); `peak`, the memory of the whole
 * process during the write. Loading is reported beside them.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { readJsonl } from '../src/agent/jsonl.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import type { Optimizer } from '../src/engine/types.ts';

import { positive } from './support/options.ts';
import { ratios, type Spread, setting, showSpread, spread, table } from './support/report.ts';
import { runJson } from './support/run-json.ts';
import type { WriteJob, WriteRun } from './support/write-ours.ts';

const here = import.meta.dirname;
const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    python: { type: 'string' },
    pairs: { type: 'string', default: path.join(here, '../tests/fixtures/parity/pairs.jsonl') },
    repeats: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    dtypes: { type: 'string', default: 'float32,bfloat16' },
    optimizer: { type: 'string', default: 'sgd' },
    lr: { type: 'string', default: '5e-4' },
    epochs: { type: 'string', default: '5' },
    batch: { type: 'string', default: '16' },
    rank: { type: 'string', default: '6' },
    layers: { type: 'string', default: '4' },
  },
});
const { python, pairs: pairsFile, ...numbers } = options;
const [repeats, threads, lr] = [positive(numbers, 'repeats'), positive(numbers, 'threads'), positive(numbers, 'lr')];
const [epochs, batch] = [positive(numbers, 'epochs'), positive(numbers, 'batch')];
const [rank, layers] = [positive(numbers, 'rank'), positive(numbers, 'layers')];
if (options.optimizer !== 'sgd' && options.optimizer !== 'adamw') throw new Error('--optimizer is sgd or adamw');
const optimizer: Optimizer = { kind: options.optimizer, lr };

const DTYPES = ['float32', 'bfloat16'] as const;
const PEERS = DTYPES.filter((dtype) => options.dtypes.split(',').includes(dtype));
if (PEERS.length !== options.dtypes.split(',').length) throw new Error(`--dtypes is a list of ${DTYPES.join(' and ')}`);
type Side = 'tmem' | (typeof DTYPES)[number];

const pairs = await readJsonl(pairsFile, z.strictObject({ instruction: z.string(), output: z.string() }), 'pairs');
const { path: model } = await resolveModel(options.model);
const scratch = await mkdtemp(path.join(os.tmpdir(), 'tmem-bench-'));
const runs: Record<Side, WriteRun[]> = { tmem: [], float32: [], bfloat16: [] };
try {
  if (python) await exportStart(scratch);
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const side of sides()) {
      const run = side === 'tmem' ? await ours() : await peer(python!, side);
      runs[side].push(run);
      const { median } = spread(run.epochMs);
      console.error(
        `${repeat + 1}/${repeats} ${side}: epoch ${median.toFixed(0)} ms, write ${run.writeMs.toFixed(0)} ms`,
      );
    }
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
}
report();

function sides(): Side[] {
  return python ? ['tmem', ...PEERS] : ['tmem'];
}

/** The step-0 adapter and the rendered samples, as any user gets them for PEFT. */
async function exportStart(out: string): Promise<void> {
  const cli = path.join(here, '../src/cli/main.ts');
  const shape = ['--rank', String(rank), '--layers', String(layers), '--epochs', '1'];
  await runJson(process.execPath, [
    cli,
    'sft',
    '--json',
    ...['--model', model, '--data', pairsFile, '--out', out],
    ...shape,
  ]);
}

function ours(): Promise<WriteRun> {
  const job: WriteJob = { model, pairs, optimizer, epochs, batch, rank, layers, threads };
  return runJson(process.execPath, [path.join(here, 'support/write-ours.ts'), JSON.stringify(job)]);
}

function peer(python: string, dtype: (typeof DTYPES)[number]): Promise<WriteRun> {
  const args = [
    path.join(here, 'support/peft_write.py'),
    ...['--gguf', model, '--rendered', path.join(scratch, 'rendered.jsonl')],
    ...['--adapter', path.join(scratch, 'peft-initial'), '--dtype', dtype],
    ...['--optimizer', optimizer.kind, '--lr', String(lr)],
    ...['--epochs', String(epochs), '--batch', String(batch), '--threads', String(threads)],
  ];
  return runJson(python, args, { TQDM_DISABLE: '1', PYTHONWARNINGS: 'ignore' });
}

/** Memory of a run while it writes, or of its process where the system cannot tell. */
function peak(run: WriteRun): number {
  return run.writePeakMiB ?? run.peakMiB;
}

function report(): void {
  const epoch = (run: WriteRun) => spread(run.epochMs).median;
  const measures = { epoch, write: (run: WriteRun) => run.writeMs, peak };
  const of = (side: Side, measure: (run: WriteRun) => number) => runs[side].map(measure);
  const rows = sides().map((side) => [
    side === 'tmem' ? 'tmem' : `PEFT ${side}`,
    showSpread(spread(of(side, epoch))),
    showSpread(spread(of(side, measures.write))),
    showSpread(spread(of(side, peak))),
    showSpread(spread(of(side, (run) => run.loadMs))),
    runs[side][0]!.loss.map((x) => x.toFixed(3)).join(' '),
  ]);
  const first = runs.tmem[0]!;
  console.error(
    `\n${path.basename(model)}, ${pairs.length} pairs, ${first.tokens} tokens, ${epochs} epochs, ${threads} threads`,
  );
  console.error(table([['', 'epoch ms', 'write ms', 'peak MiB', 'load ms', 'loss'], ...rows]));

  const against: Record<string, Record<keyof typeof measures, Spread>> = {};
  for (const dtype of python ? PEERS : []) {
    const quotient = (name: keyof typeof measures) => ratios(of(dtype, measures[name]), of('tmem', measures[name]));
    against[dtype] = { epoch: quotient('epoch'), write: quotient('write'), peak: quotient('peak') };
  }
  const best = python ? [...PEERS].sort((a, b) => spread(of(a, epoch)).median - spread(of(b, epoch)).median)[0]! : null;
  if (best) {
    const { epoch: e, write: w, peak: p } = against[best]!;
    console.error(
      `\nPEFT's ${PEERS.length > 1 ? 'faster dtype, ' : ''}${best}, divided by tmem: epoch ${showSpread(e, 2)}, write ${showSpread(w, 2)}, peak memory ${showSpread(p, 2)}`,
    );
    for (const side of PEERS) {
      if (runs[side][0]!.tokens !== first.tokens)
        console.error(`Not the same work: ${runs[side][0]!.tokens} tokens (${side}) against our ${first.tokens}.`);
    }
  }
  const settings = {
    model: path.basename(model),
    pairs: pairs.length,
    optimizer,
    epochs,
    batch,
    rank,
    layers,
    threads,
  };
  console.log(
    JSON.stringify({ bench: 'write', ...setting(), ...settings, best, peftOverTmem: against, runs }, null, 1),
  );
}
