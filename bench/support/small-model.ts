/** How a model as small as SmolLM2-135M plays the synthetic environment: an episode takes seconds, and much of what is sampled can be read. */
export const SMALL_MODEL = { note: false, format: 'lines', examples: 1, earlierTurns: 0, budget: 512 } as const;
