/** What a training began with, beside its settings, so that it can be gone on with by its folder alone: `run.json`. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';

const schema = z.object({
  /** As it was named; undefined: the default. */
  model: z.string().optional(),
  context: z.number().optional(),
  env: z.string(),
  /** Those of the environment. */
  options: z.record(z.string(), z.unknown()),
});
export type TrainingRun = z.infer<typeof schema>;

const FILE = 'run.json';

/** @throws TmemError `failed` when it cannot be written. */
export async function saveRun(folder: string, run: TrainingRun): Promise<void> {
  await writeFileAtomic(path.join(folder, FILE), (write) => write(Buffer.from(JSON.stringify(run, null, 1))));
}

/** @throws TmemError `missing` when it cannot be read. */
export async function readRun(folder: string): Promise<TrainingRun> {
  const file = path.join(folder, FILE);
  try {
    return schema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    throw new TmemError('missing', `${file} cannot be read; it says what the training in ${folder} began with.`, {
      cause,
    });
  }
}
