/**
 * The gradient of a policy's objective (TMEM, arXiv 2606.04536; GRPO, arXiv 2402.03300): of -sum_t w_t log p(a_t | what is before it) to A and
 * B of theta0's adapter, at theta0 + Delta_t with Delta_t constant. Log-probabilities and entropies are those of the distribution that the
 * actions were sampled from, of logits divided by the temperature, as TRL's GRPOTrainer computes its per-token logps and entropies.
 *
 * Memory is bounded: samples are computed in pieces, and the layers of a piece in runs, of which only the residual stream before them is
 * kept; the backward pass computes all but the last run again (gradient checkpointing, Chen et al., arXiv 1604.06174).
 */
import { TmemError, throwIfAborted } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, type Tensor, TYPE } from '../native/library.ts';
import type { PolicyGradient, PolicyGradientRequest, PolicySample } from '../types.ts';
import type { GraphRunner } from './backends.ts';
import { type Deltas, headRows, type LayerRange, throughLayers } from './forward.ts';
import { LoraState } from './lora-state.ts';
import { crossEntropy, crossEntropyGradient, type RowLosses } from './loss.ts';
import { groupSamples, PackedBatch, type SampleStates, type TokenisedSample } from './packed-batch.ts';
import { bySample, yieldToEvents } from './pieces.ts';
import { GRAPH_NODES, type Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** Most tokens of a piece, unless one sample has more: room for several answers behind one long prompt, which is then computed once. */
const PIECE_TOKENS = 2048;
/** Of what the layers of one run keep for its backward pass. */
const ACTIVATION_BYTES = 1 << 30;
/** At least as many as the graph of a layer has, forward and backward: without its attention, and for each block of that. */
const NODES_A_LAYER = 320;
const NODES_A_BLOCK = 100;
/** The logarithm of the smallest probability that is not 0 in F32. */
const LEAST_LOG_PROB = Math.log(2 ** -149);

/** Of each row of a batch. */
interface RowResults {
  readonly logProbs: Float64Array;
  readonly entropies: Float64Array;
}

/**
 * @param prepare the residual streams of samples at the cut
 * @param options.contextSize most tokens of a sample
 * @throws TmemError `usage` for samples or a temperature that make no sense; `missing` for adapters that do not fit the trained layers or too
 *   little memory; `failed` when a log-probability or gradient is not finite; `aborted` when the signal fires
 */
export async function policyGradient(
  top: TopLayers,
  prepare: (samples: readonly TokenisedSample[]) => Promise<SampleStates[]>,
  request: PolicyGradientRequest,
  { contextSize = Number.POSITIVE_INFINITY, activationBytes = ACTIVATION_BYTES } = {},
): Promise<PolicyGradient> {
  check(request, top.shape.V, contextSize);
  const { samples, gradient = true, signal } = request;
  const logProbs = samples.map(({ answer }) => new Float64Array(answer.length));
  const entropies = samples.map(({ answer }) => new Float64Array(answer.length));
  const spoken = distinct(samples);
  const pass = new PolicyPass(top, request, activationBytes);
  try {
    for (const piece of groupSamples(spoken, { tokens: pieceTokens(top, spoken, activationBytes) })) {
      throwIfAborted(signal);
      const states = await prepare(piece);
      const weighted = states.map((of, i) => ({ ...of, weight: 1, tokenWeights: piece[i]!.weights }));
      const batch = new PackedBatch(top, weighted);
      try {
        const found = await pass.run(batch, signal);
        const [ofLogProbs, ofEntropies] = [bySample(batch, found.logProbs), bySample(batch, found.entropies)];
        for (const [i, { indices }] of piece.entries()) {
          for (const index of indices) {
            logProbs[index]!.set(ofLogProbs[i]!);
            entropies[index]!.set(ofEntropies[i]!);
          }
        }
      } finally {
        batch.free();
      }
    }
    return { logProbs, entropies, tensors: gradient ? pass.gradients() : [] };
  } finally {
    pass.free();
  }
}

/** Samples that are the same, as one: what is minimised is linear in the weights. */
interface Spoken extends TokenisedSample {
  readonly indices: number[];
  readonly weights: Float64Array;
}

/** Those that say something, in an order in which those with the same prompt are neighbours, so that it is computed once. */
function distinct(samples: readonly PolicySample[]): Spoken[] {
  const found = new Map<string, Spoken>();
  for (const [index, { prompt, answer, weights }] of samples.entries()) {
    if (answer.length === 0) continue;
    const key = `${prompt.join()}:${answer.join()}`;
    const same = found.get(key);
    if (same) {
      same.indices.push(index);
      for (const [t, weight] of weights.entries()) same.weights[t]! += weight;
    } else {
      const tokens = Int32Array.from([...prompt, ...answer]);
      found.set(key, { indices: [index], tokens, promptLength: prompt.length, weights: Float64Array.from(weights) });
    }
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, spoken]) => spoken);
}

function check({ samples, temperature = 1 }: PolicyGradientRequest, V: number, contextSize: number): void {
  const refuse = (what: string) => new TmemError('usage', what);
  if (!(temperature > 0) || !Number.isFinite(temperature))
    throw refuse(`The temperature of a policy must be a number above 0, not ${temperature}.`);
  for (const [i, { prompt, answer, weights }] of samples.entries()) {
    const name = `Policy sample ${i + 1}`;
    if (prompt.length === 0) throw refuse(`${name} has an empty prompt; give at least one token.`);
    const length = prompt.length + answer.length;
    if (length > contextSize)
      throw refuse(`${name} has ${length} tokens, more than the context of ${contextSize}; use a larger --context.`);
    if (weights.length !== answer.length)
      throw refuse(`${name} has ${answer.length} answer tokens and ${weights.length} weights; give one for each.`);
    if (!weights.every(Number.isFinite)) throw refuse(`${name} has a weight that is not a finite number.`);
    for (const token of [...prompt, ...answer])
      if (!Number.isInteger(token) || token < 0 || token >= V)
        throw refuse(`${name} has token ${token}, which is not in the vocabulary of ${V} tokens.`);
  }
}

function requireFinite(...values: readonly (Float32Array | Float64Array)[]): void {
  if (!values.every((of) => of.every(Number.isFinite)))
    throw new TmemError('failed', 'The policy diverged: its gradient is not finite; use a lower learning rate.');
}

/** Runs batches through the layers with the policy and Delta, and adds up the policy's gradient. */
class PolicyPass {
  #top: TopLayers;
  #deltas: Deltas & { readonly trained: LoraState };
  #runner: GraphRunner;
  #temperature: number;
  #backward: boolean;
  #activationBytes: number;

  constructor(top: TopLayers, request: PolicyGradientRequest, activationBytes: number) {
    const { policy, delta, temperature = 1, gradient = true } = request;
    const trained = new LoraState(top, policy, { trained: gradient, trainsA: gradient });
    this.#deltas = { trained, frozen: delta ? new LoraState(top, delta, { trained: false }) : undefined };
    this.#top = top;
    this.#runner = top.backends.newRunner();
    this.#temperature = temperature;
    this.#backward = gradient;
    this.#activationBytes = activationBytes;
  }

  /** Forward, and backward to the lowest layer that the policy adapts unless all weights are 0. */
  async run(batch: PackedBatch, signal?: AbortSignal): Promise<RowResults> {
    const top = this.#top;
    const f = top.native;
    const backward = this.#backward && batch.weights.some((w) => w !== 0);
    const runs = layerRuns(top, batch, this.#activationBytes);
    const lowest = runs.findIndex(({ to }) => to > this.#lowestLayer);
    const streams = new Streams(top, batch, runs.length);
    /** Before the lowest run nothing has a gradient. */
    const before = (i: number) => (i > lowest ? streams.before[i] : undefined);
    const through = (tape: Tape, i: number) =>
      throughLayers(tape, top, this.#deltas, batch, streams.before[i]!, runs[i]!);
    const pause = async () => {
      await yieldToEvents();
      throwIfAborted(signal);
    };
    try {
      const last = runs.length - 1;
      for (let i = 0; i < last; i++) {
        const tape = top.newTape();
        f.expand(tape.graph, f.copy(tape.c, through(tape, i), streams.before[i + 1]!));
        this.#runner.run(tape);
        await pause();
      }
      const tape = this.#tapeFrom(before(last));
      const keep = () => this.#keep(tape, before(last), streams.gradient);
      const results = this.#head(tape, batch, through(tape, last), backward ? keep : undefined);
      await pause();
      for (let i = last - 1; backward && i >= lowest; i--) {
        const tape = this.#tapeFrom(before(i));
        tape.backward(through(tape, i), streams.gradient!);
        this.#keep(tape, before(i), streams.gradient);
        this.#runner.run(tape);
        await pause();
      }
      return results;
    } finally {
      streams.free();
    }
  }

  get #lowestLayer(): number {
    return Math.min(...Array.from(this.#deltas.trained.slots.keys(), (name) => Number(name.split('.')[1])));
  }

  /** A tape for a run, on which the gradient of the residual stream before it is wanted, if that is given. */
  #tapeFrom(before: Tensor | undefined): Tape {
    const tape = this.#top.newTape();
    if (before) tape.watch(before);
    return tape;
  }

  /** Adds the gradients on the tape to the policy's, and keeps that of the residual stream before the run. */
  #keep(tape: Tape, before: Tensor | undefined, gradient: Tensor | undefined): void {
    const { f, c, graph } = tape;
    for (const { a, b, ofA, ofB } of this.#deltas.trained.slots.values()) {
      for (const [tensor, sum] of [
        [a, ofA!.gradient],
        [b, ofB!.gradient],
      ] as const) {
        const found = tape.gradients.get(tensor);
        if (found) f.expand(graph, f.copy(c, f.add(c, found, sum), sum));
      }
    }
    // All that reads the gradient behind the run is in the graph by now, so it may be written over.
    if (before) f.expand(graph, f.copy(c, tape.gradientOf(before)!, gradient!));
  }

  /** The head on the residual stream h [D, A] behind the last layer; `keep` is called once the tape has gone backward. */
  #head(tape: Tape, batch: PackedBatch, h: Tensor, keep: (() => void) | undefined): RowResults {
    const { f, graph } = tape;
    const rows = tape.scale(headRows(tape, this.#top, batch, h), 1 / this.#temperature);
    const parts: (RowLosses & { readonly entropy: Tensor })[] = [];
    const onPart = (losses: RowLosses) => {
      const entropy = tape.entropy(losses.probabilities, batch.head.V, losses.part.n);
      for (const t of [losses.logProbs, entropy]) {
        f.setOutput(t);
        f.expand(graph, t);
      }
      parts.push({ ...losses, entropy });
    };
    if (keep) {
      tape.backward(rows, crossEntropyGradient(tape, batch, rows, onPart).gradient);
      keep();
    } else crossEntropy(tape, batch, rows, onPart);
    const results = { logProbs: new Float64Array(batch.A), entropies: new Float64Array(batch.A) };
    this.#runner.run(tape, {
      after: () => {
        for (const { part, logProbs, entropy } of parts) {
          const values = new Float32Array(part.n);
          f.tensorGet(logProbs, values, 0, values.byteLength);
          results.logProbs.set(
            values.map((x) => Math.max(x, LEAST_LOG_PROB)),
            part.from,
          );
          f.tensorGet(entropy, values, 0, values.byteLength);
          results.entropies.set(values, part.from);
        }
      },
    });
    requireFinite(results.logProbs, results.entropies);
    return results;
  }

  /** What was added up. @throws TmemError `failed` when it is not finite. */
  gradients(): PolicyGradient['tensors'] {
    const { trained } = this.#deltas;
    return [...trained.slots.values()].map(({ name, source, ofA, ofB }) => {
      const found = { name, a: trained.getA(ofA!.gradient, source.inputs), b: trained.get(ofB!.gradient) };
      requireFinite(found.a, found.b);
      return found;
    });
  }

  free(): void {
    this.#runner.free();
    this.#deltas.trained.free();
    this.#deltas.frozen?.free();
  }
}

/** The residual streams [D, T] before each run of layers, the batch's own the first, and the gradient of the one that is in turn. */
class Streams {
  readonly before: readonly Tensor[];
  readonly gradient: Tensor | undefined;
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer | undefined;

  /** @throws TmemError `missing` when there is too little memory. */
  constructor(top: TopLayers, batch: PackedBatch, runs: number) {
    const f = top.native;
    this.#f = f;
    this.#context = f.init({ mem_size: Number(f.tensorOverhead()) * runs, mem_buffer: null, no_alloc: true });
    const stream = () => f.new2(this.#context, TYPE.F32, top.shape.D, batch.T);
    const own = Array.from({ length: runs - 1 }, stream);
    this.before = [batch.hidden, ...own];
    if (own.length === 0) return;
    this.gradient = stream();
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for so long a sample; use a shorter one.');
    this.#buffer = buffer;
  }

  free(): void {
    if (this.#buffer) this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** What the graph of one layer keeps of so many tokens, and of so many attention scores of a head, until it has gone backward. */
const layerBytes = ({ D, F, H }: TopLayers['shape'], tokens: number, scores: number) =>
  4 * (tokens * (5 * F + 8 * D) + scores * H);

/** Tokens of a piece: as many as need no second forward pass, if there are samples so short. */
function pieceTokens({ shape, first }: TopLayers, samples: readonly TokenisedSample[], bytes: number): number {
  const longest = samples.reduce((n, { tokens }) => Math.max(n, tokens.length), 0);
  const atOnce = Math.floor(bytes / (layerBytes(shape, 1, longest / 2) * (shape.L - first)));
  return atOnce < longest ? PIECE_TOKENS : Math.min(atOnce, PIECE_TOKENS);
}

/** Divides the layers into as few runs as keep within the bytes and a graph's nodes, or of one layer each. */
function layerRuns(
  { shape, first }: Pick<TopLayers, 'shape' | 'first'>,
  batch: Pick<PackedBatch, 'T' | 'inputs'>,
  bytes: number,
): LayerRange[] {
  const { L } = shape;
  const { blocks } = batch.inputs;
  const scores = blocks.reduce((n, { queries, shared, keys }) => n + queries.n * (shared + keys.n), 0);
  const layerNodes = NODES_A_LAYER + NODES_A_BLOCK * blocks.length;
  const most = Math.max(1, Math.floor(Math.min(bytes / layerBytes(shape, batch.T, scores), GRAPH_NODES / layerNodes)));
  const count = Math.ceil((L - first) / most);
  const start = (i: number) => first + Math.round((i * (L - first)) / count);
  return Array.from({ length: count }, (_, i) => ({ from: start(i), to: start(i + 1) }));
}
