/** Cutting a text that is longer than its room. */

/** Between two sentences, the blanks belonging to the first. */
export const SENTENCE_END = /(?<=[.!?…。！？]["'”’)]*\s+|\n)(?=\S)/;

/**
 * The longest beginning of `text` that fits, and the rest; together they are the text. Cut behind a sentence if one fits,
 * else behind a word, else anywhere. At least one character is taken, so that a caller that goes on with the rest ends.
 * `fits` must be true for every beginning of a text that it is true for.
 */
export async function cut(text: string, fits: (beginning: string) => Promise<boolean>): Promise<[string, string]> {
  for (const boundary of [SENTENCE_END, /(?<=\s)(?=\S)/, /(?:)/u]) {
    const units = text.split(boundary);
    const count = await largest(units.length, (n) => fits(units.slice(0, n).join('')));
    if (count > 0) return [units.slice(0, count).join(''), units.slice(count).join('')];
  }
  const first = text.codePointAt(0)! > 0xffff ? 2 : 1;
  return [text.slice(0, first), text.slice(first)];
}

/** The largest n of 1..count for which `holds`, 0 when there is none; asks for small ones first, as each has its price. */
async function largest(count: number, holds: (n: number) => Promise<boolean>): Promise<number> {
  let low = 0;
  let high = 1;
  while (high <= count && (await holds(high))) {
    low = high;
    high = Math.min(high * 2, high === count ? count + 1 : count);
  }
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (await holds(middle)) low = middle;
    else high = middle;
  }
  return low;
}
