/**
 * An embedding model of llama.cpp in this process: encoders (bert, nomic-bert and the like) and decoders trained for it
 * (qwen3-embedding). `openEmbedder` runs it behind a child process, so that a failed native assertion does not end the caller.
 *
 * Several texts are decoded at once, each as a sequence of its own. llama.cpp pools within one micro-batch only, so a batch is never
 * split: its size bounds the length of a text (llama-context.cpp and llama-graph.cpp of the release in native/platform.ts).
 */
import os from 'node:os';
import path from 'node:path';
import { TmemError, throwIfAborted } from '../errors.ts';
import { type Context, type Memory, POOLING, view } from '../native/library.ts';
import type { Embedder, Token } from '../types.ts';
import { TokenBatch } from './batch.ts';
import { LlamaModel } from './model.ts';

/** Texts of one batch. */
const SEQUENCES = 64;
/** Short texts are put together up to so many tokens: beyond it products gain nothing, and the attention's cost grows with the square. */
const BATCH_TOKENS = 512;
/** Longest text unless told otherwise: a micro-batch's memory grows with the square of its tokens, a decoder's with the vocabulary. */
const DEFAULT_CONTEXT = 2048;

export interface LlamaEmbedderOptions {
  /** Path of the GGUF. */
  readonly modelPath: string;
  /** Tokens after which a text is cut. Default 2048; never more than the model was trained for. */
  readonly contextSize?: number;
  /** Default: all processors. */
  readonly threads?: number;
  /** What the model's card wants before a text (see the catalogue). Default: nothing. */
  readonly prefixes?: { readonly query: string; readonly document: string };
}

export class LlamaEmbedder implements Embedder {
  readonly model: Embedder['model'];
  #llama: LlamaModel;
  #context: Context;
  /** null for an encoder. */
  #memory: Memory | null;
  #batch: TokenBatch;
  #longest: number;
  #prefixes: NonNullable<LlamaEmbedderOptions['prefixes']>;
  /** Ends every text, where the model's vocabulary has such a token ([SEP], end of text). */
  #closing: Token | undefined;
  #closed = false;

  /**
   * @throws TmemError `missing` when the model or the native libraries cannot be loaded or the memory is too small; `usage` for bad options
   * or a model that ranks instead of embedding.
   */
  static async open(options: LlamaEmbedderOptions): Promise<LlamaEmbedder> {
    return new LlamaEmbedder(options);
  }

  private constructor(options: LlamaEmbedderOptions) {
    const { modelPath, contextSize = DEFAULT_CONTEXT, threads = os.availableParallelism() } = options;
    if (!Number.isInteger(threads) || threads < 1 || threads > 512)
      throw new TmemError('usage', `The number of threads must be from 1 to 512, not ${threads}.`);
    if (!Number.isInteger(contextSize) || contextSize < 8 || contextSize > 1 << 16)
      throw new TmemError('usage', `The context size must be from 8 to ${1 << 16} tokens, not ${contextSize}.`);
    this.#llama = new LlamaModel(modelPath);
    if (this.#llama.pooling === POOLING.RANK) {
      this.#llama.free();
      throw new TmemError(
        'usage',
        `${path.basename(modelPath)} ranks texts instead of embedding them; use another model.`,
      );
    }
    const { native: f, handle, info } = this.#llama;
    this.#longest = Math.min(contextSize, info.contextTrain || contextSize);
    const capacity = Math.max(this.#longest, BATCH_TOKENS);
    const context = f.contextInit(handle, {
      ...f.contextDefaultParams(),
      n_ctx: capacity,
      n_batch: capacity,
      n_ubatch: capacity,
      n_seq_max: SEQUENCES,
      n_threads: threads,
      n_threads_batch: threads,
      embeddings: true,
      // The mean over the tokens where the file says nothing.
      pooling_type: this.#llama.pooling || POOLING.MEAN,
      // Otherwise the sequences of a decoder are split over micro-batches.
      kv_unified: true,
    });
    if (!context) {
      this.#llama.free();
      throw new TmemError(
        'missing',
        `There is not enough memory to embed texts of ${this.#longest} tokens with ${info.name}; use a smaller context or model.`,
      );
    }
    this.#context = context;
    this.#memory = f.contextMemory(context) as Memory | null;
    this.#batch = new TokenBatch(f, capacity);
    this.#prefixes = options.prefixes ?? { query: '', document: '' };
    // An empty text's last token also ends other texts, unless it is the one that opens them.
    const last = this.#tokenize('').at(-1);
    this.#closing = last === this.#tokenize('a').at(-1) ? last : undefined;
    this.model = { name: info.name, width: f.modelEmbeddingWidth(handle) };
  }

  /**
   * @returns a vector [D] of length 1 for each text, in order; what a text has beyond the model's context is not looked at
   * @throws TmemError `usage` for a text without tokens, `aborted` when the signal fires, `failed` when llama.cpp fails or after `close`.
   */
  async embed(
    texts: readonly string[],
    { query = false, signal }: { readonly query?: boolean; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Float32Array[]> {
    this.#open();
    throwIfAborted(signal);
    const prefix = query ? this.#prefixes.query : this.#prefixes.document;
    const sequences = texts.map((text) => this.#cut(this.#tokenize(prefix + text)));
    if (sequences.some((tokens) => tokens.length === 0))
      throw new TmemError('usage', `${this.model.name} cannot embed an empty text; leave it out.`);
    const vectors: Float32Array[] = [];
    for (const batch of batches(sequences)) {
      // Lets the signal fire and other calls have their turn.
      await new Promise<void>((resolve) => setImmediate(resolve));
      throwIfAborted(signal);
      this.#open();
      vectors.push(...this.#decode(batch));
    }
    return vectors;
  }

  /** Safe to call twice; a call of `embed` that still runs is rejected. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#llama.native.contextFree(this.#context);
    this.#batch.free();
    this.#llama.free();
  }

  #open(): void {
    if (this.#closed) throw new TmemError('failed', 'The embedding model is closed; open it again.');
  }

  /** With the tokens that the model wants around a text. */
  #tokenize(text: string): Token[] {
    const { native: f, vocab } = this.#llama;
    const bytes = new TextEncoder().encode(text);
    const fill = (into: Int32Array) => f.tokenize(vocab, bytes, bytes.length, into, into.length, true, false);
    let buffer = new Int32Array(bytes.length + 8);
    let n = fill(buffer);
    if (n < 0) {
      buffer = new Int32Array(-n);
      n = fill(buffer);
    }
    return Array.from(buffer.subarray(0, n)) as Token[];
  }

  #cut(tokens: Token[]): Token[] {
    if (tokens.length <= this.#longest) return tokens;
    return this.#closing === undefined
      ? tokens.slice(0, this.#longest)
      : [...tokens.slice(0, this.#longest - 1), this.#closing];
  }

  #decode(sequences: readonly Token[][]): Float32Array[] {
    const f = this.#llama.native;
    this.#batch.clear();
    for (const [s, tokens] of sequences.entries())
      for (const [position, token] of tokens.entries()) this.#batch.add(token, position, s, true);
    if (this.#memory) f.memoryClear(this.#memory, false);
    const status = f.decode(this.#context, this.#batch.native);
    if (status !== 0)
      throw new TmemError('failed', `llama.cpp could not embed the texts (status ${status}); run \`tmem doctor\`.`);
    return sequences.map((_, s) => {
      const pooled = f.embeddingOf(this.#context, s);
      if (!pooled) throw new TmemError('failed', `llama.cpp gave no embedding with ${this.model.name}.`);
      return normalised(new Float32Array(view(pooled, this.model.width * 4)), this.model.name);
    });
  }
}

/** Texts in order, as many as fit at once. */
function* batches(sequences: readonly Token[][]): Generator<Token[][]> {
  let batch: Token[][] = [];
  let tokens = 0;
  for (const sequence of sequences) {
    if (batch.length === SEQUENCES || (batch.length > 0 && tokens + sequence.length > BATCH_TOKENS)) {
      yield batch;
      batch = [];
      tokens = 0;
    }
    batch.push(sequence);
    tokens += sequence.length;
  }
  if (batch.length > 0) yield batch;
}

/** A copy of length 1. */
function normalised(vector: Float32Array, model: string): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  if (!(length > 0 && length < Number.POSITIVE_INFINITY))
    throw new TmemError('failed', `${model} gave an embedding that is not a direction; the file may be damaged.`);
  return vector.map((x) => x / length);
}
