import { createHash } from 'node:crypto';

/** A seed from 0 to 2^32 - 1 that follows from what it is for: the same parts give the same one on every machine. */
export function seedOf(...parts: readonly (string | number)[]): number {
  return createHash('sha256').update(JSON.stringify(parts)).digest().readUInt32LE(0);
}
