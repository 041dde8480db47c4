/**
 * A runtime without a model, for tests of what speaks to one over HTTP or in process: answers come from a function, sessions are objects in
 * memory, a write takes each "The <subject> is <value>." that a user has said. It keeps a record of what it was asked.
 */
import { randomUUID } from 'node:crypto';
import { TmemError, throwIfAborted } from '../../src/engine/errors.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights } from '../../src/engine/types.ts';
import { standingPairs, supersededBy } from '../../src/memory/ledger.ts';
import { emptyMemory, type MemoryState, type Pair, type WriteRecord } from '../../src/memory/types.ts';
import type {
  AskResult,
  CompletionEvent,
  CompletionRequest,
  Progress,
  Runtime,
  SessionEvent,
  SessionInfo,
  ToolCall,
} from '../../src/serve/types.ts';

/** A text, whose words come one by one; or events of one's own before the end, which is made up if it is not among them. */
type Reply = string | AsyncIterable<CompletionEvent> | Iterable<CompletionEvent>;

export interface ScriptedRuntimeOptions {
  readonly reply: (request: CompletionRequest) => Reply;
  /** Completions that generate at once; the rest waits. Default: all. */
  readonly atOnce?: number;
  /** Told of a progress, and awaited, in every operation on a memory. */
  readonly onStep?: (progress: Progress) => Promise<void>;
  /** Dimensions of embeddings; 0: there is no model for them. Default 3. */
  readonly dimensions?: number;
}

type Step = { readonly signal?: AbortSignal | undefined; readonly onProgress?: Progress | undefined };
interface Kept {
  state: MemoryState;
  working: { turn: { role: string; content: string }; index: number }[];
  /** States before each write. */
  before: MemoryState[];
}

const BUDGET = 100;
const words = (text: string) => text.match(/\s*\S+|\s+$/g) ?? [];
const WEIGHTS: FastWeights = {
  rank: 1,
  alpha: 1,
  tensors: [{ name: 'blk.3.ffn_up.weight', a: Float32Array.of(3, 4), b: Float32Array.of(2, 0), inputs: 2, outputs: 2 }],
};

export class ScriptedRuntime implements Runtime {
  readonly model = new ScriptedEngine({ reply: () => '' }).model;
  readonly created = 1_700_000_000;
  /** Every completion that was asked for, in order. */
  readonly requests: CompletionRequest[] = [];
  /** Names of the other methods that were called, in order, with what they were given. */
  readonly calls: { readonly name: string; readonly session: string; readonly given: unknown }[] = [];
  closed = false;
  readonly #options: ScriptedRuntimeOptions;
  readonly #sessions = new Map<string, Kept>();
  readonly #watchers = new Map<string, Set<(event: SessionEvent) => void>>();
  readonly #queue: (() => void)[] = [];
  #running = 0;

  constructor(options: ScriptedRuntimeOptions) {
    this.#options = options;
  }

  async *complete(request: CompletionRequest): AsyncGenerator<CompletionEvent> {
    this.requests.push(request);
    const { session, signal, messages, maxTokens = Number.POSITIVE_INFINITY, stop = [], logProbs } = request;
    if (this.#running >= (this.#options.atOnce ?? Number.POSITIVE_INFINITY)) yield* this.#wait(signal);
    this.#running++;
    let text = '';
    let [outputTokens, finish] = [0, 'stop' as 'stop' | 'length' | 'tool-calls'];
    try {
      throwIfAborted(signal);
      const reply = this.#options.reply(request);
      const events = typeof reply === 'string' ? spoken(reply, stop, logProbs) : reply;
      for await (const event of events) {
        await new Promise(setImmediate); // lets an abort in between
        throwIfAborted(signal);
        if (event.type === 'text') {
          if (outputTokens === maxTokens) {
            finish = 'length';
            break;
          }
          outputTokens++;
          text += event.text;
        } else if (event.type === 'tool-call') finish = 'tool-calls';
        yield event;
        if (event.type === 'done') return;
      }
      const promptTokens = words(messages.map(({ content }) => content).join(' ')).length;
      let memory = null;
      if (session !== null) {
        if (request.teach !== false) this.#learn(session, messages.at(-1)!, text);
        const { contextTokens, budget } = await this.info(session);
        memory = { session, writes: [], contextTokens, budget };
      }
      yield { type: 'done', finish, usage: { promptTokens, cachedTokens: 0, outputTokens }, memory };
    } finally {
      this.#running--;
      this.#queue.shift()?.();
    }
  }

  async *#wait(signal: AbortSignal | undefined): AsyncGenerator<CompletionEvent> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#queue.push(resolve);
    const abort = () => reject(new TmemError('aborted', 'Interrupted.'));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      yield { type: 'waiting' };
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      if (this.#queue.includes(resolve)) this.#queue.splice(this.#queue.indexOf(resolve), 1);
    }
  }

  #learn(session: string, { role, content }: { role: string; content: string }, answer: string): void {
    const kept = this.#begin(session);
    const said = [
      { role, content },
      { role: 'assistant', content: answer },
    ];
    kept.working.push(...said.map((turn, i) => ({ turn, index: kept.working.length + i })));
  }

  async embed(texts: readonly string[]): Promise<{ model: string; vectors: Float32Array[]; tokens: number }> {
    const { dimensions = 3 } = this.#options;
    if (dimensions === 0) throw new TmemError('missing', 'There is no embedding model.');
    const vectors = texts.map((text) => {
      const vector = Float32Array.from({ length: dimensions }, (_, i) => text.charCodeAt(i % text.length));
      const length = Math.hypot(...vector);
      return vector.map((x) => x / length);
    });
    return { model: 'scripted-embedder', vectors, tokens: texts.flatMap(words).length };
  }

  async sessions(): Promise<string[]> {
    return [...this.#sessions.keys()].sort();
  }

  async info(session: string): Promise<SessionInfo> {
    const { state, working } = this.#kept(session);
    const contextTokens = working.flatMap(({ turn }) => words(turn.content)).length;
    return { session, state, working, contextTokens, budget: BUDGET, busy: false };
  }

  async ask(session: string, question: string, options: Step & { memory?: boolean } = {}): Promise<AskResult> {
    const { signal: _, onProgress: __, ...given } = options;
    await this.#step('ask', session, { question, ...given }, options);
    const pair = options.memory === false ? undefined : this.#standing(session).find((p) => p.instruction === question);
    const nearest = pair ? [{ ...short(pair), similarity: 1 }] : [];
    return { answer: pair?.output ?? 'I do not know.', confidence: pair ? 1 : 0, abstained: false, nearest };
  }

  async write(session: string, step: Step = {}): Promise<WriteRecord | null> {
    await this.#step('write', session, {}, step);
    const kept = this.#kept(session);
    if (kept.working.length === 0) return null;
    const said = kept.working.filter(({ turn }) => turn.role === 'user').map(({ turn }) => turn.content);
    const facts = [...said.join(' ').matchAll(/The (\w+) is (\w+)\./g)];
    kept.working = [];
    return this.#commit(
      session,
      facts.map(([, subject, value]) => pairOf(`What is the ${subject}?`, value!)),
    );
  }

  async recall(session: string, pairs: readonly string[], step: Step = {}) {
    await this.#step('recall', session, { pairs }, step);
    const all = this.#standing(session);
    return pairs.map((id) => {
      const pair = all.find((p) => p.id === id);
      return { pair: id, answer: pair?.output ?? '', ok: pair !== undefined };
    });
  }

  async edit(session: string, pair: string, output: string, step: Step = {}): Promise<WriteRecord> {
    await this.#step('edit', session, { pair, output }, step);
    const before = this.#standing(session).find(({ id }) => id === pair);
    if (!before) throw new TmemError('missing', `There is no pair ${pair}.`);
    return this.#commit(session, [pairOf(before.instruction, output)]);
  }

  async undo(session: string): Promise<WriteRecord | null> {
    this.calls.push({ name: 'undo', session, given: {} });
    const kept = this.#kept(session);
    const state = kept.before.pop();
    const last = kept.state.writes.at(-1) ?? null;
    if (state) kept.state = state;
    return last;
  }

  async branch(session: string, to: string): Promise<void> {
    this.calls.push({ name: 'branch', session, given: { to } });
    if (this.#sessions.has(to)) throw new TmemError('usage', `There is a session ${to} already.`);
    this.#sessions.set(to, structuredClone(this.#kept(session)));
  }

  async forget(session: string, query: string, { dryRun = false, ...step }: Step & { dryRun?: boolean } = {}) {
    await this.#step('forget', session, { query, dryRun }, step);
    const found = this.#standing(session).filter((p) => JSON.stringify(p).includes(query));
    const kept = this.#kept(session);
    if (!dryRun)
      kept.state = {
        ...kept.state,
        writes: kept.state.writes.map((w) => ({ ...w, pairs: w.pairs.filter((pair) => !found.includes(pair)) })),
      };
    return { removed: found.map(short), verified: !dryRun };
  }

  async verify(session: string, step: Step = {}): Promise<{ ok: boolean }> {
    await this.#step('verify', session, {}, step);
    return { ok: true };
  }

  async consolidate(session: string, step: Step = {}): Promise<WriteRecord> {
    await this.#step('consolidate', session, {}, step);
    const consolidated = { rank: 1, pairs: this.#standing(session).map(({ id }) => id) };
    return this.#commit(session, [], { consolidated });
  }

  async why(session: string, question: string, step: Step = {}) {
    await this.#step('why', session, { question }, step);
    const pairs = this.#standing(session).map((pair) => ({ ...short(pair), similarity: 0.5, drop: null }));
    return { answer: pairs[0]?.output ?? '', pairs };
  }

  async export(session: string, format: 'gguf' | 'jsonl'): Promise<Buffer> {
    const lines = this.#standing(session).map((pair) => `${JSON.stringify(pair)}\n`);
    return Buffer.from(format === 'gguf' ? 'GGUF' : lines.join(''));
  }

  async import(session: string, pairs: readonly { instruction: string; output: string }[], step: Step = {}) {
    this.#begin(session);
    await this.#step('import', session, { pairs }, step);
    return [
      this.#commit(
        session,
        pairs.map(({ instruction, output }) => pairOf(instruction, output)),
      ),
    ];
  }

  async remove(session: string): Promise<void> {
    this.#kept(session);
    this.#sessions.delete(session);
  }

  watch(session: string, listener: (event: SessionEvent) => void): () => void {
    const all = this.#watchers.get(session) ?? new Set();
    this.#watchers.set(session, all.add(listener));
    return () => void all.delete(listener);
  }

  /** How many listen to a session. */
  watchers(session: string): number {
    return this.#watchers.get(session)?.size ?? 0;
  }

  status() {
    const open = this.#sessions.size;
    return { running: this.#running, waiting: this.#queue.length, open, writing: 0, memory: process.memoryUsage.rss() };
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  #begin(session: string): Kept {
    const kept = this.#sessions.get(session) ?? { state: emptyMemory('scripted'), working: [], before: [] };
    this.#sessions.set(session, kept);
    return kept;
  }

  #kept(session: string): Kept {
    const kept = this.#sessions.get(session);
    if (!kept) throw new TmemError('missing', `There is no session ${session}.`);
    return kept;
  }

  #standing(session: string): Pair[] {
    return standingPairs(this.#kept(session).state.writes);
  }

  async #step(name: string, session: string, given: unknown, { signal, onProgress }: Step): Promise<void> {
    this.#kept(session);
    this.calls.push({ name, session, given });
    await this.#options.onStep?.(onProgress ?? (() => {}));
    throwIfAborted(signal);
  }

  #commit(session: string, pairs: Pair[], more: Partial<WriteRecord> = {}): WriteRecord {
    const kept = this.#kept(session);
    const { writes } = kept.state;
    const superseded = supersededBy(writes, pairs);
    const record: WriteRecord = {
      ...{ id: randomUUID(), time: new Date().toISOString(), pairs, recipe: 'scripted', verdict: 'committed' },
      ...{ loss: [1, Number.NaN], recalled: pairs.length, ms: 1 },
      ...(superseded.length > 0 && { superseded }),
      ...more,
    };
    kept.before.push(kept.state);
    kept.state = { ...kept.state, writes: [...writes, record], weights: WEIGHTS };
    for (const listener of this.#watchers.get(session) ?? [])
      listener({ session, time: record.time, event: { type: 'write', event: { type: 'verdict', record } } });
    return record;
  }
}

/** A text as its words come, up to the first of `stop`. */
function* spoken(text: string, stop: readonly string[], logProbs: number | undefined): Generator<CompletionEvent> {
  const ends = stop.map((s) => text.indexOf(s)).filter((at) => at >= 0);
  const kept = ends.length > 0 ? text.slice(0, Math.min(...ends)) : text;
  for (const word of words(kept)) {
    const token = { text: word, bytes: [...Buffer.from(word)], logProb: -0.5 };
    const top = Array.from({ length: logProbs ?? 0 }, (_, i) => ({ ...token, logProb: -0.5 - i }));
    yield { type: 'text', text: word, ...(logProbs !== undefined && { logProbs: [{ ...token, top }] }) };
  }
}

/** Events of a reply that calls tools. */
export function calling(...calls: ToolCall[]): CompletionEvent[] {
  return calls.map((call) => ({ type: 'tool-call', call }));
}

function pairOf(instruction: string, output: string): Pair {
  const source = `${instruction} ${output}`;
  return { id: randomUUID(), instruction, output, source, turn: 0, origin: 'user' };
}

const short = ({ id, instruction, output }: Pair) => ({ id, instruction, output });
