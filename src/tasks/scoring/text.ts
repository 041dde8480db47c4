/**
 * F1 and exact match of short answers, in plain words: SQuAD's normalisation, as the TMEM paper reports them.
 * Source of the rules: Rajpurkar et al., evaluation script of SQuAD 2.0.
 */

/** What Python calls punctuation: the printable ASCII characters that are neither letters nor digits. */
export const PUNCTUATION = /[!-/:-@[-`{-~]/g;

const ARTICLES = /(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu;

/** The parts of a text between white space. */
export function words(text: string): string[] {
  return text.split(/\p{White_Space}+/u).filter(Boolean);
}

/** Words in lower case, without ASCII punctuation (what it stood between becomes one word) and a, an, the. */
export function plainWords(text: string): string[] {
  return words(text.toLowerCase().replace(PUNCTUATION, '').replace(ARTICLES, ' '));
}

/**
 * Harmonic mean of precision and recall of the answer's words, each counted as often as it stands in both; 0 if no word
 * does.
 */
export function overlap(answer: readonly string[], reference: readonly string[]): number {
  const left = new Map<string, number>();
  for (const word of reference) left.set(word, (left.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of answer) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    shared++;
  }
  return shared === 0 ? 0 : (2 * shared) / (answer.length + reference.length);
}

/** From 0 to 1. Where one of the two has no words left it is 1 if the other has none either, else 0 (SQuAD 2.0). */
export function f1(answer: string, reference: string): number {
  const [given, wanted] = [plainWords(answer), plainWords(reference)];
  return given.length + wanted.length === 0 ? 1 : overlap(given, wanted);
}

/** 1 if both have the same words in the same order, else 0. */
export function exactMatch(answer: string, reference: string): number {
  return plainWords(answer).join(' ') === plainWords(reference).join(' ') ? 1 : 0;
}
