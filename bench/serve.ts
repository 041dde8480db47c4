/**
 * The server under load, on a real model: many streaming clients at once, clients that go away, and how long others wait while one session
 * trains. One JSON document.
 *   node bench/serve.ts [--model smollm2-135m] [--clients 200] [--leavers 500] [--probes 40]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { resolveModel } from '../src/engine/models/store.ts';
import { openEngine } from '../src/engine/process/client.ts';
import { openRuntime } from '../src/serve/runtime/runtime.ts';
import { serve } from '../src/serve/server.ts';
import { positive } from './support/options.ts';
import { setting } from './support/report.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    clients: { type: 'string', default: '200' },
    leavers: { type: 'string', default: '500' },
    probes: { type: 'string', default: '40' },
  },
});
const { path: modelPath } = await resolveModel(options.model);
const home = mkdtempSync(path.join(tmpdir(), 'tmem-bench-serve-'));
const runtime = await openRuntime({
  store: `sqlite:${path.join(home, 'memory.db')}`,
  budget: 512,
  openEngine: ({ background }) => openEngine({ modelPath, background, contextSize: 8192 }),
});
const limits = { queue: 100, perKey: 1000 };
const { url, close } = await serve(runtime, { host: '127.0.0.1', port: 0, limits });

interface Answer {
  readonly status: number;
  /** Milliseconds to the first text, and to the end. */
  readonly first: number;
  readonly all: number;
  readonly ended: boolean;
}

async function chat(
  content: string,
  { session, maxTokens = 24, signal }: { session?: string; maxTokens?: number; signal?: AbortSignal } = {},
): Promise<Answer> {
  const start = performance.now();
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(session && { 'X-Tmem-Session': session }) },
    body: JSON.stringify({ model: 'any', stream: true, max_tokens: maxTokens, messages: [{ role: 'user', content }] }),
    ...(signal && { signal }),
  });
  const { status } = response;
  let [first, text] = [0, ''];
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    if (first === 0 && /"content":"[^"]/.test(text)) first = performance.now() - start;
  }
  return { status, first, all: performance.now() - start, ended: status !== 200 || text.trimEnd().endsWith('[DONE]') };
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const rss = () => Math.round(process.memoryUsage().rss / 1e6);
const note = (text: string) => console.error(text);

note(`${options.clients} clients at once`);
await chat('warm up');
const memoryBefore = rss();
const start = performance.now();
const crowd = await Promise.all(
  Array.from({ length: positive(options, 'clients') }, (_, i) =>
    chat(
      `Name an animal that begins with ${String.fromCharCode(65 + (i % 26))}, and say why, number ${i}.`,
      i % 4 === 0 ? { session: `s${i % 20}` } : {},
    ),
  ),
);
const byStatus = Object.fromEntries(
  [...Map.groupBy(crowd, ({ status }) => status)].map(([status, all]) => [status, all.length]),
);
const load = {
  ...{ clients: crowd.length, byStatus, ended: crowd.filter(({ ended }) => ended).length },
  ...{ seconds: (performance.now() - start) / 1000, memoryBefore, memoryAfter: rss() },
};

note(`${options.leavers} clients that leave`);
let left = 0;
for (let i = 0; i < positive(options, 'leavers'); i += 25)
  await Promise.all(
    Array.from({ length: 25 }, async (_, j) => {
      const signal = AbortSignal.timeout(Math.ceil(Math.random() * 300));
      await chat(`Tell a long story, number ${i + j}.`, {
        signal,
        maxTokens: 200,
        ...(j % 5 === 0 && { session: `s${j}` }),
      }).catch(() => left++);
    }),
  );
for (let i = 0; i < 50 && runtime.status().running + runtime.status().waiting > 0; i++)
  await new Promise((resolve) => setTimeout(resolve, 100));
const { running, waiting } = runtime.status();
const leaving = { asked: positive(options, 'leavers'), left, running, waiting, after: (await chat('And now?')).status };

note('first tokens while another session trains');
const probe = async (n: number) => {
  const found: number[] = [];
  for (let i = 0; i < n; i++) {
    found.push((await chat(`What is ${i} plus ${i + 1}?`, { maxTokens: 8 })).first);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return found;
};
const probes = positive(options, 'probes');
const alone = median(await probe(probes));
const facts = Array.from({ length: 6 }, (_, i) => ({
  instruction: `What is the colour of boat ${i}?`,
  output: `Boat ${i} is ${['red', 'blue', 'green'][i % 3]}.`,
}));
let trains = true;
const training = runtime.import('trainee', facts).finally(() => {
  trains = false;
});
const beside: number[] = [];
while (trains && beside.length < 20 * probes) beside.push(...(await probe(4)));
const [record] = await training;
const waits = {
  probes: beside.length,
  alone: Math.round(alone),
  beside: Math.round(median(beside)),
  ratio: median(beside) / alone,
  trained: record!.verdict,
  trainedSeconds: record!.ms / 1000,
};

console.log(JSON.stringify({ bench: 'serve', ...setting(), model: runtime.model.name, load, leaving, waits }, null, 1));
await close();
rmSync(home, { recursive: true });
