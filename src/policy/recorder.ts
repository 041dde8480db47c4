/**
 * An engine around an engine for one episode of the policy: the agent's own code runs on it unchanged, and everything that it generates is
 * sampled from theta0 + Delta_t and recorded as an action.
 *
 * - Sampling is plain: at one temperature, without top-k, top-p or a grammar (unless `grammar`), so that the recorded log-probabilities are
 *   those of what was sampled.
 * - An extraction that cannot be read is given to the agent as one that found nothing. The agent would ask again and then keep the text
 *   itself, which would reward unreadable answers.
 * - The seed of an action follows from its context and not from the order in which actions happen to run.
 * - Delta is put in force under the episode's own name, so that many episodes run at once. What a write does, on `writer`, is recorded
 *   nowhere: it belongs to the environment.
 */
import { NOTE_SCHEMA, PAIRS_SCHEMA } from '../agent/extract.ts';
import { parseExtraction } from '../agent/parse.ts';
import { CONDENSE } from '../agent/prompts.ts';
import { hashOf } from '../engine/adapter/fast-weights.ts';
import { TmemError } from '../engine/errors.ts';
import type {
  ChatMessage,
  ChosenToken,
  Engine,
  FastWeights,
  FinishReason,
  GenerateEvent,
  GenerateRequest,
  Token,
} from '../engine/types.ts';
import { withMemory, withMethods } from '../engine/with-methods.ts';
import { asLines, linesToJson } from './lines.ts';
import { seedOf } from './seeds.ts';

export interface Action {
  /** `extraction`: what is written to the memory, pairs or notes. */
  readonly kind: 'extraction' | 'ordinary';
  readonly context: readonly ChatMessage[];
  readonly prompt: readonly Token[];
  /** The end of the turn among them, if it was said. */
  readonly answer: readonly Token[];
  /** Of each answer token when it was sampled, at temperature 1. */
  readonly logProbs: Float64Array;
  readonly text: string;
  readonly finish: FinishReason;
  /** Hash of the Delta that it was sampled under; null: zero. */
  readonly delta: string | null;
}

/** Every Delta that an action was sampled under, by its hash. */
export type Deltas = Map<string, FastWeights>;

export interface RecorderSettings {
  readonly temperature: number;
  /** Tokens of an action at the most. */
  readonly maxTokens: number;
  /** Tokens of all actions together; those that run at the same time may pass it. */
  readonly maxCompletionLength: number;
  readonly maxActions: number;
  /** Examples that are left in the prompt of an extraction, the first ones. undefined: all. */
  readonly examples?: number | undefined;
  /** Writes end with a note by the policy; false: the pairs are all that is kept, which spares a small model an action. */
  readonly note: boolean;
  /** What pairs are written as: see lines.ts. */
  readonly format: 'json' | 'lines';
  /** Extractions are held to their JSON schema. Their log-probabilities are then those before it. */
  readonly grammar: boolean;
}

/** What the agent reads where nothing was extracted. */
const NOTHING = '{"memory": "", "pairs": []}';

export class Recorder {
  /** In the order in which they began. */
  readonly actions: Action[] = [];
  /** For the agent. */
  readonly engine: Engine;
  /** For its writes. */
  readonly writer: Engine;
  readonly #inner: Engine;
  readonly #memory: string;
  readonly #seed: number;
  readonly #deltas: Deltas;
  readonly #settings: RecorderSettings;
  readonly #asked = new Map<string, number>();
  #begun = 0;
  #tokens = 0;
  #refused = false;
  #delta: string | null = null;

  constructor(engine: Engine, memory: string, seed: number, deltas: Deltas, settings: RecorderSettings) {
    this.#inner = engine;
    this.#memory = memory;
    this.#seed = seed;
    this.#deltas = deltas;
    this.#settings = settings;
    this.writer = withMemory(engine, memory);
    this.engine = withMethods(this.writer, {
      generate: (request) => this.#act(request),
      setFastWeights: (weights) => this.#put(weights),
    });
  }

  /** An action was cut off, or there was no room for one. */
  get truncated(): boolean {
    return this.#refused || this.actions.some(({ finish }) => finish === 'length');
  }

  /** Takes the episode's Delta out of the engine. */
  async close(): Promise<void> {
    await this.#put(null);
  }

  async #put(weights: FastWeights | null): Promise<void> {
    await this.#inner.setFastWeights(weights, { memory: this.#memory });
    this.#delta = weights && hashOf(weights);
    if (weights) this.#deltas.set(this.#delta!, weights);
  }

  async *#act(request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    const { temperature, maxCompletionLength, maxActions, format, grammar, note, ...settings } = this.#settings;
    const kind = isExtraction(request) ? 'extraction' : 'ordinary';
    if (!note && request.schema === NOTE_SCHEMA) return yield* said(NOTHING, 'end');
    const room = maxCompletionLength - this.#tokens;
    if (room <= 0 || this.#begun >= maxActions) {
      this.#refused = true;
      return yield* said(request.schema ? NOTHING : '', 'length');
    }
    const index = this.#begun++;
    const delta = request.fastWeights === false ? null : this.#delta;
    const context = this.#contextOf(request);
    const prompt = await this.#inner.tokenize((await this.#inner.renderChat(context)) + (request.prefill ?? ''));
    const { prefill, schema, stop, fastWeights, signal } = request;
    const chosen: ChosenToken[] = [];
    for await (const event of this.#inner.generate({
      ...{ prompt: context, prefill, stop, fastWeights, signal, temperature, logProbs: 0 },
      ...(grammar && { schema }),
      maxTokens: Math.min(request.maxTokens ?? settings.maxTokens, settings.maxTokens, room),
      memory: this.#memory,
      seed: this.#seedOf(context),
    })) {
      chosen.push(...(event.tokens ?? []));
      if (event.type !== 'done') continue;
      if (event.promptTokens !== prompt.length)
        throw new TmemError(
          'failed',
          `A prompt of ${event.promptTokens} tokens was recorded as one of ${prompt.length}; this model's prompts cannot be trained on.`,
        );
      const { text, finish } = event;
      const answer = chosen.map(({ token }) => token);
      const logProbs = Float64Array.from(chosen, ({ logProb }) => logProb);
      this.actions[index] = { kind, context, prompt, answer, logProbs, text, finish, delta };
      this.#tokens += answer.length;
      if (schema === PAIRS_SCHEMA && format === 'lines') yield* said(linesToJson(text), finish, event);
      else yield* said(schema !== undefined && parseExtraction(text) === null ? NOTHING : text, finish, event);
    }
  }

  #contextOf({ prompt, schema }: GenerateRequest): readonly ChatMessage[] {
    if (typeof prompt === 'string') throw new TmemError('usage', 'Only conversations can be recorded as actions.');
    if (schema !== PAIRS_SCHEMA) return prompt;
    const { examples = prompt.length, format } = this.#settings;
    const context = [prompt[0]!, ...prompt.slice(1, -1).slice(0, 2 * examples), prompt.at(-1)!];
    return format === 'lines' ? asLines(context) : context;
  }

  /** The same context may be seen more than once in an episode. */
  #seedOf(context: readonly ChatMessage[]): number {
    const key = JSON.stringify(context);
    const times = this.#asked.get(key) ?? 0;
    this.#asked.set(key, times + 1);
    return seedOf(this.#seed, key, times);
  }
}

function isExtraction({ schema, prompt }: GenerateRequest): boolean {
  const condenses = typeof prompt !== 'string' && prompt[0]?.content === CONDENSE.system;
  return schema === PAIRS_SCHEMA || schema === NOTE_SCHEMA || condenses;
}

type Done = Extract<GenerateEvent, { type: 'done' }>;
const NO_WORK = { promptTokens: 0, cachedTokens: 0, outputTokens: 0, ms: 0 };

function* said(text: string, finish: FinishReason, work: Omit<Done, 'type' | 'text' | 'finish'> = NO_WORK) {
  if (text) yield { type: 'text' as const, text };
  const { promptTokens, cachedTokens, outputTokens, ms } = work;
  yield { ...{ type: 'done' as const, text, finish, promptTokens, cachedTokens, outputTokens, ms } };
}
