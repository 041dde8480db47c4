/** Small random models in GGUF that llama.cpp loads, for tests without a download. */
import { writeGguf } from '../../src/engine/gguf/writer.ts';

export type TinyType = 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'IQ4_NL' | 'Q4_K' | 'Q5_K' | 'Q6_K';

export interface TinyModelOptions {
  readonly architecture: 'llama' | 'qwen2' | 'qwen3' | 'gemma3' | 'phi3';
  readonly seed?: number;
  readonly layers?: number;
  /** A multiple of 32. */
  readonly width?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  /** A multiple of 32. */
  readonly feedForward?: number;
  /** Default width / heads; llama.cpp loads another one for llama and qwen3 only. */
  readonly headDim?: number;
  /** gemma3 only: tokens that the layers with a window see back. Default 512. */
  readonly window?: number;
  /** No output.weight: the embedding is used twice. */
  readonly tied?: boolean;
  /** Type of the matrices. Default F32. Those in _K want a width and a feed-forward width that are multiples of 256. */
  readonly type?: TinyType;
  readonly contextLength?: number;
}

const TYPE_IDS: Record<TinyType, number> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_NL: 20,
  BF16: 30,
};
const NORMAL = 1;
const CONTROL = 3;
const CHATML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;

/**
 * A byte-level BPE vocabulary for printable ASCII and the newline, with a few merges and the tokens of ChatML.
 * GPT-2 writes the space as Ġ and the newline as Ċ.
 */
export function tinyVocabulary(): { tokens: string[]; types: number[]; merges: string[] } {
  const ascii = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  const merges = ['Ġ t', 'h e', 'Ġt he', 'i n', 'e r', 'Ġ a', 'o n', 'r e'];
  const normal = [...ascii, 'Ġ', 'Ċ', ...merges.map((merge) => merge.replace(' ', ''))];
  const control = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
  return {
    tokens: [...normal, ...control],
    types: [...normal.map(() => NORMAL), ...control.map(() => CONTROL)],
    merges,
  };
}

/** Writes the model; the same options give the same bytes. */
export async function writeTinyModel(path: string, options: TinyModelOptions): Promise<void> {
  const { architecture, seed = 1, layers = 3, width = 32, heads = 4, kvHeads = 2, feedForward = 64 } = options;
  const { headDim = width / heads, tied = false, type = 'F32', contextLength = 512, window = 512 } = options;
  const { tokens, types, merges } = tinyVocabulary();
  const normal = gaussian(seed);
  const u32 = (value: number) => ({ type: 'u32', value }) as const;
  const f32 = (value: number) => ({ type: 'f32', value }) as const;

  const values = (n: number, scale: number, mean = 0) =>
    Float32Array.from({ length: n }, () => mean + scale * normal());
  const vector = (name: string, n: number, scale: number, mean = 0) => ({
    name,
    type: TYPE_IDS.F32,
    shape: [n],
    data: values(n, scale, mean),
  });
  /** Values of the size that keeps the residual stream's size through the layers. */
  const matrix = (name: string, inputs: number, outputs: number, scale = 1 / Math.sqrt(inputs)) => ({
    name,
    type: TYPE_IDS[type],
    shape: [inputs, outputs],
    data: encode(values(inputs * outputs, scale), type),
  });
  const norm = (name: string, n: number) => vector(name, n, 0.1, 1);
  const q = heads * headDim;
  const k = kvHeads * headDim;
  const layer = (i: number) => {
    const name = (part: string) => `blk.${i}.${part}`;
    return [
      norm(name('attn_norm.weight'), width),
      ...(architecture === 'phi3'
        ? [matrix(name('attn_qkv.weight'), width, q + 2 * k)]
        : [
            matrix(name('attn_q.weight'), width, q),
            matrix(name('attn_k.weight'), width, k),
            matrix(name('attn_v.weight'), width, k),
          ]),
      ...(architecture === 'qwen2'
        ? [
            vector(name('attn_q.bias'), q, 0.1),
            vector(name('attn_k.bias'), k, 0.1),
            vector(name('attn_v.bias'), k, 0.1),
          ]
        : []),
      ...(architecture === 'qwen3' || architecture === 'gemma3'
        ? [norm(name('attn_q_norm.weight'), headDim), norm(name('attn_k_norm.weight'), headDim)]
        : []),
      matrix(name('attn_output.weight'), q, width),
      ...(architecture === 'gemma3'
        ? [norm(name('post_attention_norm.weight'), width), norm(name('post_ffw_norm.weight'), width)]
        : []),
      norm(name('ffn_norm.weight'), width),
      ...(architecture === 'phi3'
        ? [matrix(name('ffn_up.weight'), width, 2 * feedForward)]
        : [matrix(name('ffn_gate.weight'), width, feedForward), matrix(name('ffn_up.weight'), width, feedForward)]),
      matrix(name('ffn_down.weight'), feedForward, width),
    ];
  };
  const end = tokens.indexOf('<|im_end|>');
  const key = (name: string) => `${architecture}.${name}`;
  await writeGguf(path, {
    metadata: {
      'general.architecture': architecture,
      'general.type': 'model',
      // Of a model whose name holds phi3 llama.cpp wants tokens that this vocabulary has not.
      'general.name': architecture === 'phi3' ? 'Tiny Phi' : `Tiny ${architecture}`,
      [key('block_count')]: u32(layers),
      [key('context_length')]: u32(contextLength),
      [key('embedding_length')]: u32(width),
      [key('feed_forward_length')]: u32(feedForward),
      [key('attention.head_count')]: u32(heads),
      [key('attention.head_count_kv')]: u32(kvHeads),
      [key('attention.key_length')]: u32(headDim),
      [key('attention.value_length')]: u32(headDim),
      [key('attention.layer_norm_rms_epsilon')]: f32(1e-5),
      [key('rope.freq_base')]: f32(10_000),
      [key('rope.dimension_count')]: u32(headDim),
      ...(architecture === 'gemma3' ? { [key('attention.sliding_window')]: u32(window) } : {}),
      [key('vocab_size')]: u32(tokens.length),
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': { type: 'i32', values: types },
      'tokenizer.ggml.merges': merges,
      'tokenizer.ggml.bos_token_id': u32(tokens.indexOf('<|endoftext|>')),
      'tokenizer.ggml.eos_token_id': u32(end),
      'tokenizer.ggml.padding_token_id': u32(tokens.indexOf('<|endoftext|>')),
      'tokenizer.ggml.add_bos_token': false,
      'tokenizer.chat_template': CHATML,
    },
    tensors: [
      matrix('token_embd.weight', width, tokens.length, 1),
      ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
      norm('output_norm.weight', width),
      ...(tied ? [] : [matrix('output.weight', width, tokens.length)]),
    ],
  });
}

function encode(values: Float32Array, type: TinyType): Float32Array | Uint8Array {
  switch (type) {
    case 'F32':
      return values;
    case 'F16':
      return new Uint8Array(Uint16Array.from(values, toHalf).buffer);
    case 'BF16':
      // Round half up on the upper 16 bits is close enough for weights that are random anyway.
      return new Uint8Array(Uint16Array.from(new Uint32Array(values.buffer), (bits) => (bits + 0x8000) >>> 16).buffer);
    case 'Q8_0':
      return quantise(values);
    default:
      return randomBlocks(values, BLOCKS[type]);
  }
}

/**
 * How many values a block has, its bytes, and where its half-precision numbers are: one that its codes are multiplied with and one that
 * is subtracted or added, over the size of the values, such that they come out near the size that is asked for and a mean of 0.
 */
interface BlockLayout {
  readonly values: number;
  readonly bytes: number;
  readonly scale: { readonly at: number; readonly over: number };
  readonly offset?: { readonly at: number; readonly over: number };
}

const BLOCKS: Record<Exclude<TinyType, 'F32' | 'F16' | 'BF16' | 'Q8_0'>, BlockLayout> = {
  Q4_0: { values: 32, bytes: 18, scale: { at: 0, over: 4.6 } }, // d (code - 8)
  Q4_1: { values: 32, bytes: 20, scale: { at: 0, over: 4.6 }, offset: { at: 2, over: -4.6 / 7.5 } }, // d code + m
  Q5_0: { values: 32, bytes: 22, scale: { at: 0, over: 9.2 } }, // d (code - 16)
  IQ4_NL: { values: 32, bytes: 18, scale: { at: 0, over: 70 } }, // d table[code], the table from -127 to 113
  Q4_K: { values: 256, bytes: 144, scale: { at: 0, over: 240 }, offset: { at: 2, over: 240 / 7.5 } }, // d s code - dmin m, s and m up to 63
  Q5_K: { values: 256, bytes: 176, scale: { at: 0, over: 480 }, offset: { at: 2, over: 480 / 15.5 } },
  Q6_K: { values: 256, bytes: 210, scale: { at: 208, over: 1370 } }, // d s (code - 32), s within 127
};

/** Blocks with random codes, as the weights are random anyway. */
function randomBlocks(values: Float32Array, { values: perBlock, bytes, scale, offset }: BlockLayout): Uint8Array {
  const size = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
  const random = gaussian(values.length);
  const out = Uint8Array.from({ length: (values.length / perBlock) * bytes }, () => (random() * 1000) & 255);
  const view = new DataView(out.buffer);
  for (let at = 0; at < out.length; at += bytes)
    for (const number of [scale, offset]) if (number) view.setUint16(at + number.at, toHalf(size / number.over), true);
  return out;
}

/** Blocks of 32 values: a half-precision scale, then 32 signed bytes. */
function quantise(values: Float32Array): Uint8Array {
  const out = new DataView(new ArrayBuffer((values.length / 32) * 34));
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(block * 32, block * 32 + 32);
    const scale = part.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127;
    out.setUint16(block * 34, toHalf(scale), true);
    part.forEach((x, i) => {
      out.setInt8(block * 34 + 2 + i, scale === 0 ? 0 : Math.round(x / scale));
    });
  }
  return new Uint8Array(out.buffer);
}

/** Bits of the nearest half; for numbers below 65504, which weights are. Results below 2^-14 are rounded to its multiples of 2^-24. */
function toHalf(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  const mantissa = Math.round((size / 2 ** exponent - 1) * 1024);
  // A mantissa that rounds up to 1024 carries into the exponent by plain addition.
  return sign | (((exponent + 15) << 10) + mantissa);
}

/** Normally distributed numbers, the same for the same seed (mulberry32 and Box-Muller). */
export function gaussian(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
