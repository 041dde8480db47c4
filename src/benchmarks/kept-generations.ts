/**
 * What the base model has said in a run, kept on disk: asked the same again it need not say it again. So a method that was broken off while
 * it read soon is where it was, and methods that ask the same, as the variants of tmem do when they extract, share the answers. Greedy or
 * with a seed, the same request has the same answer, up to the rounding of what is decoded beside it.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { z } from 'zod';
import type { Engine, GenerateEvent, GenerateRequest } from '../engine/types.ts';
import { withMethods } from '../engine/with-methods.ts';
import { appendLine, readLines } from '../report/json-lines.ts';

const count = z.int().nonnegative();
const doneSchema = z.object({
  type: z.literal('done'),
  text: z.string(),
  finish: z.enum(['end', 'stop', 'length']),
  ...{ promptTokens: count, cachedTokens: count, outputTokens: count },
  ms: z.number(),
});
const lineSchema = z.object({ request: z.string(), done: doneSchema });

export class KeptGenerations {
  readonly #file: string;
  readonly #known: Map<string, Extract<GenerateEvent, { type: 'done' }>>;
  #reused = 0;

  constructor(folder: string) {
    this.#file = path.join(folder, 'generations.jsonl');
    this.#known = new Map(readLines(this.#file, lineSchema).map(({ request, done }) => [request, done]));
  }

  /** Generations so far that were known already. */
  get reused(): number {
    return this.#reused;
  }

  /** The engine, asked only for what is not known. With fast weights in force nothing is kept. */
  around(engine: Engine): Engine {
    let isBase = true;
    const known = this.#known;
    const keep = (request: string, done: Extract<GenerateEvent, { type: 'done' }>) => {
      known.set(request, done);
      appendLine(this.#file, { request, done });
    };
    const reuse = () => void this.#reused++;
    return withMethods(engine, {
      async setFastWeights(weights) {
        await engine.setFastWeights(weights);
        isBase = weights === null;
      },
      async *generate(request) {
        if (!isBase && request.fastWeights !== false) return yield* engine.generate(request);
        const key = keyOf(request);
        const before = known.get(key);
        if (before) {
          reuse();
          yield { type: 'text', text: before.text };
          yield before;
          return;
        }
        for await (const event of engine.generate(request)) {
          if (event.type === 'done') keep(key, event);
          yield event;
        }
      },
    });
  }
}

function keyOf({ signal: _, fastWeights: __, ...request }: GenerateRequest): string {
  return createHash('sha256').update(JSON.stringify(request)).digest('hex');
}
