import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Command } from 'commander';
import { register } from '../../src/cli/commands/bench.ts';
import type { CliIo } from '../../src/cli/io.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-bench-cli-'));
after(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly value: Record<string, unknown> & {
    readonly rows: readonly { readonly method: string; readonly n: number; readonly f1: number }[];
    readonly answers: string;
    readonly report: string;
  };
  readonly text: string;
  readonly contextSize: number | undefined;
}

async function bench(...args: string[]): Promise<Outcome> {
  let outcome: Pick<Outcome, 'value' | 'text'> | undefined;
  let contextSize: number | undefined;
  const io: CliIo = {
    ...{ json: false, verbose: false, out: () => {}, note: () => {}, signal: new AbortController().signal },
    result: (value, human) => {
      outcome = { value: JSON.parse(JSON.stringify(value)), text: human() };
    },
    progress: () => ({ update: () => {}, done: () => {} }),
    openEngine: async (options) => {
      contextSize = options?.contextSize;
      return new ScriptedEngine({ reply: () => 'a red kite', model: { contextSize: contextSize ?? 8192 } });
    },
  };
  const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
  register(program, io);
  await program.parseAsync(['bench', ...args], { from: 'user' });
  return { ...outcome!, contextSize };
}

test('methods are compared on the small set, and the table, the JSON and the report say the same', async () => {
  const out = join(folder, 'small');
  const { value, text } = await bench('locomo', '--small', '--methods', 'bm25,none', '--limit', '4', '--out', out);
  assert.deepEqual(
    value.rows.map(({ method }) => method),
    ['bm25', 'none'],
  );
  const { model, judge, data, prompts, samples, commit } = value;
  assert.deepEqual([typeof model, judge, typeof commit], ['string', null, 'string']);
  assert.match(`${data} ${prompts}`, /^[0-9a-f]{64} [0-9a-f]{16}$/);
  assert.deepEqual(samples, ['small-1', 'small-2']);
  assert.match(text, /method +n +f1 +em +official +95 %/);
  assert.match(text, /bm25 over none: 0\.0 \(0\.0 to 0\.0\)/);
  assert.match(text, new RegExp(`Report: ${value.report}`));
  assert.ok(existsSync(value.answers) && existsSync(value.report));
});

test('only the samples that are named are asked', async () => {
  const out = join(folder, 'named');
  const { value } = await bench(
    ...['locomo', '--small', '--methods', 'none', '--conversations', 'small-2', '--out', out],
  );
  assert.deepEqual(value.samples, ['small-2']);
  await assert.rejects(bench('locomo', '--small', '--methods', 'none', '--conversations', 'conv-1', '--out', out), {
    code: 'usage',
    message: 'The data has no "conv-1"; it has small-1, small-2.',
  });
});

test('some sessions are read, which is said in the result, and a run of all of them has a folder of its own', async () => {
  const args = ['locomo', '--small', '--methods', 'none', '--out', join(folder, 'sessions')];
  const { value } = await bench(...args, '--sessions', '2');
  assert.equal(value.sessions, 2);
  await assert.rejects(bench(...args), { code: 'usage', message: /another sessions/ });
  const data = join(folder, 'unasked.json');
  const [first] = JSON.parse(readFileSync('assets/benchmarks/locomo.json', 'utf8'));
  writeFileSync(data, JSON.stringify([{ ...first, qa: first.qa.slice(0, 1) }]));
  const unasked = ['locomo', '--data', data, '--methods', 'none', '--out', join(folder, 'unasked'), '--sessions', '1'];
  await assert.rejects(bench(...unasked), { code: 'usage', message: /^Nothing is asked about what is read; / });
});

test('the context holds the whole stream only where a method wants it', async () => {
  const sizes = [];
  for (const methods of ['none', 'full']) {
    const args = ['longmemeval', '--small', '--judge', 'local', '--budget', '8000', '--methods', methods];
    sizes.push((await bench(...args, '--out', join(folder, methods))).contextSize);
  }
  assert.deepEqual(sizes, [9024, 9024]);
});

for (const [args, message] of [
  [['cities'], /no benchmark "cities"; choose one of locomo, longmemeval, search, clbench/],
  [['locomo', '--small', '--methods', 'magic'], /no method "magic"/],
  [['locomo', '--small', '--methods', ','], /names no method/],
  [['locomo', '--small', '--ablation', 'colour'], /no ablation "colour"/],
  [['locomo', '--small', '--runs', '3'], /3 greedy runs would all be the same; give --temperature/],
  [['longmemeval', '--small'], /scored by a judge; give --judge local/],
  [['clbench', '--small', '--judge', 'someone'], /--judge must be "local" or a URL, but it is 'someone'/],
  [['clbench', '--small', '--judge', 'http://localhost:1/v1'], /needs --judge-model/],
  [['locomo', '--small', '--data', 'x.json'], /either --small or --data/],
  [['locomo', '--small', '--limit', 'two'], /--limit must be a whole number of at least 1/],
] as const)
  test(`tmem bench ${args.join(' ')} is refused with what is wrong`, async () => {
    await assert.rejects(bench(...args), { code: 'usage', message });
  });

test('data that is not there is named', async () => {
  await assert.rejects(bench('locomo', '--data', join(folder, 'none.json')), {
    code: 'missing',
    message: /none\.json does not exist/,
  });
});
