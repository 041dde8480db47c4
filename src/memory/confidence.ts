/**
 * How sure an answer is: the probability that it says something that was written, or else something that the base model itself knows.
 *
 * Both are logistic regressions on what the weights and the ledger say of the answer, its question asked with nothing else in the
 * context. `written` was fitted on answers about written facts against wrong ones and answers about people that were never
 * written; `known` on general questions that the base model answers rightly against all the others. An answer is either the
 * one or the other, so the confidence is 1 - (1 - written)(1 - known). Fitted by bench/memory/abstention.ts; figures in LOG.md.
 */
import type { Engine } from '../engine/types.ts';
import type { NearestPair } from './nearest.ts';
import { recalls } from './recall.ts';

/** What an answer's confidence is computed from. Log-probabilities are in nats a token. */
export interface Evidence {
  /** Mean over the answer's tokens with Delta, and of the base model. */
  readonly mean: number;
  readonly base: number;
  /** The least probable token with Delta, and of the base model. */
  readonly lowest: number;
  readonly baseLowest: number;
  /** The nearest pair's similarity, 0 without one. */
  readonly similarity: number;
  /** Whether the answer says what the nearest pair's output does. */
  readonly says: boolean;
}

/** Scores an answer with the weights in force and without. undefined: it has no tokens. */
export async function weigh(
  engine: Engine,
  question: string,
  answer: string,
  nearest: NearestPair | undefined,
  signal?: AbortSignal,
): Promise<Evidence | undefined> {
  if (answer === '') return undefined;
  const [own, base] = await Promise.all(
    [true, false].map(async (fastWeights) => {
      const prompt = [{ role: 'user' as const, content: question }];
      const { logProbs } = await engine.score({ prompt, answer, fastWeights, signal });
      return { mean: logProbs.reduce((a, b) => a + b, 0) / logProbs.length, lowest: Math.min(...logProbs) };
    }),
  );
  return {
    ...{ mean: own!.mean, base: base!.mean, lowest: own!.lowest, baseLowest: base!.lowest },
    similarity: nearest?.similarity ?? 0,
    says: nearest !== undefined && recalls(answer, nearest.pair),
  };
}

export interface Confidence {
  /** Probability that the answer says what was written. */
  readonly written: number;
  /** Probability that it is what the base model knows anyway. */
  readonly known: number;
  /** Of either. */
  readonly confidence: number;
}

/** Below this an answer is more likely to be made up than not. */
export const ABSTAIN = 0.5;

/** Log-probabilities further down tell no more: the token is not what the model would say. */
const FLOOR = -8;
const floored = (logProb: number) => Math.max(FLOOR, logProb);

/** What the regression of `written` sees, and of `known`; the first number stands for the constant. */
export function writtenFeatures(e: Evidence): number[] {
  return [1, floored(e.mean), floored(e.mean) - floored(e.base), floored(e.lowest), e.similarity, e.says ? 1 : 0];
}
export function knownFeatures(e: Evidence): number[] {
  return [1, floored(e.base), floored(e.baseLowest), e.similarity];
}

/** Coefficients in the order of the features. */
export interface Coefficients {
  readonly written: readonly number[];
  readonly known: readonly number[];
}
export const FITTED: Coefficients = { written: [0, 0, 0, 0, 0, 0], known: [0, 0, 0, 0] };

/** The confidence in an answer of this evidence. */
export function confidenceOf(evidence: Evidence, coefficients: Coefficients = FITTED): Confidence {
  const written = logistic(coefficients.written, writtenFeatures(evidence));
  const known = logistic(coefficients.known, knownFeatures(evidence));
  return { written, known, confidence: 1 - (1 - written) * (1 - known) };
}

export function logistic(coefficients: readonly number[], features: readonly number[]): number {
  return 1 / (1 + Math.exp(-coefficients.reduce((sum, c, i) => sum + c * features[i]!, 0)));
}
