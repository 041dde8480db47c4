import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { localJudge, remoteJudge } from '../../src/benchmarks/judge.ts';
import { residentKiB, watchMemory } from '../../src/benchmarks/peak-memory.ts';
import { renderReport } from '../../src/benchmarks/report.ts';
import { type AnswerLine, type MemoryLine, Results } from '../../src/benchmarks/results.ts';
import { sampled } from '../../src/benchmarks/sampled.ts';
import { summarise } from '../../src/benchmarks/summary.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { complete } from '../../src/engine/types.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-results-'));
after(() => rmSync(folder, { recursive: true }));

const ANSWER: AnswerLine = {
  ...{
    run: 1,
    method: 'none',
    sample: 's',
    id: 's/1',
    category: 'one',
    question: 'Who?',
    reference: 'Ann',
    answer: 'Ann',
  },
  ...{ scores: { f1: 1 }, contextTokens: 12, ms: 3 },
};
const MEMORY: MemoryLine = {
  ...{ run: 1, method: 'none', sample: 's', text: '', items: 0, weights: 0, seconds: 2, reused: 0, peakMiB: 100 },
  ...{ promptTokens: 12, outputTokens: 2, trainedTokens: 0, contexts: [12, 9] },
};

test('what was added is there when the folder is opened again, and half a line of a kill is cut off', async () => {
  const out = join(folder, 'again');
  const first = await Results.open(out, { budget: 100 });
  first.addAnswer(ANSWER);
  first.addMemories([MEMORY]);
  appendFileSync(first.answersFile, '{"run":1,"meth');
  const second = await Results.open(out, { budget: 100 });
  assert.deepEqual([second.answers, second.memories], [[ANSWER], [MEMORY]]);
  second.addAnswer({ ...ANSWER, id: 's/2' });
  const third = await Results.open(out, { budget: 100 });
  assert.deepEqual(
    third.answers.map(({ id }) => id),
    ['s/1', 's/2'],
  );
});

test('a folder of a run with other settings is refused with what is different', async () => {
  const out = join(folder, 'other');
  await Results.open(out, { budget: 100, seed: 1, judge: null });
  await assert.rejects(Results.open(out, { budget: 200, seed: 1, judge: 'x' }), {
    code: 'usage',
    message: /another budget, judge; give another folder by --out/,
  });
});

test('a report is one file without anything from elsewhere, and text in it cannot become markup', () => {
  const answers = [ANSWER, { ...ANSWER, method: 'tmem', scores: { f1: 0.5 } }];
  const summary = summarise({ metric: 'f1' }, ['tmem', 'none'], answers, [MEMORY], 1);
  const html = renderReport({
    title: 'small </script><b>',
    settings: { data: 'abc', judge: null },
    prompts: { system: 'You <are> a memory.' },
    summary,
    memories: [{ ...MEMORY, method: 'none' }],
    methods: [{ name: 'none', description: 'no memory', source: 'nowhere' }],
  });
  assert.match(html, /<td>tmem<\/td><td>1<\/td><td>50\.0<\/td>/);
  assert.match(html, /<td>tmem<\/td><td>none<\/td><td>-50\.0<\/td>/);
  assert.match(html, /You &lt;are&gt; a memory/);
  assert.doesNotMatch(html, /<b>|<script src|<link|@import|sourceMappingURL/);
  assert.equal(html.match(/<script>/g)!.length, 2);
  const data = /const charts = (.*);\n/.exec(html)![1]!;
  const charts = JSON.parse(data);
  assert.deepEqual(charts.scores.data.datasets[0].data, [50, 100]);
  assert.deepEqual(charts.contexts.data.datasets[0].data, [
    { x: 0, y: 12 },
    { x: 1, y: 9 },
  ]);
});

test('memory is that of a process and all that descend from it', () => {
  const lines = '    1     0  500\n   10     1  100\n   11    10   20\n   12    11    3\n   13     1   70\n';
  assert.equal(residentKiB(lines, 10), 123);
});

test('the memory of this process is seen', { skip: process.platform === 'win32' }, async () => {
  const watch = watchMemory();
  for (let i = 0; i < 100 && watch.peakMiB() === null; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  watch.stop();
  assert.ok(watch.peakMiB()! > 20 && watch.peakMiB()! < 8000, `${watch.peakMiB()} MiB`);
});

test('sampling gets the temperature and the seed where a request has none of its own', async () => {
  const engine = new ScriptedEngine({ reply: () => 'yes' });
  assert.equal(sampled(engine, 0, 3), engine);
  const warm = sampled(engine, 0.7, 3);
  await complete(warm, { prompt: 'a' });
  await complete(warm, { prompt: 'b', temperature: 0 });
  const asked = engine.calls.flatMap((call) => (call.type === 'generate' ? [call.request] : []));
  assert.deepEqual(
    asked.map(({ temperature, seed }) => [temperature, seed]),
    [
      [0.7, 3],
      [0, 3],
    ],
  );
});

test('the local judge is the base model', async () => {
  const engine = new ScriptedEngine({ reply: ({ fastWeights }) => (fastWeights === false ? ' yes ' : 'no') });
  assert.equal(await localJudge(engine).ask('Right?', 10), 'yes');
  assert.match(localJudge(engine).name, /^local /);
});

/** A chat completions server; `answers` are status and body, one a request, the last one again and again. */
async function withServer<T>(
  answers: readonly (readonly [number, string])[],
  use: (url: string, seen: { body: string; key: string | undefined }[]) => Promise<T>,
): Promise<T> {
  const seen: { body: string; key: string | undefined }[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const [status, text] = answers[Math.min(seen.length, answers.length - 1)]!;
    seen.push({ body, key: request.headers.authorization });
    response
      .writeHead(request.url === '/v1/chat/completions' ? status : 404, { 'content-type': 'application/json' })
      .end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/`, seen);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}
const said = (content: string) => JSON.stringify({ choices: [{ message: { role: 'assistant', content } }] });

test("a remote judge is asked as OpenAI's API wants it, and again when the server is busy", async () => {
  await withServer(
    [
      [503, 'busy'],
      [200, said(' yes\n')],
    ],
    async (url, seen) => {
      const judge = remoteJudge(url, 'big', 'secret');
      assert.equal(await judge.ask('Right?', 10), 'yes');
      assert.match(judge.name, /^big at 127\.0\.0\.1:\d+$/);
      assert.equal(seen.length, 2);
      assert.equal(seen[1]!.key, 'Bearer secret');
      const { model, messages, temperature, max_tokens } = JSON.parse(seen[1]!.body);
      assert.deepEqual(
        [model, messages, temperature, max_tokens],
        ['big', [{ role: 'user', content: 'Right?' }], 0, 10],
      );
    },
  );
});

test('a judge that refuses is not asked again, and the error says what to look at', async () => {
  await withServer([[401, '{}']], async (url, seen) => {
    await assert.rejects(remoteJudge(url, 'big').ask('Right?', 10), {
      code: 'failed',
      message: /answered 401\. Check --judge/,
    });
    assert.equal(seen.length, 1);
    assert.equal(seen[0]!.key, undefined);
  });
});

test('the settings of a run can be read by people', async () => {
  const out = join(folder, 'settings');
  await Results.open(out, { benchmark: 'locomo', budget: 5 });
  assert.deepEqual(JSON.parse(readFileSync(join(out, 'settings.json'), 'utf8')), { benchmark: 'locomo', budget: 5 });
});
