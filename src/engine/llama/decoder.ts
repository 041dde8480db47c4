import { TmemError } from '../errors.ts';
import { type Context, type Memory, type Native, view } from '../native/library.ts';
import type { Token } from '../types.ts';
import { TokenBatch } from './batch.ts';
import type { LlamaModel } from './model.ts';
import type { PromptLookup } from './prompt-lookup.ts';
import { Slot } from './slot.ts';

/** Prompt tokens decoded in one go: bounds how long an abort waits. */
const BATCH_TOKENS = 256;
const SEQUENCES = 16;
/** Tokens of a common prefix that are worth waiting for. */
const WORTH_WAITING = 16;
/** Steps of one version's jobs before another one's have their turn: putting adapters in force costs about as much as a step. */
const TURN_STEPS = 4;
/** Tokens that are worth keeping while many short requests come in between (a directive with its examples, a long conversation). */
const WORTH_KEEPING = 256;

/** A request on the decoder: tokens to process, and what to do at rows whose logits were asked for. */
export interface DecodeJob {
  readonly tokens: Token[];
  /** Most tokens that may follow the prompt. */
  readonly maxNew: number;
  /** Logits are wanted from this index of `tokens` on. */
  readonly outputFrom: number;
  /** Version of the fast weights; jobs of different versions never run in the same batch. */
  readonly version: number;
  readonly signal?: AbortSignal | undefined;
  /** Drafts what may follow, to be verified in one batch. What comes out is the same up to rounding. */
  readonly lookup?: PromptLookup | undefined;
  /** Called with the logits [V] after token `index`; valid only during the call. Returns a token to append, or null to end when it was the last. */
  onLogits(logits: Float32Array, index: number): Token | null;
  /** Tokens found in the KV cache. */
  cached: number;
}

interface Running {
  readonly job: DecodeJob;
  readonly promptLength: number;
  readonly slot: Slot;
  /** Tokens of the job already in the KV cache. */
  done: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Waiting {
  readonly job: DecodeJob;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Continuous batching over one llama.cpp context: every step decodes one token of each running generation and as much prompt as fits.
 * Generations under different fast weights take turns.
 * Finished sequences stay in the KV cache; a new one takes over the longest common prefix.
 */
export class Decoder {
  readonly contextSize: number;
  readonly context: Context;
  #f: Native;
  #model: LlamaModel;
  #memory: Memory;
  #window: number;
  #batch: TokenBatch;
  #slots: Slot[];
  #waiting: Waiting[] = [];
  #running: Running[] = [];
  #looping = false;
  #clock = 0;
  #applyVersion: (version: number) => void;
  #currentVersion = 0;
  /** Steps since another version was put in force. */
  #steps = 0;
  #settling: { version: number | undefined; resolve: () => void }[] = [];

  constructor(
    model: LlamaModel,
    options: { contextSize: number; threads: number; applyVersion: (context: Context, version: number) => void },
  ) {
    const f = model.native;
    this.#f = f;
    this.#model = model;
    this.contextSize = options.contextSize;
    const context = f.contextInit(model.handle, {
      ...f.contextDefaultParams(),
      n_ctx: options.contextSize,
      n_batch: BATCH_TOKENS,
      n_ubatch: BATCH_TOKENS,
      n_seq_max: SEQUENCES,
      n_threads: options.threads,
      n_threads_batch: options.threads,
      kv_unified: true,
    });
    if (!context)
      throw new TmemError(
        'missing',
        `There is not enough memory for a context of ${options.contextSize} tokens; use a smaller --context.`,
      );
    this.context = context;
    this.#memory = f.contextMemory(context);
    this.#window = f.modelWindow(model.handle);
    this.#batch = new TokenBatch(f, BATCH_TOKENS);
    this.#slots = Array.from({ length: SEQUENCES }, (_, sequence) => new Slot(f, this.#memory, sequence));
    this.#applyVersion = (version) => options.applyVersion(context, version);
  }

  /** Runs a job to its end. */
  run(job: DecodeJob): Promise<void> {
    const room = this.contextSize - job.tokens.length;
    if (room < 1) {
      throw new TmemError(
        'usage',
        `The prompt has ${job.tokens.length} tokens, but the context holds ${this.contextSize}; shorten it or use a larger --context.`,
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      if (!this.#looping) void this.#loop();
    });
  }

  /** Whether anything is running or waiting, of this version or of any. */
  uses(version?: number): boolean {
    return [...this.#waiting, ...this.#running].some(({ job }) => version === undefined || job.version === version);
  }

  /** Resolves when nothing is; by the time the caller goes on, something may be again. */
  settled(version?: number): Promise<void> {
    if (!this.uses(version)) return Promise.resolve();
    return new Promise((resolve) => this.#settling.push({ version, resolve }));
  }

  /** Forgets cached keys and values of all other versions. */
  keepVersions(versions: ReadonlySet<number>): void {
    for (const slot of this.#slots) if (!slot.busy && !versions.has(slot.version)) slot.truncate(0);
  }

  /** Forgets everything, as at the beginning: where keys and values lie is a part of how sums are rounded. Nothing may be running. */
  clear(): void {
    this.#f.memoryClear(this.#memory, false);
    for (const slot of this.#slots) slot.reset();
    this.#clock = 0;
  }

  /** The adapters in force were changed from outside. */
  invalidateVersion(): void {
    this.#currentVersion = -1;
  }

  free(): void {
    this.#f.contextFree(this.context);
    this.#batch.free();
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    // Requests made in the same tick join the first batch.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0 || this.#running.length > 0) {
      this.#dropAborted();
      this.#admit();
      if (this.#running.length > 0) this.#step(this.#nextTurn());
      for (const { resolve } of this.#settling.filter(({ version }) => !this.uses(version))) resolve();
      this.#settling = this.#settling.filter(({ version }) => this.uses(version));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    this.#looping = false;
  }

  /** The jobs whose turn it is: all of one version, which is put in force. */
  #nextTurn(): Running[] {
    const of = (version: number) => this.#running.filter(({ job }) => job.version === version);
    const current = of(this.#currentVersion);
    if (current.length > 0 && (current.length === this.#running.length || this.#steps < TURN_STEPS)) {
      this.#steps++;
      return current;
    }
    // The longest in wait: whose turns ended first.
    const [next] = this.#running.filter(({ job }) => job.version !== this.#currentVersion);
    const group = of(next!.job.version);
    this.#running = [...this.#running.filter((r) => !group.includes(r)), ...group];
    try {
      this.#applyVersion(next!.job.version);
    } catch (error) {
      for (const running of group) this.#finish(running, error);
      this.#currentVersion = -1;
      return [];
    }
    this.#currentVersion = next!.job.version;
    this.#steps = 1;
    return group;
  }

  #dropAborted(): void {
    const aborted = new TmemError('aborted', 'Interrupted.');
    for (const w of this.#waiting) if (w.job.signal?.aborted) w.reject(aborted);
    this.#waiting = this.#waiting.filter((w) => !w.job.signal?.aborted);
    for (const r of this.#running) if (r.job.signal?.aborted) this.#finish(r, aborted);
  }

  /** Starts waiting jobs, in order, while there is a free sequence and room in the cache. */
  #admit(): void {
    while (this.#waiting.length > 0) {
      const { job, resolve, reject } = this.#waiting[0]!;
      const slot = this.#claim(job);
      if (!slot) return;
      this.#waiting.shift();
      this.#running.push({ job, promptLength: job.tokens.length, slot, done: slot.length, resolve, reject });
    }
  }

  /** A sequence for the job, holding as much of its prompt as any cached one, or undefined while there is no room. */
  #claim(job: DecodeJob): Slot | undefined {
    // At least the last prompt token is decoded again: its logits are needed. So are those from `outputFrom` on.
    const limit = Math.min(job.tokens.length - 1, job.outputFrom);
    let best: Slot | undefined;
    let shared = 0;
    for (const slot of this.#slots) {
      if (slot.version !== job.version) continue;
      const n = this.#reusable(slot, commonPrefix(slot.tokens, job.tokens, limit));
      if (n > shared || (n === shared && n > 0 && best?.busy && !slot.busy)) {
        best = slot;
        shared = n;
      }
    }
    // A running prompt that begins like this one will soon be cached: waiting for it beats computing the same tokens again.
    for (const r of this.#running) {
      if (r.job.version !== job.version) continue;
      const soon = commonPrefix(r.job.tokens, job.tokens, limit);
      if (r.done < soon && soon - shared >= WORTH_WAITING) return undefined;
    }
    const idle = this.#idleSlots();
    const [oldest] = idle;
    if (!oldest) return undefined;
    const growth = this.#growth() + this.#mostTokens(job.tokens.length, job) - shared;
    const kept: [Slot, number][] = this.#running.map(({ slot }) => [slot, slot.length]);
    if (best) kept.push([best, shared]);
    if (this.#running.length > 0 && Slot.filled(kept) + growth > this.contextSize) return undefined;
    let slot: Slot;
    if (best && !best.busy && shared >= best.length / 2) {
      slot = best;
    } else {
      // Taking the least recently used sequence keeps a long cached one that others may share.
      slot = idle.find((s) => s !== best) ?? oldest;
      if (isLong(slot) && slot !== best && this.#running.length > 0 && idle.length === 1) return undefined;
    }
    slot.busy = true;
    if (best && slot !== best) slot.share(best, shared);
    else slot.truncate(shared);
    slot.version = job.version;
    slot.lastUse = ++this.#clock;
    job.cached = shared;
    this.#makeRoom(growth);
    return slot;
  }

  /** Of the first n cached tokens, how many another sequence may go on from: all or none, where a sliding window forgets older ones. */
  #reusable(slot: Slot, n: number): number {
    if (n === 0 || this.#window === 0) return n;
    return this.#f.memoryLowest(this.#memory, slot.sequence) <= Math.max(0, n - this.#window + 1) ? n : 0;
  }

  /** Idle sequences in the order in which they are given up: the oldest first, but the longest last if it is long. */
  #idleSlots(): Slot[] {
    const idle = this.#slots.filter((s) => !s.busy).sort((a, b) => a.lastUse - b.lastUse);
    const longest = idle.reduce<Slot | undefined>((a, b) => (a && a.length >= b.length ? a : b), undefined);
    return longest && isLong(longest) ? [...idle.filter((s) => s !== longest), longest] : idle;
  }

  /** Empties idle sequences, in that order, until `growth` more tokens fit beside what stays cached. */
  #makeRoom(growth: number): void {
    for (const slot of this.#idleSlots()) {
      if (Slot.filled(this.#slots.map((s) => [s, s.length])) + growth <= this.contextSize) return;
      slot.truncate(0);
    }
  }

  /** How long a prompt may become. */
  #mostTokens(promptLength: number, { maxNew }: DecodeJob): number {
    return Math.min(promptLength + maxNew, this.contextSize);
  }

  /** Tokens that what is running may still add to the cache. */
  #growth(): number {
    return this.#running.reduce((n, r) => n + this.#mostTokens(r.promptLength, r.job) - r.slot.length, 0);
  }

  /** One batch: a token of each running generation of the group, and as much prompt as fits. */
  #step(group: readonly Running[]): void {
    if (group.length === 0) return;
    const batch = this.#batch;
    batch.clear();
    const outputs: { running: Running; index: number; at: number; draft?: Token }[] = [];
    const counts = new Map<Running, number>();
    const others = group.length - 1;
    // Generations first: each needs one token; prompts share what is left.
    const order = [...group].sort((a, b) => remaining(a) - remaining(b));
    for (const running of order) {
      const { job, slot, done } = running;
      const n = Math.min(remaining(running), batch.room);
      for (let i = done; i < done + n; i++) {
        const output = i >= job.outputFrom || i === job.tokens.length - 1;
        const at = batch.add(job.tokens[i]!, i, slot.sequence, output);
        if (output) outputs.push({ running, index: i, at });
      }
      counts.set(running, n);
      if (running.promptLength === job.tokens.length || done + n < job.tokens.length) continue;
      const end = this.#mostTokens(running.promptLength, job);
      const room = Math.min(batch.room, end - job.tokens.length);
      job.lookup?.draft(job.tokens, others, room).forEach((draft, i) => {
        const index = job.tokens.length + i;
        outputs.push({ running, index, draft, at: batch.add(draft, index, slot.sequence, true) });
      });
    }
    const status = this.#f.decode(this.context, batch.native);
    if (status !== 0) {
      const error = new TmemError(
        'failed',
        `llama.cpp could not decode (status ${status}); use a larger --context or fewer requests at once.`,
      );
      for (const r of group) {
        this.#finish(r, error);
        r.slot.truncate(0);
      }
      return;
    }
    for (const [running, n] of counts) {
      for (let i = running.done; i < running.done + n; i++) running.slot.push(running.job.tokens[i]!);
      running.done += n;
    }
    const drafted = new Map<Running, { right: number; all: number }>();
    for (const { running, index, at, draft } of outputs) {
      if (draft !== undefined) {
        const count = drafted.get(running) ?? { right: 0, all: 0 };
        drafted.set(running, count);
        count.all++;
        // A token after a wrong one, or after the end, was never asked for.
        if (!this.#running.includes(running) || running.job.tokens.length !== index + 1) continue;
        if (running.job.tokens[index] !== draft) continue;
        count.right++;
        running.slot.push(draft);
        running.done++;
      }
      if (!this.#running.includes(running)) continue;
      try {
        const pointer = this.#f.logitsAt(this.context, at);
        if (!pointer) throw new TmemError('failed', 'llama.cpp gave no logits for a token.');
        const logits = new Float32Array(view(pointer, this.#model.vocabularySize * 4));
        const next = running.job.onLogits(logits, index);
        if (index < running.job.tokens.length - 1) continue;
        if (next === null || running.job.tokens.length >= this.contextSize) this.#finish(running);
        else running.job.tokens.push(next);
      } catch (error) {
        this.#finish(running, error);
      }
    }
    for (const [{ job, slot }, { right, all }] of drafted) {
      job.lookup?.observe(right, all);
      if (right < all) slot.truncate(slot.length);
    }
  }

  #finish(running: Running, error?: unknown): void {
    running.slot.busy = false;
    running.slot.lastUse = ++this.#clock;
    this.#running = this.#running.filter((r) => r !== running);
    if (error) running.reject(error);
    else running.resolve();
  }
}

const isLong = (slot: Slot) => slot.length >= WORTH_KEEPING;

const remaining = (r: Running) => r.job.tokens.length - r.done;

function commonPrefix(a: readonly Token[], b: readonly Token[], limit: number): number {
  const end = Math.min(a.length, limit);
  let i = 0;
  while (i < end && a[i] === b[i]) i++;
  return i;
}
