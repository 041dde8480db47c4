/**
 * How sure an answer is: the probability that it says something that was written, or else something that the base model itself knows.
 *
 * Both are logistic regressions on what the weights and the ledger say of the answer, its question asked with nothing else in the
 * context. `written` was fitted on right answers about written facts against all others, those about people that were never written
 * among them. A general question ("What is the capital of France?") has no pair; whether it may be answered is for the base model
 * to say: `known` was fitted on its right answers to such questions against all others. An answer is either the one or the
 * other, so the confidence is 1 - (1 - written)(1 - known). Fitted by `bench/memory/abstention.ts --fit` on 103 answers of
 * qwen2.5-coder-0.5b, judged on another seed and on qwen2.5-coder-1.5b; figures in LOG.md.
 */
import type { Engine } from '../engine/types.ts';
import type { NearestPair } from './nearest.ts';
import { normalise, recalls } from './recall.ts';
import type { Pair } from './types.ts';

/** What an answer's confidence is computed from. Log-probabilities are in nats a token. */
export interface Evidence {
  /** Mean over the answer's tokens with Delta, and of the base model. */
  readonly mean: number;
  readonly base: number;
  /** The least probable token with Delta, and of the base model. */
  readonly lowest: number;
  readonly baseLowest: number;
  /** The nearest pair's similarity to the question, 0 without one. */
  readonly similarity: number;
  /** Similarity to the question of the pair that the answer says: the most similar one whose output it holds, 0 without one. */
  readonly echo: number;
  /** Share of the question's names that this pair holds; 1 where the question has none. What spills over is said of others. */
  readonly named: number;
}

/**
 * Scores an answer with the weights in force and without, and looks for what it says in the ledger.
 * @param nearest all pairs that share a word with the question, best first
 * @returns undefined: the answer has no tokens
 */
export async function weigh(
  engine: Engine,
  question: string,
  answer: string,
  nearest: readonly NearestPair[],
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
  const said = nearest
    .filter(({ pair }) => recalls(answer, pair))
    .reduce<NearestPair | undefined>(
      (best, near) => (best && best.similarity >= near.similarity ? best : near),
      undefined,
    );
  return {
    ...{ mean: own!.mean, base: base!.mean, lowest: own!.lowest, baseLowest: base!.lowest },
    similarity: nearest[0]?.similarity ?? 0,
    echo: said?.similarity ?? 0,
    named: said ? sharedNames(question, said.pair) : 0,
  };
}

/** Capitalised words and numbers of a question, but for its first word, that a pair holds, too. */
function sharedNames(question: string, { instruction, output }: Pair): number {
  const found = question.matchAll(/(?<=\S\s+)\p{Lu}[\p{L}\p{M}]*|\d[\d.,:]*/gu);
  const names = [...found].flatMap(([name]) => normalise(name).split(' '));
  const held = new Set(normalise(`${instruction} ${output}`).split(' '));
  return names.length > 0 ? names.filter((name) => held.has(name)).length / names.length : 1;
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

/** From here on an answer is as good as certain: it need not be asked for again. */
export const SURE = 0.8;

/** Log-probabilities further down tell no more: the token is not what the model would say. */
const FLOOR = -8;
const floored = (logProb: number) => Math.max(FLOOR, logProb);

/** What the regression of `written` sees, and of `known`; the first number stands for the constant. */
export function writtenFeatures(e: Evidence): number[] {
  return [1, floored(e.lowest), floored(e.mean) - floored(e.base), e.similarity, e.echo, e.named];
}
export function knownFeatures(e: Evidence): number[] {
  return [1, floored(e.base), floored(e.baseLowest), e.similarity];
}

/** Coefficients in the order of the features. */
export interface Coefficients {
  readonly written: readonly number[];
  readonly known: readonly number[];
}
export const FITTED: Coefficients = {
  written: [-6.31, 0.259, 0.0233, 1.402, 2.254, 6.121],
  known: [2.904, 0.153, 2.287, -2.07],
};

/** The confidence in an answer of this evidence. */
export function confidenceOf(evidence: Evidence, coefficients: Coefficients = FITTED): Confidence {
  const written = logistic(coefficients.written, writtenFeatures(evidence));
  const known = logistic(coefficients.known, knownFeatures(evidence));
  return { written, known, confidence: 1 - (1 - written) * (1 - known) };
}

export function logistic(coefficients: readonly number[], features: readonly number[]): number {
  return 1 / (1 + Math.exp(-coefficients.reduce((sum, c, i) => sum + c * features[i]!, 0)));
}
