import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromLayer, shortHash, stack, withoutAttention } from '../adapter/fast-weights.ts';
import { readAdapterGguf, writeAdapterGguf } from '../adapter/gguf.ts';
import { checkFastWeights } from '../adapter/weights.ts';
import { TmemError, throwIfAborted } from '../errors.ts';
import { DEFAULT_CONTEXT } from '../footprint.ts';
import { tmemHome } from '../home.ts';
import { POOLING } from '../native/library.ts';
import { trainsOnGpu } from '../training/backends.ts';
import { evaluate } from '../training/evaluate.ts';
import { logSumExp, mostLikely } from '../training/head.ts';
import { randomInitialisation, svdInitialisation } from '../training/initialise.ts';
import { keyInitialisation } from '../training/keys.ts';
import { policyGradient } from '../training/policy-gradient.ts';
import { TopLayers, type TopLayersOptions } from '../training/top-layers.ts';
import { train as trainPrepared } from '../training/train.ts';
import type {
  ChatMessage,
  ChosenToken,
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
  PolicyGradient,
  PolicyGradientRequest,
  Sample,
  Score,
  ScoreRequest,
  Token,
  TrainEvent,
  TrainRequest,
  TrainResult,
} from '../types.ts';
import { Adapters } from './adapters.ts';
import { type DecodeJob, Decoder } from './decoder.ts';
import { LlamaModel } from './model.ts';
import { PrefixPass } from './prefix.ts';
import { PromptLookup } from './prompt-lookup.ts';
import { argmax, Candidates, chosenToken, TokenSampler } from './sampler.ts';
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
/** The name of the fast weights of requests that name none. */
const UNNAMED = '';

type Adapted = Required<Pick<TopLayersOptions, 'layers' | 'attention'>>;

/** What training needs beside the running model; made at the first training and kept while the same is adapted. */
interface TrainingState {
  readonly adapted: Adapted;
  readonly top: TopLayers;
  readonly prefix: PrefixPass;
}

/** The llama.cpp engine in this process. */
export class LlamaEngine implements Engine {
  #model: ModelInfo;
  #llama: LlamaModel;
  #decoder: Decoder;
  #candidates: Candidates;
  #threads: number;
  #adapters: Adapters;
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
    this.#adapters = new Adapters(this.#llama);
    this.#decoder = new Decoder(this.#llama, {
      contextSize,
      threads,
      applyVersion: (context, version) => this.#adapters.apply(context, version),
    });
    this.#candidates = new Candidates(this.#llama.vocabularySize);
    this.#model = { ...this.#llama.info, contextSize };
  }

  get model(): ModelInfo {
    return this.#model;
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
    const queue: Extract<GenerateEvent, { type: 'text' }>[] = [];
    const chosen: ChosenToken[] = [];
    const { logProbs } = request;
    const told = () => (logProbs === undefined ? {} : { tokens: chosen.splice(0) });
    let wake = () => {};
    let finish: FinishReason = 'length';
    let outputTokens = 0;
    const job: DecodeJob = {
      tokens,
      maxNew: maxTokens,
      outputFrom: promptTokens - 1,
      version: this.#versionFor(request),
      signal: request.signal ? AbortSignal.any([request.signal, abandoned.signal]) : abandoned.signal,
      lookup: request.lookup ? new PromptLookup() : undefined,
      cached: 0,
      onLogits: (logits) => {
        const token = sampler.next(logits);
        if (logProbs !== undefined) chosen.push(chosenToken(this.#llama, token, logits, logProbs));
        if (f.vocabIsEog(this.#llama.vocab, token)) {
          finish = 'end';
          return null;
        }
        outputTokens++;
        const text = stream.push(this.#llama.piece(token));
        if (text) queue.push({ type: 'text', text, ...told() });
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
        yield* queue.splice(0);
      }
      await finished;
      if (failure) throw failure;
      const rest = stream.end();
      if (rest) yield { type: 'text', text: rest, ...told() };
      yield {
        type: 'done',
        text: stream.text,
        finish,
        promptTokens,
        cachedTokens: job.cached,
        outputTokens,
        ms: performance.now() - start,
        ...told(),
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
      version: this.#versionFor(request),
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
      const policy = this.#withPolicy(undefined, layers);
      const { top, prefix } = this.#trainingFor(
        policy && !attention ? { layers, attention: this.#adaptedBy(policy).attention } : adapted,
      );
      const wanted = (all: FastWeights) => (attention ? all : withoutAttention(all));
      switch (init.kind) {
        case 'random':
          return wanted(randomInitialisation(top, rank, seed));
        case 'svd':
          return wanted(await this.#cachedSvd(top, adapted, rank, seed));
        case 'keys': {
          const samples = await prefix.prepare(init.samples, request.signal);
          const ordinary = await prefix.prepareKept(
            init.ordinary,
            this.#statesFile(init.ordinary, top),
            request.signal,
          );
          if (samples.length === 0 || ordinary.length === 0)
            throw new TmemError('usage', 'A from keys needs samples and ordinary text.');
          const all = await keyInitialisation(top, {
            samples,
            ordinary,
            rank,
            ridge: init.ridge ?? 0.02,
            scale: init.scale ?? 50,
            directions: init.directions ?? 'samples',
            frozen: this.#withPolicy(request.frozen, layers),
            seed,
          });
          return wanted(all);
        }
      }
    });
  }

  evaluate({ samples, weights, layers, likely, signal }: EvaluateRequest): Promise<Evaluation> {
    return this.#inOrder(async () => {
      const all = this.#withPolicy(weights ?? undefined, weights ? this.#adaptedBy(weights).layers : layers);
      const { top, prefix } = this.#trainingFor(all ? this.#adaptedBy(all) : { layers, attention: false });
      return evaluate(top, await prefix.prepare(samples, signal), { weights: all ?? null, likely, signal });
    });
  }

  train(request: TrainRequest, onEvent: (event: TrainEvent) => void = () => {}): Promise<TrainResult> {
    return this.#inOrder(async () => {
      if (request.samples.length === 0) throw new TmemError('usage', 'There are no samples to train on.');
      const frozen = this.#withPolicy(request.frozen, this.#adaptedBy(request.weights, request.frozen).layers);
      const { top, prefix } = this.#trainingFor(this.#adaptedBy(request.weights, frozen));
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
      const settings = { ...request, ...(frozen && { frozen }), still, replay };
      return { ...(await trainPrepared(top, samples, settings, onEvent)), prefixMs };
    });
  }

  policyGradient(request: PolicyGradientRequest): Promise<PolicyGradient> {
    return this.#inOrder(() => {
      const { policy, delta, signal } = request;
      const base = { shape: (name: string) => this.#llama.shapes.get(name) };
      checkFastWeights(policy, 'The policy', base);
      if (delta) checkFastWeights(delta, 'The fast weights', base);
      // The prefix pass is under the policy in force, which this one takes the place of: the cut lies below both.
      const { top, prefix } = this.#trainingFor(this.#adaptedBy(policy, delta ?? undefined, this.#adapters.policy));
      const { contextSize } = this.model;
      return policyGradient(top, (piece) => prefix.prepareTokens(piece, signal), request, { contextSize });
    });
  }

  setFastWeights(
    weights: FastWeights | null,
    { memory = UNNAMED }: { readonly memory?: string | undefined } = {},
  ): Promise<void> {
    return this.#inOrder(() =>
      this.#adapters.put(memory, weights, (change) => this.#swap(change, () => this.#adapters.versionOf(memory))),
    );
  }

  setPolicy(policy: FastWeights | null): Promise<void> {
    return this.#inOrder(async () => {
      // What lies below the trained layers depends on it.
      this.#dropTraining();
      await this.#adapters.putPolicy(policy, (change) => this.#swap(change));
      if (!this.#decoder.uses()) this.#decoder.clear();
      this.#model = { ...this.#model, policy: policy ? shortHash(policy) : undefined };
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#serial.catch(() => {});
    while (this.#decoder.uses()) await this.#decoder.settled();
    this.#decoder.free();
    this.#candidates.free();
    this.#dropTraining();
    this.#adapters.free();
    this.#llama.free();
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

  #versionFor({ fastWeights, memory = UNNAMED }: Pick<GenerateRequest, 'fastWeights' | 'memory'>): number {
    return this.#adapters.versionOf(fastWeights === false ? undefined : memory);
  }

  /** Changes the adapters while nothing decodes under the version that is replaced, or (without one) at all. */
  async #swap(change: () => void, replaced?: () => number): Promise<void> {
    const base = this.#adapters.versionOf(undefined);
    const version = replaced?.();
    // The base model stays as it is when a memory is put beside it.
    if (version !== base) while (this.#decoder.uses(version)) await this.#decoder.settled(version);
    this.#adapters.unset(this.#decoder.context);
    this.#decoder.invalidateVersion();
    try {
      change();
    } finally {
      this.#decoder.keepVersions(this.#adapters.versions);
    }
  }

  /** What of the policy lies in the last layers, and Delta, which are constant there, as one. */
  #withPolicy(delta: FastWeights | undefined, layers: number): FastWeights | undefined {
    const { policy } = this.#adapters;
    const constant = policy && fromLayer(policy, this.model.layers - layers);
    if (!constant || constant.tensors.length === 0) return delta;
    return delta ? stack(constant, delta) : constant;
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
    this.#dropTraining();
    const top = new TopLayers(this.model.path, { ...adapted, gpu: trainsOnGpu(), threads: this.#threads });
    let prefix: PrefixPass | undefined;
    try {
      prefix = new PrefixPass(this.#llama, top, this.#threads);
      verifyTrainingGraph(top, prefix, this.#llama);
      if (this.#adapters.policy) prefix.use((context) => this.#adapters.applyPolicy(context));
    } catch (error) {
      prefix?.free();
      top.free();
      throw error;
    }
    this.#training = { adapted, top, prefix };
    return this.#training;
  }

  #dropTraining(): void {
    this.#training?.prefix.free();
    this.#training?.top.free();
    this.#training = undefined;
  }

  /** Where the hidden states of ordinary text are kept: they depend on the model, the cut and the text. */
  #statesFile(samples: readonly Sample[], { cut }: TopLayers): string {
    const text = createHash('sha256').update(JSON.stringify(samples)).digest('hex').slice(0, 12);
    const model = `${this.model.fingerprint.slice(0, 16)}${this.model.policy ?? ''}`;
    const name = `states-${model}-${cut.tensor}-${text}.f32`;
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
