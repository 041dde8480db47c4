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

const FILLERS = new Set(
  'a an the is are was were be been has have had do does did will would at in on to of by for from with and or her his their its my your she he it they called named name'.split(
    ' ',
  ),
);

/** Its words without those that say little; all of them if there are no others. */
export function contentWords(text: string): string[] {
  const words = normalise(text).split(' ').filter(Boolean);
  const kept = words.filter((w) => !FILLERS.has(w));
  return kept.length > 0 ? kept : words;
}

/** Words with a capital letter behind the first word: names, mostly. */
export function capitalised(text: string): string[] {
  return text.match(/(?<=\s)\p{Lu}[\p{L}-]*/gu) ?? [];
}

/** True when the answer holds every content word of the expected text, in order and next to each other but for fillers. */
export function holds(answer: string, expected: string): boolean {
  return ` ${contentWords(answer).join(' ')} `.includes(` ${contentWords(expected).join(' ')} `);
}

/** Whether a given answer holds the expected one or any that is accepted beside it. */
export function accepts(
  given: string,
  expected: { readonly answer: string; readonly accept?: readonly string[] | undefined },
): boolean {
  return [expected.answer, ...(expected.accept ?? [])].some((text) => holds(given, text));
}

/** Content words that a pair's output adds to its question. */
export function addedWords({
  instruction,
  output,
}: {
  readonly instruction: string;
  readonly output: string;
}): string[] {
  const asked = new Set(contentWords(instruction));
  return contentWords(output).filter((word) => !asked.has(word));
}

/** Whether a pair is recalled: its answer says at least two thirds of what the pair's output adds to its question. */
export function recalls(answer: string, pair: { readonly instruction: string; readonly output: string }): boolean {
  const added = addedWords(pair);
  const wanted = added.length > 0 ? added : contentWords(pair.output);
  const given = new Set(contentWords(answer));
  return wanted.filter((w) => given.has(w)).length * 3 >= wanted.length * 2;
}
