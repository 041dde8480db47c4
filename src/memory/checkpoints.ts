/** Where a long training got to, so that it can go on after it was broken off. */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import type { TrainCheckpoint, TrainRequest } from '../engine/types.ts';

/** Of one training at a time: what is kept of another one is of no use. */
export interface Checkpoints {
  load(key: string): TrainCheckpoint | undefined;
  save(key: string, checkpoint: TrainCheckpoint): void;
}

/** In a file of a session. */
export class FileCheckpoints implements Checkpoints {
  #file: string;
  #saving: Promise<void> = Promise.resolve();

  constructor(session: string) {
    this.#file = path.join(tmemHome(), 'checkpoints', `${session}.bin`);
  }

  load(key: string): TrainCheckpoint | undefined {
    try {
      const kept = deserialize(readFileSync(this.#file)) as { key: string; checkpoint: TrainCheckpoint };
      return kept.key === key ? kept.checkpoint : undefined;
    } catch {
      return undefined;
    }
  }

  save(key: string, checkpoint: TrainCheckpoint): void {
    const write = () => writeFileAtomic(this.#file, (chunk) => chunk(serialize({ key, checkpoint })));
    // A training that cannot be kept is no worse than one that never was.
    this.#saving = this.#saving.then(write).catch(() => {});
  }

  /** Waits for what is being saved, and leaves it. */
  async close(): Promise<void> {
    await this.#saving;
  }

  /** Leaves nothing of it. */
  async remove(): Promise<void> {
    await this.#saving;
    rmSync(this.#file, { force: true });
  }
}

/** The same for trainings that give the same weights from the same start. */
export function keyOfTraining(fingerprint: string, request: TrainRequest): string {
  const { weights, frozen, signal: _, ...rest } = request;
  const hash = createHash('sha256').update(JSON.stringify([fingerprint, weights.rank, rest]));
  for (const { name, a, b } of [...weights.tensors, ...(frozen?.tensors ?? [])])
    hash
      .update(name)
      .update(new Uint8Array(a.buffer, a.byteOffset, a.byteLength))
      .update(new Uint8Array(b.buffer, b.byteOffset, b.byteLength));
  return hash.digest('hex');
}
