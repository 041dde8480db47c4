/**
 * The episode of TMEM (arXiv 2606.04536): an agent with parameters theta0 + Delta works in a context (q, h, m); when the
 * context reaches the budget it writes down what it learned as explicit memory m and pairs, Delta is trained on the
 * pairs, and it goes on with the context (q, m).
 *
 * What differs from the paper, and why:
 * - The budget is looked at before a turn is taken in, so that the context never exceeds it; after an answer of the agent
 *   itself it is looked at afterwards, so that question and answer are extracted together. The paper extracts once the
 *   context is over the budget.
 * - A turn that is longer than the whole budget is cut into pieces with a write between them: nothing is lost.
 * - Extraction (q, h, m, d) goes through h turn by turn, each with the turn before it, instead of all of h and m at once:
 *   small models loop on long inputs and overlook most of what is in them. The parts do not see each other's answers and are
 *   decoded together. Sentences with a name or number that no pair holds are then shown once more, each alone. The note that is
 *   added to m is a call of its own, over the facts that were found, or over all of h when there are none.
 * - The extraction, and the rewriting of m, are done by theta0, without Delta, unless `extract.fastWeights` says otherwise;
 *   the paper extracts with theta0 + Delta_t. Measured on the demo: under the Delta of the first write, the second extraction
 *   put the words of what it had learned into its questions ("How many new found babies has the new found news").
 * - Answers that cannot be read are asked for once more; then that part of h is kept as text in m.
 * - m has a bound: when it is passed the policy rewrites m, and if that is still too long its oldest lines go.
 * - Pairs are tied to the sentence of h that holds their answer, and are dropped when there is none, or when they repeat or
 *   contradict one another (see pairs.ts). The paper trains on all.
 * - The write is guarded and may be refused; its facts, and those of a write that do not stick, are kept as text in m.
 * - Question-agnostic extraction is the default: what a user has. The paper's benchmarks show the question to the
 *   extraction (`questionAware`).
 * - An answer to a question may be asked of the weights alone, without m (`useExplicit: false`), or with the pairs beside it
 *   that are nearest to it (`retrieve`), and is withheld when it rests on nothing (`abstain`).
 */
import { TmemError } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { noteOf, notRecalled } from '../memory/ledger.ts';
import type { Snapshot, WorkingTurn } from '../memory/session.ts';
import {
  emptyMemory,
  type MemoryState,
  type Pair,
  type Turn,
  type WriteEvent,
  type WriteRecord,
  type Writer,
} from '../memory/types.ts';
import { type AnswerOptions, answerQuestion } from './answer.ts';
import { countTokens, workingContext } from './context.ts';
import { type Extraction, type ExtractOptions, extract, remember } from './extract.ts';
import { act, type TurnOptions } from './loop.ts';
import { DEFAULT_TASK } from './prompts.ts';
import { cut } from './split.ts';
import { toolInstructions } from './tools.ts';
import type { TraceListener } from './trace.ts';

/** `explicit` is the same loop with Delta = 0. */
export const METHODS = ['tmem', 'explicit'] as const;
export type Method = (typeof METHODS)[number];

/** Tokens of h that a budget must leave room for. */
const LEAST_ROOM = 64;
const MOST_EXPLICIT = 256;

export interface EpisodeOptions {
  readonly engine: Engine;
  readonly write: Writer;
  /** Default `tmem`. */
  readonly method?: Method;
  /** L_max: tokens of the rendered working context. */
  readonly budget: number;
  /** q. */
  readonly task?: string;
  /** The extraction is shown q. Default false. */
  readonly questionAware?: boolean;
  /** m is in the context of answers. Always so with `explicit`. Default true. */
  readonly useExplicit?: boolean;
  /** Standing pairs that are shown beside a question, the nearest ones. Default 0. */
  readonly retrieve?: number;
  /** Bound of m in tokens. Default a quarter of the budget, at most 256. */
  readonly explicitTokens?: number;
  readonly extract?: Omit<ExtractOptions, 'task' | 'signal' | 'onEvent'>;
  /** How the agent's own turns are generated; its tools. */
  readonly turn?: Omit<TurnOptions, 'signal' | 'onText' | 'trace'>;
  /** Where to go on from. Default: nothing known. */
  readonly from?: Snapshot;
  readonly trace?: TraceListener;
  /** Called after every change, before the next step; a session keeps it on disk. */
  readonly onChange?: (snapshot: Snapshot) => Promise<void>;
}

interface Step {
  readonly signal?: AbortSignal;
}

export class Episode {
  readonly #options: EpisodeOptions;
  readonly #task: string;
  readonly #explicitTokens: number;
  #state: MemoryState;
  #history: WorkingTurn[];
  #turns: number;

  private constructor(options: EpisodeOptions, explicitTokens: number) {
    this.#options = options;
    this.#task = options.task ?? DEFAULT_TASK;
    this.#explicitTokens = explicitTokens;
    this.#state = options.from?.state ?? emptyMemory(options.engine.model.fingerprint);
    this.#history = [...(options.from?.working ?? [])];
    this.#turns = options.from?.turns ?? 0;
  }

  /** @throws TmemError `usage` for a budget that is too small to work in or larger than the engine's context. */
  static async open(options: EpisodeOptions): Promise<Episode> {
    const { engine, budget } = options;
    const explicit = options.explicitTokens ?? Math.min(MOST_EXPLICIT, Math.floor(budget / 4));
    const episode = new Episode(options, explicit);
    const least = await episode.#leastBudget();
    if (!Number.isInteger(budget) || budget < least)
      throw new TmemError(
        'usage',
        `A budget of ${budget} tokens leaves no room beside the system prompt; the smallest possible is ${least}.`,
      );
    if (budget > engine.model.contextSize)
      throw new TmemError(
        'usage',
        `A budget of ${budget} tokens does not fit the engine's context; the largest possible is ${engine.model.contextSize}.`,
      );
    const known = episode.#state.explicit;
    episode.#state = { ...episode.#state, explicit: await remember(engine, known, [], explicit) };
    await episode.#swap();
    const tokens = await episode.contextTokens();
    options.trace?.({ type: 'episode', model: engine.model.name, method: episode.#method, budget, tokens });
    return episode;
  }

  get snapshot(): Snapshot {
    return { state: this.#state, working: this.#history, turns: this.#turns };
  }

  /** Takes in a turn; writes first when it does not fit. */
  async observe(turn: Turn, step: Step = {}): Promise<void> {
    for (let rest = turn; ; ) {
      if (await this.#fits(rest)) return this.#push(rest);
      if (this.#history.length > 0) {
        await this.write(step);
        continue;
      }
      const [piece, remainder] = await cut(rest.content, (content) => this.#fits({ ...rest, content }));
      await this.#push({ ...rest, content: piece }, remainder === '');
      if (remainder === '') return;
      rest = { ...rest, content: remainder };
    }
  }

  /** Takes in a turn of the user and answers it, with tools if there are any; writes when the budget is reached. */
  async reply(turn: Turn, step: Step & Pick<TurnOptions, 'onText'> = {}): Promise<string> {
    const { engine, budget, trace, turn: options } = this.#options;
    await this.observe(turn, step);
    const said: Turn[] = [];
    let text: string;
    try {
      text = await act(engine, this.#context(), (t) => said.push(t), { ...options, ...step, trace });
    } finally {
      for (const t of said) await this.#push(t);
    }
    if ((await this.contextTokens()) > budget) await this.write(step);
    return text;
  }

  /** Takes in what the agent has said by other means than `reply`; what passes the budget, the next turn sees to. */
  async say(turn: Turn): Promise<void> {
    await this.#push(turn);
  }

  /** Extraction, write, and the context back to (q, m). null: there was nothing to write. */
  async write({ signal }: Step = {}): Promise<WriteRecord | null> {
    const { trace, budget } = this.#options;
    if (this.#history.length === 0) return null;
    trace?.({ type: 'trigger', tokens: await this.contextTokens(), budget, turns: this.#history.length });

    // (q, h, m, d): the policy writes down what it learned.
    const { pairs, explicit } = await this.#extract(signal);

    // Delta goes on from where it was, and the context is cleared to (q, m).
    let next: Snapshot = { state: { ...this.#state, explicit }, working: [], turns: this.#turns };
    let record: WriteRecord | null = null;
    try {
      if (this.#method === 'tmem') {
        const onEvent = (event: WriteEvent) => trace?.({ type: 'write', event });
        const written = await this.#options.write(next.state, [...pairs], { signal, onEvent });
        record = written.record;
        const lost = record.verdict === 'refused' ? record.pairs : notRecalled(record);
        next = { ...next, state: await this.#keep(written.state, lost, signal) };
      }
      await this.#options.onChange?.(next);
    } catch (error) {
      await this.#swap(); // whatever the write had put in force
      throw error;
    }
    await this.restore(next);
    trace?.({ type: 'cleared', tokens: await this.contextTokens() });
    return record;
  }

  /**
   * Answers from (q, m): nothing of h is seen, and nothing is remembered of the question. With `abstain`, an answer of a lower
   * confidence gives way to the sentence that it is not known.
   */
  async answer(
    question: string,
    options: Step & Pick<AnswerOptions, 'abstain' | 'tries' | 'onText'> = {},
  ): Promise<string> {
    const { engine, trace, useExplicit = true, retrieve } = this.#options;
    const explicit = useExplicit || this.#method === 'explicit';
    const start = performance.now();
    const given = await answerQuestion(engine, this.#state, question, { ...options, useExplicit: explicit, retrieve });
    const { answer, tokens, confidence, withheld } = given;
    const ms = Math.round(performance.now() - start);
    trace?.({
      type: 'answer',
      question,
      answer,
      tokens,
      ms,
      ...(confidence && { confidence: confidence.confidence, withheld }),
    });
    return answer;
  }

  /** Goes on from another state, such as the one before a write. */
  async restore(snapshot: Snapshot): Promise<void> {
    this.#state = snapshot.state;
    this.#history = [...snapshot.working];
    this.#turns = snapshot.turns;
    await this.#swap();
  }

  /** Length of (q, h, m). */
  async contextTokens(): Promise<number> {
    return countTokens(this.#options.engine, this.#context());
  }

  get #method(): Method {
    return this.#options.method ?? 'tmem';
  }

  async #extract(signal?: AbortSignal): Promise<{ pairs: Extraction['pairs']; explicit: string }> {
    const { engine, trace, questionAware } = this.#options;
    const start = performance.now();
    const task = questionAware ? this.#task : undefined;
    const options: ExtractOptions = { ...this.#options.extract, task, signal, onEvent: trace };
    const { pairs, dropped, notes, parts, unreadable } = await extract(engine, this.#history, options);
    const { fastWeights } = options;
    // Without fast weights the text is all that is kept, so the facts themselves belong into it.
    const kept = this.#method === 'explicit' ? [...notes, ...pairs.map((pair) => pair.output)] : notes;
    const memory = await remember(engine, this.#state.explicit, kept, this.#explicitTokens, { signal, fastWeights });
    const ms = Math.round(performance.now() - start);
    trace?.({ type: 'extraction', parts: parts.length, unreadable, pairs, dropped, memory, ms });
    return { pairs, explicit: memory };
  }

  /** What the weights did not take stays as text. */
  async #keep(state: MemoryState, pairs: readonly Pair[], signal?: AbortSignal): Promise<MemoryState> {
    if (pairs.length === 0) return state;
    const { engine } = this.#options;
    const explicit = await remember(engine, state.explicit, pairs.map(noteOf), this.#explicitTokens, { signal });
    return { ...state, explicit };
  }

  #context(history: readonly WorkingTurn[] = this.#history, memory = this.#state.explicit) {
    const extra = toolInstructions(this.#options.turn?.tools ?? []);
    return workingContext({ task: this.#task, history, memory, extra });
  }

  async #fits(turn: Turn): Promise<boolean> {
    const context = this.#context([...this.#history, { turn, index: this.#turns }]);
    return (await countTokens(this.#options.engine, context)) <= this.#options.budget;
  }

  /** `last` is false for all but the last piece of a turn: the pieces have one index. */
  async #push(turn: Turn, last = true): Promise<void> {
    const index = this.#turns;
    this.#history.push({ turn, index });
    if (last) this.#turns++;
    await this.#options.onChange?.(this.snapshot);
    this.#options.trace?.({ type: 'observe', turn, index, tokens: await this.contextTokens() });
  }

  async #swap(): Promise<void> {
    const weights = this.#method === 'tmem' ? this.#state.weights : null;
    await this.#options.engine.setFastWeights(weights);
    this.#options.trace?.({ type: 'swap', weights: weights !== null });
  }

  async #leastBudget(): Promise<number> {
    const { engine, explicitTokens } = this.#options;
    const base = (await countTokens(engine, this.#context([], ''))) + LEAST_ROOM;
    if (explicitTokens !== undefined) return base + explicitTokens;
    return Math.min(Math.ceil((base * 4) / 3), base + MOST_EXPLICIT);
  }
}
