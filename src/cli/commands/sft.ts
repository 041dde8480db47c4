/** `tmem sft`: trains fast weights on question-answer pairs and writes them as adapters. */
import { mkdir, mkdtemp, rename, rm, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { TmemError, throwIfAborted } from '../../engine/errors.ts';
import type { Engine, FastWeights, Initialisation, Optimizer, Sample, TrainResult } from '../../engine/types.ts';
import { type CliIo, numberOption } from '../io.ts';

const pairSchema = z.strictObject({ instruction: z.string().trim().min(1), output: z.string().trim().min(1) });

interface SftOptions {
  readonly data: string;
  readonly out: string;
  readonly model?: string;
  readonly epochs: number;
  readonly lr?: number;
  readonly optimizer: Optimizer['kind'];
  readonly rank: number;
  readonly layers: number;
  readonly attention: boolean;
  readonly init: Initialisation['kind'];
  readonly batch: number;
  readonly seed: number;
}

/** The paper's rate for SGD; for AdamW the one that the parity tests use. */
const LEARNING_RATE = { sgd: 5e-4, adamw: 1e-3 } as const;

export interface SftDependencies {
  /** Ordinary chat samples of a model, which `--init keys` keeps the fast weights away from. */
  ordinary?(engine: Engine): Promise<readonly Sample[]>;
}

export function register(program: Command, io: CliIo, deps: SftDependencies = {}): void {
  const count = (name: string, min = 1) => numberOption(name, { integer: true, min });
  program
    .command('sft')
    .description('train fast weights on pairs; writes a GGUF and a PEFT adapter')
    .requiredOption('--data <file>', 'JSONL of pairs {instruction, output}')
    .requiredOption('--out <dir>', 'folder for adapter.gguf, peft, peft-initial and rendered.jsonl')
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--epochs <n>', 'passes over the pairs', count('--epochs'), 5)
    .option(
      '--lr <rate>',
      'learning rate (default: 5e-4 with sgd, 1e-3 with adamw)',
      numberOption('--lr', { above: true }),
    )
    .addOption(new Option('--optimizer <kind>', 'optimizer').choices(['sgd', 'adamw']).default('sgd'))
    .option('--rank <n>', 'rank of the fast weights', count('--rank'), 6)
    .option('--layers <n>', 'number of last layers to adapt', count('--layers'), 4)
    .option('--attention', 'adapt the products of their attention, too', false)
    .addOption(new Option('--init <kind>', 'how A is chosen').choices(['svd', 'random', 'keys']).default('svd'))
    .option('--batch <n>', 'pairs a step', count('--batch'), 16)
    .option('--seed <n>', 'of the random initialisation', count('--seed', 0), 0)
    .action((options: SftOptions) => sft(io, options, deps));
}

async function sft(io: CliIo, options: SftOptions, deps: SftDependencies): Promise<void> {
  const { readJsonl } = await import('../../agent/jsonl.ts');
  const out = path.resolve(options.out);
  const there = await stat(out).catch(() => null);
  if (there && !there.isDirectory()) throw new TmemError('usage', `${options.out} is a file; give --out a folder.`);
  const pairs = await readJsonl(options.data, pairSchema, 'pairs {instruction, output}');

  const { signal } = io;
  const { layers, attention } = options;
  const training = { layers, attention, keys: options.init === 'keys' };
  const engine = await io.openEngine({ model: options.model, training });
  const samples = await Promise.all(pairs.map((pair) => engine.renderSample(pair.instruction, pair.output)));
  const progress = io.progress('training');
  let outcome = 'not finished';
  try {
    progress.update(null, `initialising (${options.init})`);
    const { rank, seed, epochs, batch } = options;
    const init = await initialisation(options.init, samples, engine, deps);
    const initial = await engine.initialise({ init, rank, layers, attention, seed, signal });
    const total = epochs * Math.ceil(samples.length / batch);
    const optimizer: Optimizer = { kind: options.optimizer, lr: options.lr ?? LEARNING_RATE[options.optimizer] };
    const result = await engine.train({ samples, weights: initial, optimizer, epochs, batch, signal }, (event) => {
      if (event.type === 'prefix') progress.update(0, `${event.tokens} tokens read`);
      else if (event.type === 'step')
        progress.update(event.step / total, `epoch ${event.epoch}, loss ${event.loss.toFixed(4)}`);
    });
    throwIfAborted(signal);
    const files = await save(out, { engine, initial, result, samples });
    const { loss } = result.epochs.at(-1)!;
    outcome = `loss ${result.steps[0]!.loss.toFixed(4)} to ${loss.toFixed(4)}`;
    progress.done(outcome);
    const { prefixMs, tokens, answerTokens } = result;
    const document = {
      epochs: result.epochs,
      steps: result.steps.map((step) => ({ loss: step.loss })),
      prefixMs,
      tokens,
      answerTokens,
      ...files,
    };
    io.result(document, () => `${pairs.length} pairs, ${outcome}\n${files.adapter.gguf}\n${files.adapter.peft}`);
  } finally {
    progress.done(outcome);
  }
}

async function initialisation(
  kind: Initialisation['kind'],
  samples: readonly Sample[],
  engine: Engine,
  { ordinary }: SftDependencies,
): Promise<Initialisation> {
  if (kind !== 'keys') return { kind };
  if (!ordinary)
    throw new TmemError('usage', '--init keys needs ordinary text, which is not set up; use svd or random.');
  return { kind, samples, ordinary: await ordinary(engine) };
}

interface Trained {
  readonly engine: Engine;
  readonly initial: FastWeights;
  readonly result: TrainResult;
  readonly samples: readonly Sample[];
}

/** Writes everything into a folder beside its place first, so that a failure leaves what was there before. */
async function save(out: string, { engine, initial, result, samples }: Trained) {
  const { writeAdapterGguf } = await import('../../engine/adapter/gguf.ts');
  const { peftBase, writePeft } = await import('../../engine/adapter/peft.ts');
  const { writeError, writeFileAtomic } = await import('../../engine/files.ts');
  const { readGguf } = await import('../../engine/gguf/reader.ts');
  const { path: modelPath, name } = engine.model;
  let staged: string | undefined;
  try {
    const base = peftBase(readGguf(modelPath), name);
    await mkdir(out, { recursive: true });
    staged = await mkdtemp(path.join(out, '.sft-'));
    await writeAdapterGguf(path.join(staged, 'adapter.gguf'), result.weights, engine.model);
    await writePeft(path.join(staged, 'peft'), result.weights, base);
    await writePeft(path.join(staged, 'peft-initial'), initial, base);
    const lines = samples.map(({ prompt, answer }) => `${JSON.stringify({ prompt, answer })}\n`);
    await writeFileAtomic(path.join(staged, 'rendered.jsonl'), (write) => write(Buffer.from(lines.join(''))));
    for (const entry of ['adapter.gguf', 'peft', 'peft-initial', 'rendered.jsonl']) {
      await rm(path.join(out, entry), { recursive: true, force: true });
      await rename(path.join(staged, entry), path.join(out, entry));
    }
  } catch (error) {
    throw writeError(out, error);
  } finally {
    if (staged) await rm(staged, { recursive: true, force: true });
    // Removes a folder that was made for nothing; one that holds something stays.
    await rmdir(out).catch(() => {});
  }
  const at = (entry: string) => path.join(out, entry);
  return {
    rendered: at('rendered.jsonl'),
    adapter: { gguf: at('adapter.gguf'), peft: at('peft'), peftInitial: at('peft-initial') },
  };
}
