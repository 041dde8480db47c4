/** What the context of any engine holds unless it is told otherwise, and what answers and extraction take of it beside the budget. */
const CONTEXT = 4096;
const BESIDE_BUDGET = 1024;

/** Tokens of the engine's context that a budget needs; undefined leaves it to the engine. */
export function contextFor(budget: number): number | undefined {
  return budget + BESIDE_BUDGET > CONTEXT ? budget + BESIDE_BUDGET : undefined;
}
