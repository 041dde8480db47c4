/**
 * The seam of the whole design: everything above the engine speaks to this interface only.
 * Implementations: `llama/` (llama.cpp in this process), `process/` (the same behind a child process, the default),
 * `scripted.ts` (for tests of everything above the engine).
 *
 * Dimension suffixes used in shapes: T packed tokens, A answer rows, D width, V vocabulary, R rank, L layers.
 */

/** A vocabulary index of one model. */
export type Token = number & { readonly __brand: 'Token' };

export type Role = 'system' | 'user' | 'assistant' | 'tool';

export interface ChatMessage {
  readonly role: Role;
  readonly content: string;
}

export interface ModelInfo {
  /** Absolute path of the GGUF. */
  readonly path: string;
  /** Identity of the base model: a hash over the GGUF's header (metadata and tensor table) and size; what a session is bound to. */
  readonly fingerprint: string;
  readonly name: string;
  readonly architecture: string;
  readonly layers: number;
  readonly width: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  /** Tokens that the model was trained to attend to. */
  readonly contextTrain: number;
  /** Tokens that this engine's context holds over all sequences. */
  readonly contextSize: number;
  /** Bytes of the file. */
  readonly bytes: number;
  /** Computing device in words. */
  readonly device: string;
  /** Names the policy in force: what the model itself says depends on it. undefined: none. */
  readonly policy?: string | undefined;
}

export interface SamplingOptions {
  /** 0 (default) is greedy. */
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  /** llama.cpp's DRY repetition control; off unless given. */
  readonly dry?: {
    readonly multiplier: number;
    readonly base?: number;
    readonly allowedLength?: number;
    readonly lastTokens?: number;
  };
  /** Same seed, same model, same request: same text. Default 0. */
  readonly seed?: number;
}

export interface GenerateRequest extends SamplingOptions {
  /** Either a conversation, rendered with the model's own chat template, or raw text (special tokens are parsed). */
  readonly prompt: readonly ChatMessage[] | string;
  /** Text that the answer begins with (it is not part of the result). */
  readonly prefill?: string;
  /** Default 512. */
  readonly maxTokens?: number;
  /** Generation ends before the first of these; it is not part of the result. */
  readonly stop?: readonly string[];
  /** JSON schema that the output must satisfy; compiled to a grammar. */
  readonly schema?: JsonSchema;
  /** false: answer with the base model, without fast weights. Default true. */
  readonly fastWeights?: boolean;
  /** Answer with the fast weights that were put in force under this name. */
  readonly memory?: string | undefined;
  /** Tell each token's log-probability with its text, and those of this many most probable ones. Default: none. */
  readonly logProbs?: number | undefined;
  /**
   * Draft tokens that repeat what stands before and verify them in one batch: faster where the answer copies much of its prompt. The
   * tokens are those of plain decoding up to rounding, which depends on the number of rows of a batch. Default false: on a CPU, whose
   * time is mostly that of the rows, extraction gains nothing by it (LOG.md).
   */
  readonly lookup?: boolean;
  readonly signal?: AbortSignal;
}

export type FinishReason = 'end' | 'stop' | 'length';

/** A token that was chosen, and what else was likely in its place. */
export interface ChosenToken {
  readonly token: Token;
  /** Its bytes: a character may be spread over several tokens. */
  readonly bytes: Uint8Array;
  /** Natural logarithm of its probability at temperature 1, over the whole vocabulary, before any grammar. */
  readonly logProb: number;
  readonly top: readonly { readonly token: Token; readonly bytes: Uint8Array; readonly logProb: number }[];
}

export type GenerateEvent =
  | {
      readonly type: 'text';
      readonly text: string;
      /** All since the last text, if asked for; the text itself may hold back some of them (a stop sequence that may begin). */
      readonly tokens?: readonly ChosenToken[];
    }
  | {
      readonly type: 'done';
      readonly text: string;
      readonly finish: FinishReason;
      /** Tokens of the prompt, and how many of them were already in the KV cache. */
      readonly promptTokens: number;
      readonly cachedTokens: number;
      readonly outputTokens: number;
      readonly ms: number;
      /** Those that no text told of, the end of the turn among them, if asked for. */
      readonly tokens?: readonly ChosenToken[];
    };

export interface ScoreRequest {
  readonly prompt: readonly ChatMessage[] | string;
  /** The text whose tokens are scored, tokenised on its own after the prompt. */
  readonly answer: string;
  readonly fastWeights?: boolean;
  readonly memory?: string | undefined;
  /** Also give this many of the most probable tokens at each answer token. */
  readonly likely?: number;
  /** Also score these tokens in the place of each answer token. */
  readonly others?: readonly Int32Array[];
  readonly signal?: AbortSignal;
}

export interface Likely {
  readonly tokens: Int32Array;
  readonly logProbs: Float32Array;
}

export interface Score {
  readonly tokens: readonly Token[];
  /** Natural log-probability of each answer token given all before it. */
  readonly logProbs: Float64Array;
  /** Whether each answer token is the most probable one. */
  readonly greedy: readonly boolean[];
  /** At each answer token, if asked for. */
  readonly likely?: readonly Likely[];
  /** Log-probabilities of the other tokens, if there were any. */
  readonly others?: readonly Float32Array[];
}

export interface JsonSchema {
  readonly [key: string]: unknown;
}

/** One LoRA pair of one product: y = W x + (alpha / rank) B A x. */
export interface LoraTensor {
  /** GGUF name of the adapted weight, e.g. `blk.24.ffn_up.weight`. */
  readonly name: string;
  /** A, row-major [R, in]. */
  readonly a: Float32Array;
  /** B, row-major [out, R]. */
  readonly b: Float32Array;
  readonly inputs: number;
  readonly outputs: number;
}

/** Delta: the fast weights. A value, never mutated by the engine. `alpha` equals `rank` throughout tmem, so the scale is 1. */
export interface FastWeights {
  readonly rank: number;
  readonly alpha: number;
  readonly tensors: readonly LoraTensor[];
}

/** One training sample: text after the chat template, prompt and answer tokenised separately; loss on the answer's tokens only. */
export interface Sample {
  readonly prompt: string;
  readonly answer: string;
  /** Multiplies the loss of this sample's tokens. Default 1. */
  readonly weight?: number;
  /**
   * At each answer token the distribution to be matched instead of the token itself, as `Score.likely` gives it; the tokens that it leaves
   * out count as impossible. The loss is then the KL divergence from it, which is the cross entropy up to a constant. undefined: the token.
   */
  readonly targets?: readonly (Likely | undefined)[] | undefined;
}

export type Optimizer =
  | { readonly kind: 'sgd'; readonly lr: number; readonly weightDecay?: number }
  | {
      readonly kind: 'adamw';
      readonly lr: number;
      readonly beta1?: number;
      readonly beta2?: number;
      readonly eps?: number;
      readonly weightDecay?: number;
    };

/** How A is chosen. B is always 0. */
export type Initialisation =
  /** A0 = Sigma_r V_r^T of the adapted weight (the paper's). */
  | { readonly kind: 'svd' }
  | { readonly kind: 'random' }
  /** Rows are the directions in which inputs are largest on the samples for their size on `ordinary` text (see training/keys.ts). */
  | {
      readonly kind: 'keys';
      readonly samples: readonly Sample[];
      readonly ordinary: readonly Sample[];
      /** Relative ridge: lambda = ridge * trace(C) / n. Default 0.02. */
      readonly ridge?: number;
      /** Root mean square over the samples' tokens of A x along A's strongest row. Default 50. */
      readonly scale?: number;
      /** `any`: random directions, of which only what is large on ordinary text is taken away (as in AlphaEdit). Default `samples`. */
      readonly directions?: 'samples' | 'any';
    };

export interface InitialiseRequest {
  readonly init: Initialisation;
  readonly rank: number;
  /** Number of last layers that are adapted. */
  readonly layers: number;
  /** Also adapt the products of their attention, beside those of the feed-forward part. Default false. */
  readonly attention?: boolean;
  readonly seed?: number;
  /** Fast weights that are in force while inputs are captured (`keys` only). */
  readonly frozen?: FastWeights;
  readonly signal?: AbortSignal;
}

export interface EvaluateRequest {
  readonly samples: readonly Sample[];
  /** Fast weights that need not be those in force; null is the base model. */
  readonly weights: FastWeights | null;
  /** As for `initialise`; the weights' own if there are some. */
  readonly layers: number;
  /** Also give this many of the most probable tokens at each answer token. */
  readonly likely?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Evaluation {
  /** Of each answer token of each sample. */
  readonly losses: readonly (readonly number[])[];
  /** The same, if asked for. */
  readonly likely?: readonly (readonly Likely[])[];
}

export interface TrainRequest {
  readonly samples: readonly Sample[];
  /** A is kept, B is trained from where it is. */
  readonly weights: FastWeights;
  /** A is trained, too (an ablation of the paper): not beside `still`, and without `checkpoints`. Default false. */
  readonly trainsA?: boolean;
  /** Added to every forward pass, not trained. */
  readonly frozen?: FastWeights;
  readonly optimizer: Optimizer;
  readonly epochs: number;
  /** Samples a step, in the order given. Default 16. */
  readonly batch?: number;
  /**
   * Stop once `share` (default all) of the first `samples` samples, and of those that are replayed, have no answer token with a loss
   * of `loss` or more. Below ln 2 every token is the most probable one, so that greedy decoding says the answer; a mean would hide the
   * few tokens that carry the fact. With `patience`, also when three quarters of all are so and for this many epochs no more of them
   * were.
   */
  readonly stop?: {
    readonly samples: number;
    readonly loss: number;
    readonly share?: number;
    readonly patience?: number;
  };
  /**
   * The softmax is over this many most probable tokens of each answer token, of all of them together, and the answers' own; they are
   * chosen anew every eight steps. Default 0: over the whole vocabulary.
   */
  readonly candidates?: number;
  /** Trained beside `samples`, and watched as `stop` says. */
  readonly replay?: readonly Sample[];
  /**
   * Text on which the trained Delta is to do as little as it can: half of `strength` times the mean square of B A x over its tokens, of
   * every adapted product, is added to what is minimised (not to the losses that are reported).
   */
  readonly still?: { readonly samples: readonly Sample[]; readonly strength: number } | undefined;
  /** Tell of checkpoints, and go on from one of the same training: the weights are then the same bits as without a break. */
  readonly checkpoints?: { readonly from?: TrainCheckpoint | undefined } | undefined;
  readonly signal?: AbortSignal;
}

/** Between two epochs, all that a training needs to go on as if it had not been broken off. */
export interface TrainCheckpoint {
  /** B and AdamW's moments, row-major [out, R]. */
  readonly tensors: readonly {
    readonly name: string;
    readonly b: Float32Array;
    readonly m: Float32Array;
    readonly v: Float32Array;
  }[];
  /** Of every sample, the last loss of each answer token. */
  readonly losses: readonly Float64Array[];
  /** Most samples that were learned at once, and epochs since then. */
  readonly watched: { readonly most: number; readonly epochsSince: number };
  /** What is done. */
  readonly steps: TrainResult['steps'];
  readonly epochs: TrainResult['epochs'];
}

export type TrainEvent =
  /** Only if asked for. */
  | { readonly type: 'checkpoint'; readonly checkpoint: TrainCheckpoint }
  | { readonly type: 'prefix'; readonly ms: number; readonly tokens: number; readonly answerTokens: number }
  | {
      readonly type: 'step';
      /** Both counted from 1; steps over all epochs. */
      readonly epoch: number;
      readonly step: number;
      readonly loss: number;
      readonly gradNorm: number;
      readonly ms: number;
    };

export interface TrainResult {
  readonly weights: FastWeights;
  /** Mean loss per answer token before each step. */
  readonly steps: readonly { readonly loss: number; readonly gradNorm: number }[];
  /** Loss before the epoch's last step. */
  readonly epochs: readonly { readonly loss: number; readonly ms: number }[];
  readonly prefixMs: number;
  readonly tokens: number;
  readonly answerTokens: number;
}

/** Actions of a policy: what it said after a prompt, and how much each of its tokens is to be made more probable. */
export interface PolicySample {
  readonly prompt: readonly Token[];
  readonly answer: readonly Token[];
  /** By answer token: the w of a loss of -sum w log p. May be negative. */
  readonly weights: readonly number[] | Float64Array;
}

export interface PolicyGradientRequest {
  /** theta0's adapter: the gradient is to its A and B. */
  readonly policy: FastWeights;
  /** Delta_t, a constant; null: zero. */
  readonly delta: FastWeights | null;
  readonly samples: readonly PolicySample[];
  /** Logits are divided by it, as when the actions were sampled. Default 1. */
  readonly temperature?: number;
  /** false: only log-probabilities and entropies, in one forward pass. Default true. */
  readonly gradient?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface PolicyGradient {
  /** Of each answer token of each sample, at the temperature. */
  readonly logProbs: readonly Float64Array[];
  /** Of the distribution at each answer token, in nats. */
  readonly entropies: readonly Float64Array[];
  /** Of the sum over all samples, by tensor of the policy, in its order and shapes; empty without `gradient`. */
  readonly tensors: readonly { readonly name: string; readonly a: Float32Array; readonly b: Float32Array }[];
}

export interface Engine {
  readonly model: ModelInfo;
  /** Special tokens in the text are recognised unless `plain`. */
  tokenize(text: string, options?: { readonly plain?: boolean }): Promise<Token[]>;
  detokenize(tokens: readonly Token[]): Promise<string>;
  /** The model's own Jinja chat template. With `generation` (default true) the assistant's turn is opened. */
  renderChat(messages: readonly ChatMessage[], options?: { readonly generation?: boolean }): Promise<string>;
  /** Question and answer as a training sample: the answer closed as the chat template closes it. */
  renderSample(instruction: string, output: string): Promise<Sample>;
  /**
   * Streams text, then one `done`. Many calls may run at once: their tokens are decoded together.
   * @throws TmemError `usage` for a prompt that does not fit, a bad option or schema; `aborted` when the signal fires.
   */
  generate(request: GenerateRequest): AsyncIterable<GenerateEvent>;
  /** Log-probabilities of a given answer. */
  score(request: ScoreRequest): Promise<Score>;
  /** What the training's graph gives for samples: faster than `score` where they are trained, too, as what is below the trained layers is kept. */
  evaluate(request: EvaluateRequest): Promise<Evaluation>;
  /** New fast weights with B = 0. */
  initialise(request: InitialiseRequest): Promise<FastWeights>;
  /**
   * Trains B on the samples. The weights in force for generation are not touched: see `setFastWeights`.
   * @throws TmemError `failed` when a loss or gradient is not finite; `missing` when the architecture cannot be trained.
   */
  train(request: TrainRequest, onEvent?: (event: TrainEvent) => void): Promise<TrainResult>;
  /** Gradient of a policy's objective with theta0 = base model + policy and Delta held constant. The weights in force are not touched. */
  policyGradient(request: PolicyGradientRequest): Promise<PolicyGradient>;
  /**
   * Puts fast weights in force for everything that follows (null: the base model), or for the requests that name this `memory`. Waits for
   * the running generations that use those in their place; the others go on.
   */
  setFastWeights(weights: FastWeights | null, options?: { readonly memory?: string | undefined }): Promise<void>;
  /** Puts a policy's adapter in force, under all fast weights and without them (null: the base model's own). Waits for running generations. */
  setPolicy(policy: FastWeights | null): Promise<void>;
  close(): Promise<void>;
}

/** Embeds texts with a model made for it. */
export interface Embedder {
  readonly model: { readonly name: string; readonly width: number };
  /** Vectors of length 1; `query` where the model distinguishes what is looked for from what is found. */
  embed(
    texts: readonly string[],
    options?: { readonly query?: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<Float32Array[]>;
  close(): Promise<void>;
}

/** Runs `generate` to its end. */
export async function complete(
  engine: Engine,
  request: GenerateRequest,
): Promise<Extract<GenerateEvent, { type: 'done' }>> {
  for await (const event of engine.generate(request)) if (event.type === 'done') return event;
  throw new Error('generate ended without a done event');
}
