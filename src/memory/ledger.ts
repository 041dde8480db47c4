/** What the ledger says: which pairs hold, and which took whose place. */
import { addedWords, contentWords, normalise } from './recall.ts';
import type { Pair, WriteRecord } from './types.ts';

/**
 * One key for the ways to put a question: "the job of Ann" is "Ann's job", what Ann's dog is called is its name, and words that say little do
 * not count. The order of the others does: who gives is not who is given. Who does something is not who does nothing.
 */
export function questionKey(instruction: string): string {
  const possessive = instruction.replace(/\b(?:the|a|an) ([^?]+?) of ([^?]+)/i, "$2's $1").replace(/['’]s\b/g, '');
  const words = contentWords(possessive);
  const plain = normalise(possessive);
  const wanted = [/\b(?:name|named|called)\b/.test(plain) && 'name', /\b(?:do|done)$/.test(plain) && 'do'];
  return [...words, ...wanted.filter((word) => word && !words.includes(word))].join(' ');
}

/** Whether two answers to one question say the same. */
function sameAnswer(one: Pair, other: Pair): boolean {
  const [a, b] = [one, other].map(({ output }) => new Set(contentWords(output)));
  const within = (x: Set<string>, y: Set<string>) => [...x].every((word) => y.has(word));
  return within(a!, b!) || within(b!, a!);
}

/** The writes that are in the weights. */
export const committed = (writes: readonly WriteRecord[]) => writes.filter((w) => w.verdict === 'committed');

/** A pair as it is noted in the explicit memory. */
export const noteOf = ({ instruction, output }: Pair) => `${instruction} ${output}`;

/** Pairs of committed writes that still hold: of several answers to one question the last, and none to what `newer` answer again. */
export function standingPairs(writes: readonly WriteRecord[], newer: readonly Pair[] = []): Pair[] {
  const byQuestion = new Map<string, Pair>();
  for (const { pairs } of committed(writes))
    for (const pair of pairs) byQuestion.set(questionKey(pair.instruction), pair);
  for (const pair of newer) byQuestion.delete(questionKey(pair.instruction));
  return [...byQuestion.values()];
}

/** Standing pairs to whose questions `newer` give another answer, and the pair that does. */
export function supersededBy(writes: readonly WriteRecord[], newer: readonly Pair[]): { pair: string; by: string }[] {
  const standing = new Map(standingPairs(writes).map((pair) => [questionKey(pair.instruction), pair]));
  return newer.flatMap((by) => {
    const pair = standing.get(questionKey(by.instruction));
    return pair && !sameAnswer(pair, by) ? [{ pair: pair.id, by: by.id }] : [];
  });
}

/** By a pair's id, when it ceased to hold (ISO time of the write) and the pair that took its place. */
export function ends(writes: readonly WriteRecord[]): Map<string, { readonly time: string; readonly by: string }> {
  const ended = new Map<string, { time: string; by: string }>();
  for (const { time, superseded = [] } of committed(writes))
    for (const { pair, by } of superseded) ended.set(pair, { time, by });
  return ended;
}

/** Pairs that answer one question differently: they cannot all be learned. */
export function contradictions(pairs: readonly Pair[]): [Pair, Pair][] {
  const first = new Map<string, Pair>();
  return pairs.flatMap((pair) => {
    const key = questionKey(pair.instruction);
    const before = first.get(key);
    if (!before) first.set(key, pair);
    return before && !sameAnswer(before, pair) ? [[before, pair] as [Pair, Pair]] : [];
  });
}

/** Pairs whose output adds nothing to the question that their source says. */
export function unsupported(pairs: readonly Pair[]): Pair[] {
  return pairs.filter((pair) => {
    const said = ` ${normalise(pair.source)} `;
    const added = addedWords(pair);
    return added.length > 0 && !added.some((word) => said.includes(` ${word} `));
  });
}

/** Ids of the pairs that a write trained: new ones, or the earlier ones that it consolidates. */
export const trainedIds = ({ pairs, consolidated }: WriteRecord): readonly string[] =>
  consolidated?.pairs ?? pairs.map(({ id }) => id);

/** Pairs of a write that were not recalled after it. */
export function notRecalled({ pairs, quiz = [] }: WriteRecord): Pair[] {
  const missed = new Set(quiz.filter(({ kind, ok }) => kind === 'pair' && !ok).map(({ pair }) => pair));
  return pairs.filter(({ id }) => missed.has(id));
}

/** A pair that was written, with the number of its write (from 1), whether it is what holds now, and its end if it has one. */
export interface WrittenPair extends Pair {
  readonly write: number;
  readonly standing: boolean;
  readonly ended: { readonly time: string; readonly by: string } | null;
}

/** Every pair of the committed writes, oldest first. */
export function writtenPairs(writes: readonly WriteRecord[]): WrittenPair[] {
  const standing = new Set(standingPairs(writes));
  const ended = ends(writes);
  return writes.flatMap(({ verdict, pairs }, i) =>
    verdict === 'committed'
      ? pairs.map((pair) => ({
          ...pair,
          ...{ write: i + 1, standing: standing.has(pair), ended: ended.get(pair.id) ?? null },
        }))
      : [],
  );
}

/** What one memory holds and the other does not, and how many pairs are the same. */
export function differenceOf(
  one: readonly WriteRecord[],
  other: readonly WriteRecord[],
): { only: Pair[]; other: Pair[]; same: number } {
  const [mine, theirs] = [standingPairs(one), standingPairs(other)];
  const key = ({ instruction, output }: Pair) => JSON.stringify([instruction, output]);
  const without = (pairs: readonly Pair[], others: readonly Pair[]) => {
    const keys = new Set(others.map(key));
    return pairs.filter((pair) => !keys.has(key(pair)));
  };
  const only = without(mine, theirs);
  return { only, other: without(theirs, mine), same: mine.length - only.length };
}
