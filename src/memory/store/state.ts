/** What is on disk of a session, as `state.json` holds it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TmemError } from '../../engine/errors.ts';
import { turnSchema, writeRecordSchema } from '../types.ts';

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const pointSchema = z.strictObject({ weights: hashSchema.nullable(), explicit: z.string() });
export const workingSchema = z.strictObject({ turn: turnSchema, index: z.int().nonnegative() });

const stateSchema = z.strictObject({
  version: z.literal(1),
  model: z.strictObject({ name: z.string(), fingerprint: z.string() }),
  weights: hashSchema.nullable(),
  explicit: z.string(),
  /** Turns that no write has taken in yet. */
  working: z.array(workingSchema),
  /** Turns seen so far. */
  turns: z.int().nonnegative(),
  /** Each write with what was in force before it. */
  writes: z.array(z.strictObject({ record: writeRecordSchema, before: pointSchema })),
});
export type StoredState = z.infer<typeof stateSchema>;

export const stateFile = (folder: string) => join(folder, 'state.json');

/** null when there is no session in the folder. @throws TmemError `missing` when it cannot be read or is damaged. */
export async function readState(name: string, folder: string): Promise<StoredState | null> {
  const path = stateFile(folder);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new TmemError('missing', `Session ${name} cannot be read (${(cause as Error).message}).`, { cause });
  }
  try {
    return stateSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TmemError('missing', `Session ${name} is damaged: ${path} is not a session file; restore or remove it.`, {
      cause,
    });
  }
}

/** Addresses of all weights that a session needs: those in force, and those before each write. */
export function weightsOf({ weights, writes }: StoredState): Set<string> {
  return new Set([weights, ...writes.map((w) => w.before.weights)].filter((hash) => hash !== null));
}
