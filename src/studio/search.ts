/** Which facts a search finds. */
import type { Pair } from './types.ts';

/** Every word of the query begins or is within a word of question, answer or quote; case and accents do not count. */
export function matches(
  { instruction, output, source }: Pick<Pair, 'instruction' | 'output' | 'source'>,
  query: string,
) {
  const text = plain(`${instruction} ${output} ${source}`);
  return plain(query)
    .split(/\s+/)
    .every((word) => text.includes(word));
}

const plain = (text: string) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
