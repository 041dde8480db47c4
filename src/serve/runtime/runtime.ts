/** The model and the sessions behind the server: several memories on one engine, and a second one that trains. */
import { readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import pLimit, { type LimitFunction as Limit } from 'p-limit';
import { localTime } from '../../agent/context.ts';
import { bindRecipe } from '../../agent/recipes.ts';
import type { TraceEvent } from '../../agent/trace.ts';
import { groundsOf } from '../../agent/why.ts';
import { writeAdapterGguf } from '../../engine/adapter/gguf.ts';
import { TmemError } from '../../engine/errors.ts';
import type { ChatMessage, Embedder, Engine } from '../../engine/types.ts';
import { findPairs } from '../../memory/forget.ts';
import { committed } from '../../memory/ledger.ts';
import { consolidateSession, forgetPairs, verifyWrites, writeInto } from '../../memory/maintain.ts';
import { askPair } from '../../memory/quiz.ts';
import { getRecipe } from '../../memory/recipe.ts';
import { branchSession, peekSession, Session } from '../../memory/session.ts';
import { openStore, type Store, storeUrl } from '../../memory/store/store.ts';
import { pairOf } from '../../memory/transfer.ts';
import type { Origin, Pair } from '../../memory/types.ts';
import type { CompletionEvent, CompletionRequest, Runtime, SessionEvent, Step } from '../types.ts';
import { answerTo, instructionsOf } from './completion.ts';
import { messagesOf } from './conversation.ts';
import { OpenSession } from './open-session.ts';
import { streamOf } from './stream.ts';
import { Trainer } from './trainer.ts';

export interface RuntimeOptions {
  /** Opens an engine: one that answers, and one in the background that trains. */
  readonly openEngine: (options: { readonly background: boolean }) => Promise<Engine>;
  readonly openEmbedder?: (() => Promise<Embedder>) | undefined;
  /** Tokens of a session's working context before it is written. */
  readonly budget: number;
  /** Default `default`. */
  readonly recipe?: string;
  readonly layers?: number | undefined;
  /** Whose words are trained on. Default the user's: what the model says may repeat what a tool or a document has told it. */
  readonly trusted?: readonly Origin[] | undefined;
  /** Of the store. Default as `TMEM_STORE` says. */
  readonly store?: string;
  /** Sessions that are kept open, and answers that are generated at once. Default 32 and 16. */
  readonly openSessions?: number;
  readonly answers?: number;
}

/** @throws TmemError as the opening of an engine and of a store does; `usage` for an unknown recipe. */
export async function openRuntime(options: RuntimeOptions): Promise<Runtime> {
  const { recipe = 'default', layers, store = storeUrl() } = options;
  const bind = await bindRecipe(recipe, { ...(layers !== undefined && { layers }) });
  const settings = getRecipe(recipe, { ...(layers !== undefined && { layers }) });
  // One connection for all that is only read; the sessions share what it has open.
  const reading = await openStore(store);
  try {
    const engine = await options.openEngine({ background: false });
    return new Sessions(options, { engine, bind, settings, store, reading });
  } catch (error) {
    await reading.close();
    throw error;
  }
}

interface Parts {
  readonly engine: Engine;
  readonly bind: Awaited<ReturnType<typeof bindRecipe>>;
  readonly settings: ReturnType<typeof getRecipe>;
  readonly store: string;
  readonly reading: Store;
}

class Sessions implements Runtime {
  readonly created = Math.floor(Date.now() / 1000);
  readonly #options: RuntimeOptions;
  readonly #parts: Parts;
  readonly #trainer: Trainer;
  readonly #answers: Limit;
  readonly #ending = new AbortController();
  readonly #sessions = new Map<string, Promise<OpenSession>>();
  readonly #watchers = new Map<string, Set<(event: SessionEvent) => void>>();
  /** Sessions that are being given back: whoever wants one of them waits until it is. */
  readonly #closing = new Map<string, Promise<void>>();
  #embedder: Promise<Embedder> | undefined;
  #clock = 0;
  /** Completions that are not done. */
  #requests = 0;

  constructor(options: RuntimeOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.#trainer = new Trainer(() => options.openEngine({ background: true }), parts.bind);
    this.#answers = pLimit(options.answers ?? 16);
  }

  get model() {
    return this.#parts.engine.model;
  }

  complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    const { session, signal } = request;
    return streamOf<CompletionEvent>(async (emit, left) => {
      this.#requests++;
      try {
        if (session === null) await this.#completeAlone(request, emit, left);
        else
          await this.#using(session, true, (open) =>
            request.teach === false ? open.completeAside(request, emit, left) : open.complete(request, emit, left),
          );
      } finally {
        this.#requests--;
      }
    }, signal);
  }

  async embed(texts: readonly string[], { signal }: Step = {}) {
    const open = this.#options.openEmbedder;
    if (!open) throw new TmemError('missing', 'There is no embedding model; start the server with --embedder MODEL.');
    this.#embedder ??= open().catch((error) => {
      this.#embedder = undefined;
      throw error;
    });
    const embedder = await this.#embedder;
    const vectors = await embedder.embed(texts, { signal });
    const counts = await Promise.all(texts.map((text) => this.#parts.engine.tokenize(text, { plain: true })));
    return { model: embedder.model.name, vectors, tokens: counts.reduce((n, tokens) => n + tokens.length, 0) };
  }

  sessions() {
    return this.#parts.reading.names();
  }

  info(session: string) {
    return this.#using(session, false, (open) => open.info());
  }

  ask(
    session: string,
    question: string,
    options: Step & { readonly memory?: boolean; readonly retrieve?: number; readonly abstain?: number } = {},
  ) {
    return this.#using(session, false, async (open) => {
      const { onProgress: _, ...rest } = options;
      const { answer, confidence, abstained, nearest } = await open.ask(question, rest);
      return {
        ...{ answer, abstained, confidence: confidence!.confidence },
        nearest: nearest.map(({ pair, similarity }) => ({ ...shortOf(pair), similarity })),
      };
    });
  }

  write(session: string, { onProgress }: Step = {}) {
    return this.#using(session, false, (open) => open.write(onProgress));
  }

  recall(session: string, ids: readonly string[], { signal }: Step = {}) {
    return this.#using(session, false, async (open) => {
      const wanted = new Set(ids);
      const pairs = committed(open.snapshot.state.writes).flatMap((w) => w.pairs.filter(({ id }) => wanted.has(id)));
      return Promise.all(pairs.map(async (pair) => ({ pair: pair.id, ...(await askPair(open.engine, pair, signal)) })));
    });
  }

  edit(session: string, id: string, output: string, step: Step = {}) {
    return this.#using(session, false, (open) =>
      open.maintain(async (maintained, standing) => {
        const before = standing.find((pair) => pair.id === id);
        if (!before) throw new TmemError('missing', `Session ${session} holds no pair ${id} any more.`);
        const { also: _, ...rest } = before;
        const { id: next } = pairOf({ instruction: before.instruction, output }, before.turn);
        const time = localTime(new Date());
        const pair: Pair = { ...rest, id: next, output, source: output, time, origin: 'user' };
        const [record] = await writeInto(maintained, [pair], this.#parts.settings);
        return record!;
      }, step),
    );
  }

  undo(session: string) {
    return this.#using(session, false, (open) => open.undo());
  }

  branch(session: string, to: string) {
    return this.#using(session, false, () => branchSession(session, to, this.#parts.store));
  }

  forget(session: string, query: string, { dryRun = false, ...step }: Step & { readonly dryRun?: boolean } = {}) {
    return this.#using(session, false, async (open) => {
      const found = findPairs(open.snapshot.state.writes, query);
      if (found.length === 0)
        throw new TmemError('usage', `No pair of session ${session} has the id or holds the words "${query}".`);
      const removed = found.map(({ pair }) => shortOf(pair));
      if (dryRun) return { removed, verified: false };
      const verified = await open.maintain(async (maintained) => {
        await forgetPairs(maintained, findPairs(open.snapshot.state.writes, query));
        return findPairs(maintained.keeper.snapshot.state.writes, query).length === 0;
      }, step);
      return { removed, verified };
    });
  }

  verify(session: string, step: Step = {}) {
    return this.#using(session, false, async (open) => {
      const writes = await open.maintain(verifyWrites, step);
      return { ok: writes.every(({ same }) => same) };
    });
  }

  consolidate(session: string, step: Step = {}) {
    return this.#using(session, false, (open) =>
      open.maintain((maintained) => consolidateSession(maintained, this.#parts.settings), step),
    );
  }

  why(session: string, question: string, { signal, onProgress }: Step = {}) {
    return this.#using(session, false, async (open) => {
      const onTry = ({ pair }: { readonly pair: Pair }) => onProgress?.(`without "${pair.instruction}"`);
      const { answer, own, grounds } = await open.maintain(
        (maintained) => groundsOf(maintained, question, { top: 2, onTry, signal }),
        { signal, onProgress },
      );
      const pairs = grounds.map(({ nearest, without }) => ({
        ...shortOf(nearest.pair),
        ...{ similarity: nearest.similarity, drop: without === undefined ? null : own - without },
      }));
      return { answer, pairs };
    });
  }

  export(session: string, format: 'gguf' | 'jsonl') {
    return this.#using(session, false, async (open) => {
      const { state } = open.snapshot;
      if (format === 'jsonl') {
        const pairs = committed(state.writes).flatMap((w) => w.pairs);
        return Buffer.from(pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(''));
      }
      if (!state.weights) throw new TmemError('usage', `Session ${session} has nothing in its weights yet.`);
      const file = path.join(os.tmpdir(), `tmem-export-${process.pid}-${++this.#clock}.gguf`);
      await writeAdapterGguf(file, state.weights, this.model);
      return readFile(file).finally(() => rm(file, { force: true }));
    });
  }

  import(session: string, pairs: readonly { instruction: string; output: string }[], step: Step = {}) {
    return this.#using(session, true, (open) =>
      open.maintain((maintained) => writeInto(maintained, pairs.map(pairOf), this.#parts.settings), step),
    );
  }

  async remove(session: string) {
    await this.#using(session, false, async (open) => {
      await this.#giveBack(open, () => open.remove());
    });
  }

  watch(session: string, listener: (event: SessionEvent) => void) {
    const all = this.#watchers.get(session) ?? new Set();
    this.#watchers.set(session, all.add(listener));
    return () => {
      all.delete(listener);
      if (all.size === 0) this.#watchers.delete(session);
    };
  }

  status() {
    const { activeCount: running } = this.#answers;
    const waiting = Math.max(0, this.#requests - running);
    const { rss: memory } = process.memoryUsage();
    return { running, waiting, open: this.#sessions.size, writing: this.#trainer.writing, memory };
  }

  async close() {
    this.#ending.abort();
    for (const open of this.#sessions.values()) await open.then((session) => session.close()).catch(() => {});
    this.#sessions.clear();
    await this.#trainer.close();
    await this.#embedder?.then((embedder) => embedder.close()).catch(() => {});
    await this.#parts.engine.close();
    await this.#parts.reading.close();
  }

  async #completeAlone(
    request: CompletionRequest,
    emit: (event: CompletionEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { engine } = this.#parts;
    const system = instructionsOf(request);
    const turns = messagesOf(request.messages).map(
      ({ turn: { role, content } }): ChatMessage => ({ role: role === 'tool' ? 'user' : role, content }),
    );
    const prompt: ChatMessage[] = [...(system ? [{ role: 'system' as const, content: system }] : []), ...turns];
    const { finish, usage } = await this.#answers(() => answerTo(engine, prompt, request, emit, signal));
    emit({ type: 'done', finish, usage, memory: null });
  }

  /** Gives an open session to some work; as many as are wanted stay open afterwards, those that were used last. */
  async #using<T>(name: string, begins: boolean, work: (open: OpenSession) => Promise<T>): Promise<T> {
    if (this.#ending.signal.aborted) throw new TmemError('aborted', 'The server is shutting down.');
    const open = await this.#opened(name, begins);
    open.users++;
    open.lastUse = ++this.#clock;
    try {
      return await work(open);
    } finally {
      open.users--;
      await this.#closeSome();
    }
  }

  #opened(name: string, begins: boolean): Promise<OpenSession> {
    let open = this.#sessions.get(name);
    if (!open) {
      open = this.#openSession(name, begins);
      this.#sessions.set(name, open);
      open.catch(() => this.#sessions.delete(name));
    }
    return open;
  }

  async #openSession(name: string, begins: boolean): Promise<OpenSession> {
    const { engine, store } = this.#parts;
    const { budget, trusted = ['user'] } = this.#options;
    await this.#closing.get(name);
    if (!begins) await peekSession(name, store);
    const keeper = await Session.open(name, engine.model, store);
    try {
      return await OpenSession.open({
        ...{ keeper, engine, trainer: this.#trainer, settings: { budget, trusted } },
        ...{ answers: this.#answers, ending: this.#ending.signal },
        onEvent: (event) => this.#tell(name, event),
      });
    } catch (error) {
      await keeper.close();
      throw error;
    }
  }

  async #closeSome(): Promise<void> {
    const most = this.#options.openSessions ?? 32;
    while (this.#sessions.size > most) {
      const opened = await Promise.allSettled([...this.#sessions.values()]);
      const all = opened.flatMap((found) => (found.status === 'fulfilled' ? [found.value] : []));
      const idle = all.filter((open) => open.users === 0 && !open.busy).sort((a, b) => a.lastUse - b.lastUse);
      const [oldest] = idle;
      if (!oldest) return;
      await this.#giveBack(oldest, () => oldest.close());
    }
  }

  async #giveBack({ name }: OpenSession, how: () => Promise<void>): Promise<void> {
    this.#sessions.delete(name);
    const given = how().finally(() => this.#closing.delete(name));
    this.#closing.set(
      name,
      given.catch(() => {}),
    );
    await given;
  }

  #tell(session: string, event: TraceEvent): void {
    const told: SessionEvent = { session, time: new Date().toISOString(), event };
    for (const listener of this.#watchers.get(session) ?? []) listener(told);
  }
}

const shortOf = ({ id, instruction, output }: Pair) => ({ id, instruction, output });
