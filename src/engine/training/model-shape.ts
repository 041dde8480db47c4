/** What the training graph has to know of a model beside its weights, from its GGUF. */
import { TmemError } from '../errors.ts';
import type { GgufFile } from '../gguf/types.ts';
import type { RopeArguments, Tensor } from '../native/library.ts';
import type { Architecture, SlidingWindow } from './architectures/types.ts';

/** Sizes of the model: L layers, D width, F feed-forward width, H heads, G key-value heads, C channels of a head, V vocabulary. */
export interface ModelShape {
  readonly L: number;
  readonly D: number;
  readonly F: number;
  readonly H: number;
  readonly G: number;
  readonly C: number;
  readonly V: number;
  readonly eps: number;
  readonly rope: RopeArguments;
  /** Attention scores are divided by its root. */
  readonly scoreWidth: number;
  readonly window: SlidingWindow | undefined;
  readonly ropeFactors: Tensor | null;
}

function number(gguf: GgufFile, key: string, fallback?: number): number {
  const value = gguf.metadata.get(key) ?? fallback;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number') return value;
  throw new TmemError('missing', `The model's ${key} is missing; it cannot be trained (llama.cpp may still run it).`);
}

/** @throws TmemError `usage` for a number of last layers that a model with L layers does not have. */
export function checkLayers(layers: number, L: number): void {
  if (!Number.isInteger(layers) || layers < 1 || layers > L)
    throw new TmemError(
      'usage',
      `Cannot train the last ${layers} layers of a model with ${L}; give a number from 1 to ${L}.`,
    );
}

/** @throws TmemError `missing` for a model that lacks what training needs. */
export function readShape(gguf: GgufFile, architecture: Architecture): Omit<ModelShape, 'ropeFactors'> {
  const key = (name: string) => `${architecture.name}.${name}`;
  const get = (name: string, fallback?: number) => number(gguf, key(name), fallback);
  const D = get('embedding_length');
  const H = get('attention.head_count');
  const C = get('attention.key_length', D / H);
  const scaling = gguf.metadata.get(key('rope.scaling.type'));
  const freqScale = scaling === 'linear' ? 1 / get('rope.scaling.factor', 1) : 1;
  const embedding = gguf.tensors.find((t) => t.name === 'token_embd.weight');
  if (!embedding) throw new TmemError('missing', 'The model has no token_embd.weight; it cannot be trained.');
  const L = get('block_count');
  const rope = (base: number, scale: number): RopeArguments => [
    get('rope.dimension_count', C),
    architecture.ropeMode,
    get('context_length'),
    base,
    scale,
    0,
    get('rope.scaling.attn_factor', 1),
    32,
    1,
  ];
  return {
    L,
    D,
    F: get('feed_forward_length'),
    H,
    G: get('attention.head_count_kv', H),
    C,
    V: embedding.shape[1]!,
    eps: get('attention.layer_norm_rms_epsilon'),
    rope: rope(get('rope.freq_base', 10000), freqScale),
    scoreWidth: architecture.scoreWidth?.({ L, D, H, C }) ?? C,
    window: readWindow(architecture, get, rope),
  };
}

function readWindow(
  { slidingWindow }: Architecture,
  get: (name: string, fallback: number) => number,
  rope: (base: number, scale: number) => RopeArguments,
): SlidingWindow | undefined {
  const size = get('attention.sliding_window', 0);
  if (!slidingWindow || size === 0) return undefined;
  return {
    size,
    period: get('attention.sliding_window_pattern', slidingWindow.period),
    rope: rope(get('rope.freq_base_swa', slidingWindow.ropeBase), 1),
  };
}
