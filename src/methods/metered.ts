/** What a method costs, counted at the engine. */
import type { Engine, TrainEvent } from '../engine/types.ts';
import { withMethods } from '../engine/with-methods.ts';

export interface Cost {
  /** Texts that were generated or scored. */
  readonly calls: number;
  /** Tokens of prompts that were computed: those found in the KV cache are not counted. Prompts that are scored are not, either. */
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Tokens of samples, once for every epoch. */
  readonly trainedTokens: number;
  /** Length in tokens of the prompt of every text that was generated, in the order in which they ended. */
  readonly contexts: readonly number[];
  /** Time during which at least one text was generated or scored. */
  readonly generationMs: number;
  /** Time for training and for what belongs to it: fast weights made, looked at, and put in force. */
  readonly trainingMs: number;
}

/**
 * The same engine with a count of what is asked of it through `engine`.
 * @param onWork told of every text that is generated and every step that is trained
 */
export function metered(
  engine: Engine,
  onWork: (what: 'generations' | 'steps') => void = () => {},
): { readonly engine: Engine; cost(): Cost } {
  const generation = new BusyClock();
  const training = new BusyClock();
  const contexts: number[] = [];
  let [calls, promptTokens, outputTokens, trainedTokens] = [0, 0, 0, 0];
  const counted = withMethods(engine, {
    async *generate(request) {
      calls++;
      const stop = generation.start();
      try {
        for await (const event of engine.generate(request)) {
          if (event.type === 'done') {
            contexts.push(event.promptTokens);
            promptTokens += event.promptTokens - event.cachedTokens;
            outputTokens += event.outputTokens;
            onWork('generations');
          }
          yield event;
        }
      } finally {
        stop();
      }
    },
    score(request) {
      calls++;
      return generation.during(engine.score(request));
    },
    async train(request, onEvent) {
      const watched = (event: TrainEvent) => {
        if (event.type === 'step') onWork('steps');
        onEvent?.(event);
      };
      const result = await training.during(engine.train(request, watched));
      trainedTokens += result.tokens * result.epochs.length;
      return result;
    },
    initialise: (request) => training.during(engine.initialise(request)),
    evaluate: (request) => training.during(engine.evaluate(request)),
    setFastWeights: (weights) => training.during(engine.setFastWeights(weights)),
  });
  return {
    engine: counted,
    cost: () => ({
      ...{ calls, promptTokens, outputTokens, trainedTokens, contexts: [...contexts] },
      ...{ generationMs: generation.ms, trainingMs: training.ms },
    }),
  };
}

/** Time during which something goes on; what goes on at the same time counts once. */
class BusyClock {
  #running = 0;
  #since = 0;
  #ms = 0;

  get ms(): number {
    return this.#ms + (this.#running > 0 ? performance.now() - this.#since : 0);
  }

  /** @returns ends what has begun; it may be called once */
  start(): () => void {
    if (this.#running++ === 0) this.#since = performance.now();
    return () => {
      if (--this.#running === 0) this.#ms += performance.now() - this.#since;
    };
  }

  during<T>(work: Promise<T>): Promise<T> {
    return work.finally(this.start());
  }
}
