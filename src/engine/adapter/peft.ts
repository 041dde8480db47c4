/** Fast weights as a PEFT folder (adapter_config.json, adapter_model.safetensors) under the names of the Hugging Face model. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { TmemError } from '../errors.ts';
import { writeError, writeFileAtomic } from '../files.ts';
import type { GgufFile } from '../gguf/types.ts';
import type { FastWeights, LoraTensor } from '../types.ts';
import { readSafetensors, type SafeTensor, writeSafetensors } from './safetensors.ts';
import { type BaseModel, checkFastWeights } from './weights.ts';

/** What the names and rows of a PEFT adapter depend on. */
export interface PeftBase {
  readonly architecture: string;
  /** `base_model_name_or_path` of the configuration. */
  readonly name: string;
  readonly heads: number;
  readonly kvHeads: number;
}

/** What PEFT has to know of a model, from its GGUF. */
export function peftBase({ metadata }: Pick<GgufFile, 'metadata'>, name: string): PeftBase {
  const architecture = String(metadata.get('general.architecture'));
  const heads = Number(metadata.get(`${architecture}.attention.head_count`));
  const kvHeads = Number(metadata.get(`${architecture}.attention.head_count_kv`) ?? heads);
  return { architecture, name, heads, kvHeads };
}

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';

/** GGUF part of a layer to the module of Hugging Face's models. */
const MODULES: Readonly<Record<string, string>> = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
/** Both have gate before up and q before k before v in the rows of their joint products. */
const PHI3_MODULES: Readonly<Record<string, string>> = {
  attn_qkv: 'self_attn.qkv_proj',
  attn_output: 'self_attn.o_proj',
  ffn_up: 'mlp.gate_up_proj',
  ffn_down: 'mlp.down_proj',
};
const modulesOf = ({ architecture }: PeftBase) => (architecture === 'phi3' ? PHI3_MODULES : MODULES);

/**
 * Writes the folder whole or not at all; one that is there is replaced.
 * @throws TmemError `missing` for unusable weights, `failed` when it cannot be written
 */
export async function writePeft(folder: string, weights: FastWeights, base: PeftBase): Promise<void> {
  checkFastWeights(weights, 'The fast weights');
  const { rank, alpha } = weights;
  const tensors = new Map<string, SafeTensor>();
  const modules = weights.tensors.map((tensor) => {
    const { layer, part } = parseName(tensor.name, base);
    const module = `model.layers.${layer}.${modulesOf(base)[part]}`;
    const b = reorder(tensor.b, rank, permutation(part, base, tensor.outputs), 'gguf-to-hf');
    tensors.set(`base_model.model.${module}.lora_A.weight`, { shape: [rank, tensor.inputs], data: tensor.a });
    tensors.set(`base_model.model.${module}.lora_B.weight`, { shape: [tensor.outputs, rank], data: b });
    return { layer, module, short: module.split('.').at(-1)! };
  });
  const layers = [...new Set(modules.map((m) => m.layer))].sort((x, y) => x - y);
  const targets = [...new Set(modules.map((m) => m.short))];
  // Short names times layers describe the usual adapter; one that skips a module of some layer needs full names.
  const regular = layers.length * targets.length === modules.length;
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base.name,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    target_modules: regular ? targets : modules.map((m) => m.module),
    layers_to_transform: regular ? layers : null,
  };
  await replaceFolder(folder, async (into) => {
    await writeSafetensors(path.join(into, WEIGHTS), tensors);
    await writeFileAtomic(path.join(into, CONFIG), (write) =>
      write(Buffer.from(`${JSON.stringify(config, null, 2)}\n`)),
    );
  });
}

/** Lenient about what does not change the result, strict about what would. */
const configSchema = z.object({
  peft_type: z.literal('LORA'),
  r: z.number().int().positive(),
  lora_alpha: z.number().positive(),
  bias: z.literal('none').default('none'),
  use_rslora: z.literal(false).default(false),
  use_dora: z.literal(false).default(false),
  fan_in_fan_out: z.literal(false).default(false),
  rank_pattern: z.strictObject({}).nullish(),
  alpha_pattern: z.strictObject({}).nullish(),
  modules_to_save: z.null().or(z.tuple([])).optional(),
});

/**
 * Reads a PEFT folder and checks it against the model that it is for.
 * @throws TmemError `missing` when it is damaged, uses what tmem cannot express (DoRA, several ranks, biases), or does not fit
 */
export async function readPeft(folder: string, base: PeftBase & Pick<BaseModel, 'shape'>): Promise<FastWeights> {
  const refuse = (what: string, cause?: unknown) =>
    new TmemError('missing', `${folder} cannot be used as a PEFT adapter: ${what}.`, { cause });
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path.join(folder, CONFIG), 'utf8'));
  } catch (error) {
    throw refuse(`${CONFIG} cannot be read as JSON`, error);
  }
  const config = configSchema.safeParse(json);
  if (!config.success) {
    const [issue] = config.error.issues;
    throw refuse(`${CONFIG} has an unsupported ${issue?.path.join('.') || 'form'}`, config.error);
  }
  const { r: rank, lora_alpha: alpha } = config.data;
  const stored = await readSafetensors(path.join(folder, WEIGHTS));
  const parts = new Map(Object.entries(modulesOf(base)).map(([part, module]) => [module, part]));
  const tensors: LoraTensor[] = [];
  for (const [key, a] of stored) {
    const found = /^base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight$/.exec(key);
    const part = found && parts.get(found[2]!);
    if (!part) throw refuse(`tensor ${key} is not a LoRA of a layer's attention or feed-forward product`);
    if (found[3] === 'B') continue;
    const b = stored.get(key.replace('.lora_A.', '.lora_B.'));
    if (!b) throw refuse(`tensor ${key} has no lora_B beside it`);
    const [inputs, outputs] = [a.shape[1], b.shape[0]];
    if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[0] !== rank || b.shape[1] !== rank) {
      throw refuse(`tensor ${key} does not have rank ${rank}`);
    }
    const name = `blk.${Number(found[1])}.${part}.weight`;
    tensors.push({ name, a: a.data, b: b.data, inputs: inputs!, outputs: outputs! });
  }
  if (stored.size !== 2 * tensors.length) throw refuse('it has a lora_B without its lora_A');
  // Rows can be put in order only once the shapes are known to be the model's.
  checkFastWeights({ rank, alpha, tensors }, folder, base);
  const reordered = tensors.map((tensor) => {
    const order = permutation(parseName(tensor.name, base).part, base, tensor.outputs);
    return { ...tensor, b: reorder(tensor.b, rank, order, 'hf-to-gguf') };
  });
  return { rank, alpha, tensors: reordered };
}

function parseName(name: string, base: PeftBase): { layer: number; part: string } {
  const found = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name);
  if (!found || !Object.hasOwn(modulesOf(base), found[2]!)) {
    throw new TmemError('usage', `${name} has no counterpart in PEFT; adapt attention or feed-forward products only.`);
  }
  return { layer: Number(found[1]), part: found[2]! };
}

/**
 * Row of the Hugging Face weight that each row of the GGUF's holds. The conversion of llama models interleaves the two
 * rotary halves of every query and key head; null where rows are the same.
 */
function permutation(part: string, base: PeftBase, rows: number): Int32Array | null {
  if (base.architecture !== 'llama' || (part !== 'attn_q' && part !== 'attn_k')) return null;
  const size = rows / (part === 'attn_q' ? base.heads : base.kvHeads);
  const half = size / 2;
  return Int32Array.from({ length: rows }, (_, row) => {
    const inHead = row % size;
    return row - inHead + (inHead % 2) * half + Math.floor(inHead / 2);
  });
}

/** B [out, R] with its rows in the other order. */
function reorder(
  b: Float32Array,
  rank: number,
  order: Int32Array | null,
  direction: 'gguf-to-hf' | 'hf-to-gguf',
): Float32Array {
  if (!order) return b;
  const result = new Float32Array(b.length);
  order.forEach((hf, gguf) => {
    const [from, to] = direction === 'gguf-to-hf' ? [gguf, hf] : [hf, gguf];
    result.set(b.subarray(from * rank, (from + 1) * rank), to * rank);
  });
  return result;
}

/** Fills a temporary folder beside `folder` and renames it there, replacing one that exists. */
async function replaceFolder(folder: string, fill: (into: string) => Promise<void>): Promise<void> {
  const mark = `${process.pid}.${randomBytes(4).toString('hex')}`;
  const beside = (kind: string) => path.join(path.dirname(folder), `.${path.basename(folder)}.${mark}.${kind}`);
  const [temporary, old] = [beside('tmp'), beside('old')];
  try {
    await mkdir(temporary, { recursive: true });
    await fill(temporary);
    const replaced = await rename(folder, old).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
        return false;
      },
    );
    try {
      await rename(temporary, folder);
    } catch (error) {
      if (replaced) await rename(old, folder);
      throw error;
    }
    await rm(old, { recursive: true, force: true });
  } catch (error) {
    throw writeError(folder, error);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
