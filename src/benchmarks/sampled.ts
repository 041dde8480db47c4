import type { Engine } from '../engine/types.ts';
import { withMethods } from '../engine/with-methods.ts';

/** The engine with a temperature and a seed for all that is generated without one of its own. */
export function sampled(engine: Engine, temperature: number, seed: number): Engine {
  if (temperature === 0) return engine;
  return withMethods(engine, { generate: (request) => engine.generate({ temperature, seed, ...request }) });
}
