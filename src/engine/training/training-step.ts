import { type CandidateHead, collectLikely } from './head.ts';
import type { PreparedSample } from './packed-batch.ts';
import { freePieces, type Piece } from './pieces.ts';
import type { Trainer } from './trainer.ts';

/** Gradients over the likely tokens between two looks at the whole vocabulary. */
const LIKELY_PASSES = 8;

/**
 * The samples of one optimiser step. The head over the whole vocabulary is more than half of the work of a gradient: with `candidates`,
 * its softmax is over the so many tokens of each answer token that are the most probable ones, and all labels. Which these are is found
 * in a forward pass over the whole vocabulary before the first gradient and before every ninth.
 */
export class TrainingStep {
  /** Loss of each answer token of each sample, as last computed. */
  readonly losses: readonly Float64Array[];
  #trainer: Trainer;
  #candidates: number;
  #pieces: readonly Piece[];
  #likely: CandidateHead | undefined;
  #passesSinceLook = Number.POSITIVE_INFINITY;

  /** @param candidates 0: every pass is over the whole vocabulary. */
  constructor(trainer: Trainer, samples: readonly PreparedSample[], candidates = 0) {
    this.#trainer = trainer;
    this.#candidates = candidates;
    this.losses = samples.map((s) => new Float64Array(s.tokens.length - s.promptLength).fill(Number.POSITIVE_INFINITY));
    this.#pieces = trainer.pack(samples);
  }

  /** Whether the next gradient chooses the likely tokens first, or never does. */
  get looksNext(): boolean {
    return this.#candidates === 0 || this.#passesSinceLook >= LIKELY_PASSES;
  }

  /** Loss (mean over all answer tokens) and gradient. */
  async gradient(signal?: AbortSignal): Promise<{ loss: number; gradNorm: number }> {
    if (this.#candidates > 0 && this.looksNext) await this.look(signal);
    const { loss, gradNorm, tokenLosses } = await this.#trainer.gradient(this.#pieces, signal);
    this.#keep(tokenLosses);
    this.#passesSinceLook++;
    return { loss, gradNorm };
  }

  /** Computes the losses over the whole vocabulary, and takes the likely tokens anew. */
  async look(signal?: AbortSignal): Promise<void> {
    const found = new Set<number>();
    const collect = (logits: Float32Array, V: number) => collectLikely(logits, V, this.#candidates, found);
    for (const { batch } of this.#pieces) batch.setHead(this.#trainer.head);
    this.#keep(await this.#trainer.losses(this.#pieces, signal, this.#candidates > 0 ? collect : undefined));
    if (this.#candidates > 0) this.#takeUp(found);
    this.#passesSinceLook = 0;
  }

  #keep(tokenLosses: readonly (readonly number[])[]): void {
    for (const [i, of] of tokenLosses.entries()) this.losses[i]!.set(of);
  }

  #takeUp(found: Set<number>): void {
    for (const { batch } of this.#pieces) for (const { token } of batch.targets) found.add(token);
    this.#likely?.free();
    this.#likely = this.#trainer.candidateHead(found);
    for (const { batch } of this.#pieces) batch.setHead(this.#likely);
  }

  free(): void {
    freePieces(this.#pieces);
    this.#likely?.free();
  }
}
