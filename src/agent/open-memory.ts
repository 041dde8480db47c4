/** The whole of tmem in one call: a model, a session that keeps what it learns, and the episode that writes it into the weights. */
import { DEFAULT_MODEL } from '../engine/models/catalogue.ts';
import { resolveModel } from '../engine/models/store.ts';
import { openEngine } from '../engine/process/client.ts';
import type { Engine } from '../engine/types.ts';
import { standingPairs } from '../memory/ledger.ts';
import { type Keeper, openVolatile, Session } from '../memory/session.ts';
import type { Pair, Turn, WriteRecord } from '../memory/types.ts';
import { type Answered, type AnswerOptions, answerQuestion } from './answer.ts';
import { answerTokens, contextFor } from './context-size.ts';
import { Episode, type EpisodeOptions } from './episode.ts';
import type { TurnOptions } from './loop.ts';
import { bindRecipe } from './recipes.ts';

const DEFAULT_BUDGET = 2048;

export interface OpenMemoryOptions
  extends Pick<EpisodeOptions, 'method' | 'task' | 'extract' | 'turn' | 'retrieve' | 'trace'> {
  /** Catalogue name, `hf:` URI or path of a GGUF; fetched when it is not here. Default: `TMEM_MODEL`, or qwen2.5-coder-1.5b. */
  readonly model?: string;
  /** Keeps the memory in the store under this name. Default: it ends with `close`. */
  readonly session?: string;
  /** URL of the store, as in `TMEM_STORE`, whose value is the default. */
  readonly store?: string;
  /** Tokens of the working context, at which it is written. Default 2048. */
  readonly budget?: number;
  /** `default` or `paper`. */
  readonly recipe?: string;
  /** An engine that is open already, instead of `model`; it stays open. One memory at a time. */
  readonly engine?: Engine;
  readonly signal?: AbortSignal;
}

interface Step {
  readonly signal?: AbortSignal;
}

/** Turns may be given as text: what a user says. Every method may throw what the engine does: see `Engine`. */
export interface Memory {
  readonly engine: Engine;
  readonly episode: Episode;
  /** Takes in a turn without answering it; writes first when the context is full. */
  observe(turn: Turn | string, step?: Step): Promise<void>;
  /** Answers a turn in the conversation; writes when the context is full. */
  reply(turn: Turn | string, step?: Step & Pick<TurnOptions, 'onText'>): Promise<string>;
  /** Writes what was said since the last write into the weights, and clears the context. null: there was nothing. */
  write(step?: Step): Promise<WriteRecord | null>;
  /** One question with an empty context: the weights answer. Nothing is remembered of it. */
  ask(question: string, options?: AnswerOptions): Promise<Answered>;
  /** Takes back the last write. null: there is none. */
  undo(): Promise<WriteRecord | null>;
  /** What it knows: of several answers to one question the last. */
  pairs(): Pair[];
  /** Closes the session, and the engine unless it was given. */
  close(): Promise<void>;
}

/**
 * Opens a memory, or goes on with the session's.
 * @throws TmemError `missing` for a model that cannot be had or a session of another one, `usage` for a bad name, recipe or budget,
 * `failed` when another process has the session open, `aborted` when the signal fires.
 */
export async function openMemory(options: OpenMemoryOptions = {}): Promise<Memory> {
  const {
    model,
    session,
    store,
    budget = DEFAULT_BUDGET,
    recipe = 'default',
    engine: given,
    signal,
    ...rest
  } = options;
  const writer = await bindRecipe(recipe);
  const engine = given ?? (await loaded(model ?? (process.env.TMEM_MODEL || DEFAULT_MODEL), budget, signal));
  let keeper: Keeper | undefined;
  const close = async () => {
    await keeper?.close();
    if (!given) await engine.close();
  };
  try {
    const kept =
      session === undefined ? openVolatile(engine.model.fingerprint) : await Session.open(session, engine.model, store);
    keeper = kept;
    const episode = await Episode.open({
      ...{ engine, write: writer(engine), budget, from: kept.snapshot, onChange: (next) => kept.commit(next) },
      ...rest,
      turn: { maxTokens: answerTokens(budget), ...rest.turn },
    });
    return {
      engine,
      episode,
      observe: (turn, step) => episode.observe(asTurn(turn), step),
      reply: (turn, step) => episode.reply(asTurn(turn), step),
      write: (step) => episode.write(step),
      ask: (question, asked) => {
        return answerQuestion(engine, episode.snapshot.state, question, { retrieve: options.retrieve, ...asked });
      },
      async undo() {
        const record = await kept.undo();
        if (record) await episode.restore(kept.snapshot);
        return record;
      },
      pairs: () => standingPairs(episode.snapshot.state.writes),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function loaded(model: string, budget: number, signal: AbortSignal | undefined): Promise<Engine> {
  const { path } = await resolveModel(model, { signal });
  return openEngine({ modelPath: path, contextSize: contextFor(budget), signal });
}

function asTurn(turn: Turn | string): Turn {
  return typeof turn === 'string' ? { role: 'user', content: turn } : turn;
}
