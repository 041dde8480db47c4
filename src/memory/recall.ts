/** Whether a greedy answer holds what it should. */

/** Lower case, no accents, no punctuation, single spaces. */
export function normalise(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

const FILLERS = new Set([
  'a',
  'an',
  'the',
  'is',
  'are',
  'was',
  'at',
  'in',
  'on',
  'to',
  'of',
  'by',
  'for',
  'from',
  'with',
  'her',
  'his',
  'their',
  'my',
  'your',
  'she',
  'he',
  'it',
  'they',
]);

/** True when the answer holds every content word of the expected text, in order and next to each other but for fillers. */
export function holds(answer: string, expected: string): boolean {
  const content = (text: string) => {
    const words = normalise(text).split(' ');
    const kept = words.filter((w) => !FILLERS.has(w));
    return kept.length > 0 ? kept : words;
  };
  return ` ${content(answer).join(' ')} `.includes(` ${content(expected).join(' ')} `);
}

/** Whether a given answer holds the expected one or any that is accepted beside it. */
export function accepts(
  given: string,
  expected: { readonly answer: string; readonly accept?: readonly string[] | undefined },
): boolean {
  return [expected.answer, ...(expected.accept ?? [])].some((text) => holds(given, text));
}
