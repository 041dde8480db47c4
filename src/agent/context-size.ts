/** What the context of any engine holds unless it is told otherwise, and what answers and extraction take of it beside the budget. */
const CONTEXT = 4096;
const BESIDE_BUDGET = 1024;

/** Tokens of an answer at the most: no more than its share of a small budget. */
export const answerTokens = (budget: number): number => Math.min(512, Math.ceil(budget / 2));

/** Tokens of the engine's context that a budget needs; undefined leaves it to the engine. */
export function contextFor(budget: number): number | undefined {
  return budget + BESIDE_BUDGET > CONTEXT ? budget + BESIDE_BUDGET : undefined;
}
