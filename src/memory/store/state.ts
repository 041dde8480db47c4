/** What is kept of a session. */
import { z } from 'zod';
import { turnSchema, writeRecordSchema } from '../types.ts';

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const pointSchema = z.strictObject({ weights: hashSchema.nullable(), explicit: z.string() });
/** A message of a client's conversation that has become a turn: a hash of it and of all before it. */
export const seenSchema = z.strictObject({ hash: z.string(), turn: z.int().nonnegative() });
export const workingSchema = z.strictObject({ turn: turnSchema, index: z.int().nonnegative() });

export const stateSchema = z.strictObject({
  model: z.strictObject({ name: z.string(), fingerprint: z.string() }),
  weights: hashSchema.nullable(),
  explicit: z.string(),
  /** Turns that no write has taken in yet. */
  working: z.array(workingSchema),
  /** Turns seen so far. */
  turns: z.int().nonnegative(),
  /** What clients that send their whole conversation every time need not tell again, oldest first. */
  seen: z.array(seenSchema).optional(),
  /** Each write with what was in force before it. */
  writes: z.array(z.strictObject({ record: writeRecordSchema, before: pointSchema })),
  /** ISO time. */
  created: z.string(),
  /** How often it has been changed; 0 is not in the store yet. */
  revision: z.int().nonnegative(),
});
export type StoredState = z.infer<typeof stateSchema>;

/** Addresses of all weights that a session needs: those in force, and those before each write. */
export function weightsOf({ weights, writes }: StoredState): Set<string> {
  return new Set([weights, ...writes.map((w) => w.before.weights)].filter((hash) => hash !== null));
}
