/** The model of the model tests, fetched when it is not here, and engines on it. */
import { readFileSync } from 'node:fs';
import { after } from 'node:test';
import { resolveModel } from '../../src/engine/models/store.ts';
import { type EngineOptions, openEngine } from '../../src/engine/process/client.ts';
import type { Engine } from '../../src/engine/types.ts';

export const SMALL_MODEL = 'smollm2-135m';

// Whether the system has a BLAS must not change what a test sees; those about it name theirs.
process.env.TMEM_BLAS = 'off';

const engines: Engine[] = [];
after(async () => {
  for (const engine of engines) await engine.close();
});

/** An engine on a model of the catalogue, closed at the end of the test's file. In this process unless options say otherwise. */
export async function openReal(name = SMALL_MODEL, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const { path } = await resolveModel(name);
  const engine = await openEngine({ modelPath: path, contextSize: 2048, inProcess: true, ...options });
  engines.push(engine);
  return engine;
}

/** A file of tests/fixtures. */
export function fixture(name: string): string {
  return readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
}
