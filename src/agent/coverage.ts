/** Facts that an extraction has overlooked: small models write down one fact of a message and forget the one beside it. */
import type { WorkingTurn } from '../memory/session.ts';
import type { Pair } from '../memory/types.ts';
import { answerWords, contentWords } from './pairs.ts';
import { SENTENCE_END } from './split.ts';

/** A sentence of a session, and the names and numbers in it that no pair answers with. */
export interface Overlooked {
  readonly item: WorkingTurn;
  readonly sentence: string;
  /** What was said before it in the same turn. */
  readonly before: string;
  readonly about: readonly string[];
}

/**
 * The sentences with a name or a number that answers no pair's question, each such word once. A capital letter makes a name, except at
 * the start of a sentence and where a pair writes the word in lower case; the speakers' own names do not count.
 */
export function overlooked(session: readonly WorkingTurn[], pairs: readonly Pair[]): Overlooked[] {
  const known = new Set(pairs.flatMap(answerWords));
  for (const { instruction, output } of pairs)
    for (const word of `${instruction} ${output}`.match(/(?<![\p{L}\p{N}])\p{Ll}\p{L}*/gu) ?? []) known.add(word);
  for (const { turn } of session) for (const word of contentWords(turn.speaker ?? '')) known.add(word);
  const found: Overlooked[] = [];
  for (const item of session) {
    const sentences = item.turn.content.split(SENTENCE_END);
    for (const [i, sentence] of sentences.entries()) {
      const about = namesAndNumbers(sentence).filter((word) => contentWords(word).some((w) => !known.has(w)));
      if (about.length === 0) continue;
      for (const word of about.flatMap(contentWords)) known.add(word);
      found.push({ item, sentence: sentence.trim(), before: sentences.slice(0, i).join('').trim(), about });
    }
  }
  return found;
}

/** Runs of capitalised words behind the first word, and words with digits. */
function namesAndNumbers(sentence: string): string[] {
  const found: string[] = [];
  let last = -2;
  for (const [i, raw] of sentence.trim().split(/\s+/).entries()) {
    const word = raw.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, '').replace(/['’]s$/u, '');
    const name = i > 0 && /^\p{Lu}/u.test(word) && !/^I(?:['’]\p{L}+)?$/u.test(word);
    if (!name && !/\p{N}/u.test(word)) continue;
    if (name && last === i - 1) found[found.length - 1] += ` ${word}`;
    else found.push(word);
    last = i;
  }
  return found;
}
