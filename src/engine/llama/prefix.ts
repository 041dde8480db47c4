import { readFile } from 'node:fs/promises';
import { TmemError, throwIfAborted } from '../errors.ts';
import { writeFileAtomic } from '../files.ts';
import {
  type Callback,
  type Context,
  registerCallback,
  type Tensor,
  unregisterCallback,
  view,
} from '../native/library.ts';
import {
  commonPrefix,
  groupSamples,
  type PreparedSample,
  type SampleStates,
  type TokenisedSample,
} from '../training/packed-batch.ts';
import type { TopLayers } from '../training/top-layers.ts';
import type { Sample, Token } from '../types.ts';
import { TokenBatch } from './batch.ts';
import type { LlamaModel } from './model.ts';

/** Tokens of one prefix pass: long enough for fast products, short enough to be interrupted between. */
export const PASS_TOKENS = 512;
const MAX_SEQUENCES = 64;
/** Samples whose hidden states are kept for later writes (replayed pairs and anchors come again), and most bytes of them. */
const CACHED_SAMPLES = 1024;
const CACHED_BYTES = 1 << 30;

interface KeyedSample extends TokenisedSample {
  readonly key: string;
}

/** A token's place in the context. */
interface Place {
  readonly token: number;
  readonly position: number;
  readonly sequence: number;
}

/**
 * Runs samples through the layers below the trained ones and captures the residual stream at the cut. Nothing there depends on Delta,
 * so the states are kept across writes.
 */
export class PrefixPass {
  #model: LlamaModel;
  #context: Context;
  #contextTokens = PASS_TOKENS;
  #threads: number;
  #apply: (context: Context) => void = () => {};
  #batch: TokenBatch;
  #callback: Callback;
  #captured: Float32Array[] = [];
  #cache = new Map<string, SampleStates>();
  #cachedBytes = 0;
  #needsOutputs: boolean;
  #toTheEnd = false;

  constructor(model: LlamaModel, { cut, first }: Pick<TopLayers, 'cut' | 'first'>, threads: number) {
    this.#model = model;
    this.#threads = threads;
    const f = model.native;
    this.#callback = registerCallback('eval', (tensor: Tensor, ask: boolean) => {
      if (f.tensorName(tensor) !== cut.tensor) return !ask;
      if (ask) return true;
      const states = new Float32Array(f.elements(tensor));
      f.tensorGet(tensor, states, 0, states.byteLength);
      this.#captured.push(states);
      // Nothing above is needed: false ends this graph's computation.
      return this.#toTheEnd;
    });
    // The last layer drops rows without output behind its attention.
    this.#needsOutputs = !cut.isInput && first === model.info.layers - 1;
    this.#context = this.#newContext(PASS_TOKENS);
    this.#batch = new TokenBatch(f, PASS_TOKENS);
  }

  #newContext(tokens: number): Context {
    const f = this.#model.native;
    const context = f.contextInit(this.#model.handle, {
      ...f.contextDefaultParams(),
      n_ctx: tokens,
      n_batch: PASS_TOKENS,
      n_ubatch: PASS_TOKENS,
      n_seq_max: MAX_SEQUENCES,
      n_threads: this.#threads,
      n_threads_batch: this.#threads,
      kv_unified: true,
      cb_eval: this.#callback,
    });
    if (!context)
      throw new TmemError(
        'missing',
        'There is not enough memory for the training context; close other programs or use a smaller model.',
      );
    return context;
  }

  /** Another context if this one holds fewer tokens. */
  #makeRoom(tokens: number): void {
    if (tokens <= this.#contextTokens) return;
    const wanted = Math.ceil(tokens / PASS_TOKENS) * PASS_TOKENS;
    const context = this.#newContext(wanted);
    this.#model.native.contextFree(this.#context);
    this.#context = context;
    this.#contextTokens = wanted;
    this.#apply(context);
  }

  /** @throws TmemError `usage` for a sample longer than one pass. */
  async prepare(samples: readonly Sample[], signal?: AbortSignal): Promise<PreparedSample[]> {
    const missing = new Map<string, KeyedSample>();
    for (const sample of samples) {
      const key = keyOf(sample);
      if (this.#cache.has(key) || missing.has(key)) continue;
      const { tokens, promptLength } = this.#tokenise(sample);
      if (tokens.length > PASS_TOKENS) {
        throw new TmemError(
          'usage',
          `A training pair has ${tokens.length} tokens, more than ${PASS_TOKENS}; shorten it ("${sample.answer.slice(0, 40)}…").`,
        );
      }
      if (promptLength === 0) throw new TmemError('usage', 'A training pair has an empty prompt.');
      missing.set(key, { key, tokens, promptLength });
    }
    const limits = { tokens: PASS_TOKENS, samples: MAX_SEQUENCES };
    for (const group of groupSamples([...missing.values()], limits)) await this.#run(group, signal);
    return this.#take(samples.map(keyOf)).map((states, i) => withLoss(states, samples[i]!));
  }

  /**
   * The same for samples that are token ids, of any length, which are computed together.
   * @throws TmemError `missing` when there is too little memory for so many tokens
   */
  async prepareTokens(samples: readonly TokenisedSample[], signal?: AbortSignal): Promise<SampleStates[]> {
    const keyed = samples.map((s): KeyedSample => ({ ...s, key: `${s.promptLength}:${s.tokens.join()}` }));
    const missing = new Map(keyed.filter(({ key }) => !this.#cache.has(key)).map((s) => [s.key, s]));
    const limits = { tokens: Number.POSITIVE_INFINITY, samples: MAX_SEQUENCES };
    for (const group of groupSamples([...missing.values()], limits)) await this.#run(group, signal);
    return this.#take(keyed.map(({ key }) => key));
  }

  /** From the cache, where the oldest others then make room. */
  #take(keys: readonly string[]): SampleStates[] {
    const taken = keys.map((key) => this.#cache.get(key)!);
    for (const key of keys) this.#touch(key);
    for (const [key, { hidden }] of this.#cache) {
      if (this.#cache.size <= Math.max(CACHED_SAMPLES, keys.length) && this.#cachedBytes <= CACHED_BYTES) break;
      this.#cache.delete(key);
      this.#cachedBytes -= hidden.byteLength;
    }
    return taken;
  }

  #keep(key: string, states: SampleStates): void {
    this.#cachedBytes += states.hidden.byteLength - (this.#cache.get(key)?.hidden.byteLength ?? 0);
    this.#cache.set(key, states);
  }

  /**
   * The same, for samples that come again at every start: their hidden states are kept in `file`, one after the other.
   * @throws TmemError as `prepare` does, and `failed` when the file cannot be written.
   */
  async prepareKept(samples: readonly Sample[], file: string, signal?: AbortSignal): Promise<PreparedSample[]> {
    if (samples.some((sample) => !this.#cache.has(keyOf(sample))) && !(await this.#restore(samples, file))) {
      const states = (await this.prepare(samples, signal)).map((s) => new Uint8Array(s.hidden.buffer));
      await writeFileAtomic(file, async (write) => {
        for (const bytes of states) await write(bytes);
      });
    }
    return this.prepare(samples, signal);
  }

  /** Whether the file held the samples' states. */
  async #restore(samples: readonly Sample[], file: string): Promise<boolean> {
    const D = this.#model.info.width;
    const tokenised = samples.map((sample) => ({ key: keyOf(sample), ...this.#tokenise(sample) }));
    const bytes = await readFile(file).catch(() => undefined);
    if (bytes?.length !== tokenised.reduce((n, s) => n + s.tokens.length * D * 4, 0)) return false;
    let offset = 0;
    for (const { key, tokens, promptLength } of tokenised) {
      const hidden = new Float32Array(tokens.length * D);
      new Uint8Array(hidden.buffer).set(bytes.subarray(offset, offset + hidden.byteLength));
      offset += hidden.byteLength;
      this.#keep(key, { tokens, promptLength, hidden });
    }
    return true;
  }

  #tokenise(sample: Sample): TokenisedSample {
    const prompt = this.#model.tokenize(sample.prompt);
    return {
      tokens: Int32Array.from([...prompt, ...this.#model.tokenize(sample.answer)]),
      promptLength: prompt.length,
    };
  }

  /** One sequence through the whole model: its captured residual streams [T, D], and llama.cpp's own logits [V] of the last token. */
  reference(tokens: Int32Array): { hidden: Float32Array; logits: Float32Array } {
    const f = this.#model.native;
    f.memoryClear(f.contextMemory(this.#context), false);
    this.#toTheEnd = true;
    try {
      const hidden = this.#decode(placesOf([tokens], 0), true);
      const logits = f.logitsAt(this.#context, tokens.length - 1);
      if (!logits) throw new TmemError('failed', 'llama.cpp gave no logits for the check of the training graph.');
      return { hidden, logits: new Float32Array(view(logits, this.#model.vocabularySize * 4)).slice() };
    } finally {
      this.#toTheEnd = false;
    }
  }

  /** Gives its context to one that puts adapters in force there, before anything is prepared. */
  use(apply: (context: Context) => void): void {
    this.#apply = apply;
    apply(this.#context);
  }

  free(): void {
    this.#model.native.contextFree(this.#context);
    this.#batch.free();
    unregisterCallback(this.#callback);
  }

  #touch(key: string): void {
    const value = this.#cache.get(key)!;
    this.#cache.delete(key);
    this.#cache.set(key, value);
  }

  /** Decodes what all samples of the group begin with once, then the rest of each. */
  async #run(group: readonly KeyedSample[], signal?: AbortSignal): Promise<void> {
    const f = this.#model.native;
    const D = this.#model.info.width;
    const shared = commonPrefix(group);
    this.#makeRoom(shared + group.reduce((n, { tokens }) => n + tokens.length - shared, 0));
    const memory = f.contextMemory(this.#context);
    f.memoryClear(memory, false);
    const prefix = await this.#decodeAll(placesOf([group[0]!.tokens.subarray(0, shared)], 0), signal);
    for (let i = 1; i < group.length; i++) f.memoryCopy(memory, 0, i, 0, shared);
    const own = group.map((s) => s.tokens.subarray(shared));
    const rest = await this.#decodeAll(placesOf(own, shared), signal);
    let row = 0;
    for (const { key, tokens, promptLength } of group) {
      const own = tokens.length - shared;
      const hidden = new Float32Array(tokens.length * D);
      hidden.set(prefix);
      hidden.set(rest.subarray(row * D, (row + own) * D), shared * D);
      this.#keep(key, { tokens, promptLength, hidden });
      row += own;
    }
  }

  /** Residual streams [places, D], pass by pass. */
  async #decodeAll(places: readonly Place[], signal?: AbortSignal): Promise<Float32Array> {
    const D = this.#model.info.width;
    const all = new Float32Array(places.length * D);
    for (let at = 0; at < places.length; at += PASS_TOKENS) {
      throwIfAborted(signal);
      all.set(this.#decode(places.slice(at, at + PASS_TOKENS)), at * D);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    return all;
  }

  /** The same of one pass. */
  #decode(places: readonly Place[], outputs = this.#needsOutputs): Float32Array {
    const f = this.#model.native;
    this.#batch.clear();
    this.#captured = [];
    for (const { token, position, sequence } of places) this.#batch.add(token as Token, position, sequence, outputs);
    const status = f.decode(this.#context, this.#batch.native);
    const all = new Float32Array(this.#batch.length * this.#model.info.width);
    const found = this.#captured.reduce((n, x) => n + x.length, 0);
    if (status !== 0 || found !== all.length) {
      throw new TmemError(
        'failed',
        `The layers below the trained ones could not be computed (llama.cpp status ${status}).`,
      );
    }
    let offset = 0;
    for (const part of this.#captured) {
      all.set(part, offset);
      offset += part.length;
    }
    this.#captured = [];
    return all;
  }
}

/** One run of tokens a sequence, from a position on. */
function placesOf(runs: readonly Int32Array[], position: number): Place[] {
  return runs.flatMap((tokens, sequence) =>
    Array.from(tokens, (token, i) => ({ token, position: position + i, sequence })),
  );
}

/** What a sample's loss is of. @throws TmemError `usage` when there are more or fewer targets than answer tokens. */
function withLoss(states: SampleStates, { weight = 1, targets, answer }: Sample): PreparedSample {
  const answers = states.tokens.length - states.promptLength;
  if (targets && targets.length !== answers)
    throw new TmemError(
      'usage',
      `A training pair has ${answers} answer tokens and targets for ${targets.length} ("${answer.slice(0, 40)}…").`,
    );
  return { ...states, weight, targets };
}

const keyOf = (sample: Sample) => `${sample.prompt}\u0000${sample.answer}`;
