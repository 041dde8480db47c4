import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { readAdapterGguf, writeAdapterGguf } from '../adapter/gguf.ts';
import { checkFastWeights } from '../adapter/weights.ts';
import { TmemError, throwIfAborted } from '../errors.ts';
import { DEFAULT_CONTEXT } from '../footprint.ts';
import { tmemHome } from '../home.ts';
import { type Adapter, type Context, POOLING } from '../native/library.ts';
import { trainsOnGpu } from '../training/backends.ts';
import { evaluate } from '../training/evaluate.ts';
import { logSumExp, mostLikely } from '../training/head.ts';
import { randomInitialisation, svdInitialisation } from '../training/initialise.ts';
import { keyInitialisation } from '../training/keys.ts';
import { TopLayers, type TopLayersOptions } from '../training/top-layers.ts';
import { train as trainPrepared } from '../training/train.ts';
import type {
  ChatMessage,
  Engine,
  EvaluateRequest,
  Evaluation,
  FastWeights,
  FinishReason,
  GenerateEvent,
  GenerateRequest,
  InitialiseRequest,
  Likely,
  ModelInfo,
  Sample,
  Score,
  ScoreRequest,
  Token,
  TrainEvent,
  TrainRequest,
  TrainResult,
} from '../types.ts';
import { type DecodeJob, Decoder } from './decoder.ts';
import { LlamaModel } from './model.ts';
import { PrefixPass } from './prefix.ts';
import { PromptLookup } from './prompt-lookup.ts';
import { argmax, Candidates, TokenSampler } from './sampler.ts';
import { TextStream } from './text-stream.ts';
import { verifyTrainingGraph } from './verify.ts';

export interface LlamaEngineOptions {
  readonly modelPath: string;
  /** Tokens of the context over all sequences. Default 8192, or what the model was trained for if less. */
  readonly contextSize?: number;
  /** Default: all processors. */
  readonly threads?: number;
}

const DEFAULT_MAX_TOKENS = 512;
const BASE_VERSION = 0;

type Adapted = Required<Pick<TopLayersOptions, 'layers' | 'attention'>>;

/** What training needs beside the running model; made at the first training and kept while the same is adapted. */
interface TrainingState {
  readonly adapted: Adapted;
  readonly top: TopLayers;
  readonly prefix: PrefixPass;
}

/** The llama.cpp engine in this process. */
export class LlamaEngine implements Engine {
  readonly model: ModelInfo;
  #llama: LlamaModel;
  #decoder: Decoder;
  #candidates: Candidates;
  #threads: number;
  #scratch: string;
  #version = BASE_VERSION;
  #adapter: { version: number; handle: Adapter } | undefined;
  #adapterCount = 0;
  #training: TrainingState | undefined;
  /** Training, initialisation and adapter swaps run one after the other. */
  #serial: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** @throws TmemError `missing` when the model or the native libraries cannot be loaded; `usage` for bad options. */
  static async open(options: LlamaEngineOptions): Promise<LlamaEngine> {
    return new LlamaEngine(options);
  }

  private constructor(options: LlamaEngineOptions) {
    const threads = options.threads ?? os.availableParallelism();
    if (!Number.isInteger(threads) || threads < 1 || threads > 512)
      throw new TmemError('usage', `The number of threads must be from 1 to 512, not ${threads}.`);
    const wanted = options.contextSize ?? DEFAULT_CONTEXT;
    if (!Number.isInteger(wanted) || wanted < 128 || wanted > 1 << 20)
      throw new TmemError('usage', `The context size must be from 128 to ${1 << 20} tokens, not ${wanted}.`);
    this.#threads = threads;
    this.#llama = new LlamaModel(options.modelPath);
    if (this.#llama.pooling !== POOLING.NONE) {
      this.#llama.free();
      throw new TmemError(
        'usage',
        `${path.basename(options.modelPath)} embeds texts and cannot talk; choose another of those that \`tmem models\` names.`,
      );
    }
    const { contextTrain } = this.#llama.info;
    const contextSize = contextTrain > 0 && options.contextSize === undefined ? Math.min(wanted, contextTrain) : wanted;
    this.#decoder = new Decoder(this.#llama, {
      contextSize,
      threads,
      applyVersion: (context, version) => this.#apply(context, version),
    });
    this.#candidates = new Candidates(this.#llama.vocabularySize);
    this.model = { ...this.#llama.info, contextSize };
    this.#scratch = mkdtempSync(path.join(os.tmpdir(), 'tmem-'));
  }

  async tokenize(text: string, options: { readonly plain?: boolean } = {}): Promise<Token[]> {
    this.#open();
    return this.#llama.tokenize(text, options);
  }

  async detokenize(tokens: readonly Token[]): Promise<string> {
    this.#open();
    return this.#llama.detokenize(tokens);
  }

  async renderChat(messages: readonly ChatMessage[], options: { readonly generation?: boolean } = {}): Promise<string> {
    return this.#llama.template.render(messages, { generation: options.generation ?? true });
  }

  async renderSample(instruction: string, output: string): Promise<Sample> {
    return this.#llama.template.sample(instruction, output);
  }

  async *generate(request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    this.#open();
    throwIfAborted(request.signal);
    const start = performance.now();
    const { maxTokens = DEFAULT_MAX_TOKENS } = request;
    if (!Number.isInteger(maxTokens) || maxTokens < 1)
      throw new TmemError('usage', `maxTokens must be a whole number from 1, not ${maxTokens}.`);
    const tokens = this.#promptTokens(request.prompt, request.prefill);
    const promptTokens = tokens.length;
    const f = this.#llama.native;
    const sampler = new TokenSampler(f, this.#llama.vocab, this.#candidates, request);
    if (request.dry) sampler.observe(tokens);
    const stream = new TextStream(request.stop);
    // A consumer that stops listening ends the generation.
    const abandoned = new AbortController();
    const queue: string[] = [];
    let wake = () => {};
    let finish: FinishReason = 'length';
    let outputTokens = 0;
    const job: DecodeJob = {
      tokens,
      maxNew: maxTokens,
      outputFrom: promptTokens - 1,
      version: this.#versionFor(request.fastWeights),
      signal: request.signal ? AbortSignal.any([request.signal, abandoned.signal]) : abandoned.signal,
      lookup: request.lookup ? new PromptLookup() : undefined,
      cached: 0,
      onLogits: (logits) => {
        const token = sampler.next(logits);
        if (f.vocabIsEog(this.#llama.vocab, token)) {
          finish = 'end';
          return null;
        }
        outputTokens++;
        const text = stream.push(this.#llama.piece(token));
        if (text) queue.push(text);
        wake();
        if (stream.stopped) finish = 'stop';
        return stream.stopped || outputTokens >= maxTokens ? null : token;
      },
    };
    let failure: unknown;
    let running = true;
    const finished = this.#decoder.run(job).then(
      () => {
        running = false;
        wake();
      },
      (error: unknown) => {
        failure = error;
        running = false;
        wake();
      },
    );
    try {
      while (running || queue.length > 0) {
        if (queue.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        for (const text of queue.splice(0)) yield { type: 'text', text };
      }
      await finished;
      if (failure) throw failure;
      const rest = stream.end();
      if (rest) yield { type: 'text', text: rest };
      yield {
        type: 'done',
        text: stream.text,
        finish,
        promptTokens,
        cachedTokens: job.cached,
        outputTokens,
        ms: performance.now() - start,
      };
    } finally {
      abandoned.abort();
      await finished;
      sampler.free();
    }
  }

  async score(request: ScoreRequest): Promise<Score> {
    this.#open();
    const prompt = this.#promptTokens(request.prompt);
    const answer = this.#llama.tokenize(request.answer);
    if (prompt.length === 0 || answer.length === 0)
      throw new TmemError('usage', 'Scoring needs a prompt and an answer that are not empty.');
    const logProbs = new Float64Array(answer.length);
    const greedy: boolean[] = [];
    const likely: Likely[] = [];
    const others: Float32Array[] = [];
    await this.#decoder.run({
      tokens: [...prompt, ...answer.slice(0, -1)],
      maxNew: 0,
      outputFrom: prompt.length - 1,
      version: this.#versionFor(request.fastWeights),
      signal: request.signal,
      cached: 0,
      onLogits: (logits, index) => {
        const i = index - prompt.length + 1;
        const whole = logSumExp(logits);
        const scored = (tokens: Int32Array) => Float32Array.from(tokens, (token) => logits[token]! - whole);
        logProbs[i] = logits[answer[i]!]! - whole;
        greedy[i] = argmax(logits) === answer[i];
        if (request.likely) likely[i] = mostLikely(logits, request.likely, whole);
        if (request.others) others[i] = scored(request.others[i] ?? new Int32Array(0));
        return null;
      },
    });
    return {
      ...{ tokens: answer, logProbs, greedy },
      ...(request.likely && { likely }),
      ...(request.others && { others }),
    };
  }

  initialise(request: InitialiseRequest): Promise<FastWeights> {
    return this.#inOrder(async () => {
      const { init, rank, layers, attention = false, seed = 0 } = request;
      if (!Number.isInteger(rank) || rank < 1 || rank > 512)
        throw new TmemError('usage', `The rank must be a whole number from 1 to 512, not ${rank}.`);
      const adapted = { layers, attention };
      const { top, prefix } = this.#trainingFor(adapted);
      switch (init.kind) {
        case 'random':
          return randomInitialisation(top, rank, seed);
        case 'svd':
          return this.#cachedSvd(top, adapted, rank, seed);
        case 'keys': {
          const samples = await prefix.prepare(init.samples, request.signal);
          const ordinary = await prefix.prepareKept(
            init.ordinary,
            this.#statesFile(init.ordinary, top),
            request.signal,
          );
          if (samples.length === 0 || ordinary.length === 0)
            throw new TmemError('usage', 'A from keys needs samples and ordinary text.');
          return keyInitialisation(top, {
            samples,
            ordinary,
            rank,
            ridge: init.ridge ?? 0.02,
            scale: init.scale ?? 50,
            directions: init.directions ?? 'samples',
            frozen: request.frozen,
            seed,
          });
        }
      }
    });
  }

  evaluate({ samples, weights, layers, likely, signal }: EvaluateRequest): Promise<Evaluation> {
    return this.#inOrder(async () => {
      const { top, prefix } = this.#trainingFor(weights ? this.#adaptedBy(weights) : { layers, attention: false });
      return evaluate(top, await prefix.prepare(samples, signal), { weights, likely, signal });
    });
  }

  train(request: TrainRequest, onEvent: (event: TrainEvent) => void = () => {}): Promise<TrainResult> {
    return this.#inOrder(async () => {
      if (request.samples.length === 0) throw new TmemError('usage', 'There are no samples to train on.');
      const { top, prefix } = this.#trainingFor(this.#adaptedBy(request.weights, request.frozen));
      const start = performance.now();
      const samples = await prefix.prepare(request.samples, request.signal);
      const still = request.still && {
        samples: await prefix.prepare(request.still.samples, request.signal),
        strength: request.still.strength,
      };
      const replay = await prefix.prepare(request.replay ?? [], request.signal);
      const prefixMs = performance.now() - start;
      onEvent({
        type: 'prefix',
        ms: prefixMs,
        tokens: samples.reduce((n, s) => n + s.tokens.length, 0),
        answerTokens: samples.reduce((n, s) => n + s.tokens.length - s.promptLength, 0),
      });
      return { ...(await trainPrepared(top, samples, { ...request, still, replay }, onEvent)), prefixMs };
    });
  }

  setFastWeights(weights: FastWeights | null): Promise<void> {
    return this.#inOrder(async () => {
      const f = this.#llama.native;
      let file: string | undefined;
      if (weights) {
        checkFastWeights(weights, 'The fast weights', { shape: (name) => this.#llama.shapes.get(name) });
        file = path.join(this.#scratch, `delta-${++this.#adapterCount}.gguf`);
        await writeAdapterGguf(file, weights, this.model);
      }
      // A generation may begin between the end of the others and this line: it took the old version, so it is waited for too.
      while (this.#decoder.busy) await this.#decoder.idle();
      // Freeing an adapter that is still set is a use after free: unset, free, load, in this order.
      f.setAdapters(this.#decoder.context, [], 0, new Float32Array(0));
      this.#decoder.invalidateVersion();
      if (this.#adapter) f.adapterFree(this.#adapter.handle);
      this.#adapter = undefined;
      this.#version = BASE_VERSION;
      if (file) {
        const handle = f.adapterInit(this.#llama.handle, file);
        rmSync(file, { force: true });
        if (!handle) throw new TmemError('failed', 'llama.cpp refused the fast weights; run `tmem doctor`.');
        this.#version = this.#adapterCount;
        this.#adapter = { version: this.#version, handle };
      }
      this.#decoder.dropOtherVersions(BASE_VERSION);
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#serial.catch(() => {});
    while (this.#decoder.busy) await this.#decoder.idle();
    this.#decoder.free();
    this.#candidates.free();
    if (this.#adapter) this.#llama.native.adapterFree(this.#adapter.handle);
    this.#training?.prefix.free();
    this.#training?.top.free();
    this.#llama.free();
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #open(): void {
    if (this.#closed) throw new TmemError('failed', 'The engine is closed.');
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(() => {
      this.#open();
      return work();
    });
    this.#serial = result.catch(() => {});
    return result;
  }

  #promptTokens(prompt: readonly ChatMessage[] | string, prefill = ''): Token[] {
    const tokens =
      typeof prompt === 'string'
        ? this.#llama.tokenize(prompt + prefill, { bos: true })
        : this.#llama.tokenize(this.#llama.template.render(prompt, { generation: true }) + prefill);
    if (tokens.length === 0) throw new TmemError('usage', 'The prompt is empty.');
    return tokens;
  }

  #versionFor(fastWeights: boolean | undefined): number {
    return fastWeights === false ? BASE_VERSION : this.#version;
  }

  #apply(context: Context, version: number): void {
    const adapters = version !== BASE_VERSION && this.#adapter?.version === version ? [this.#adapter.handle] : [];
    const status = this.#llama.native.setAdapters(
      context,
      adapters,
      adapters.length,
      new Float32Array(adapters.length).fill(1),
    );
    if (status !== 0)
      throw new TmemError('failed', `llama.cpp could not put the fast weights in force (status ${status}).`);
  }

  /** What of the model the given fast weights adapt. */
  #adaptedBy(...weights: (FastWeights | undefined)[]): Adapted {
    const names = weights.flatMap((w) => w?.tensors.map((t) => t.name.split('.')) ?? []);
    return {
      layers: this.model.layers - Math.min(...names.map(([, layer]) => Number(layer))),
      attention: names.some(([, , part]) => part!.startsWith('attn_')),
    };
  }

  #trainingFor(adapted: Adapted): TrainingState {
    const open = this.#training?.adapted;
    if (open?.layers === adapted.layers && open.attention === adapted.attention) return this.#training!;
    this.#training?.prefix.free();
    this.#training?.top.free();
    this.#training = undefined;
    const top = new TopLayers(this.model.path, { ...adapted, gpu: trainsOnGpu(), threads: this.#threads });
    let prefix: PrefixPass | undefined;
    try {
      prefix = new PrefixPass(this.#llama, top, this.#threads);
      verifyTrainingGraph(top, prefix, this.#llama);
    } catch (error) {
      prefix?.free();
      top.free();
      throw error;
    }
    this.#training = { adapted, top, prefix };
    return this.#training;
  }

  /** Where the hidden states of ordinary text are kept: they depend on the model, the cut and the text. */
  #statesFile(samples: readonly Sample[], { cut }: TopLayers): string {
    const text = createHash('sha256').update(JSON.stringify(samples)).digest('hex').slice(0, 12);
    const name = `states-${this.model.fingerprint.slice(0, 16)}-${cut.tensor}-${text}.f32`;
    return path.join(tmemHome(), 'initialisation', name);
  }

  /** A0 depends on the model, the rank and what is adapted only, and takes a while: it is kept on disk. */
  async #cachedSvd(top: TopLayers, { layers, attention }: Adapted, rank: number, seed: number): Promise<FastWeights> {
    const folder = path.join(tmemHome(), 'initialisation');
    const file = path.join(
      folder,
      `svd-${this.model.fingerprint.slice(0, 16)}-r${rank}-k${layers}${attention ? '-attention' : ''}.gguf`,
    );
    const base = { ...this.model, shape: (name: string) => this.#llama.shapes.get(name) };
    try {
      return await readAdapterGguf(file, base);
    } catch {
      const weights = svdInitialisation(top, rank, seed);
      mkdirSync(folder, { recursive: true });
      await writeAdapterGguf(file, weights, this.model);
      return weights;
    }
  }
}
