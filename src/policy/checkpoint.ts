/**
 * Where a training is, in a folder: `checkpoint.json`, and beside it the weights and moments that it names, as safetensors. The JSON is
 * written last and in one piece, so that a kill leaves the checkpoint before or after a step. Nothing else is needed to go on: every seed
 * follows from the training's own, the step, and how many tasks were drawn.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../engine/adapter/safetensors.ts';
import { TmemError } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';
import type { FastWeights } from '../engine/types.ts';
import type { AdamWState, Gradient } from './optimizer.ts';
import { settingsSchema, type TrainSettings } from './settings.ts';

export interface TrainState {
  /** Steps that are done. */
  readonly step: number;
  /** Tasks that were drawn. */
  readonly tasks: number;
  /** Tokens of all actions so far. */
  readonly numTokens: number;
  readonly policy: FastWeights;
  /** The policy before the first step, behind the warm start if there was one. */
  readonly reference: FastWeights;
  readonly optimizer: AdamWState;
}

export interface Checkpoint {
  readonly state: TrainState;
  readonly settings: TrainSettings;
  readonly environment: string;
  /** Fingerprint of the base model. */
  readonly model: string;
}

const JSON_FILE = 'checkpoint.json';
const TENSOR_FILE = /^checkpoint-\d+\.safetensors$/;
const size = z.int().nonnegative();

const schema = z.strictObject({
  ...{ step: size, tasks: size, numTokens: size, updates: size, rank: z.int().positive(), alpha: z.number() },
  tensors: z.array(z.strictObject({ name: z.string(), inputs: size, outputs: size })),
  file: z.string().regex(TENSOR_FILE),
  settings: settingsSchema,
  environment: z.string(),
  model: z.string(),
});

export function hasCheckpoint(folder: string): boolean {
  return existsSync(path.join(folder, JSON_FILE));
}

/** @throws TmemError `failed` when it cannot be written. */
export async function saveCheckpoint(
  folder: string,
  { state, settings, environment, model }: Checkpoint,
): Promise<void> {
  const { step, tasks, numTokens, policy, reference, optimizer } = state;
  const stored = new Map<string, SafeTensor>();
  const parts: readonly (readonly [string, Gradient])[] = [
    ['policy', policy.tensors],
    ['reference', reference.tensors],
    ['m', optimizer.m],
    ['v', optimizer.v],
  ];
  for (const [part, tensors] of parts) {
    for (const { name, a, b } of tensors) {
      stored.set(`${part}.${name}.a`, { shape: [a.length], data: a });
      stored.set(`${part}.${name}.b`, { shape: [b.length], data: b });
    }
  }
  const file = `checkpoint-${step}.safetensors`;
  await writeSafetensors(path.join(folder, file), stored);
  const tensors = policy.tensors.map(({ name, inputs, outputs }) => ({ name, inputs, outputs }));
  const { rank, alpha } = policy;
  const document = { step, tasks, numTokens, updates: optimizer.updates, rank, alpha, tensors, file, settings };
  const json = JSON.stringify({ ...document, environment, model }, null, 1);
  await writeFileAtomic(path.join(folder, JSON_FILE), (write) => write(Buffer.from(json)));
  const older = (await readdir(folder)).filter((name) => TENSOR_FILE.test(name) && name !== file);
  await Promise.all(older.map((name) => rm(path.join(folder, name), { force: true })));
}

/** @throws TmemError `missing` when there is none, or it is damaged. */
export async function loadCheckpoint(folder: string): Promise<Checkpoint> {
  if (!hasCheckpoint(folder))
    throw new TmemError(
      'missing',
      `${folder} holds no training of a policy; begin one with \`tmem policy train --out\`.`,
    );
  const file = path.join(folder, JSON_FILE);
  const damaged = (cause?: unknown) =>
    new TmemError('missing', `${file} is damaged; begin the training again in another folder.`, { cause });
  let json: z.output<typeof schema>;
  try {
    json = schema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    throw damaged(error);
  }
  const { step, tasks, numTokens, updates, rank, alpha, settings, environment, model } = json;
  const stored = await readSafetensors(path.join(folder, json.file));
  const part = (prefix: string) =>
    json.tensors.map(({ name, inputs, outputs }) => {
      const [a, b] = [stored.get(`${prefix}.${name}.a`)?.data, stored.get(`${prefix}.${name}.b`)?.data];
      if (a?.length !== rank * inputs || b?.length !== rank * outputs) throw damaged();
      return { name, inputs, outputs, a, b };
    });
  const policy = { rank, alpha, tensors: part('policy') };
  const reference = { rank, alpha, tensors: part('reference') };
  const moments = (prefix: string): Gradient => part(prefix).map(({ name, a, b }) => ({ name, a, b }));
  const optimizer = { updates, m: moments('m'), v: moments('v') };
  return { state: { step, tasks, numTokens, policy, reference, optimizer }, settings, environment, model };
}
