import { type CandidateHead, collectLikely } from './head.ts';
import type { PreparedSample } from './packed-batch.ts';
import { freePieces, type Piece, type Trainer } from './trainer.ts';

/** Passes over the tokens that are not yet learned, between two passes over all. */
const PARTIAL_PASSES = 2;

/** What is left of a step without the tokens that are learned. */
interface Partial {
  /** Indices of the samples that are left, and which of their answer tokens are not. */
  readonly samples: readonly number[];
  readonly skipped: readonly (readonly boolean[])[];
  readonly pieces: readonly Piece[];
}

export interface StepOptions {
  /** Answer tokens whose loss is below this are left out of two of three passes. Default 0: none are. */
  readonly skipLoss?: number | undefined;
  /** After the first pass the softmax is over the so many most probable tokens of each row, and all labels. Default 0: over all. */
  readonly candidates?: number | undefined;
}

/**
 * The samples of one optimiser step. Most answer tokens are words that the model says anyway: their gradient is close to 0 but costs as
 * much as any other. With `skipLoss`, two of three passes leave out the tokens whose loss is below it. With `candidates` the head, which
 * is half of the work, is cut down to the tokens that could be said.
 */
export class TrainingStep {
  /** Loss of each answer token of each sample, as last computed. */
  readonly losses: readonly Float64Array[];
  /** Whether the last pass computed all of them. */
  whole = false;
  #trainer: Trainer;
  #samples: readonly PreparedSample[];
  #skipLoss: number;
  #candidates: number;
  #head: CandidateHead | undefined;
  #total: number;
  #all: readonly Piece[];
  /** Partial passes since the last whole one. */
  #passes: number | undefined;
  #partial: Partial | undefined;

  constructor(
    trainer: Trainer,
    samples: readonly PreparedSample[],
    { skipLoss = 0, candidates = 0 }: StepOptions = {},
  ) {
    this.#trainer = trainer;
    this.#candidates = candidates;
    this.#samples = samples;
    this.#skipLoss = skipLoss;
    this.losses = samples.map((s) => new Float64Array(s.tokens.length - s.promptLength).fill(Number.POSITIVE_INFINITY));
    this.#total = samples.reduce((n, s, i) => n + s.weight * this.losses[i]!.length, 0);
    this.#all = trainer.pack(samples, this.#total);
  }

  /** Loss (mean over all answer tokens; of those left out, as last computed) and gradient; `whole` leaves none out. */
  async gradient(options: {
    whole: boolean;
    signal?: AbortSignal | undefined;
  }): Promise<{ loss: number; gradNorm: number }> {
    const unlearned = this.losses.flatMap((losses, i) => (losses.some((l) => l >= this.#skipLoss) ? [i] : []));
    const due = this.#passes === undefined || this.#passes === PARTIAL_PASSES || unlearned.length === 0;
    this.whole = due || options.whole || this.#skipLoss === 0;
    this.#passes = this.whole ? 0 : this.#passes! + 1;
    if (this.whole) this.#dropPartial();
    else this.#partial ??= this.#packUnlearned(unlearned);
    const packed = this.whole ? this.#samples.map((_, i) => i) : this.#partial!.samples;
    const pieces = this.whole ? this.#all : this.#partial!.pieces;
    if (this.#head) for (const { batch } of pieces) batch.setHead(this.#head);
    const likely = this.#candidates > 0 && !this.#head ? new Set<number>() : undefined;
    const onLogits = likely && ((all: Float32Array, V: number) => collectLikely(all, V, this.#candidates, likely));
    const { gradNorm, tokenLosses } = await this.#trainer.gradient(pieces, options.signal, onLogits);
    if (likely) {
      for (const { batch } of pieces) for (const label of batch.labels) likely.add(label);
      this.#head = this.#trainer.candidateHead(likely);
    }
    for (const [n, i] of packed.entries()) {
      const skipped = this.whole ? undefined : this.#partial!.skipped[n]!;
      let next = 0;
      for (let t = 0; t < this.losses[i]!.length; t++) if (!skipped?.[t]) this.losses[i]![t] = tokenLosses[n]![next++]!;
    }
    const sum = this.#samples.reduce((n, s, i) => n + s.weight * this.losses[i]!.reduce((a, b) => a + b, 0), 0);
    return { loss: sum / this.#total, gradNorm };
  }

  #packUnlearned(samples: readonly number[]): Partial {
    const skipped = samples.map((i) => Array.from(this.losses[i]!, (l) => l < this.#skipLoss));
    const left = samples.map((i, n) => ({ ...this.#samples[i]!, skipped: skipped[n]! }));
    return { samples, skipped, pieces: this.#trainer.pack(left, this.#total) };
  }

  free(): void {
    freePieces(this.#all);
    this.#dropPartial();
    this.#head?.free();
  }

  #dropPartial(): void {
    freePieces(this.#partial?.pieces ?? []);
    this.#partial = undefined;
  }
}
