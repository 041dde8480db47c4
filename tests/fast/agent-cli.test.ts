import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { Command } from 'commander';
import { register as registerChat } from '../../src/cli/commands/chat.ts';
import { register as registerRun } from '../../src/cli/commands/run.ts';
import type { CliIo } from '../../src/cli/io.ts';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Engine } from '../../src/engine/types.ts';
import { lastMessage, plainWriter, scriptedPolicy } from '../support/scripted.ts';

/** Remembers what it was trained on: answers a trained question, and nothing else. */
function learner(): ScriptedEngine {
  const engine: ScriptedEngine = scriptedPolicy((request, weights) => {
    const trained = engine.calls.flatMap((c) => (c.type === 'train' ? c.request.samples : []));
    const prompt = lastMessage(request);
    const known = trained.findLast((sample) => prompt.includes(/ (What[^?]*\?)/.exec(sample.prompt)?.[1] ?? '?!'));
    return weights && known ? known.answer.replace(/ <.*/, '') : 'no idea';
  });
  return engine;
}

interface Setup {
  readonly io: CliIo;
  readonly notes: string[];
  readonly results: { value: unknown; text: string }[];
  readonly interrupt: AbortController;
  readonly root: string;
}

async function setup(t: TestContext, engine: Engine, json = false): Promise<Setup> {
  const root = await mkdtemp(join(tmpdir(), 'tmem-cli-'));
  const home = process.env.TMEM_HOME;
  delete process.env.TMEM_STORE;
  process.env.TMEM_HOME = root;
  t.after(async () => {
    if (home === undefined) delete process.env.TMEM_HOME;
    else process.env.TMEM_HOME = home;
    await rm(root, { recursive: true });
  });
  const notes: string[] = [];
  const results: Setup['results'] = [];
  const interrupt = new AbortController();
  const io: CliIo = {
    json,
    verbose: false,
    out: (text) => void notes.push(text),
    note: (text) => void notes.push(text),
    result: (value, human) => void results.push({ value: JSON.parse(JSON.stringify(value)), text: human() }),
    progress: () => ({ update: () => {}, done: () => {} }),
    signal: interrupt.signal,
    openEngine: async () => engine,
  };
  return { io, notes, results, interrupt, root };
}

const bindRecipe = async () => (engine: Engine) => plainWriter(engine as ScriptedEngine);

async function file(root: string, name: string, lines: unknown[]): Promise<string> {
  const path = join(root, name);
  await writeFile(path, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return path;
}

async function run(io: CliIo, ...args: string[]): Promise<void> {
  const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
  registerRun(program, io, { bindRecipe });
  await program.parseAsync(['run', ...args], { from: 'user' });
}

const EVENTS = ['sky', 'door', 'dog', 'sea'].map((subject) => ({
  role: 'user',
  speaker: 'Ann',
  time: '2025-03-08',
  content: `The ${subject} is ${subject}ish. ${'word '.repeat(20)}`,
}));
const QUESTIONS = [{ question: 'What is the dog?', answer: 'dogish' }, { question: 'What is the moon?' }];

test('run reads, writes and answers with an empty context, as the contract says', async (t) => {
  const { io, results, root } = await setup(t, learner());
  const events = await file(root, 'e.jsonl', EVENTS);
  const questions = await file(root, 'q.jsonl', QUESTIONS);
  const trace = join(root, 'deep', 'trace.jsonl');
  await run(io, '--events', events, '--questions', questions, '--budget', '130', '--trace', trace);
  const value = results[0]!.value as {
    writes: { pairs: unknown[]; loss: number[]; ms: number }[];
    answers: unknown;
    tokens: number;
  };
  assert.ok(value.writes.length >= 2);
  assert.equal(value.writes.flatMap((w) => w.pairs).length, 4);
  assert.ok(value.writes.every((w) => w.loss.length === 3 && w.ms >= 0));
  assert.deepEqual(value.answers, [
    { question: 'What is the dog?', answer: 'dogish', expected: 'dogish' },
    { question: 'What is the moon?', answer: 'no idea' },
  ]);
  assert.ok(value.tokens >= 96);
  assert.match(results[0]!.text, /What is the dog\?\n {2}answer: {3}dogish\n {2}expected: dogish/);
  const lines = (await readFile(trace, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const types = new Set(lines.map((line) => line.type));
  for (const type of ['episode', 'observe', 'trigger', 'extract', 'extraction', 'write', 'swap', 'cleared', 'answer'])
    assert.ok(types.has(type), type);
  assert.ok(lines.every((line) => !Number.isNaN(Date.parse(line.time))));
});

test('run carries a session on to the next call, without it nothing is left', async (t) => {
  const engine = learner();
  const { io, results, root } = await setup(t, engine);
  const first = await file(root, 'e.jsonl', EVENTS.slice(0, 1));
  const second = await file(root, 'f.jsonl', EVENTS.slice(1, 2));
  const questions = await file(root, 'q.jsonl', [{ question: 'What is the sky?' }]);
  await run(io, '--events', first, '--session', 's');
  await run(io, '--events', second, '--session', 's', '--questions', questions);
  const { answers, writes } = results[1]!.value as { answers: { answer: string }[]; writes: unknown[] };
  assert.equal(answers[0]!.answer, 'skyish');
  assert.equal(writes.length, 1, 'only the writes of this run');
  await run(io, '--events', second, '--questions', questions, '--method', 'explicit');
  const last = results[2]!.value as (typeof results)[1] & { answers: { answer: string }[]; writes: unknown[] };
  assert.equal(last.answers[0]!.answer, 'no idea');
  assert.deepEqual(last.writes, []);
});

test('question-aware: the memory is rebuilt for each question, which the extraction sees', async (t) => {
  const engine = learner();
  const { io, results, root } = await setup(t, engine);
  const events = await file(root, 'e.jsonl', EVENTS.slice(0, 1));
  const questions = await file(root, 'q.jsonl', QUESTIONS);
  await run(io, '--events', events, '--questions', questions, '--question-aware');
  const { writes } = results[0]!.value as { writes: { question: string }[] };
  assert.deepEqual(
    writes.map((w) => w.question),
    QUESTIONS.map((q) => q.question),
  );
  const inits = engine.calls.filter((call) => call.type === 'initialise');
  assert.equal(inits.length, 2);
  await assert.rejects(run(io, '--events', events, '--question-aware'), { code: 'usage' });
});

test('run names what is wrong with its input', async (t) => {
  const { io, root } = await setup(t, learner());
  const events = await file(root, 'e.jsonl', EVENTS);
  const bad = async (lines: unknown[]) => run(io, '--events', await file(root, 'bad.jsonl', lines));
  await assert.rejects(bad([EVENTS[0], '{"role": "user"']), {
    code: 'usage',
    message: /bad\.jsonl line 2: this is not JSON/,
  });
  await assert.rejects(bad([EVENTS[0], '', { role: 'robot', content: 'x' }]), {
    code: 'usage',
    message: /line 3: role: /,
  });
  await assert.rejects(bad([{ role: 'user', content: 'x', extra: 1 }]), { code: 'usage', message: /line 1: .*extra/ });
  await assert.rejects(bad(['', ' ']), { code: 'usage', message: /is empty/ });
  await assert.rejects(run(io, '--events', join(root, 'none.jsonl')), { code: 'missing', message: /does not exist/ });
  await assert.rejects(run(io, '--events', events, '--method', 'magic'), {
    code: 'usage',
    message: /tmem or explicit/,
  });
  await assert.rejects(run(io, '--events', events, '--budget', '3'), {
    code: 'usage',
    message: /smallest possible is \d+/,
  });
  await assert.rejects(run(io, '--events', events, '--budget', 'x'), { code: 'usage' });
  await assert.rejects(run(io, '--events', events, '--session', '../x'), { code: 'usage' });
});

test('an interrupted run leaves the session open to others', async (t) => {
  const { io, root, interrupt } = await setup(t, learner());
  const events = await file(root, 'e.jsonl', EVENTS);
  interrupt.abort();
  await assert.rejects(run(io, '--events', events, '--session', 's'), { code: 'aborted' });
  const { Session } = await import('../../src/memory/session.ts');
  const session = await Session.open('s', learner().model);
  assert.equal(session.snapshot.state.writes.length, 0);
  await session.close();
});

async function chat(io: CliIo, lines: string[], ...args: string[]): Promise<string> {
  let shown = '';
  const output = new Writable({
    write(chunk, _, done) {
      shown += chunk;
      done();
    },
  });
  const input = new PassThrough();
  input.end(lines.map((line) => `${line}\n`).join(''));
  const program = new Command('tmem').exitOverride();
  registerChat(program, io, { bindRecipe, input, output });
  await program.parseAsync(['chat', ...args], { from: 'user' });
  return shown;
}

test('chat over a pipe: answers, commands, a write on demand and its undo', async (t) => {
  const { io, notes } = await setup(t, learner());
  const shown = await chat(io, [
    'The sky is grey.',
    '/write',
    'What is the sky?',
    '/memory',
    '/undo',
    'What is the sky?',
    '/nonsense',
    '/undo',
    '/quit',
    'never',
  ]);
  assert.equal(shown, 'no idea\ngrey\nno idea\n');
  const text = notes.join('\n');
  for (const part of [
    /Written: 1 of 1 pair recalled/,
    /In the weights: 1 pairs/,
    /What is the sky\? grey/,
    /Taken back/,
    /no command \/nonsense/,
    /no write to take back/,
  ])
    assert.match(text, part);
});

test('chat keeps a session: what was said is there again, unwritten turns included', async (t) => {
  const engine = learner();
  const { io, results } = await setup(t, engine, true);
  assert.equal(
    await chat(io, ['The sky is grey.', '/write', 'The door is green.'], '--session', 's'),
    '',
    'with --json nothing but the result',
  );
  assert.equal((results[0]!.value as { turns: unknown[] }).turns.length, 2);
  await engine.setFastWeights(null);
  await chat(io, ['What is the sky?', '/write'], '--session', 's');
  const { turns, writes } = results[1]!.value as {
    turns: { assistant: string }[];
    writes: { pairs: { output: string }[] }[];
  };
  assert.equal(turns[0]!.assistant, 'grey');
  assert.deepEqual(
    writes[0]!.pairs.map((p) => p.output),
    ['green'],
  );
});

test('chat writes by itself when the budget is reached', async (t) => {
  const { io, notes } = await setup(t, learner());
  await chat(
    io,
    EVENTS.map((event) => event.content),
    '--budget',
    '130',
  );
  assert.ok(notes.some((note) => /^Context at \d+ of 130 tokens: writing/.test(note)));
});

test('an interruption ends chat with the code for it', async (t) => {
  const engine = scriptedPolicy(() => {
    interrupt.abort();
    return 'a b c';
  });
  const { io, interrupt } = await setup(t, engine);
  await assert.rejects(chat(io, ['hello', 'again']), { code: 'aborted' });
});
