/**
 * The engine behind a child process: a failed native assertion ends that process and not the caller's.
 * The next call after such an end starts a new process and puts the fast weights in force back.
 */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { shortHash } from '../adapter/fast-weights.ts';
import { TmemError, throwIfAborted } from '../errors.ts';
import type { LlamaEmbedderOptions } from '../llama/embedder.ts';
import type {
  ChatMessage,
  Embedder,
  Engine,
  EvaluateRequest,
  Evaluation,
  FastWeights,
  GenerateEvent,
  GenerateRequest,
  InitialiseRequest,
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
import { fromWire, type Method, type OpenOptions, type ToClient, type ToHost } from './protocol.ts';

export interface EngineOptions extends OpenOptions {
  /** The process gives way to all others: for training beside an engine that answers. */
  readonly background?: boolean;
  /** Lets the native libraries' own messages through to stderr. */
  readonly verbose?: boolean;
  /** Opens llama.cpp in this process: a failed native assertion then ends the caller too. */
  readonly inProcess?: boolean;
  /** Module (URL) exporting `open(options): Promise<Engine>`, instead of llama.cpp. */
  readonly engineModule?: string;
  /** Ends the opening. */
  readonly signal?: AbortSignal;
}

export interface EmbedderOptions
  extends LlamaEmbedderOptions,
    Pick<EngineOptions, 'verbose' | 'inProcess' | 'signal'> {}

interface Pending {
  /** What the user was told is going on, for the error if the process ends. */
  readonly doing: string;
  readonly signal: AbortSignal | undefined;
  resolve(value: unknown): void;
  reject(error: Error): void;
  onEvent?(event: GenerateEvent | TrainEvent): void;
}

const DOING: Record<Method | 'generate', string> = {
  tokenize: 'tokenising',
  detokenize: 'reading tokens back',
  renderChat: 'applying the chat template',
  renderSample: 'applying the chat template',
  generate: 'generating',
  score: 'scoring an answer',
  evaluate: 'evaluating samples',
  initialise: 'preparing fast weights',
  train: 'training',
  setFastWeights: 'loading fast weights',
  setPolicy: 'loading a policy',
  policyGradient: 'computing a policy gradient',
  embed: 'embedding texts',
};
/** Characters of the native messages that an error carries as its cause. */
const STDERR_KEPT = 4096;
const CLOSE_TIMEOUT_MS = 10_000;

/**
 * Opens a model, in a child process unless `inProcess`.
 * @throws TmemError `missing` for a model that cannot be used, `aborted` when the signal fires, `failed` when the process ends.
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  throwIfAborted(options.signal);
  if (options.inProcess) {
    const { LlamaEngine } = await import('../llama/engine.ts');
    return LlamaEngine.open(options);
  }
  const { modelPath, contextSize, threads, engineModule, background } = options;
  return started({ type: 'open', options: { modelPath, contextSize, threads }, engineModule, background }, options);
}

/**
 * Opens an embedding model, in a child process of its own unless `inProcess`.
 * @throws TmemError as `openEngine` does, `usage` for bad options or a model that ranks instead of embedding.
 */
export async function openEmbedder(options: EmbedderOptions): Promise<Embedder> {
  throwIfAborted(options.signal);
  if (options.inProcess) {
    const { LlamaEmbedder } = await import('../llama/embedder.ts');
    return LlamaEmbedder.open(options);
  }
  const { modelPath, contextSize, threads, prefixes } = options;
  return started({ type: 'openEmbedder', options: { modelPath, contextSize, threads, prefixes } }, options);
}

async function started(
  open: Opening,
  { verbose, signal }: Pick<EngineOptions, 'verbose' | 'signal'>,
): Promise<EngineClient> {
  const client = new EngineClient(open, verbose);
  try {
    await client.start(signal);
    return client;
  } catch (error) {
    await client.close();
    throw error;
  }
}

/** The message that a new process is sent first. */
type Opening = Extract<ToHost, { type: 'open' | 'openEmbedder' }>;

/** Has the calls of an engine and of an embedding model; those that the process was opened for work. */
class EngineClient implements Engine, Embedder {
  #model: ModelInfo | undefined;
  #child: ChildProcess | undefined;
  #starting: Promise<void> | undefined;
  #opening: Pending | undefined;
  #closed: Promise<void> | undefined;
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();
  /** In force when the process last answered; restored after a restart. The weights without a name are under ''. */
  readonly #weights = new Map<string, FastWeights>();
  #policy: FastWeights | null = null;
  #stderr = '';
  readonly #open: Opening;
  readonly #verbose: boolean;
  readonly #killChild = () => this.#child?.kill('SIGKILL');

  constructor(open: Opening, verbose = false) {
    this.#open = open;
    this.#verbose = verbose;
    process.on('exit', this.#killChild);
  }

  get model(): ModelInfo {
    return this.#model!;
  }

  /** Starts the process unless it runs. Callers that come meanwhile share the start. */
  start(signal?: AbortSignal): Promise<void> {
    if (this.#closed) return Promise.reject(new TmemError('failed', 'The engine is closed; open it again.'));
    this.#starting ??= this.#spawn(signal).catch((error) => {
      this.#starting = undefined;
      this.#child?.kill('SIGKILL');
      throw error;
    });
    return this.#starting;
  }

  async #spawn(signal?: AbortSignal): Promise<void> {
    const verbose = this.#verbose;
    const host = fileURLToPath(new URL(`./host${path.extname(import.meta.url)}`, import.meta.url));
    const child = fork(host, [], {
      serialization: 'advanced',
      execArgv: [],
      env: { ...process.env, GGML_NO_BACKTRACE: '1', ...(verbose ? { TMEM_NATIVE_LOG: '1' } : {}) },
      // Native code writes to both; the user's stdout holds results only.
      stdio: ['ignore', verbose ? 2 : 'ignore', verbose ? 2 : 'pipe', 'ipc'],
    });
    this.#child = child;
    this.#stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    child.on('message', (message: ToClient) => this.#receive(message));
    child.on('error', (error) => this.#ended(child, error.message));
    child.on('close', (code, killedBy) => this.#ended(child, killedBy ? `signal ${killedBy}` : `exit code ${code}`));
    const abort = () => child.kill('SIGKILL');
    signal?.addEventListener('abort', abort, { once: true });
    try {
      this.#model = await new Promise<ModelInfo>((resolve, reject) => {
        this.#opening = { doing: 'opening the model', signal, resolve: resolve as (value: unknown) => void, reject };
        this.#send(this.#open);
      });
    } finally {
      this.#opening = undefined;
      signal?.removeEventListener('abort', abort);
    }
    if (this.#policy) {
      await this.#request('setPolicy', [this.#policy]);
      this.#nameModel();
    }
    for (const [memory, weights] of this.#weights)
      await this.#request('setFastWeights', [weights, { memory: memory || undefined }]);
  }

  #send(message: ToHost): void {
    // A process that has just ended is reported by its 'close' event, which rejects everything pending.
    this.#child?.send(message, () => {});
  }

  #receive(message: ToClient): void {
    switch (message.type) {
      case 'opened':
        this.#opening?.resolve(message.model);
        break;
      case 'event':
        this.#pending.get(message.id)?.onEvent?.(message.event);
        break;
      case 'result':
        this.#take(message.id)?.resolve(message.value);
        break;
      case 'error': {
        const pending = message.id === undefined ? this.#opening : this.#take(message.id);
        pending?.reject(fromWire(message.error));
        break;
      }
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #ended(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#starting = undefined;
    const all = [...this.#pending.values(), ...(this.#opening ? [this.#opening] : [])];
    this.#pending.clear();
    for (const { doing, signal, reject } of all) {
      if (signal?.aborted) reject(new TmemError('aborted', 'Interrupted.'));
      else if (this.#closed) reject(new TmemError('failed', `The engine was closed while ${doing}.`));
      else {
        reject(
          new TmemError(
            'failed',
            `The engine stopped unexpectedly while ${doing} (${how}); try again, and run with --verbose to see its messages.`,
            { cause: this.#stderr || undefined },
          ),
        );
      }
    }
  }

  /** One call to the running process. */
  #request(
    method: Method | 'generate',
    args: readonly unknown[],
    signal?: AbortSignal,
    onEvent?: Pending['onEvent'],
    onId?: (id: number) => void,
  ): Promise<unknown> {
    const id = this.#nextId++;
    onId?.(id);
    const abort = () => this.#send({ type: 'abort', id });
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise((resolve, reject) => {
      if (!this.#child)
        throw new TmemError('failed', `The engine stopped unexpectedly before ${DOING[method]}; try again.`);
      this.#pending.set(id, { doing: DOING[method], signal, resolve, reject, onEvent });
      this.#send({ type: 'call', id, method, args, signal: signal !== undefined });
    }).finally(() => signal?.removeEventListener('abort', abort));
  }

  async #call<T>(
    method: Method,
    args: readonly unknown[],
    signal?: AbortSignal,
    onEvent?: Pending['onEvent'],
  ): Promise<T> {
    throwIfAborted(signal);
    await this.start();
    return (await this.#request(method, args, signal, onEvent)) as T;
  }

  tokenize(text: string, options?: { readonly plain?: boolean }): Promise<Token[]> {
    return this.#call('tokenize', [text, options]);
  }

  detokenize(tokens: readonly Token[]): Promise<string> {
    return this.#call('detokenize', [tokens]);
  }

  renderChat(messages: readonly ChatMessage[], options?: { readonly generation?: boolean }): Promise<string> {
    return this.#call('renderChat', [messages, options]);
  }

  renderSample(instruction: string, output: string): Promise<Sample> {
    return this.#call('renderSample', [instruction, output]);
  }

  async *generate({ signal, ...request }: GenerateRequest): AsyncGenerator<GenerateEvent> {
    throwIfAborted(signal);
    await this.start();
    const events: GenerateEvent[] = [];
    let wake = () => {};
    let ended = false;
    let failure: unknown;
    let id = 0;
    // The call's own signal, so that a consumer that stops reading early stops the generation too.
    this.#request(
      'generate',
      [request],
      signal ?? new AbortController().signal,
      (event) => {
        events.push(event as GenerateEvent);
        wake();
      },
      (given) => {
        id = given;
      },
    )
      .catch((error) => {
        failure = error;
      })
      .finally(() => {
        ended = true;
        wake();
      });
    try {
      for (;;) {
        const event = events.shift();
        if (event) yield event;
        else if (failure) throw failure;
        else if (ended) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      if (!ended) this.#send({ type: 'abort', id });
    }
  }

  score({ signal, ...request }: ScoreRequest): Promise<Score> {
    return this.#call('score', [request], signal);
  }

  evaluate({ signal, ...request }: EvaluateRequest): Promise<Evaluation> {
    return this.#call('evaluate', [request], signal);
  }

  initialise({ signal, ...request }: InitialiseRequest): Promise<FastWeights> {
    return this.#call('initialise', [request], signal);
  }

  train({ signal, ...request }: TrainRequest, onEvent?: (event: TrainEvent) => void): Promise<TrainResult> {
    return this.#call('train', [request], signal, onEvent && ((event) => onEvent(event as TrainEvent)));
  }

  policyGradient({ signal, ...request }: PolicyGradientRequest): Promise<PolicyGradient> {
    return this.#call('policyGradient', [request], signal);
  }

  async setFastWeights(
    weights: FastWeights | null,
    options: { readonly memory?: string | undefined } = {},
  ): Promise<void> {
    await this.#call('setFastWeights', [weights, options]);
    if (weights) this.#weights.set(options.memory ?? '', weights);
    else this.#weights.delete(options.memory ?? '');
  }

  async setPolicy(policy: FastWeights | null): Promise<void> {
    await this.#call('setPolicy', [policy]);
    this.#policy = policy;
    this.#nameModel();
  }

  /** With the policy in force. */
  #nameModel(): void {
    this.#model = { ...this.model, policy: this.#policy ? shortHash(this.#policy) : undefined };
  }

  embed(
    texts: readonly string[],
    { signal, ...options }: Parameters<Embedder['embed']>[1] = {},
  ): Promise<Float32Array[]> {
    return this.#call('embed', [texts, options], signal);
  }

  /** Ends the process; calls that still run are rejected. Safe to call twice. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const child = this.#child;
    if (child) {
      const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
      const timer = setTimeout(() => child.kill('SIGKILL'), CLOSE_TIMEOUT_MS);
      if (this.#opening || !this.#model) child.kill('SIGKILL');
      else this.#send({ type: 'close' });
      await gone;
      clearTimeout(timer);
    }
    process.off('exit', this.#killChild);
  }
}
