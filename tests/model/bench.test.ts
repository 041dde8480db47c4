/** All benchmarks from the command line to the report, on the small sets and a small real model. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { register } from '../../src/cli/commands/bench.ts';
import { runProgram } from '../../src/cli/program.ts';
import { SMALL_MODEL } from '../support/real-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-bench-'));
after(() => rmSync(folder, { recursive: true }));

interface BenchResult {
  readonly rows: readonly (Record<string, unknown> & { readonly method: string; readonly n: number })[];
  readonly rowsWithAll?: BenchResult['rows'];
  readonly differences: readonly unknown[];
  readonly judge: string | null;
  readonly answers: string;
  readonly report: string;
}

async function bench(...args: string[]): Promise<BenchResult> {
  const [stdout, stderr] = [[] as string[], [] as string[]];
  const sink = (into: string[]) => ({ write: (text: string) => void into.push(text) });
  const argv = ['bench', ...args, '--small', '--model', SMALL_MODEL, '--json'];
  const code = await runProgram([register], argv, {
    ...{ stdout: sink(stdout), stderr: sink(stderr), signal: new AbortController().signal },
  });
  assert.equal(code, 0, stdout.join('') + stderr.join(''));
  return JSON.parse(stdout.join(''));
}
const lines = (file: string) =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('LoCoMo: methods side by side, and a second call only adds what is new', async () => {
  const out = join(folder, 'locomo');
  const common = ['locomo', '--samples', '1', '--out', out, '--methods'];
  const first = await bench(...common, 'full,none');
  const { rows, rowsWithAll, differences } = await bench(...common, 'full,none,rag');
  const [counted, all] = [rows[0]!.n, rowsWithAll![0]!.n];
  assert.ok(all > counted, 'adversarial questions are reported apart');
  assert.deepEqual(
    rows.map(({ method, n }) => [method, n]),
    ['full', 'none', 'rag'].map((method) => [method, counted]),
  );
  assert.equal(differences.length, 2);
  assert.equal(lines(first.answers).length, 3 * all);
  const scores = (result: BenchResult) => result.rows.slice(0, 2).map(({ f1, em, official }) => [f1, em, official]);
  assert.deepEqual(scores({ ...first, rows }), scores(first));
  assert.ok((rows[0]!.f1 as number) > (rows[1]!.f1 as number), 'who sees the conversation knows more');
  assert.match(readFileSync(first.report, 'utf8'), /<td>rag<\/td>/);
});

test('LongMemEval: a haystack for every question, judged by the model itself', async () => {
  const out = join(folder, 'longmemeval');
  const common = ['longmemeval', '--samples', '1', '--judge', 'local', '--budget', '1024', '--out', out];
  const { rows, judge } = await bench(...common, '--methods', 'tmem,full');
  assert.deepEqual(
    rows.map(({ method, n }) => [method, n]),
    [
      ['tmem', 1],
      ['full', 1],
    ],
  );
  assert.match(judge!, /^local /);
  assert.ok(rows.every(({ judged }) => typeof judged === 'number'));
  const tmem = lines(join(out, 'memories.jsonl')).find(({ method }) => method === 'tmem');
  assert.ok(tmem.trainedTokens > 0, 'it has written');
});

test('multi-objective search: the method searches a corpus over several turns', async () => {
  const { rows, answers } = await bench(
    ...['search', '--samples', '1', '--methods', 'bm25', '--out', join(folder, 'search')],
  );
  assert.equal(rows[0]!.n, 1);
  const [answer] = lines(answers);
  assert.ok(answer.contextTokens > 0);
  assert.deepEqual(Object.keys(answer.scores).sort(), ['em', 'f1']);
});

test('CL-bench: tasks judged by their rubrics', async () => {
  const out = join(folder, 'clbench');
  const { rows } = await bench('clbench', '--samples', '1', '--methods', 'memagent', '--judge', 'local', '--out', out);
  assert.deepEqual(
    rows.map(({ method, n, solved }) => [method, n, typeof solved]),
    [['memagent', 1, 'number']],
  );
});
