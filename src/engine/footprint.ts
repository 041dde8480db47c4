/**
 * What a model takes of the memory, before it is loaded. The parts are what is allocated; the constants of `PROCESS` and `work` were fitted
 * to measured peaks (LOG.md): within 15 % on three models, with a BLAS and without.
 */
import { TmemError } from './errors.ts';
import { type GgufFile, ggmlTypes } from './gguf/types.ts';
import { PASS_TOKENS } from './llama/prefix.ts';
import { TYPE } from './native/library.ts';
import { findArchitecture, startsAtInput } from './training/architectures/index.ts';
import type { Architecture } from './training/architectures/types.ts';
import { MAX_ORDINARY_ROWS } from './training/keys.ts';
import { fastType, REARRANGED } from './training/layouts.ts';
import { checkLayers, type ModelShape, readShape } from './training/model-shape.ts';
import { HEAD_ROWS } from './training/packed-batch.ts';
import { MAX_PIECE_TOKENS } from './training/pieces.ts';
import { gigabytes } from './units.ts';

/** What is trained. */
export interface TrainingSettings {
  readonly layers: number;
  readonly attention?: boolean;
  /** A from whitened keys, for which the inputs of ordinary text are kept. */
  readonly keys?: boolean;
  /** Gradients pass through the head over some tokens only, which needs no copy of the whole. */
  readonly likelyTokens?: boolean;
}

/** Bytes of the process that runs the engine. */
export interface Footprint {
  /** Node, the libraries, the vocabulary. */
  readonly process: number;
  /** The file, and the weights that llama.cpp rearranges. */
  readonly model: number;
  /** Keys and values of a full context, and of the training context. */
  readonly cache: number;
  /** Trained layers and head with the transposed copies that gradients pass through. */
  readonly layers: number;
  /** Activations, gradients, and the inputs of ordinary text. */
  readonly work: number;
  readonly total: number;
}

/** Tokens of the engine's context unless it is told otherwise: this many, or what the model was trained for if less. */
export const DEFAULT_CONTEXT = 8192;

export function defaultContext({ metadata }: Pick<GgufFile, 'metadata'>): number {
  const trained = Number(metadata.get(`${metadata.get('general.architecture')}.context_length`) ?? 0);
  return trained > 0 ? Math.min(DEFAULT_CONTEXT, trained) : DEFAULT_CONTEXT;
}

const MiB = 2 ** 20;
const PROCESS = 200 * MiB;
/** Tokens of a write whose first-layer products are kept. */
const WRITE_TOKENS = 1000;
/** Tokens of ordinary text. */
const ORDINARY_TOKENS = 2700;

/** @throws TmemError `missing` for a model that cannot be trained, `usage` for more layers than it has, if `training` is given. */
export function footprint(gguf: GgufFile, contextSize: number, training?: TrainingSettings): Footprint {
  const name = String(gguf.metadata.get('general.architecture'));
  const number = (key: string) => Number(gguf.metadata.get(`${name}.${key}`) ?? Number.NaN);
  const heads = number('attention.head_count');
  const kvWidth =
    (number('attention.key_length') || number('embedding_length') / heads) *
    (number('attention.head_count_kv') || heads);
  const kv = (tokens: number) => 2 * 2 * (number('block_count') * kvWidth || 0) * tokens;
  const rearranged = gguf.tensors
    .filter((t) => t.shape.length > 1 && t.name !== 'token_embd.weight' && REARRANGED.has(typeName(t.type)))
    .reduce((n, t) => n + t.bytes, 0);
  const parts = {
    process: PROCESS,
    model: gguf.fileBytes + rearranged,
    cache: kv(contextSize) + (training ? kv(PASS_TOKENS) : 0),
    ...(training ? trainingParts(gguf, name, training) : { layers: 0, work: 0 }),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b) };
}

type Sizes = Omit<ModelShape, 'ropeFactors'>;

const typeName = (type: number) => ggmlTypes.get(type)?.name ?? '';

function bytesOf(type: number, values: number): number {
  const { block, blockBytes } = ggmlTypes.get(type)!;
  return (values / block) * blockBytes;
}

function trainingParts(gguf: GgufFile, name: string, settings: TrainingSettings): { layers: number; work: number } {
  const architecture = findArchitecture(name);
  if (!architecture)
    throw new TmemError('missing', `Models of architecture ${name} cannot be trained, only run; use another model.`);
  const shape = readShape(gguf, architecture);
  checkLayers(settings.layers, shape.L);
  return { layers: layerBytes(gguf, architecture, shape, settings), work: workBytes(shape, settings) };
}

function layerBytes(gguf: GgufFile, architecture: Architecture, { L, V, D }: Sizes, settings: TrainingSettings) {
  const { attentionProducts, feedForwardProducts } = architecture;
  const first = L - settings.layers;
  const files = new Map(gguf.tensors.map((t) => [t.name, t]));
  let bytes = 0;
  for (let l = first; l < L; l++) {
    const hasAttention = l > first || startsAtInput(architecture, settings.attention);
    for (const part of [...(hasAttention ? attentionProducts : []), ...feedForwardProducts]) {
      const t = files.get(`blk.${l}.${part}.weight`);
      if (!t) continue;
      const values = t.shape[0]! * (t.shape[1] ?? 1);
      const forward = REARRANGED.has(typeName(t.type)) ? t.type : fastType(t.type);
      bytes += bytesOf(forward, values) + bytesOf(TYPE.Q8_0, values);
    }
  }
  const head = files.get('output.weight') ?? files.get('token_embd.weight');
  return bytes + (head?.bytes ?? 0) + (settings.likelyTokens ? 0 : bytesOf(TYPE.Q8_0, V * D));
}

function workBytes({ D, F, V }: Sizes, { layers, keys = false }: TrainingSettings): number {
  // Kept of every layer for its gradient (gate, up, the activation; residual, q, k, v), and what one layer's gradients take.
  const activations = 4 * MAX_PIECE_TOKENS * (layers * (3 * F + 4 * D) + 4 * F + 8 * D);
  const firstProducts = 2 * WRITE_TOKENS * 2 * F * 4;
  const logits = 3 * HEAD_ROWS * V * 4;
  const rows = MAX_ORDINARY_ROWS;
  const covariances = keys ? layers * (4 * (ORDINARY_TOKENS + rows) * (D + F) + 2 * 8 * rows ** 2) : 0;
  return activations + firstProducts + logits + covariances;
}

/**
 * Refuses what will not fit, before it is loaded.
 * @throws TmemError `missing` with the estimate and the most layers that do fit; as `footprint` does
 */
export function checkFootprint(
  gguf: GgufFile,
  contextSize: number,
  training: TrainingSettings,
  available: number = process.availableMemory(),
): void {
  const total = (layers: number) => footprint(gguf, contextSize, { ...training, layers }).total;
  const needed = total(training.layers);
  if (needed <= available) return;
  const fitting = Array.from({ length: training.layers - 1 }, (_, i) => training.layers - 1 - i).find(
    (layers) => total(layers) <= available,
  );
  const advice = fitting
    ? `use --layers ${fitting} (${gigabytes(total(fitting))})`
    : `use a smaller model or a shorter context (with one layer it takes ${gigabytes(total(1))})`;
  throw new TmemError(
    'missing',
    `Training the last ${training.layers} layers takes about ${gigabytes(needed)} of memory and ${gigabytes(available)} are free; ${advice} or close other programs.`,
  );
}
