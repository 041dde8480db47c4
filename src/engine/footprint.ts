/**
 * What a model takes of the memory, before it is loaded. The parts are what is allocated; the constants of `PROCESS` and `work` were fitted
 * to measured peaks (LOG.md): within 10 % on three models.
 */
import { TmemError } from './errors.ts';
import { type GgufFile, ggmlTypes } from './gguf/types.ts';
import { findArchitecture } from './training/architectures/index.ts';
import type { Architecture } from './training/architectures/types.ts';
import { BLOCKED, REARRANGED } from './training/layouts.ts';
import { checkLayers, type ModelShape, readShape } from './training/model-shape.ts';

/** What is trained. */
export interface TrainingSettings {
  readonly layers: number;
  readonly attention?: boolean;
  /** A from whitened keys, for which the inputs of ordinary text are kept. */
  readonly keys?: boolean;
  /** The softmax is over likely tokens, so that more tokens go through the layers at a time. */
  readonly candidates?: boolean;
}

/** Bytes of the process that runs the engine. */
export interface Footprint {
  /** Node, the libraries, the vocabulary. */
  readonly process: number;
  /** The file, and the weights that llama.cpp rearranges. */
  readonly model: number;
  /** Keys and values of a full context, and of the training context. */
  readonly cache: number;
  /** Trained layers and head with their transposed copies. */
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
const TRAINING_CONTEXT = 512;
/** Tokens that go through the layers at a time, with the softmax over likely tokens and without. */
const PIECE_TOKENS = { candidates: 384, whole: 160 };
const PIECE_ANSWER_TOKENS = 32;
/** Tokens of a write whose first-layer products are kept. */
const WRITE_TOKENS = 1000;
/** Tokens of ordinary text, and rows of them that its covariance is taken over. */
const ORDINARY = { tokens: 2700, rows: 1600 };
const Q8_BYTES = 34 / 32;

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
    cache: kv(contextSize) + (training ? kv(TRAINING_CONTEXT) : 0),
    ...(training ? trainingParts(gguf, name, training) : { layers: 0, work: 0 }),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b) };
}

type Sizes = Omit<ModelShape, 'ropeFactors'>;

const typeName = (type: number) => ggmlTypes.get(type)?.name ?? '';

function trainingParts(gguf: GgufFile, name: string, settings: TrainingSettings): { layers: number; work: number } {
  const architecture = findArchitecture(name);
  if (!architecture)
    throw new TmemError('missing', `Models of architecture ${name} cannot be trained, only run; use another model.`);
  const shape = readShape(gguf, architecture);
  checkLayers(settings.layers, shape.L);
  return { layers: layerBytes(gguf, architecture, shape, settings), work: workBytes(shape, settings) };
}

function layerBytes(gguf: GgufFile, architecture: Architecture, { L, V, D }: Sizes, settings: TrainingSettings) {
  const { attentionProducts, feedForwardProducts, residual } = architecture;
  const first = L - settings.layers;
  const files = new Map(gguf.tensors.map((t) => [t.name, t]));
  let bytes = 0;
  for (let l = first; l < L; l++) {
    const hasAttention = l > first || settings.attention || !residual.behindAttention;
    for (const part of [...(hasAttention ? attentionProducts : []), ...feedForwardProducts]) {
      const t = files.get(`blk.${l}.${part}.weight`);
      if (!t) continue;
      const values = t.shape[0]! * (t.shape[1] ?? 1);
      const type = typeName(t.type);
      const isKept = BLOCKED.has(type) || REARRANGED.has(type) || ggmlTypes.get(t.type)?.block === 1;
      bytes += (isKept ? t.bytes : values * Q8_BYTES) + values * Q8_BYTES;
    }
  }
  const head = files.get('output.weight') ?? files.get('token_embd.weight');
  return bytes + (head?.bytes ?? 0) + 2 * V * D;
}

function workBytes({ D, F, V }: Sizes, { layers, keys = false, candidates = false }: TrainingSettings): number {
  const tokens = candidates ? PIECE_TOKENS.candidates : PIECE_TOKENS.whole;
  // Kept of every layer for its gradient (gate, up, the activation; residual, q, k, v), and what one layer's gradients take.
  const activations = 4 * tokens * (layers * (3 * F + 4 * D) + 4 * F + 8 * D);
  const firstProducts = 2 * WRITE_TOKENS * 2 * F * 4;
  const logits = 3 * PIECE_ANSWER_TOKENS * V * 4;
  const { tokens: ordinary, rows } = ORDINARY;
  const covariances = keys ? layers * (4 * (ordinary + rows) * (D + F) + 2 * 8 * rows ** 2) : 0;
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

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
