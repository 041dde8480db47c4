/** One session that the server has open: its episode, its place in the store, and the queue of what is done to it. */
import pLimit, { type LimitFunction } from 'p-limit';
import { type AnswerOptions, answerQuestion } from '../../agent/answer.ts';
import { localTime, workingContext } from '../../agent/context.ts';
import { Episode } from '../../agent/episode.ts';
import { DEFAULT_TASK } from '../../agent/prompts.ts';
import type { TraceEvent } from '../../agent/trace.ts';
import { TmemError } from '../../engine/errors.ts';
import type { Engine } from '../../engine/types.ts';
import { withMemory, withMethods } from '../../engine/with-methods.ts';
import { standingPairs } from '../../memory/ledger.ts';
import type { Maintained } from '../../memory/maintain.ts';
import { nearestInOrder } from '../../memory/nearest.ts';
import type { Seen, Session, Snapshot } from '../../memory/session.ts';
import type { Origin, Pair, Turn, WriteEvent, WriteRecord } from '../../memory/types.ts';
import { describe } from '../describe.ts';
import type { CompletionEvent, CompletionMemory, CompletionRequest, Progress, SessionInfo, Step } from '../types.ts';
import { answerTo, type Completed, instructionsOf } from './completion.ts';
import { chain, type Message, messagesOf, reconcile, withSeen } from './conversation.ts';
import { whileWanted } from './stream.ts';
import type { Trainer } from './trainer.ts';

export interface SessionSettings {
  readonly budget: number;
  /** Whose words are trained on. */
  readonly trusted: readonly Origin[];
}

export interface OpenSessionParts {
  readonly keeper: Session;
  /** That answers. */
  readonly engine: Engine;
  readonly trainer: Trainer;
  readonly settings: SessionSettings;
  /** Bounds how many answers are generated at once, over all sessions. */
  readonly answers: LimitFunction;
  /** Fires when the server ends: a write is then rolled back. */
  readonly ending: AbortSignal;
  readonly onEvent: (event: TraceEvent) => void;
}

export class OpenSession {
  readonly name: string;
  lastUse = 0;
  /** Requests that hold or wait for it. */
  users = 0;
  readonly #parts: OpenSessionParts;
  /** Answers with this session's weights, whatever other sessions do meanwhile. */
  readonly #engine: Engine;
  readonly #one = pLimit(1);
  readonly #listeners = new Set<(event: TraceEvent) => void>();
  readonly #episode: Episode;
  #seen: readonly Seen[];
  /** Writes that no completion has told of yet. */
  #untold: WriteRecord[] = [];

  private constructor(parts: OpenSessionParts, engine: Engine, episode: Episode) {
    this.name = parts.keeper.name;
    this.#parts = parts;
    this.#engine = engine;
    this.#seen = parts.keeper.snapshot.seen ?? [];
    this.#episode = episode;
  }

  static async open(parts: OpenSessionParts): Promise<OpenSession> {
    const { keeper, engine, trainer, settings } = parts;
    const own = withMemory(engine, keeper.name);
    let session: OpenSession | undefined;
    const episode = await Episode.open({
      // Extraction goes to the trainer.
      engine: withMethods(own, { generate: (request) => trainer.generate(request) }),
      write: trainer.write,
      budget: settings.budget,
      extract: { rules: { trusted: settings.trusted } },
      from: keeper.snapshot,
      trace: (event) => session?.tell(event),
      onChange: async (next) => session!.commit(next),
    });
    session = new OpenSession(parts, own, episode);
    return session;
  }

  /** Whether something is done to it or waits to be. */
  get busy(): boolean {
    return this.#one.activeCount + this.#one.pendingCount > 0;
  }

  tell(event: TraceEvent): void {
    this.#parts.onEvent(event);
    for (const listener of this.#listeners) listener(event);
  }

  async commit(next: Snapshot): Promise<void> {
    await this.#parts.keeper.commit({ ...next, seen: this.#seen });
  }

  /** Answers a conversation and learns it. */
  async complete(
    request: CompletionRequest,
    emit: (event: CompletionEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.busy) emit({ type: 'waiting' });
    const onMemory = (event: TraceEvent) => emit({ type: 'memory', event });
    await this.#one(async () => {
      if (signal.aborted) throw new TmemError('aborted', 'Interrupted.');
      this.#listeners.add(onMemory);
      try {
        const messages = messagesOf(request.messages, localTime(new Date()));
        const taking = this.#take(messages);
        // A write belongs to the session: it goes on, and keeps others waiting, when the one who caused it leaves.
        await whileWanted(taking, signal).catch(async (error) => {
          await taking.catch(() => {});
          throw error;
        });
        const completed = await this.#answer(request, emit, signal);
        await this.#say({ role: 'assistant', content: completed.text }, messages.at(-1)?.hash);
        const writes = this.#untold.splice(0);
        const memory: CompletionMemory = { session: this.name, writes, ...(await this.#gauge()) };
        const { finish, usage } = completed;
        emit({ type: 'done', finish, usage, memory });
      } finally {
        this.#listeners.delete(onMemory);
      }
    });
    const { contextTokens, budget } = await this.#gauge();
    if (contextTokens > budget) void this.write().catch(() => {});
  }

  /** Answers with the session's weights and notes, and remembers nothing of it. */
  async completeAside(
    request: CompletionRequest,
    emit: (event: CompletionEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const history = messagesOf(request.messages).map(({ turn }, index) => ({ turn, index }));
    const { finish, usage } = await this.#answer(request, emit, signal, history);
    emit({ type: 'done', finish, usage, memory: { session: this.name, writes: [], ...(await this.#gauge()) } });
  }

  async info(): Promise<SessionInfo> {
    const { state, working } = this.#episode.snapshot;
    return { session: this.name, state, working, ...(await this.#gauge()), busy: this.busy };
  }

  async ask(
    question: string,
    options: { memory?: boolean } & Pick<AnswerOptions, 'retrieve' | 'abstain' | 'tries' | 'signal'>,
  ) {
    const { memory = true, ...rest } = options;
    const { state } = this.#episode.snapshot;
    const engine = memory ? this.#engine : this.#baseEngine();
    return answerQuestion(engine, memory ? state : { ...state, writes: [], explicit: '' }, question, {
      ...{ ...rest, assess: true },
    });
  }

  /** What was said since the last write. */
  write(onProgress?: Progress): Promise<WriteRecord | null> {
    return this.#one(() =>
      this.#telling(onProgress, async () => {
        const record = await this.#episode.write({ signal: this.#parts.ending });
        if (record) this.#untold.push(record);
        return record;
      }),
    );
  }

  /** Gives the trainer and the session to work on its memory; what it leaves is then in force. */
  maintain<T>(
    work: (maintained: Maintained, pairs: readonly Pair[]) => Promise<T>,
    { signal, onProgress }: Step = {},
  ): Promise<T> {
    const { keeper, trainer, ending } = this.#parts;
    return this.#one(() =>
      trainer.use(async (engine) => {
        const onEvent = (event: WriteEvent) => this.tell({ type: 'write', event });
        const watched = { signal: signal ? AbortSignal.any([signal, ending]) : ending, onEvent };
        const standing = standingPairs(keeper.snapshot.state.writes);
        try {
          return await this.#telling(onProgress, () => work({ engine, keeper, watched }, standing));
        } finally {
          await this.#episode.restore(keeper.snapshot);
        }
      }),
    );
  }

  undo(): Promise<WriteRecord | null> {
    const { keeper } = this.#parts;
    return this.#one(async () => {
      const record = await keeper.undo();
      if (record) await this.#episode.restore(keeper.snapshot);
      return record;
    });
  }

  get snapshot(): Snapshot {
    return this.#episode.snapshot;
  }

  get engine(): Engine {
    return this.#engine;
  }

  /** Waits for what goes on, and gives the session back. */
  close(): Promise<void> {
    const { keeper } = this.#parts;
    return this.#one(async () => {
      await this.#engine.setFastWeights(null);
      await keeper.close();
    });
  }

  remove(): Promise<void> {
    const { keeper } = this.#parts;
    return this.#one(async () => {
      await this.#engine.setFastWeights(null);
      await keeper.remove();
    });
  }

  /** Takes in what is new; the episode writes when it does not fit. */
  async #take(messages: readonly Message[]): Promise<void> {
    const { snapshot, isChanged, added } = reconcile({ ...this.#episode.snapshot, seen: this.#seen }, messages);
    if (isChanged) {
      this.#seen = snapshot.seen ?? [];
      await this.commit(snapshot);
      await this.#episode.restore(snapshot);
    }
    for (const { turn, hash } of added) await this.#observe(turn, hash);
  }

  async #observe(turn: Turn, hash: string): Promise<void> {
    const before = this.#episode.snapshot;
    const seen = this.#seen;
    this.#seen = withSeen(seen, hash, before.turns);
    try {
      await this.#episode.observe(turn, { signal: this.#parts.ending });
    } catch (error) {
      if (this.#episode.snapshot.turns === before.turns) this.#seen = seen;
      throw error;
    } finally {
      this.#untold.push(...this.#episode.snapshot.state.writes.slice(before.state.writes.length));
    }
  }

  async #say(turn: Turn, before = ''): Promise<void> {
    if (turn.content === '') return;
    this.#seen = withSeen(this.#seen, chain(before, turn), this.#episode.snapshot.turns);
    await this.#episode.say(turn);
  }

  async #answer(
    request: CompletionRequest,
    emit: (event: CompletionEvent) => void,
    signal: AbortSignal,
    history: Snapshot['working'] = this.#episode.snapshot.working,
  ): Promise<Completed> {
    const { state } = this.#episode.snapshot;
    const task = instructionsOf(request) || DEFAULT_TASK;
    const retrieved = this.#nearest(history.at(-1)?.turn.content ?? '', request.retrieve ?? 0);
    const prompt = workingContext({ task, history, memory: state.explicit, retrieved });
    return this.#parts.answers(() => answerTo(this.#engine, prompt, request, emit, signal));
  }

  /** Oldest first. */
  #nearest(question: string, n: number): Pair[] {
    return nearestInOrder(standingPairs(this.#episode.snapshot.state.writes), question, n);
  }

  #baseEngine(): Engine {
    const { engine } = this.#parts;
    return withMethods(engine, {
      generate: (request) => engine.generate({ ...request, fastWeights: false }),
      score: (request) => engine.score({ ...request, fastWeights: false }),
    });
  }

  /** Says in words what happens during the work. */
  async #telling<T>(onProgress: Progress | undefined, work: () => Promise<T>): Promise<T> {
    const listener = (event: TraceEvent) => {
      const text = describe(event);
      if (text !== undefined) onProgress?.(text);
    };
    this.#listeners.add(listener);
    return work().finally(() => this.#listeners.delete(listener));
  }

  async #gauge(): Promise<{ contextTokens: number; budget: number }> {
    return { contextTokens: await this.#episode.contextTokens(), budget: this.#parts.settings.budget };
  }
}
