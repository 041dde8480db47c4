import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { KeptGenerations } from '../../src/benchmarks/kept-generations.ts';
import { Results } from '../../src/benchmarks/results.ts';
import { type RunEvent, type RunOptions, runBenchmark } from '../../src/benchmarks/run.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { complete, type GenerateRequest } from '../../src/engine/types.ts';
import type { Turn } from '../../src/memory/types.ts';
import type { MethodSpec } from '../../src/methods/types.ts';
import type { Benchmark, BenchmarkQuestion, Sample } from '../../src/tasks/types.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-bench-'));
after(() => rmSync(folder, { recursive: true }));

const turnsOf = (id: string): Turn[] =>
  ['The dog is Rex.', `The cat of ${id} is here.`, 'The cat is Tom.'].map((content) => ({ role: 'user', content }));
const question = (id: string, text: string, reference: string): BenchmarkQuestion => ({
  ...{ id, question: text, ask: { text: `${text} Shortly.` }, reference, category: 'pets' },
});
const samples: Sample[] = ['s1', 's2'].map((id) => ({
  id,
  turns: turnsOf(id),
  questions: [question(`${id}/0`, 'The dog?', 'Rex'), question(`${id}/1`, 'The cat?', 'Tom')],
}));
const benchmark: Benchmark = {
  ...{ name: 'pets', description: '', metric: 'em', needsJudge: false, prompts: {} },
  read: async () => samples,
  score: async ({ reference }, answer) => ({ em: answer === reference ? 1 : 0 }),
};

/** What a method that keeps all turns was shown. */
interface Seen {
  readonly opened: (string | undefined)[];
  observed: number;
  settled: number;
}

function keeper(name: string, aware = false): { spec: MethodSpec; seen: Seen } {
  const seen: Seen = { opened: [], observed: 0, settled: 0 };
  const spec: MethodSpec = {
    ...{ name, description: '', source: '', aware },
    open: async ({ engine, task, signal }) => {
      seen.opened.push(task);
      const kept: string[] = [];
      return {
        observe: async ({ content }) => {
          seen.observed++;
          kept.push(content);
        },
        settle: async () => void seen.settled++,
        answer: async ({ text }) => {
          const prompt = `${kept.join(' ')} ${text}`;
          const { text: said } = await complete(engine, { prompt, ...(signal && { signal }) });
          return { text: said, contextTokens: prompt.length };
        },
        kept: async () => ({ text: kept.join('\n'), items: kept.length, weights: 0 }),
      };
    },
  };
  return { spec, seen };
}

/** Finds "The X is Y." for a question "The X?". */
const reader = (reply?: (asked: string) => string) =>
  new ScriptedEngine({
    reply: ({ prompt }) => {
      const asked = String(prompt);
      if (reply) return reply(asked);
      const [, subject] = /The (\w+)\? Shortly\.$/.exec(asked)!;
      return new RegExp(`The ${subject} is (\\w+)\\.`).exec(asked)?.[1] ?? 'unknown';
    },
  });

const options = (engine: ScriptedEngine, methods: MethodSpec[], more: Partial<RunOptions> = {}): RunOptions => ({
  ...{ engine, methods, budget: 100, runs: 1, seed: 1, temperature: 0, parallel: 2 },
  ...more,
});

test('every method reads every sample once and answers its questions; answers, scores and costs are kept', async () => {
  const out = join(folder, 'all');
  const results = await Results.open(out, {});
  const { spec, seen } = keeper('all');
  const events: RunEvent[] = [];
  await runBenchmark(
    benchmark,
    samples,
    results,
    options(reader(), [spec], { onEvent: (event) => void events.push(event) }),
  );
  assert.deepEqual(seen, { opened: [undefined, undefined], observed: 6, settled: 2 });
  assert.deepEqual(
    results.answers.map(({ method, sample, id, answer, scores }) => [method, sample, id, answer, scores]),
    [
      ['all', 's1', 's1/0', 'Rex', { em: 1 }],
      ['all', 's1', 's1/1', 'Tom', { em: 1 }],
      ['all', 's2', 's2/0', 'Rex', { em: 1 }],
      ['all', 's2', 's2/1', 'Tom', { em: 1 }],
    ],
  );
  const lines = readFileSync(results.answersFile, 'utf8').trim().split('\n');
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)),
    results.answers,
  );
  assert.deepEqual(
    results.memories.map(({ sample, text, items, question: of, contexts }) => [
      sample,
      text,
      items,
      of,
      contexts.length,
    ]),
    ['s1', 's2'].map((id) => [
      id,
      turnsOf(id)
        .map(({ content }) => content)
        .join('\n'),
      3,
      undefined,
      2,
    ]),
  );
  assert.ok(results.memories.every(({ promptTokens, outputTokens }) => promptTokens > 0 && outputTokens > 0));
  assert.deepEqual(events.filter((event) => event.type === 'work').at(-1), {
    ...{ type: 'work', run: 1, method: 'all', sample: 's2', turn: 3, turns: 3, generations: 2, steps: 0 },
  });
  assert.deepEqual(events.filter((event) => event.type === 'answered').at(-1), {
    ...{ type: 'answered', run: 1, method: 'all', sample: 's2', done: 4, of: 4 },
  });
});

test('methods of one memory share its reading, whichever of them has questions left', async () => {
  const out = join(folder, 'one-reading');
  const { spec, seen } = keeper('long');
  const shared: MethodSpec = {
    ...spec,
    open: async (given) => {
      const method = await spec.open(given);
      const short = {
        ...method,
        answer: async () => ({ text: 'Rex', contextTokens: 1 }),
        kept: async () => ({ text: '', items: 0, weights: 0 }),
      };
      return { ...method, as: async (name) => (name === 'short' ? short : undefined) };
    },
  };
  const methods = [shared, { ...keeper('short').spec, name: 'short' }, keeper('apart').spec];
  const results = await Results.open(out, {});
  await runBenchmark(benchmark, samples, results, options(reader(), methods));
  assert.deepEqual([seen.observed, seen.settled], [6, 2], 'the short one reads nothing');
  const answersOf = (method: string) => results.answers.filter((line) => line.method === method);
  assert.deepEqual(
    answersOf('short').map(({ answer, contextTokens }) => [answer, contextTokens]),
    Array.from({ length: 4 }, () => ['Rex', 1]),
  );
  assert.equal(answersOf('apart').length, 4);
  assert.deepEqual(
    results.memories.map(({ method, sample, items, contexts }) => [method, sample, items, contexts.length]),
    ['s1', 's2'].flatMap((id) => [
      ['long', id, 3, 2],
      ['short', id, 0, 0],
      ['apart', id, 3, 2],
    ]),
  );

  // One that was broken off before its last answer does not make the others answer again.
  const lines = readFileSync(results.answersFile, 'utf8').split('\n').filter(Boolean);
  const left = lines.filter((line) => !(line.includes('"long"') && line.includes('s2/1')));
  const again = join(folder, 'one-reading-again');
  await Results.open(again, {});
  writeFileSync(join(again, 'answers.jsonl'), `${left.join('\n')}\n`);
  await runBenchmark(benchmark, samples, await Results.open(again, {}), options(reader(), methods));
  const kept = readFileSync(join(again, 'answers.jsonl'), 'utf8').split('\n').filter(Boolean);
  assert.equal(kept.length, lines.length);
  assert.equal(seen.observed, 9);
});

test('an aware method has a memory of its own for every question, which it knows while it reads', async () => {
  const results = await Results.open(join(folder, 'aware'), {});
  const { spec, seen } = keeper('aware', true);
  await runBenchmark(benchmark, samples.slice(0, 1), results, options(reader(), [spec]));
  assert.deepEqual(seen, { opened: ['The dog?', 'The cat?'], observed: 6, settled: 2 });
  assert.deepEqual(
    results.memories.map(({ question: of }) => of),
    ['s1/0', 's1/1'],
  );
});

test('a run that was broken off goes on where it was, and what is answered is not asked again', async () => {
  const out = join(folder, 'resumed');
  const controller = new AbortController();
  const first = keeper('all');
  const onEvent = (event: RunEvent) => {
    if (event.type === 'answered' && event.done === 3) controller.abort();
  };
  const broken = options(reader(), [first.spec], { parallel: 1, signal: controller.signal, onEvent });
  await assert.rejects(runBenchmark(benchmark, samples, await Results.open(out, {}), broken), { code: 'aborted' });

  const results = await Results.open(out, {});
  assert.equal(results.answers.length, 3);
  const second = keeper('all');
  const engine = reader();
  await runBenchmark(benchmark, samples, results, options(engine, [second.spec]));
  assert.equal(second.seen.opened.length, 1, 'the sample that was whole is not read again');
  assert.equal(engine.calls.filter(({ type }) => type === 'generate').length, 1);
  assert.deepEqual(results.answers.map(({ id }) => id).sort(), ['s1/0', 's1/1', 's2/0', 's2/1']);
});

test('runs are sampled with seeds of their own', async () => {
  const engine = reader(() => 'x');
  const results = await Results.open(join(folder, 'runs'), {});
  const { spec } = keeper('all');
  await runBenchmark(
    benchmark,
    samples.slice(0, 1),
    results,
    options(engine, [spec], { runs: 2, temperature: 0.5, seed: 7 }),
  );
  const asked = engine.calls.flatMap((call) =>
    call.type === 'generate' ? [[call.request.temperature, call.request.seed]] : [],
  );
  assert.deepEqual(asked, [
    [0.5, 7],
    [0.5, 7],
    [0.5, 8],
    [0.5, 8],
  ]);
});

test('where a benchmark is played, each question is played with a memory of its own', async () => {
  const played: string[] = [];
  const game: Benchmark = {
    ...benchmark,
    play: async (method, sample, { question: text, id }) => {
      await method.observe({ role: 'tool', content: 'The bird is Max.' });
      played.push(`${sample.id} ${id}`);
      return method.answer({ text: `${text} Shortly.` });
    },
  };
  const results = await Results.open(join(folder, 'played'), {});
  await runBenchmark(game, samples.slice(0, 1), results, options(reader(), [keeper('all').spec]));
  assert.deepEqual(played, ['s1 s1/0', 's1 s1/1']);
  assert.deepEqual(
    results.answers.map(({ answer }) => answer),
    ['Rex', 'Tom'],
  );
});

test('when one answer fails the others are kept, the error comes out, and the base model is in force again', async () => {
  const engine = reader((asked) => {
    if (asked.includes('cat?')) throw new Error('out of paper');
    return 'Rex';
  });
  const results = await Results.open(join(folder, 'failed'), {});
  await assert.rejects(
    runBenchmark(benchmark, samples, results, options(engine, [keeper('all').spec])),
    /out of paper/,
  );
  assert.deepEqual(
    results.answers.map(({ id }) => id),
    ['s1/0'],
  );
  const last = engine.calls.filter(({ type }) => type === 'set').at(-1);
  assert.deepEqual(last, { type: 'set', weights: null });
});

test('what the base model has said is not asked again by another method or another call, and is counted', async () => {
  const out = join(folder, 'shared');
  const engine = reader();
  const asked = () => engine.calls.filter(({ type }) => type === 'generate').length;
  const [one, two, three] = ['one', 'two', 'three'].map((name) => keeper(name).spec) as [
    MethodSpec,
    MethodSpec,
    MethodSpec,
  ];
  await runBenchmark(benchmark, samples, await Results.open(out, {}), options(engine, [one, two]));
  assert.equal(asked(), 4);
  const results = await Results.open(out, {});
  await runBenchmark(benchmark, samples, results, options(engine, [three]));
  assert.equal(asked(), 4);
  assert.deepEqual(
    results.memories.map(({ method, reused, outputTokens }) => [method, reused, outputTokens > 0]),
    [
      ['one', 0, true],
      ['two', 2, true],
      ['one', 0, true],
      ['two', 2, true],
      ['three', 2, true],
      ['three', 2, true],
    ],
  );
  assert.deepEqual(new Set(results.answers.map(({ answer }) => answer)), new Set(['Rex', 'Tom']));
});

test('what was said with fast weights in force, or of another seed, is asked again', async () => {
  const engine = reader(() => 'x');
  const kept = new KeptGenerations(mkdtempSync(join(folder, 'kept-'))).around(engine);
  const asked = () => engine.calls.filter(({ type }) => type === 'generate').length;
  const say = (request: Partial<GenerateRequest> = {}) => complete(kept, { prompt: 'Hi', ...request });
  const first = await say();
  assert.deepEqual([await say(), asked()], [first, 1]);
  await say({ seed: 2 });
  assert.equal(asked(), 2);
  const tensor = { name: 'a', a: new Float32Array(1), b: new Float32Array(1), inputs: 1, outputs: 1 };
  await kept.setFastWeights({ rank: 1, alpha: 1, tensors: [tensor] });
  await say();
  await say();
  assert.equal(asked(), 4);
  await say({ fastWeights: false });
  assert.equal(asked(), 4, 'the base model is asked whatever is in force');
  await kept.setFastWeights(null);
  await say();
  assert.equal(asked(), 4);
});

test('half a line of a kill is cut off, and asked again', async () => {
  const place = mkdtempSync(join(folder, 'torn-'));
  const engine = reader(() => 'x');
  for (const prompt of ['a', 'b']) await complete(new KeptGenerations(place).around(engine), { prompt });
  const file = join(place, 'generations.jsonl');
  truncateSync(file, statSync(file).size - 5);
  const kept = new KeptGenerations(place);
  for (const prompt of ['a', 'b']) await complete(kept.around(engine), { prompt });
  assert.equal(kept.reused, 1);
  assert.equal(engine.calls.length, 3);
});

test('what was trained before a kill is not trained again, to the same weights, and is gone when the memory is whole', async () => {
  const out = join(folder, 'trained');
  const pairs: MethodSpec = {
    ...{ name: 'pairs', description: '', source: '', aware: false },
    open: async ({ engine }) => ({
      observe: async ({ content }) => {
        const init = { kind: 'random' } as const;
        const weights = await engine.initialise({ init, rank: 2, layers: 1, seed: content.length });
        const samples = [{ prompt: content, answer: 'yes' }];
        const trained = await engine.train({ samples, weights, optimizer: { kind: 'sgd', lr: 1 }, epochs: 2 });
        await engine.setFastWeights(trained.weights);
      },
      settle: async () => {},
      answer: async () => ({ text: 'Rex', contextTokens: 1 }),
      kept: async () => ({ text: '', items: 0, weights: 0 }),
    }),
  };
  const trained = (engine: ScriptedEngine) => engine.calls.filter(({ type }) => type === 'train').length;
  const whole = reader();
  const [sample] = samples;
  await runBenchmark(benchmark, [sample!], await Results.open(join(folder, 'whole'), {}), options(whole, [pairs]));
  assert.equal(trained(whole), 3);

  const killed = reader();
  const controller = new AbortController();
  const onEvent = (event: RunEvent) => {
    if (event.type === 'work' && event.turn === 2) controller.abort();
  };
  const broken = options(killed, [pairs], { signal: controller.signal, onEvent });
  await assert.rejects(runBenchmark(benchmark, [sample!], await Results.open(out, {}), broken), { code: 'aborted' });
  assert.equal(readdirSync(join(out, 'trainings')).length, 2);
  const again = reader();
  await runBenchmark(benchmark, [sample!], await Results.open(out, {}), options(again, [pairs]));
  assert.equal(trained(again), 1);
  const lastWeights = (engine: ScriptedEngine) =>
    engine.calls.findLast((call) => call.type === 'set' && call.weights !== null);
  assert.deepEqual(lastWeights(again), lastWeights(whole));
  assert.ok(!existsSync(join(out, 'trainings')));
});
