import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { transcriptLine } from '../../src/agent/context.ts';
import { turnSchema } from '../../src/memory/types.ts';
import { clbench } from '../../src/tasks/clbench.ts';
import { readJsonArray } from '../../src/tasks/json-array.ts';
import { type LocomoDetails, locomo } from '../../src/tasks/locomo.ts';
import { longmemeval } from '../../src/tasks/longmemeval.ts';
import { benchmarkNames, getBenchmark } from '../../src/tasks/registry.ts';
import type { Benchmark, Judge, ReadOptions, Sample } from '../../src/tasks/types.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-benchmarks-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const asset = (name: string) => new URL(`../../assets/benchmarks/${name}`, import.meta.url).pathname;
const SMALL: readonly [Benchmark, string][] = [
  [locomo, asset('locomo.json')],
  [longmemeval, asset('longmemeval.json')],
  [clbench, asset('clbench.jsonl')],
];

let files = 0;
function write(content: unknown): string {
  const file = join(folder, `${++files}.json`);
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of tests
type Json = any;

/** The small set with one thing changed. */
function changed(name: string, path: string, value: unknown): string {
  const data: Json = JSON.parse(readFileSync(asset(name), 'utf8'));
  const keys = path.split('.');
  const last = keys.pop()!;
  keys.reduce((place, key) => place[key], data)[last] = value;
  return write(data);
}

async function firstOf(benchmark: Benchmark, file: string, options?: ReadOptions): Promise<Sample> {
  const [sample] = await benchmark.read(file, options);
  return sample!;
}

const usage = (message: RegExp) => ({ name: 'TmemError', code: 'usage', message });

function judge(reply: string): Judge & { prompts: string[] } {
  const prompts: string[] = [];
  return {
    ...{ name: 'test', prompts },
    ask: async (prompt) => {
      prompts.push(prompt);
      return reply;
    },
  };
}

test('benchmarks are known by name, and an unknown one is refused with the names of those there are', () => {
  assert.deepEqual(benchmarkNames, ['locomo', 'longmemeval', 'search', 'clbench']);
  for (const name of benchmarkNames) assert.equal(getBenchmark(name).name, name);
  assert.throws(() => getBenchmark('squad'), usage(/"squad".* locomo, longmemeval, search, clbench\.$/));
});

test('all turns of the small sets are turns, and all ids differ', async () => {
  for (const [benchmark, file] of SMALL) {
    const samples = await benchmark.read(file);
    for (const turn of samples.flatMap(({ turns }) => turns)) turnSchema.parse(turn);
    for (const ids of [
      samples.map(({ id }) => id),
      samples.flatMap(({ questions }) => questions.map(({ id }) => id)),
    ]) {
      assert.ok(ids.length > 1);
      assert.equal(new Set(ids).size, ids.length, benchmark.name);
    }
    for (const { ask, question } of samples.flatMap(({ questions }) => questions))
      assert.ok(ask.text.includes(question));
    assert.equal((await benchmark.read(file, { samples: 1 })).length, 1);
  }
});

test('LoCoMo: turns have speaker and date of their session, and captions of pictures', async () => {
  const [first, second] = await locomo.read(asset('locomo.json'));
  assert.deepEqual([first!.id, first!.turns.length, second!.turns.length], ['small-1', 30, 30]);
  assert.deepEqual(first!.turns[0], {
    role: 'user',
    speaker: 'Jonas',
    content: 'Hi Petra! I have not heard from you since the choir trip. What are you up to?',
    time: '2024-03-04T10:12',
  });
  assert.match(first!.turns[5]!.content, /morning on\. \[shares a photo of a large brick oven with an iron door\]$/);
  assert.deepEqual(
    [10, 20].map((i) => first!.turns[i]!.time),
    ['2024-03-19T19:45', '2024-04-06T12:30'],
  );
  assert.equal(second!.turns[10]!.time, '2023-10-02T00:20', 'twenty past midnight');
  assert.match(transcriptLine(second!.turns[10]!), /^\[Monday 2 October 2023, 00:20\] Lukas: Are you awake\?/);
});

test('LoCoMo: sessions are read in the order of their numbers, and dates without a session are nothing', async () => {
  const [{ conversation }] = JSON.parse(readFileSync(asset('locomo.json'), 'utf8'));
  conversation.session_12_date_time = '1:00 am on 9 April, 2024';
  conversation.session_10_date_time = '12:00 pm on 8 April, 2024';
  conversation.session_10 = ['', 'Last.'].map((text) => ({ speaker: 'Petra', dia_id: 'D10:1', text }));
  const { turns } = await firstOf(locomo, changed('locomo.json', '0.conversation', conversation));
  assert.equal(turns.length, 31, 'a turn without words is nothing');
  assert.deepEqual([turns.at(-1)!.content, turns.at(-1)!.time], ['Last.', '2024-04-08T12:00']);
});

test('LoCoMo: of some sessions only what is said in them, and the questions whose evidence all lies there', async () => {
  const file = asset('locomo.json');
  const all = await locomo.read(file);
  const some = await locomo.read(file, { sessions: 2 });
  assert.deepEqual(
    some.map(({ turns }) => turns.length),
    [20, 20],
  );
  for (const [i, { turns, questions }] of some.entries()) {
    assert.deepEqual(turns, all[i]!.turns.slice(0, 20));
    const answerable = all[i]!.questions.filter(({ evidence }) => evidence!.length && evidence!.every((at) => at < 20));
    assert.deepEqual(questions, answerable);
    assert.ok(questions.length > 0 && questions.length < all[i]!.questions.length);
  }
  assert.deepEqual(await locomo.read(file, { sessions: 3 }), all);
});

const EDDA_MENDS = 'She was here yesterday. She can mend it for 2,400 euros, which is half of what I feared.';
const MILO_IS_HIRED = 'You should have knocked at the back door. I have hired a student, Milo, for the mornings.';

test('LoCoMo: questions of the five categories', async () => {
  const [first, second] = await locomo.read(asset('locomo.json'));
  const all = [...first!.questions, ...second!.questions];
  assert.deepEqual([...new Set(all.map(({ category }) => category))].sort(), [
    ...['adversarial', 'multi-hop', 'open-domain', 'single-hop', 'temporal'],
  ]);
  assert.deepEqual(locomo.apart, ['adversarial']);
  const [multi, temporal] = first!.questions;
  assert.deepEqual([multi!.id, multi!.reference], ['small-1/0', 'Edda, Milo']);
  assert.deepEqual(multi!.details, { category: 1 });
  assert.deepEqual(
    multi!.evidence!.map((i) => first!.turns[i]!.content),
    [EDDA_MENDS, MILO_IS_HIRED],
  );
  assert.match(multi!.ask.text, /bakery going\?\nAnswer with a short phrase/);
  assert.match(temporal!.ask.text, /approximate date/);
  assert.equal(temporal!.ask.query, 'When did the bakery open?');
  assert.equal(first!.questions[6]!.reference, '11', 'a number is a text');
});

test('LoCoMo: an adversarial question is a choice whose order follows from the seed', async () => {
  const orders = new Set<string>();
  for (let seed = 0; seed < 12; seed++) {
    const { questions } = await firstOf(locomo, asset('locomo.json'), { seed });
    const last = questions.at(-1)!;
    const { ask, reference, details } = last;
    assert.equal(reference, 'Not mentioned in the conversation');
    assert.deepEqual((details as LocomoDetails).choice, { wrong: 'The Swan', seed });
    assert.match(ask.text, /\(a\) .* \(b\) /);
    orders.add(ask.text);
    const right = ask.text.includes('(a) Not mentioned') ? '(a)' : '(b)';
    const scores = { f1: 1, em: 1, official: 1 };
    assert.deepEqual(await locomo.score(last, right, undefined), scores);
    assert.deepEqual(await locomo.score(last, 'The Swan', undefined), { f1: 0, em: 0, official: 0 });
  }
  assert.equal(orders.size, 2);
});

test('LoCoMo: plain scores and the official one', async () => {
  const { questions } = await firstOf(locomo, asset('locomo.json'));
  const [multi, , , open] = questions;
  assert.deepEqual(await locomo.score(multi!, 'Milo, Edda', undefined), { f1: 1, em: 0, official: 1 });
  const yes = await locomo.score(open!, 'Yes', undefined);
  assert.equal(yes.official, 1, 'what stands behind the semicolon does not count');
  assert.ok(yes.f1! > 0 && yes.f1! < 0.5);
});

test('LoCoMo: what is wrong in a file is said in one sentence that names the place', async () => {
  const cases: [string, unknown, RegExp][] = [
    ['1.qa.2.category', 7, /element 2: qa\.2\.category: [^.]+\.$/],
    ['0.qa.1.answer', undefined, /element 1: qa\.1: there is no answer\.$/],
    ['0.sample_id', undefined, /element 1: sample_id: [^.]+\.$/],
    [
      '0.conversation.session_2_date_time',
      'yesterday',
      /element 1: session_2_date_time: "yesterday" is no date such as/,
    ],
    ['0.conversation.session_1_date_time', undefined, /session_1_date_time: nothing is no date/],
    ['1.conversation.session_3.4.text', 5, /element 2: session_3: 4\.text: [^.]+\.$/],
  ];
  for (const [path, value, message] of cases)
    await assert.rejects(locomo.read(changed('locomo.json', path, value)), usage(message));
});

test('LongMemEval: a sample a question, with sessions in the order of their dates', async () => {
  const samples = await longmemeval.read(asset('longmemeval.json'));
  assert.equal(samples.length, 6);
  const [first] = samples;
  assert.deepEqual([first!.id, first!.turns.length], ['small0001', 12]);
  assert.deepEqual(first!.turns[0], {
    role: 'user',
    content: 'How hot should water be for green tea?',
    time: '2024-02-10T09:05',
  });
  assert.deepEqual(
    first!.turns.slice(0, 2).map(({ role }) => role),
    ['user', 'assistant'],
  );
  for (const { turns } of samples) {
    const times = turns.map(({ time }) => time!);
    assert.deepEqual(times, times.toSorted());
  }
});

test('LongMemEval: questions have their date, evidence and category', async () => {
  const samples = await longmemeval.read(asset('longmemeval.json'));
  assert.deepEqual(
    samples.map(({ questions }) => questions[0]!.category),
    [
      ...['single-session-user', 'single-session-assistant', 'single-session-preference'],
      ...['multi-session', 'knowledge-update', 'abstention'],
    ],
  );
  const { turns, questions } = samples[0]!;
  const [{ ask, details, evidence, reference }] = questions as [(typeof questions)[number]];
  assert.match(ask.text, /^Today is Friday 1 March 2024, 10:00\. What breed is my new rabbit\?\n/);
  assert.deepEqual([ask.query, reference], ['What breed is my new rabbit?', 'Flemish Giant']);
  assert.deepEqual(details, { type: 'single-session-user' });
  assert.deepEqual(
    evidence!.map((i) => turns[i]!.content.slice(0, 24)),
    ['I brought home a rabbit '],
  );
  assert.equal(samples[3]!.questions[0]!.reference, '3', 'a number is a text');
});

test('LongMemEval: the judge decides, and sees another prompt for what cannot be answered', async () => {
  const samples = await longmemeval.read(asset('longmemeval.json'));
  const [plain, abstention] = [samples[0]!.questions[0]!, samples[5]!.questions[0]!];
  const yes = judge('Yes.');
  assert.deepEqual(await longmemeval.score(plain, 'A Flemish Giant', yes), { judged: 1, f1: 1, em: 1 });
  assert.equal((await longmemeval.score(abstention, 'You did not say.', judge('no'))).judged, 0);
  await longmemeval.score(abstention, 'You did not say.', yes);
  assert.ok(yes.prompts[0]!.includes('Flemish Giant') && !yes.prompts[0]!.includes('unanswerable'));
  assert.match(yes.prompts[1]!, /unanswerable/);
  await assert.rejects(longmemeval.score(plain, 'x', undefined), usage(/--judge/));
});

test('LongMemEval: what is wrong in a file is said in one sentence that names the place', async () => {
  const cases: [string, unknown, RegExp][] = [
    ['2.question_type', 'riddle', /element 3: question_type: .+\.$/],
    ['1.haystack_dates', [], /element 2: there are 3 sessions, but 0 dates\.$/],
    ['1.haystack_dates.0', '2024-02-11', /element 2: haystack_dates: "2024-02-11" is no date such as/],
    ['0.question_date', '', /element 1: question_date: "" is no date/],
    ['4.haystack_sessions.1.0.role', 'system', /element 5: haystack_sessions\.1\.0\.role: .+\.$/],
  ];
  for (const [path, value, message] of cases)
    await assert.rejects(longmemeval.read(changed('longmemeval.json', path, value)), usage(message));
});

test('CL-bench: all messages but the last are the stream, the last is the question', async () => {
  const samples = await clbench.read(asset('clbench.jsonl'));
  assert.deepEqual(
    samples.map(({ turns }) => turns.length),
    [3, 5, 3, 1],
  );
  const [{ id, turns, questions }] = samples as [(typeof samples)[number]];
  assert.equal(id, 'small-task-1');
  assert.deepEqual(turns[0], {
    role: 'user',
    origin: 'document',
    content: 'You are the umpire of a board game and answer briefly.',
  });
  assert.deepEqual(
    turns.slice(1).map(({ role }) => role),
    ['user', 'assistant'],
  );
  const [question] = questions;
  assert.match(question!.question, /^White is on square 3/);
  assert.deepEqual([question!.ask.text, question!.category], [question!.question, 'Rule System Application']);
  assert.equal((question!.details as { rubrics: string[] }).rubrics.length, 3);
});

test('CL-bench: solved when the judge finds all rubrics met, and an empty answer is not judged', async () => {
  const { questions } = await firstOf(clbench, asset('clbench.jsonl'));
  const verdict = (score: number) =>
    judge(`{"List of Requirement Satisfaction Status": ["yes"], "Overall Score": ${score}}`);
  const right = verdict(1);
  assert.deepEqual(await clbench.score(questions[0]!, 'Square 4.', right), { solved: 1 });
  assert.match(right.prompts[0]!, /1\. Says that White's stone ends on square 4\.[\s\S]*Square 4\./);
  assert.deepEqual(await clbench.score(questions[0]!, 'Square 5.', verdict(0)), { solved: 0 });
  assert.deepEqual(await clbench.score(questions[0]!, ' \n', right), { solved: 0 });
  assert.equal(right.prompts.length, 1);
  await assert.rejects(clbench.score(questions[0]!, 'x', undefined), usage(/--judge/));
});

test('CL-bench: what is wrong in a file is said in one sentence that names the place', async () => {
  const [line] = readFileSync(asset('clbench.jsonl'), 'utf8').split('\n');
  const task = JSON.parse(line!);
  const cases: [object, RegExp][] = [
    [{ ...task, rubrics: [] }, /line 2: rubrics: .+\.$/],
    [{ ...task, messages: task.messages.slice(0, -1) }, /line 2: messages: the last one must be of the user\.$/],
    [{ ...task, metadata: {} }, /line 2: metadata\.task_id: .+\.$/],
  ];
  for (const [wrong, message] of cases)
    await assert.rejects(clbench.read(write(`${line}\n${JSON.stringify(wrong)}\n`)), usage(message));
  const dict = { ...task, rubrics: [{ rubric_criteria: 'Is short.' }] };
  assert.equal((await clbench.read(write(JSON.stringify(dict))))[0]!.questions[0]!.reference, 'Is short.');
});

async function elements(content: string): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const { value } of readJsonArray(write(content), 'things')) values.push(value);
  return values;
}

test('a JSON array is read element by element, whatever stands in its strings', async () => {
  const values = [{ a: [1, { b: ']}' }], c: '"\\",[' }, 'x,y', 3, null, [], 'ü𝄞'];
  assert.deepEqual(await elements(JSON.stringify(values)), values);
  assert.deepEqual(await elements(`\uFEFF\n ${JSON.stringify(values, null, 2)}\n\n`), values);
  // Several pieces of the file, cut within strings and behind backslashes.
  const long = Array.from({ length: 300 }, (_, i) => ({ i, text: '\\"]é'.repeat(i * 11) }));
  assert.deepEqual(await elements(JSON.stringify(long)), long);
});

test('a file that is no JSON array is refused with the element that is wrong', async () => {
  const cases: [string, RegExp][] = [
    ['{"a": 1}', /must hold a JSON array of things\.$/],
    ['', /must hold a JSON array of things\.$/],
    ['[]', /holds no things\.$/],
    ['[1, {"a" 2}]', /element 2: this is not JSON \(.+\)\.$/],
    ['[1, 2,]', /element 3: this is not JSON/],
    ['[1, {"a": "b', /ends within element 2\.$/],
    ['[1] [2]', /goes on behind its array of things\.$/],
  ];
  for (const [content, message] of cases) await assert.rejects(elements(content), usage(message), content);
  const nowhere = readJsonArray(join(folder, 'nowhere.json'), 'things');
  await assert.rejects(nowhere.next(), {
    code: 'missing',
    message: /nowhere\.json does not exist; name a file of things\.$/,
  });
});
