/** The engine that writes: a process of its own at the lowest priority, so that answers do not wait for what is trained. */
import pLimit from 'p-limit';
import type { Engine, GenerateEvent, GenerateRequest } from '../../engine/types.ts';
import type { Writer } from '../../memory/types.ts';

export class Trainer {
  readonly #open: () => Promise<Engine>;
  readonly #bind: (engine: Engine) => Writer;
  readonly #one = pLimit(1);
  #engine: Promise<Engine> | undefined;

  /** @param open is called at the first use, as a second engine takes memory */
  constructor(open: () => Promise<Engine>, bind: (engine: Engine) => Writer) {
    this.#open = open;
    this.#bind = bind;
  }

  /** Writes that are going on or wait. */
  get writing(): number {
    return this.#one.activeCount + this.#one.pendingCount;
  }

  /** Gives the engine to one at a time; its weights in force are whatever the last one left. */
  use<T>(work: (engine: Engine) => Promise<T>): Promise<T> {
    return this.#one(async () => work(await this.#opened()));
  }

  /** Extraction, by the base model: it needs none of what `use` protects. */
  async *generate(request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    const engine = await this.#opened();
    yield* engine.generate({ ...request, fastWeights: false });
  }

  readonly write: Writer = (state, pairs, options) =>
    this.use(async (engine) => {
      await engine.setFastWeights(state.weights);
      return this.#bind(engine)(state, pairs, options);
    });

  async close(): Promise<void> {
    await (await this.#engine?.catch(() => undefined))?.close();
  }

  #opened(): Promise<Engine> {
    this.#engine ??= this.#open().catch((error) => {
      this.#engine = undefined;
      throw error;
    });
    return this.#engine;
  }
}
