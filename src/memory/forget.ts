/** Forgetting: which pairs, and what of the text goes with them. */
import { withoutDates } from './dates.ts';
import { normalise, recalls } from './recall.ts';
import type { Pair, WriteRecord } from './types.ts';

export interface FoundPair {
  readonly pair: Pair;
  /** Index of its write. */
  readonly write: number;
}

/** Letters of an id that name it. */
const ID_PREFIX = 6;

/** The pairs with this id (or what it begins with), or else those that hold all words of the query. */
export function findPairs(writes: readonly WriteRecord[], query: string): FoundPair[] {
  const all = writes.flatMap(({ pairs }, write) => pairs.map((pair) => ({ pair, write })));
  const named = all.filter(({ pair }) => pair.id === query || (query.length >= ID_PREFIX && pair.id.startsWith(query)));
  if (named.length > 0) return named;
  const wanted = normalise(query).split(' ').filter(Boolean);
  if (wanted.length === 0) return [];
  return all.filter(({ pair }) => {
    const words = new Set(normalise(`${pair.instruction} ${pair.output} ${pair.source}`).split(' '));
    return wanted.every((word) => words.has(word));
  });
}

const SENTENCE = /[^.!?\n]+[.!?]*\s*|\n/g;

/** The text without the sentences that tell one of the pairs. */
export function withoutPairs(text: string, pairs: readonly Pair[]): string {
  const sentences = text.match(SENTENCE) ?? [];
  const kept = sentences.filter((sentence) => !pairs.some((pair) => tells(sentence, pair)));
  return kept.length === sentences.length ? text : kept.join('').trim();
}

/** Words of a sentence that is not said by chance. */
const TELLING_WORDS = 3;

function tells(sentence: string, pair: Pair): boolean {
  const words = normalise(withoutDates(sentence));
  const isQuoted = words.split(' ').length >= TELLING_WORDS && normalise(withoutDates(pair.source)).includes(words);
  return isQuoted || recalls(sentence, pair);
}
