/**
 * The policy's adapter: theta0 = base model + a LoRA over products of the last layers. Only it is trained, as a quantised base model cannot
 * be; it is saved as other fast weights are, so that anything that takes a LoRA takes a policy.
 */
import path from 'node:path';
import { readAdapterGguf, writeAdapterGguf } from '../engine/adapter/gguf.ts';
import { peftBase, writePeft } from '../engine/adapter/peft.ts';
import { TmemError } from '../engine/errors.ts';
import { type GgufFile, readGguf } from '../engine/gguf/reader.ts';
import type { Engine, FastWeights, ModelInfo } from '../engine/types.ts';

export interface AdapterSettings {
  readonly rank: number;
  /** Number of last layers that are adapted. */
  readonly layers: number;
  /** Parts of a layer as GGUF calls them, such as `attn_q` or `ffn_up`. Default: all that can be adapted. */
  readonly targets?: readonly string[] | undefined;
  readonly seed: number;
}

/**
 * A policy that changes nothing yet: A random, B = 0.
 * @throws TmemError `usage` for a target that the model does not have.
 */
export async function initialPolicy(engine: Engine, settings: AdapterSettings): Promise<FastWeights> {
  const { rank, layers, targets, seed } = settings;
  const attention = targets?.some((target) => target.startsWith('attn_')) ?? true;
  const all = await engine.initialise({ init: { kind: 'random' }, rank, layers, attention, seed });
  if (!targets) return all;
  const parts = new Set(all.tensors.map(({ name }) => partOf(name)));
  const unknown = targets.find((target) => !parts.has(target));
  if (unknown !== undefined || targets.length === 0)
    throw new TmemError(
      'usage',
      `The model has no part "${unknown ?? ''}"; choose targets of ${[...parts].join(', ')}.`,
    );
  return { ...all, tensors: all.tensors.filter(({ name }) => targets.includes(partOf(name))) };
}

/** `ffn_up` of `blk.24.ffn_up.weight`. */
function partOf(name: string): string {
  return name.split('.')[2] ?? name;
}

export interface SavedPolicy {
  readonly gguf: string;
  readonly peft: string;
}

/** Writes `adapter.gguf` and `peft/` into the folder; `name` is what PEFT calls the base model. @throws TmemError `missing`, `failed` as their writers do. */
export async function savePolicy(
  folder: string,
  policy: FastWeights,
  model: GgufFile,
  name: string,
): Promise<SavedPolicy> {
  const files = { gguf: path.join(folder, 'adapter.gguf'), peft: path.join(folder, 'peft') };
  const base = peftBase(model, name);
  await writeAdapterGguf(files.gguf, policy, { ...base, fingerprint: model.fingerprint });
  await writePeft(files.peft, policy, base);
  return files;
}

/** @throws TmemError `missing` when the file is no adapter of this model. */
export async function loadPolicy(file: string, model: ModelInfo): Promise<FastWeights> {
  const shapes = new Map(readGguf(model.path).tensors.map(({ name, shape }) => [name, shape]));
  return readAdapterGguf(file, { ...model, shape: (name) => shapes.get(name) });
}
