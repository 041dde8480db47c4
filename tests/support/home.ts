/** What a command line finds in a test: a home of its own, and an io that keeps what it is told. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { CliIo } from '../../src/cli/io.ts';
import type { Engine } from '../../src/engine/types.ts';

/** An empty folder as `TMEM_HOME` until the end of the test, with nothing of the environment that leads elsewhere. */
export function temporaryHome(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'tmem-home-'));
  const names = ['TMEM_HOME', 'TMEM_STORE', 'TMEM_SESSION'];
  const before = names.map((name) => [name, process.env[name]] as const);
  for (const name of names) delete process.env[name];
  process.env.TMEM_HOME = root;
  t.after(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(root, { recursive: true });
  });
  return root;
}

export interface Told<V> {
  readonly io: CliIo;
  readonly results: { value: V; text: string }[];
  readonly notes: string[];
}

/** An io whose engine is the given one. Results are as JSON has them. */
export function recordingIo<V>(
  engine: Engine,
  { json = false, signal = new AbortController().signal }: { json?: boolean; signal?: AbortSignal } = {},
): Told<V> {
  const results: Told<V>['results'] = [];
  const notes: string[] = [];
  const io: CliIo = {
    json,
    verbose: false,
    out: () => {},
    note: (text) => void notes.push(text),
    result: (value, human) => void results.push({ value: JSON.parse(JSON.stringify(value)), text: human() }),
    progress: () => ({ update: () => {}, done: () => {} }),
    signal,
    openEngine: async () => engine,
  };
  return { io, results, notes };
}
