/**
 * A BERT checkpoint in safetensors as a GGUF, for embedding models that no source has as one.
 * Names and metadata are those that llama.cpp reads (src/models/bert.cpp, src/llama-vocab.cpp); precision is chosen as its own converter
 * does: products in F16, everything else in F32.
 */
import { readFile } from 'node:fs/promises';
import { type GgufTensorInput, writeGguf } from '../gguf/writer.ts';

export interface BertConversion {
  /** Files: the weights, the vocabulary with one token a line, and the GGUF to be written. */
  readonly weights: string;
  readonly vocabulary: string;
  readonly target: string;
  readonly name: string;
  readonly heads: number;
  readonly pooling: 'mean' | 'cls';
}

const F32 = 0;
const F16 = 1;
const NORMAL = 1;
const CONTROL = 3;
/** As llama.cpp counts them. */
const POOLING = { mean: 1, cls: 2 } as const;
/** The same in every BERT. */
const LAYER_NORM_EPSILON = 1e-12;
const SPECIALS = { unknown: '[UNK]', bos: '[CLS]', cls: '[CLS]', seperator: '[SEP]', padding: '[PAD]', mask: '[MASK]' };

/** GGUF's names of what is not in a layer, and of a layer's parts. `pooler` and `position_ids` have no part in an embedding. */
const EMBEDDINGS: Readonly<Record<string, string>> = {
  'embeddings.word_embeddings': 'token_embd',
  'embeddings.position_embeddings': 'position_embd',
  'embeddings.token_type_embeddings': 'token_types',
  'embeddings.LayerNorm': 'token_embd_norm',
};
const PARTS: Readonly<Record<string, string>> = {
  'attention.self.query': 'attn_q',
  'attention.self.key': 'attn_k',
  'attention.self.value': 'attn_v',
  'attention.output.dense': 'attn_output',
  'attention.output.LayerNorm': 'attn_output_norm',
  'intermediate.dense': 'ffn_up',
  'output.dense': 'ffn_down',
  'output.LayerNorm': 'layer_output_norm',
};
/** Added to the word's embedding, for which they must be F32. */
const ADDED = /^(position_embd|token_types)/;

/** The files' hashes were checked: what is in them is taken as it is. @throws TmemError `failed` when the GGUF cannot be written */
export async function convertBert({
  weights,
  vocabulary,
  target,
  name,
  heads,
  pooling,
}: BertConversion): Promise<void> {
  const tokens = (await readFile(vocabulary, 'utf8')).split('\n').filter((token) => token !== '');
  const tensors = await readTensors(weights);
  const shape = (tensor: string) => tensors.find((t) => t.name === tensor)!.shape;
  const [width, contextLength] = shape('position_embd.weight');
  const u32 = (value: number | undefined) => ({ type: 'u32', value: value! }) as const;
  const specials = Object.entries(SPECIALS);
  const isSpecial = (token: string) => specials.some(([, special]) => special === token);
  await writeGguf(target, {
    metadata: {
      'general.architecture': 'bert',
      'general.type': 'model',
      'general.name': name,
      'bert.block_count': u32(tensors.filter((t) => t.name.endsWith('.attn_q.weight')).length),
      'bert.context_length': u32(contextLength),
      'bert.embedding_length': u32(width),
      'bert.feed_forward_length': u32(shape('blk.0.ffn_up.weight')[1]),
      'bert.attention.head_count': u32(heads),
      'bert.attention.layer_norm_epsilon': { type: 'f32', value: LAYER_NORM_EPSILON },
      'bert.attention.causal': false,
      'bert.pooling_type': u32(POOLING[pooling]),
      'tokenizer.ggml.model': 'bert',
      'tokenizer.ggml.pre': 'default',
      'tokenizer.ggml.token_type_count': u32(shape('token_types.weight')[1]),
      'tokenizer.ggml.tokens': tokens.map((token) => (isSpecial(token) ? token : piece(token))),
      'tokenizer.ggml.token_type': {
        type: 'i32',
        values: tokens.map((token) => (isSpecial(token) ? CONTROL : NORMAL)),
      },
      ...Object.fromEntries(
        specials.map(([role, token]) => [`tokenizer.ggml.${role}_token_id`, u32(tokens.indexOf(token))]),
      ),
    },
    tensors,
  });
}

/** BERT marks what goes on a word (`##ing`), llama.cpp what begins one (`▁sing`). */
function piece(token: string): string {
  return token.startsWith('##') ? token.slice(2) : `▁${token}`;
}

/** Those that have a name in GGUF, in its order of dimensions. Format: see adapter/safetensors.ts. */
async function readTensors(path: string): Promise<GgufTensorInput[]> {
  const file = await readFile(path);
  const start = 8 + Number(file.readBigUInt64LE());
  const header: Record<string, { shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    file.toString('utf8', 8, start),
  );
  return Object.entries(header).flatMap(([from, { shape, data_offsets }]) => {
    const name = nameOf(from);
    if (name === undefined) return [];
    const [begin, end] = data_offsets;
    // A copy, as the bytes may begin where no float can.
    const data = new Float32Array(new Uint8Array(file.subarray(start + begin, start + end)).buffer);
    const isProduct = shape.length > 1 && !ADDED.test(name);
    return {
      name,
      shape: shape.toReversed(),
      ...(isProduct ? { type: F16, data: halves(data) } : { type: F32, data }),
    };
  });
}

function nameOf(tensor: string): string | undefined {
  const [, module = '', kind] = /^(.*)\.(weight|bias)$/.exec(tensor) ?? [];
  const [, layer, part = ''] = /^encoder\.layer\.(\d+)\.(.*)$/.exec(module) ?? [];
  const name = layer === undefined ? EMBEDDINGS[module] : PARTS[part] && `blk.${layer}.${PARTS[part]}`;
  return name && `${name}.${kind}`;
}

/** Bits of the nearest halves. */
function halves(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setFloat16(i * 2, value, true);
  });
  return bytes;
}
