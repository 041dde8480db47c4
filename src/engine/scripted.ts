/**
 * An engine without a model, for tests of everything above the engine. Its tokens are words, its answers come from a
 * function, its training only leaves a mark. It keeps a record of what it was asked.
 */
import { TmemError, throwIfAborted } from './errors.ts';
import type {
  ChatMessage,
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
} from './types.ts';

export interface ScriptedOptions {
  /** The answer to a request. `weights` are the fast weights in force (null when the request is for the base model). */
  readonly reply: (request: GenerateRequest, weights: FastWeights | null) => string | Promise<string>;
  readonly model?: Partial<ModelInfo>;
}

export type ScriptedCall =
  | { readonly type: 'generate'; readonly request: GenerateRequest }
  | { readonly type: 'score'; readonly request: ScoreRequest }
  | { readonly type: 'evaluate'; readonly request: EvaluateRequest }
  | { readonly type: 'initialise'; readonly request: InitialiseRequest }
  | { readonly type: 'train'; readonly request: TrainRequest }
  | { readonly type: 'policyGradient'; readonly request: PolicyGradientRequest }
  | { readonly type: 'policy'; readonly policy: FastWeights | null }
  | { readonly type: 'set'; readonly weights: FastWeights | null; readonly memory?: string };

const END = '<|end|>';
const WIDTH = 4;

export class ScriptedEngine implements Engine {
  readonly model: ModelInfo;
  /** Every call, in order. */
  readonly calls: ScriptedCall[] = [];
  /** The fast weights in force. */
  weights: FastWeights | null = null;
  /** Those under a name. */
  readonly memories = new Map<string, FastWeights | null>();
  policy: FastWeights | null = null;
  closed = false;
  readonly #options: ScriptedOptions;
  readonly #words: string[] = [];
  readonly #ids = new Map<string, Token>();

  constructor(options: ScriptedOptions) {
    this.#options = options;
    this.model = {
      path: 'scripted',
      fingerprint: 'scripted',
      name: 'scripted',
      architecture: 'scripted',
      layers: 1,
      width: WIDTH,
      feedForward: WIDTH,
      vocabulary: 1 << 20,
      contextTrain: 32768,
      contextSize: 32768,
      bytes: 0,
      device: 'none',
      ...options.model,
    };
  }

  /** A token is a word with the blanks before it; blanks at the end are one more. */
  async tokenize(text: string): Promise<Token[]> {
    return (text.match(/\s*\S+|\s+$/g) ?? []).map((word) => {
      let id = this.#ids.get(word);
      if (id === undefined) {
        id = this.#words.push(word) as number as Token;
        this.#ids.set(word, id);
      }
      return id;
    });
  }

  async detokenize(tokens: readonly Token[]): Promise<string> {
    return tokens.map((token) => this.#words[token - 1] ?? '').join('');
  }

  async renderChat(messages: readonly ChatMessage[], options?: { generation?: boolean }): Promise<string> {
    const turns = messages.map((m) => `<|${m.role}|> ${m.content} ${END}\n`).join('');
    return options?.generation === false ? turns : `${turns}<|assistant|> `;
  }

  async renderSample(instruction: string, output: string): Promise<Sample> {
    const prompt = await this.renderChat([{ role: 'user', content: instruction }]);
    return { prompt, answer: `${output} ${END}` };
  }

  async *generate(request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    throwIfAborted(request.signal);
    this.calls.push({ type: 'generate', request });
    const rendered = typeof request.prompt === 'string' ? request.prompt : await this.renderChat(request.prompt);
    const promptTokens = (await this.tokenize(rendered + (request.prefill ?? ''))).length;
    const room = this.model.contextSize - promptTokens;
    if (room <= 0) throw new TmemError('usage', `The prompt of ${promptTokens} tokens does not fit the context.`);
    const full = await this.#options.reply(request, this.#weightsFor(request));
    const stops = (request.stop ?? []).map((s) => full.indexOf(s)).filter((at) => at >= 0);
    const answer = stops.length > 0 ? full.slice(0, Math.min(...stops)) : full;
    const words = await this.tokenize(answer);
    const kept = words.slice(0, Math.min(request.maxTokens ?? 512, room));
    let text = '';
    for (const word of kept) {
      await new Promise(setImmediate); // lets an abort in between
      throwIfAborted(request.signal);
      const piece = await this.detokenize([word]);
      text += piece;
      const token = { token: word, bytes: Buffer.from(piece), logProb: 0, top: [] };
      yield { type: 'text', text: piece, ...(request.logProbs !== undefined && { tokens: [token] }) };
    }
    const finish = kept.length < words.length ? 'length' : stops.length > 0 ? 'stop' : 'end';
    yield { type: 'done', text, finish, promptTokens, cachedTokens: 0, outputTokens: kept.length, ms: 0 };
  }

  /** Certain of the answer that it would give, uncertain of every other. */
  async score(request: ScoreRequest): Promise<Score> {
    throwIfAborted(request.signal);
    this.calls.push({ type: 'score', request });
    const own = await this.#options.reply(
      { prompt: request.prompt, fastWeights: request.fastWeights },
      this.#weightsFor(request),
    );
    const tokens = await this.tokenize(request.answer);
    const same = own === request.answer;
    const logProb = same ? 0 : -5;
    return {
      tokens,
      logProbs: new Float64Array(tokens.length).fill(logProb),
      greedy: tokens.map(() => same),
      ...(request.likely && {
        likely: tokens.map((token) => ({ tokens: Int32Array.of(token), logProbs: Float32Array.of(logProb) })),
      }),
      ...(request.others && { others: request.others.map((some) => new Float32Array(some.length).fill(logProb)) }),
    };
  }

  /** Earlier samples are remembered better than later ones; of the base model each token is certain. */
  async evaluate(request: EvaluateRequest): Promise<Evaluation> {
    throwIfAborted(request.signal);
    this.calls.push({ type: 'evaluate', request });
    const { samples, weights, likely } = request;
    const tokens = await Promise.all(samples.map(({ answer }) => this.tokenize(answer)));
    const loss = (i: number) => (weights ? i / samples.length : 0);
    return {
      losses: tokens.map((of, i) => of.map(() => loss(i))),
      ...(likely && {
        likely: tokens.map((of, i) =>
          of.map((t) => ({ tokens: Int32Array.of(t), logProbs: Float32Array.of(-loss(i)) })),
        ),
      }),
    };
  }

  async initialise(request: InitialiseRequest): Promise<FastWeights> {
    throwIfAborted(request.signal);
    this.calls.push({ type: 'initialise', request });
    const { rank } = request;
    const a = new Float32Array(rank * WIDTH).fill(1);
    const b = new Float32Array(WIDTH * rank);
    return { rank, alpha: rank, tensors: [{ name: 'blk.0.ffn_up.weight', a, b, inputs: WIDTH, outputs: WIDTH }] };
  }

  /** Each step adds 1 to every number of B; its loss falls as 2 / (1 + step). */
  async train(request: TrainRequest, onEvent?: (event: TrainEvent) => void): Promise<TrainResult> {
    this.calls.push({ type: 'train', request });
    const { samples, epochs, batch = 16, stop } = request;
    const tokens = (await this.tokenize(samples.map((s) => s.prompt + s.answer).join(' '))).length;
    const answerTokens = (await this.tokenize(samples.map((s) => s.answer).join(' '))).length;
    onEvent?.({ type: 'prefix', ms: 0, tokens, answerTokens });
    const steps: { loss: number; gradNorm: number }[] = [];
    const perEpoch = Math.max(1, Math.ceil((samples.length + (request.replay?.length ?? 0)) / batch));
    const ends: { loss: number; ms: number }[] = [];
    training: for (let epoch = 0; epoch < epochs; epoch++) {
      for (let i = 0; i < perEpoch; i++) {
        throwIfAborted(request.signal);
        const loss = 2 / (1 + steps.length);
        steps.push({ loss, gradNorm: loss });
        onEvent?.({ type: 'step', epoch: epoch + 1, step: steps.length, loss, gradNorm: loss, ms: 0 });
        if (loss < (stop?.loss ?? 0)) break training;
      }
      ends.push({ loss: steps.at(-1)!.loss, ms: 0 });
    }
    const tensors = request.weights.tensors.map((t) => ({ ...t, b: t.b.map((x) => x + steps.length) }));
    return { weights: { ...request.weights, tensors }, steps, epochs: ends, prefixMs: 0, tokens, answerTokens };
  }

  /** Every token is certain, and nothing is to be changed. */
  async policyGradient(request: PolicyGradientRequest): Promise<PolicyGradient> {
    throwIfAborted(request.signal);
    this.calls.push({ type: 'policyGradient', request });
    const zeros = request.samples.map(({ answer }) => new Float64Array(answer.length));
    const tensors = request.policy.tensors.map(({ name, a, b }) => ({ name, a: a.map(() => 0), b: b.map(() => 0) }));
    return { logProbs: zeros, entropies: zeros, tensors: request.gradient === false ? [] : tensors };
  }

  async setFastWeights(weights: FastWeights | null, { memory }: { readonly memory?: string } = {}): Promise<void> {
    this.calls.push({ type: 'set', weights, ...(memory !== undefined && { memory }) });
    if (memory === undefined) this.weights = weights;
    else this.memories.set(memory, weights);
  }

  async setPolicy(policy: FastWeights | null): Promise<void> {
    this.calls.push({ type: 'policy', policy });
    this.policy = policy;
  }

  #weightsFor({ fastWeights, memory }: Pick<GenerateRequest, 'fastWeights' | 'memory'>): FastWeights | null {
    if (fastWeights === false) return null;
    return memory === undefined ? this.weights : (this.memories.get(memory) ?? null);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
