/**
 * Drafts by prompt lookup (Saxena 2023, "Prompt lookup decoding"): text that is being generated often copies from what stands before it,
 * so what followed the last tokens at their previous occurrence is likely to follow again. Drafts are verified in one batch.
 */
import type { Token } from '../types.ts';

/** Tokens that must have occurred before; the longest match is used. */
const LONGEST_MATCH = 4;
const SHORTEST_MATCH = 2;
const MAX_DRAFT = 8;
/** What a step costs beside its tokens, in tokens: the weights are read once for all. As measured on two cores (LOG.md). */
const STEP_COST = 1;

/** The drafts of one generation. */
export class PromptLookup {
  /** Drafted tokens that were right and that were verified, with a prior of two in three. */
  #right = 2;
  #verified = 3;

  /** What may follow `tokens`: as many as are worth verifying in a step that decodes `others` more sequences, at most `limit`. */
  draft(tokens: readonly Token[], others: number, limit: number): Token[] {
    const from = lastOccurrence(tokens);
    if (from === undefined) return [];
    const rate = this.#right / this.#verified;
    // A right token saves a step's share of this sequence and itself, any costs itself.
    const gain = STEP_COST / (others + 1) + 1;
    let n = 0;
    while (n < Math.min(MAX_DRAFT, limit) && rate ** (n + 1) * gain > 1) n++;
    return tokens.slice(from, from + n);
  }

  observe(right: number, verified: number): void {
    this.#right += right;
    this.#verified += verified;
  }
}

/** Index behind the last previous occurrence of the longest run of last tokens that has one. */
function lastOccurrence(tokens: readonly Token[]): number | undefined {
  const end = tokens.length - 1;
  let best: number | undefined;
  let longest = SHORTEST_MATCH - 1;
  for (let at = end - 1; at >= SHORTEST_MATCH - 1; at--) {
    let n = 0;
    while (n < LONGEST_MATCH && n <= at && tokens[at - n] === tokens[end - n]) n++;
    if (n <= longest) continue;
    longest = n;
    best = at + 1;
    if (n === LONGEST_MATCH) break;
  }
  return best;
}
