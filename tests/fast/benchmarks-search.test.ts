import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Embedder } from '../../src/engine/types.ts';
import { type Turn, turnSchema } from '../../src/memory/types.ts';
import type { Method, Question } from '../../src/methods/types.ts';
import { Corpus } from '../../src/tasks/search/corpus.ts';
import { actionOf, PROMPTS, playSearch } from '../../src/tasks/search/environment.ts';
import { type MergedQuestion, mergeQuestions, readQuestions } from '../../src/tasks/search/merge.ts';
import { type SearchDetails, search } from '../../src/tasks/search.ts';

const folder = mkdtempSync(join(tmpdir(), 'tmem-search-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const asset = (name: string) => new URL(`../../assets/benchmarks/${name}`, import.meta.url).pathname;
const QUESTIONS = asset('search.jsonl');

let files = 0;
function write(...lines: unknown[]): string {
  const file = join(folder, `${++files}.jsonl`);
  writeFileSync(file, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return file;
}

const usage = (message: RegExp) => ({ name: 'TmemError', code: 'usage', message });

/** A method that says these things one after the other. */
function scripted(...replies: string[]) {
  const asked: Question[] = [];
  const observed: Turn[] = [];
  const calls: string[] = [];
  const method: Method = {
    async observe(turn) {
      calls.push('observe');
      observed.push(turnSchema.parse(turn));
    },
    async settle() {
      calls.push('settle');
    },
    async answer(question) {
      calls.push('answer');
      asked.push(question);
      return { text: replies[asked.length - 1] ?? replies.at(-1)!, contextTokens: 5 - asked.length };
    },
    kept: async () => ({ text: '', items: 0, weights: 0 }),
  };
  return { method, asked, observed, calls };
}

const MERGED: MergedQuestion = {
  parts: [
    { id: 'a', question: 'Which lake is deepest?', answers: ['Lake Brum'] },
    { id: 'b', question: 'Where was Ines Calloway born?', answers: ['Fennwick'] },
  ],
};

test('questions of both kinds are read, with all answers that are right', async () => {
  const questions = await readQuestions(QUESTIONS);
  assert.deepEqual(
    questions.map(({ id }) => id),
    ['hop-1', 'hop-2', 'hop-3', 'hop-4', 'nq-1', 'nq-2', 'nq-3', 'nq-4'],
  );
  assert.deepEqual(questions[0]!.answers, ['Fennwick']);
  assert.deepEqual(questions[4]!.answers, ['Ottilie Brandt', 'Brandt']);
  const open = write({ question: 'q', answer: ['x', 'y'] }, { id: 7, question: 'r', answer: 'z' });
  assert.deepEqual(await readQuestions(open), [
    { id: '1', question: 'q', answers: ['x', 'y'] },
    { id: '7', question: 'r', answers: ['z'] },
  ]);
});

test('a question without an answer, and a line that is no JSON, are named', async () => {
  const right = { question: 'q', answer: 'a' };
  const cases: [unknown, RegExp][] = [
    [{ question: 'q' }, /line 2: there is neither answer nor golden_answers\.$/],
    [{ question: ' ', answer: 'a' }, /line 2: question: .+\.$/],
    [{ question: 'q', golden_answers: [] }, /line 2: golden_answers: .+\.$/],
    ['{', /line 2: this is not JSON \(.+\)\.$/],
  ];
  for (const [line, message] of cases) await assert.rejects(readQuestions(write(right, line)), usage(message));
});

test('merging takes each question once, keeps its answers beside it, and follows from the seed', async () => {
  const singles = await readQuestions(QUESTIONS);
  const merge = (seed: number, objectives = 2) => mergeQuestions(singles, { objectives, seed });
  const merged = merge(1);
  assert.deepEqual(
    merged.map(({ parts }) => parts.length),
    [2, 2, 2, 2],
  );
  const parts = merged.flatMap((task) => task.parts);
  assert.deepEqual(new Set(parts), new Set(singles));
  assert.deepEqual(merge(1), merged);
  assert.notDeepEqual(merge(2), merged);
  assert.equal(merge(1, 3).length, 2, 'two are left over');
  assert.throws(() => merge(1, 9), usage(/^9 questions are to be merged into one, but there are 8 in all\.$/));
  assert.throws(() => merge(1, 0), usage(/^0 questions cannot be merged/));
});

test('a task has its questions in order, references aligned with them, and nothing to read before', async () => {
  const samples = await search.read(QUESTIONS, { seed: 3, objectives: 4 });
  assert.equal(samples.length, 2);
  const singles = await readQuestions(QUESTIONS);
  for (const { turns, questions } of samples) {
    assert.deepEqual(turns, []);
    const [question] = questions as [(typeof questions)[number]];
    const lines = question.question.split('\n').map((line) => line.replace(/^\d\. /, ''));
    const wanted = lines.map((line) => singles.find((single) => single.question === line)!.answers);
    assert.deepEqual(
      (question.details as SearchDetails).merged.parts.map(({ answers }) => answers),
      wanted,
    );
    assert.equal(question.reference, wanted.map(([first]) => first).join('; '));
    assert.equal(question.category, '4 questions');
    const right = await search.score(question, `<answer>${question.reference}</answer>`, undefined);
    assert.deepEqual(right, { em: 4, f1: 4 });
    const reversed = wanted.map(([first]) => first).reverse();
    const wrong = await search.score(question, `<answer>${reversed.join(';')}</answer>`, undefined);
    assert.equal(wrong.em, 0);
  }
  assert.equal((await search.read(QUESTIONS)).length, 4, 'two at a time by default');
  assert.equal((await search.read(QUESTIONS, { samples: 1 })).length, 1);
});

test('the documents are those beside the questions, or those that are named', async () => {
  const alone = join(folder, 'alone.jsonl');
  copyFileSync(QUESTIONS, alone);
  await assert.rejects(search.read(alone), { code: 'missing', message: /no corpus\.jsonl beside .+--corpus.+\.$/ });
  assert.equal((await search.read(alone, { corpus: asset('corpus.jsonl') })).length, 4);
  const nowhere = join(folder, 'nowhere.jsonl');
  await assert.rejects(search.read(alone, { corpus: nowhere }), {
    code: 'missing',
    message: /nowhere\.jsonl does not exist/,
  });
});

test('a corpus is searched by its words; its lines are checked', async () => {
  const corpus = await Corpus.read(asset('corpus.jsonl'));
  const found = await corpus.search('When did the Marlow tramway close?', 3, {});
  assert.deepEqual([found.length, found[0]!.title], [3, 'Marlow tramway']);
  assert.deepEqual(await corpus.search('xylophone', 3, {}), []);
  const document = { text: 'Some words.' };
  assert.equal((await Corpus.read(write(document, '', document))).constructor, Corpus);
  await assert.rejects(Corpus.read(write(document, { title: 'None' })), usage(/line 2: text: .+\.$/));
  await assert.rejects(Corpus.read(write(document, '', '{')), usage(/line 3: this is not JSON \(.+\)\.$/));
  await assert.rejects(Corpus.read(write('')), usage(/is empty; it must hold documents/));
});

test('with an embedder, what only the vectors find is found, too, and the documents are embedded once', async () => {
  const corpus = new Corpus([{ text: 'red apples' }, { text: 'blue whales' }, { title: 'Boats', text: 'sails' }]);
  const embedded: (readonly string[])[] = [];
  let broken = true;
  const embedder: Embedder = {
    model: { name: 'test', width: 2 },
    async embed(texts, { query = false } = {}) {
      if (broken) throw new Error('broken');
      if (!query) embedded.push(texts);
      return texts.map((text) => Float32Array.from(/sails|ship/.test(text) ? [1, 0] : [0, 1]));
    },
    close: async () => {},
  };
  await assert.rejects(corpus.search('ship', 1, { embedder }), /broken/);
  broken = false;
  assert.deepEqual(await corpus.search('ship', 1, {}), []);
  assert.equal((await corpus.search('ship', 1, { embedder }))[0]!.title, 'Boats');
  assert.equal((await corpus.search('apples', 1, { embedder }))[0]!.text, 'red apples');
  assert.deepEqual(embedded, [['red apples', 'blue whales', 'Boats\nsails']]);
});

test('the first search or answer of a reply counts, closed or not', () => {
  const cases: [string, ReturnType<typeof actionOf>][] = [
    [
      'I look.\n<search> a b </search> and more',
      { action: { type: 'search', text: 'a b' }, said: 'I look.\n<search>a b</search>' },
    ],
    ['<Answer>x; y</Answer>', { action: { type: 'answer', text: 'x; y' }, said: '<answer>x; y</answer>' }],
    ['<search>a</search><answer>b</answer>', { action: { type: 'search', text: 'a' }, said: '<search>a</search>' }],
    ['<answer>x; y', { action: { type: 'answer', text: 'x; y' }, said: '<answer>x; y</answer>' }],
    ['<search>a\n<information>', { action: { type: 'search', text: 'a' }, said: '<search>a</search>' }],
    ['<search> </search>', { action: null, said: '<search> </search>' }],
    ['The lake is deep.', { action: null, said: 'The lake is deep.' }],
  ];
  for (const [reply, wanted] of cases) assert.deepEqual(actionOf(reply), wanted, reply);
});

test('a method searches, remembers what it did and found, and answers', async () => {
  const corpus = await Corpus.read(asset('corpus.jsonl'));
  const { method, asked, observed, calls } = scripted(
    'Lakes first. <search>deepest lake</search>',
    '<search>born Calloway</search>',
    'Now I know. <answer>Lake Brum; Fennwick</answer> So it is.',
  );
  const { text: said, contextTokens } = await playSearch(method, MERGED, corpus, {});
  assert.equal(said, 'Now I know. <answer>Lake Brum; Fennwick</answer>');
  assert.equal(contextTokens, 4, 'the longest');
  const turn = ['answer', 'observe', 'observe', 'settle'];
  assert.deepEqual(calls, [...turn, ...turn, 'answer'], 'all is settled before the next question');
  assert.deepEqual(
    observed.map(({ role, origin }) => [role, origin]),
    [
      ['assistant', undefined],
      ['tool', 'document'],
      ['assistant', undefined],
      ['tool', 'document'],
    ],
  );
  assert.equal(observed[0]!.content, 'Lakes first. <search>deepest lake</search>');
  assert.match(observed[1]!.content, /^Found by searching for "deepest lake":\nDocument 1: \(Lake Brum\) .*214 metres/);
  assert.equal(observed[1]!.content.split('\n').length, 4, 'three documents');
  assert.match(observed[3]!.content, /\(Ines Calloway\) .*born in Fennwick/);
  assert.match(
    asked[0]!.text,
    /1\. Which lake is deepest\?\n2\. Where was Ines Calloway born\?\n\nYou have 10 turns left/,
  );
  assert.match(asked[2]!.text, /You have 8 turns left/);
  assert.equal(asked[0]!.query, '1. Which lake is deepest?\n2. Where was Ines Calloway born?');
});

test('a method that neither searches nor answers is told so; one that finds nothing, too', async () => {
  const corpus = await Corpus.read(asset('corpus.jsonl'));
  const { method, observed } = scripted('Hmm.', '<search>xylophone</search>', '<answer>a; b</answer>');
  assert.equal((await playSearch(method, MERGED, corpus, {})).text, '<answer>a; b</answer>');
  assert.deepEqual(
    observed.map(({ content }) => content),
    ['Hmm.', PROMPTS.invalid, '<search>xylophone</search>', 'Nothing was found by searching for "xylophone".'],
  );
  assert.equal(observed[1]!.origin, undefined, 'what the environment says is not learned as a text');
});

test('after ten turns the last reply stands, and without an answer scores nothing', async () => {
  const [sample] = await search.read(QUESTIONS);
  const [question] = sample!.questions;
  const { method, asked, observed } = scripted('<search>lake</search>');
  const { text: said } = await search.play!(method, sample!, question!, {});
  assert.deepEqual([asked.length, observed.length], [10, 18]);
  assert.match(asked[9]!.text, /This is your last turn: give your answers now\.$/);
  assert.match(asked[8]!.text, /You have 2 turns left/);
  assert.deepEqual(await search.score(question!, said, undefined), { em: 0, f1: 0 });
});

test('a game that is interrupted ends', async () => {
  const corpus = new Corpus([{ text: 'words' }]);
  const { method, asked } = scripted('<search>words</search>');
  const controller = new AbortController();
  const stop: Method = { ...method, settle: async () => controller.abort() };
  await assert.rejects(playSearch(stop, MERGED, corpus, { signal: controller.signal }), { code: 'aborted' });
  assert.equal(asked.length, 1);
});
