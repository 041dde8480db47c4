import { type CandidateHead, collectLikely } from './head.ts';
import type { PreparedSample } from './packed-batch.ts';
import { freePieces, type Piece, type Trainer } from './trainer.ts';

/** Passes over the likely tokens between two passes over the whole vocabulary. */
const LIKELY_PASSES = 4;

/**
 * The samples of one optimiser step. The head over the whole vocabulary is half of the work: with `candidates`, four of five passes take
 * the softmax over the so many tokens of each row that were the most probable ones in the last whole pass, and all labels.
 */
export class TrainingStep {
  /** Loss of each answer token of each sample, as last computed. */
  readonly losses: readonly Float64Array[];
  /** Whether the last pass was over the whole vocabulary. */
  whole = false;
  #trainer: Trainer;
  #candidates: number;
  #samples: readonly PreparedSample[];
  #pieces: readonly Piece[];
  /** The head of likely tokens and the samples packed for it, from the first whole pass on. */
  #likely: { readonly head: CandidateHead; readonly pieces: readonly Piece[] } | undefined;
  #passesSinceWhole = 0;

  /** @param candidates 0: every pass is over the whole vocabulary. */
  constructor(trainer: Trainer, samples: readonly PreparedSample[], candidates = 0) {
    this.#trainer = trainer;
    this.#candidates = candidates;
    this.#samples = samples;
    this.losses = samples.map((s) => new Float64Array(s.tokens.length - s.promptLength).fill(Number.POSITIVE_INFINITY));
    this.#pieces = trainer.pack(samples);
  }

  /** Loss (mean over all answer tokens) and gradient; `whole`: over the whole vocabulary in any case. */
  async gradient({
    whole,
    signal,
  }: {
    whole: boolean;
    signal?: AbortSignal | undefined;
  }): Promise<{ loss: number; gradNorm: number }> {
    this.whole = whole || !this.#likely || this.#passesSinceWhole === LIKELY_PASSES;
    const found = this.whole && this.#candidates > 0 ? new Set<number>() : undefined;
    const onLogits = found && ((logits: Float32Array, V: number) => collectLikely(logits, V, this.#candidates, found));
    const pieces = this.whole ? this.#pieces : this.#likely!.pieces;
    const { loss, gradNorm, tokenLosses } = await this.#trainer.gradient(pieces, signal, onLogits);
    for (const [i, of] of tokenLosses.entries()) this.losses[i]!.set(of);
    this.#passesSinceWhole = this.whole ? 0 : this.#passesSinceWhole + 1;
    if (found) this.#takeUp(found);
    return { loss, gradNorm };
  }

  #takeUp(found: Set<number>): void {
    for (const { batch } of this.#pieces) for (const label of batch.labels) found.add(label);
    const head = this.#trainer.candidateHead(found);
    const pieces = this.#likely?.pieces ?? this.#trainer.pack(this.#samples, { smallHead: true });
    this.#likely?.head.free();
    for (const { batch } of pieces) batch.setHead(head);
    this.#likely = { head, pieces };
  }

  free(): void {
    freePieces(this.#pieces);
    freePieces(this.#likely?.pieces ?? []);
    this.#likely?.head.free();
  }
}
