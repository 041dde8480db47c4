/** What was trained for a memory that is not whole yet, kept on disk: after a kill the same training need not run again. */
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { writeFileAtomic } from '../engine/files.ts';
import type { Engine, TrainResult } from '../engine/types.ts';
import { withMethods } from '../engine/with-methods.ts';
import { keyOfTraining } from '../memory/checkpoints.ts';

export class KeptTrainings {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = path.join(folder, 'trainings');
  }

  /** The engine, which trains only what is not known; of what is known no steps are told. */
  around(engine: Engine): Engine {
    return withMethods(engine, {
      train: async (request, onEvent) => {
        const file = path.join(this.#folder, `${keyOfTraining(engine.model.fingerprint, request)}.bin`);
        const known = read(file);
        if (known) return known;
        const result = await engine.train(request, onEvent);
        await writeFileAtomic(file, (chunk) => chunk(serialize(result)));
        return result;
      },
    });
  }

  /** Leaves nothing: the memory is whole. */
  clear(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function read(file: string): TrainResult | undefined {
  try {
    return deserialize(readFileSync(file));
  } catch {
    return undefined;
  }
}
