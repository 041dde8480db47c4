import { type Batch, type Native, pointersAt, view } from '../native/library.ts';
import type { Token } from '../types.ts';

/** A llama_batch in native memory, filled token by token. */
export class TokenBatch {
  readonly capacity: number;
  #f: Native;
  #batch: Batch;
  #token: Int32Array;
  #position: Int32Array;
  #sequence: Int32Array[];
  #output: Int8Array;

  constructor(native: Native, capacity: number) {
    this.#f = native;
    this.capacity = capacity;
    this.#batch = native.batchInit(capacity, 0, 1);
    this.#token = new Int32Array(view(this.#batch.token, capacity * 4));
    this.#position = new Int32Array(view(this.#batch.pos, capacity * 4));
    this.#output = new Int8Array(view(this.#batch.logits, capacity));
    new Int32Array(view(this.#batch.n_seq_id, capacity * 4)).fill(1);
    this.#sequence = pointersAt(this.#batch.seq_id, capacity).map((p) => new Int32Array(view(p, 4)));
    this.clear();
  }

  get length(): number {
    return this.#batch.n_tokens;
  }

  get room(): number {
    return this.capacity - this.length;
  }

  /** The batch as llama_decode takes it. */
  get native(): Batch {
    return this.#batch;
  }

  clear(): void {
    this.#batch.n_tokens = 0;
  }

  /** @returns the index at which the token's logits will be found, if `output`. */
  add(token: Token, position: number, sequence: number, output: boolean): number {
    const i = this.#batch.n_tokens++;
    this.#token[i] = token;
    this.#position[i] = position;
    this.#sequence[i]![0] = sequence;
    this.#output[i] = output ? 1 : 0;
    return i;
  }

  free(): void {
    this.#f.batchFree(this.#batch);
  }
}
