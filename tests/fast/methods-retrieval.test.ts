import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bm25, rag } from '../../src/methods/rag.ts';
import { fuse, TextIndex, VectorIndex } from '../../src/methods/retrieval.ts';
import { Turns } from '../../src/methods/turns.ts';
import { digesting, filler, generated, reading, shownIn, talk, wordEmbedder } from '../support/methods.ts';
import { said } from '../support/scripted.ts';

const indexed = (...texts: string[]) => {
  const index = new TextIndex();
  index.add(texts);
  return index;
};
const places = (hits: readonly { index: number }[]) => hits.map(({ index }) => index);

test('BM25: a rare word weighs more than a common one, a short text more than a long one, and what shares nothing is left out', () => {
  const index = indexed(
    'the dog sleeps',
    'the dog and the parrot sleep',
    'the cat sleeps',
    `the parrot ${filler(20)}`,
    'a fish',
  );
  const hits = index.search('dog parrot', 10);
  assert.deepEqual(places(hits), [1, 0, 3]);
  assert.ok(hits.every(({ score }, i) => score > 0 && (i === 0 || score <= hits[i - 1]!.score)));
  assert.deepEqual(places(index.search('dog parrot', 1)), [1]);
});

test('BM25: words are found by their stem, in any case, with and without accents', () => {
  const index = indexed('She was painting doors.', 'Café au lait.', 'Nothing of that.');
  assert.deepEqual(places(index.search('PAINTED a door', 5)), [0]);
  assert.deepEqual(places(index.search('cafe', 5)), [1]);
});

test('BM25: a query is words, whatever it says to the search engine', () => {
  const index = indexed('NOT a NEAR thing', 'what is 50% of "x"');
  for (const query of ['"', 'NEAR(', 'a AND NOT (b', '*', 'text: ^x', "it's - 50% OR", '']) index.search(query, 5);
  assert.deepEqual(places(index.search('"near" AND (thing*', 5)), [0]);
  assert.deepEqual(index.search('?!', 5), []);
});

test('texts that are added later have the next places', () => {
  const index = indexed('one dog', 'two');
  index.add(['three', 'four dogs']);
  assert.equal(index.size, 4);
  assert.deepEqual(places(index.search('dog', 5)), [0, 3]);
});

test('vectors: the nearest come first, and one that is replaced is found as the new one', () => {
  const index = new VectorIndex();
  index.add([Float32Array.of(1, 0), Float32Array.of(0, 1), Float32Array.of(0.6, 0.8)]);
  const hits = index.search(Float32Array.of(0, 1), 2);
  assert.deepEqual(places(hits), [1, 2]);
  assert.ok(Math.abs(hits[1]!.score - 0.8) < 1e-6);
  index.replace(1, Float32Array.of(1, 0));
  assert.deepEqual(places(index.search(Float32Array.of(0, 1), 3)), [2, 0, 1]);
});

test('reciprocal rank fusion: what both lists have high up comes first', () => {
  const list = (...indices: number[]) => indices.map((index) => ({ index, score: 0 }));
  const fused = fuse([list(7, 1, 2), list(3, 1)]);
  assert.deepEqual(places(fused), [1, 3, 7, 2]);
  assert.ok(Math.abs(fused[0]!.score - 2 / 62) < 1e-12);
  assert.ok(Math.abs(fused[1]!.score - 1 / 61) < 1e-12);
  assert.deepEqual(fuse([[], []]), []);
});

/** What is shown beside the last question: the turns, by the word behind "The". */
const shownOf = (engine: ReturnType<typeof digesting>): string[] =>
  shownIn(generated(engine).at(-1)!).match(/(?<=: The )\w+/g) ?? [];

const SUBJECTS = Array.from({ length: 30 }, (_, i) => `thing${i}`);

test('bm25: the turns that share words with the query are shown, in the order in which they were said', async () => {
  const engine = digesting();
  const method = await reading(bm25, engine, talk(SUBJECTS));
  await method.answer({ text: 'What is it? Answer shortly.', query: 'thing7 thing21 thing21ish thing3' });
  assert.deepEqual(shownOf(engine), ['thing3', 'thing7', 'thing21']);
  await method.answer({ text: 'What is thing5?' });
  assert.ok(shownOf(engine).includes('thing5'), 'by the text where there is no query');
});

test('bm25 shows ten turns, fewer where the budget has no room for them; the best stay', async () => {
  const turns = talk(
    SUBJECTS.map((subject) => subject),
    40,
  ).map((turn) => ({ ...turn, content: `${turn.content} apple` }));
  turns[17] = { ...turns[17]!, content: `The chosen is apple pear. ${filler(40)}` };
  const query = 'apple pear';
  const engine = digesting();
  await (await reading(bm25, engine, turns)).answer({ text: 'What?', query });
  assert.equal(shownOf(engine).length, 10);
  await (await reading(bm25, engine, turns, { budget: 200 })).answer({ text: 'What?', query });
  const shown = shownOf(engine);
  assert.ok(shown.length >= 2 && shown.length < 5, `${shown.length}`);
  assert.ok(shown.includes('chosen'));
});

test('rag finds by words and by vectors; bm25 does not use an embedder, and rag can do without', async () => {
  const embedder = wordEmbedder();
  // Only the embedder knows that a hound is a dog.
  const { embed } = embedder;
  embedder.embed = (texts, options) =>
    embed(
      texts.map((text) => text.replace(/hound/g, 'dog')),
      options,
    );
  const turns = [...talk(SUBJECTS.slice(0, 12), 30), said('The dog is Rex.')];
  for (const [spec, given, finds] of [
    [rag, embedder, true],
    [rag, undefined, false],
    [bm25, embedder, false],
  ] as const) {
    const engine = digesting();
    const method = await reading(spec, engine, turns, { embedder: given });
    await method.answer({ text: 'hound?', query: 'hound' });
    assert.equal(shownOf(engine).includes('dog'), finds, spec.name);
  }
  assert.deepEqual(embedder.queries, ['dog'], 'the question as a query, once');
  assert.equal(embedder.embedded.length, turns.length);
});

test('a long turn is several chunks with its date and speaker, of which only the one that is asked for is shown', async () => {
  const engine = digesting();
  const content = `The first is A. ${filler(200, 'x')}. The second is B. ${filler(200, 'y')}. The third is C.`;
  const turn = { ...talk(['sky'])[0]!, content };
  const method = await reading(bm25, engine, [turn, ...talk(['dog', 'sea', 'car'])]);
  assert.ok((await method.kept()).items > 4);
  await method.answer({ text: 'What is it?', query: 'y150' });
  const shown = shownIn(generated(engine).at(-1)!);
  assert.match(shown, /\[Sunday 1 March 2026\] Ann: /);
  assert.ok(shown.includes('y150 ') && !shown.includes('x10 '));
});

test('in its context a turn is found that does not say what it was asked', async () => {
  const engine = digesting();
  const talked = [...talk(SUBJECTS.slice(0, 12), 20), said('Which colour has the gate?'), said('Teal.')];
  for (const embedder of [undefined, wordEmbedder()]) {
    for (const inContext of [false, true]) {
      const turns = new Turns({ engine, budget: 2048 }, { embedder, inContext });
      for (const turn of talked) await turns.observe(turn);
      await turns.settle();
      const found = await turns.nearest({ text: 'gate colour' }, 2);
      assert.equal(found[0], 12);
      assert.equal(found[1] === 13, inContext, `${found}`);
      await turns.observe(said('The gate is gone.'));
      await turns.settle();
      assert.ok((await turns.nearest({ text: 'gate gone' }, 1)).includes(talked.length), 'added later');
    }
  }
});

test('what could not be embedded is added the next time, each turn once', async () => {
  const embedder = wordEmbedder();
  const { embed } = embedder;
  let fails = 2;
  embedder.embed = async (texts, options) => {
    if (--fails === 0) throw new Error('no embedding');
    return embed(texts, options);
  };
  const turns = new Turns({ engine: digesting(), budget: 2048 }, { embedder, inContext: true });
  for (const turn of talk(SUBJECTS.slice(0, 6))) await turns.observe(turn);
  await assert.rejects(turns.settle(), /no embedding/);
  await turns.settle();
  const found = await turns.nearest({ text: 'thing4' }, 12);
  assert.deepEqual([found[0], found.toSorted()], [4, [0, 1, 2, 3, 4, 5]]);
});

test('a turn is found by what was written about it', async () => {
  const turns = new Turns({ engine: digesting(), budget: 2048 });
  for (const turn of talk(SUBJECTS)) await turns.observe(turn);
  await turns.settle();
  const question = { text: 'Which zither?' };
  assert.deepEqual(await turns.nearest(question, 3), []);
  await turns.describe([
    { turn: 4, text: 'Who plays the zither? Ann plays it.' },
    { turn: 2, text: 'Which zither is broken, which zither is sold?' },
    { turn: 2, text: 'Which zither?' },
  ]);
  assert.deepEqual(await turns.nearest(question, 3), [2, 4]);
});
