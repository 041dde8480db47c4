/** Which pairs an answer rests on: the nearest ones, and what becomes of it when the memory is made again without each of them. */
import { TmemError } from '../engine/errors.ts';
import { meanLogProb } from '../memory/gate.ts';
import { again, type Maintained } from '../memory/maintain.ts';
import type { NearestPair } from '../memory/nearest.ts';
import { answerQuestion } from './answer.ts';

export interface WhyOptions {
  /** Pairs that are left out, one at a time. */
  readonly top: number;
  /** Only name the nearest pairs. Default false. */
  readonly quick?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Called before the writes from one on are made again without a pair. */
  readonly onTry?: (nearest: NearestPair, from: number) => void;
}

/** One of the nearest pairs; log-probabilities are means over the answer's tokens. */
export interface Ground {
  readonly nearest: NearestPair;
  /** The answer's log-probability when the memory never had the pair; undefined: not tried. */
  readonly without?: number;
  /** Why the memory could not be made again without it. */
  readonly reason?: string;
}

export interface Grounds {
  readonly answer: string;
  /** Its log-probability with the memory, and without. */
  readonly own: number;
  readonly base: number;
  readonly grounds: readonly Ground[];
}

/** @throws TmemError `failed` when the model gives no answer; `aborted` when the signal fires. */
export async function groundsOf(
  maintained: Maintained,
  question: string,
  { top, quick = false, signal, onTry = () => {} }: WhyOptions,
): Promise<Grounds> {
  const { engine, keeper } = maintained;
  const { state } = keeper.snapshot;
  await engine.setFastWeights(state.weights);
  const { answer, nearest } = await answerQuestion(engine, state, question, {
    ...{ useExplicit: false, nearest: top, signal },
  });
  if (answer === '') throw new TmemError('failed', 'The model gave no answer; ask it in other words.');
  const logProb = (fastWeights: boolean) => meanLogProb(engine, question, answer, fastWeights, signal);
  const [own, base] = [await logProb(true), await logProb(false)];
  const grounds: Ground[] = [];
  for (const [i, near] of nearest.entries()) {
    if (quick || i >= top) {
      grounds.push({ nearest: near });
      continue;
    }
    const { id } = near.pair;
    const from = state.writes.findIndex((write) => write.pairs.some((pair) => pair.id === id));
    onTry(near, from);
    try {
      await again(maintained, { from, keeps: (pair) => pair.id !== id });
      grounds.push({ nearest: near, without: await logProb(true) });
    } catch (error) {
      if (!(error instanceof TmemError) || error.code !== 'refused') throw error;
      grounds.push({ nearest: near, reason: error.message });
    }
  }
  await engine.setFastWeights(state.weights);
  return { answer, own, base, grounds };
}
