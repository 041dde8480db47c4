/**
 * Small random BERTs in GGUF that llama.cpp loads, and what they compute in plain TypeScript: the post-norm encoder of BERT
 * (arXiv 1810.04805) and nomic-bert's variant with RoPE and a gated feed-forward part (arXiv 2402.01613).
 */
import { writeGguf } from '../../src/engine/gguf/writer.ts';
import { gaussian } from './tiny-model.ts';

export type Pooling = 'mean' | 'cls' | 'last';

export interface TinyBertOptions {
  readonly architecture?: 'bert' | 'nomic-bert';
  /** undefined: the file says nothing. A number is written as it is. */
  readonly pooling?: Pooling | number | undefined;
  readonly contextLength?: number;
  readonly seed?: number;
}

const SPECIALS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const LETTERS = Array.from('abcdefghijklmnopqrstuvwxyz.?');
/** As vocab.txt has them: `##` for what goes on a word. */
export const TINY_VOCABULARY = [...SPECIALS, ...LETTERS, ...LETTERS.map((c) => `##${c}`), 'cat', 'the', 'is', '##ing'];
const UNKNOWN = TINY_VOCABULARY.indexOf('[UNK]');
const CLS = TINY_VOCABULARY.indexOf('[CLS]');
const SEP = TINY_VOCABULARY.indexOf('[SEP]');
const POOLINGS: Record<Pooling, number> = { mean: 1, cls: 2, last: 3 };
const CONTROL = 3;
const F32 = 0;
const LAYERS = 2;
const HEADS = 4;
const D = 32;
const F = 64;
const EPSILON = 1e-12;
const ROPE_BASE = 1000;

/** Weights by GGUF name: vectors, and matrices row-major [out, in]. */
export type TinyBert = ReadonlyMap<string, Float32Array>;

/** Writes the model; the same options give the same bytes. */
export async function writeTinyBert(path: string, options: TinyBertOptions = {}): Promise<TinyBert> {
  const { architecture = 'bert', pooling, contextLength = 64, seed = 1 } = options;
  const normal = gaussian(seed);
  const tensors: { name: string; type: number; shape: number[]; data: Float32Array }[] = [];
  const add = (name: string, shape: number[], scale: number, mean = 0) => {
    const length = shape.reduce((product, n) => product * n, 1);
    tensors.push({ name, type: F32, shape, data: Float32Array.from({ length }, () => mean + scale * normal()) });
  };
  const norm = (name: string) => {
    add(`${name}.weight`, [D], 0.1, 1);
    add(`${name}.bias`, [D], 0.1);
  };
  const product = (name: string, inputs: number, outputs: number, bias = architecture === 'bert') => {
    add(`${name}.weight`, [inputs, outputs], 1 / Math.sqrt(inputs));
    if (bias) add(`${name}.bias`, [outputs], 0.1);
  };
  add('token_embd.weight', [D, TINY_VOCABULARY.length], 1);
  add('token_types.weight', [D, 2], 0.5);
  if (architecture === 'bert') add('position_embd.weight', [D, contextLength], 0.5);
  norm('token_embd_norm');
  for (let l = 0; l < LAYERS; l++) {
    const layer = (part: string) => `blk.${l}.${part}`;
    if (architecture === 'bert') for (const part of ['attn_q', 'attn_k', 'attn_v']) product(layer(part), D, D);
    else product(layer('attn_qkv'), D, 3 * D);
    product(layer('attn_output'), D, D);
    norm(layer('attn_output_norm'));
    product(layer('ffn_up'), D, F);
    if (architecture === 'nomic-bert') product(layer('ffn_gate'), D, F);
    product(layer('ffn_down'), F, D);
    norm(layer('layer_output_norm'));
  }
  const u32 = (value: number) => ({ type: 'u32', value }) as const;
  const key = (name: string) => `${architecture}.${name}`;
  const poolingType = typeof pooling === 'string' ? POOLINGS[pooling] : pooling;
  await writeGguf(path, {
    metadata: {
      'general.architecture': architecture,
      'general.name': 'Tiny BERT',
      [key('block_count')]: u32(LAYERS),
      [key('context_length')]: u32(contextLength),
      [key('embedding_length')]: u32(D),
      [key('feed_forward_length')]: u32(F),
      [key('attention.head_count')]: u32(HEADS),
      [key('attention.layer_norm_epsilon')]: { type: 'f32', value: EPSILON },
      [key('attention.causal')]: false,
      ...(poolingType === undefined ? {} : { [key('pooling_type')]: u32(poolingType) }),
      ...(architecture === 'bert' ? {} : { [key('rope.freq_base')]: { type: 'f32', value: ROPE_BASE } }),
      'tokenizer.ggml.model': 'bert',
      'tokenizer.ggml.pre': 'default',
      'tokenizer.ggml.token_type_count': u32(2),
      // llama.cpp marks the beginning of a word and not what goes on.
      'tokenizer.ggml.tokens': TINY_VOCABULARY.map((token) =>
        SPECIALS.includes(token) ? token : token.startsWith('##') ? token.slice(2) : `▁${token}`,
      ),
      'tokenizer.ggml.token_type': {
        type: 'i32',
        values: TINY_VOCABULARY.map((token) => (SPECIALS.includes(token) ? CONTROL : 1)),
      },
      'tokenizer.ggml.unknown_token_id': u32(UNKNOWN),
      'tokenizer.ggml.bos_token_id': u32(CLS),
      'tokenizer.ggml.cls_token_id': u32(CLS),
      'tokenizer.ggml.seperator_token_id': u32(SEP),
      'tokenizer.ggml.padding_token_id': u32(0),
      'tokenizer.ggml.mask_token_id': u32(TINY_VOCABULARY.indexOf('[MASK]')),
    },
    tensors,
  });
  return new Map(tensors.map(({ name, data }) => [name, data]));
}

function mark(piece: string, goesOn: boolean): string {
  return goesOn ? `##${piece}` : piece;
}

/** WordPiece: of every word the longest pieces from the left, [UNK] where one is missing; [CLS] before, [SEP] after. */
export function wordPieces(text: string): number[] {
  const words = text.toLowerCase().match(/[.?]|[^\s.?]+/g) ?? [];
  const pieces = words.flatMap((word) => {
    const found: number[] = [];
    for (let rest = word; rest.length > 0; ) {
      const pieces = Array.from(rest, (_, i) => rest.slice(0, rest.length - i));
      const piece = pieces.find((piece) => TINY_VOCABULARY.includes(mark(piece, found.length > 0)));
      if (piece === undefined) return [UNKNOWN];
      found.push(TINY_VOCABULARY.indexOf(mark(piece, found.length > 0)));
      rest = rest.slice(piece.length);
    }
    return found;
  });
  return [CLS, ...pieces, SEP];
}

/** The embedding [D] of one text, of length 1. */
export function bertEmbedding(weights: TinyBert, tokens: readonly number[], pooling: Pooling): Float64Array {
  const get = (name: string) => weights.get(name)!;
  const rows = (name: string, i: number) => get(`${name}.weight`).subarray(i * D, (i + 1) * D);
  const isNomic = !weights.has('position_embd.weight');
  const layerNorm = (x: number[], name: string) => {
    const mean = sum(x) / D;
    const deviation = Math.sqrt(sum(x.map((v) => (v - mean) ** 2)) / D + EPSILON);
    const [weight, bias] = [get(`${name}.weight`), get(`${name}.bias`)];
    return x.map((v, i) => ((v - mean) / deviation) * weight[i]! + bias[i]!);
  };
  const multiply = (x: number[], name: string) => {
    const weight = get(`${name}.weight`);
    const outputs = weight.length / x.length;
    const bias = weights.get(`${name}.bias`);
    return Array.from(
      { length: outputs },
      (_, o) => (bias?.[o] ?? 0) + sum(x.map((v, i) => v * weight[o * x.length + i]!)),
    );
  };
  let states = tokens.map((token, position) => {
    const embedded = Array.from(
      rows('token_embd', token),
      (v, i) => v + rows('token_types', 0)[i]! + (isNomic ? 0 : rows('position_embd', position)[i]!),
    );
    return layerNorm(embedded, 'token_embd_norm');
  });
  for (let l = 0; l < LAYERS; l++) {
    const layer = (part: string) => `blk.${l}.${part}`;
    const qkv = states.map((x) =>
      isNomic
        ? multiply(x, layer('attn_qkv'))
        : ['attn_q', 'attn_k', 'attn_v'].flatMap((part) => multiply(x, layer(part))),
    );
    const part = (n: number) => qkv.map((x) => x.slice(n * D, (n + 1) * D));
    const rotated = (x: number[][]) => (isNomic ? x.map(rotate) : x);
    const mixed = attend(rotated(part(0)), rotated(part(1)), part(2));
    states = states.map((x, t) => {
      const attention = layerNorm(add(multiply(mixed[t]!, layer('attn_output')), x), layer('attn_output_norm'));
      const up = multiply(attention, layer('ffn_up'));
      const active = isNomic
        ? multiply(attention, layer('ffn_gate')).map((v, i) => (v / (1 + Math.exp(-v))) * up[i]!)
        : up.map(gelu);
      return layerNorm(add(multiply(active, layer('ffn_down')), attention), layer('layer_output_norm'));
    });
  }
  const pooled =
    pooling === 'cls'
      ? states[0]!
      : pooling === 'last'
        ? states.at(-1)!
        : states.reduce(add).map((v) => v / tokens.length);
  const length = Math.sqrt(sum(pooled.map((v) => v * v)));
  return Float64Array.from(pooled, (v) => v / length);
}

/** Every token sees every other. All [T][D]. */
function attend(q: number[][], k: number[][], v: number[][]): number[][] {
  const size = D / HEADS;
  return q.map((query) =>
    Array.from({ length: HEADS }, (_, h) => {
      const head = (x: number[]) => x.slice(h * size, (h + 1) * size);
      const scores = k.map((key) => Math.exp(sum(head(query).map((x, i) => x * head(key)[i]!)) / Math.sqrt(size)));
      return head(v[0]!).map((_, i) => sum(scores.map((s, t) => s * head(v[t]!)[i]!)) / sum(scores));
    }).flat(),
  );
}

/** RoPE with the halves of a head as the pairs' two parts. */
function rotate(x: number[], position: number): number[] {
  const size = D / HEADS;
  const half = size / 2;
  return x.map((value, i) => {
    const within = i % size;
    const isFirst = within < half;
    const angle = position * ROPE_BASE ** (-(within % half) / half);
    const other = x[isFirst ? i + half : i - half]!;
    return value * Math.cos(angle) + (isFirst ? -other : other) * Math.sin(angle);
  });
}

function sum(x: readonly number[]): number {
  return x.reduce((total, v) => total + v, 0);
}

function add(x: readonly number[], y: readonly number[]): number[] {
  return x.map((v, i) => v + y[i]!);
}

/** In the tanh approximation, as llama.cpp computes it. */
function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
