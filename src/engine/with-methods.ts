import type { Engine } from './types.ts';

/** An engine of which some methods are others. */
export function withMethods(engine: Engine, methods: Partial<Engine>): Engine {
  return new Proxy(engine, {
    get(target, key) {
      const own = methods[key as keyof Engine];
      if (own) return own;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** The engine as one of its memories sees it: what is generated, scored and put in force is under this name. */
export function withMemory(engine: Engine, memory: string): Engine {
  return withMethods(engine, {
    generate: (request) => engine.generate({ ...request, memory }),
    score: (request) => engine.score({ ...request, memory }),
    setFastWeights: (weights) => engine.setFastWeights(weights, { memory }),
  });
}
