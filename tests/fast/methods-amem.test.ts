import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import { ANALYSIS_SCHEMA, amem, EVOLUTION_SCHEMA } from '../../src/methods/amem.ts';
import { filler, generated, reading, shownIn, talk, wordEmbedder } from '../support/methods.ts';
import { said, scriptedPolicy } from '../support/scripted.ts';

const NOTHING = { should_evolve: false };

/** Keywords are the words of a turn that end in "ish"; `evolve` says what a new note changes, by the subject that it is about. */
function annotating(evolve: Record<string, object> = {}) {
  return scriptedPolicy((request) => {
    const shown = shownIn(request);
    const subject = /The (\w+) is/.exec(shown)?.[1] ?? '';
    if (request.schema === ANALYSIS_SCHEMA)
      return JSON.stringify({
        keywords: shown.match(/\w+ish/g) ?? [],
        context: `About the ${subject}.`,
        tags: [`${subject}tag`],
      });
    if (request.schema === EVOLUTION_SCHEMA) return JSON.stringify(evolve[subject] ?? NOTHING);
    return 'fine';
  });
}

const evolutions = (engine: ReturnType<typeof annotating>) =>
  generated(engine).filter(({ schema }) => schema === EVOLUTION_SCHEMA);
const lastShown = (engine: ReturnType<typeof annotating>) => shownIn(generated(engine).at(-1)!);

test('both schemas can hold a model to them', () => {
  for (const schema of [ANALYSIS_SCHEMA, EVOLUTION_SCHEMA]) assert.match(schemaToGrammar(schema), /^root ::=/);
});

test('a turn becomes a note with its date, speaker, context, keywords and tags', async () => {
  const method = await reading(amem, annotating(), talk(['sky']), { embedder: wordEmbedder() });
  assert.deepEqual(await method.kept(), {
    text: '[Sunday 1 March 2026] Ann: The sky is skyish. (context: About the sky. keywords: skyish; tags: skytag)',
    items: 1,
    weights: 0,
  });
});

test('a note is embedded with its context, keywords and tags, and without its date', async () => {
  const embedder = wordEmbedder();
  await reading(amem, annotating(), talk(['sky']), { embedder });
  assert.deepEqual(embedder.embedded, [
    'Ann: The sky is skyish. context: About the sky. keywords: skyish; tags: skytag',
  ]);
});

test('a new note is compared with its five nearest neighbours, the first one with none', async () => {
  const engine = annotating();
  const subjects = ['sky', 'door', 'dog', 'sea', 'car', 'cat', 'cup'];
  const turns = [...talk(subjects), said('The doors is like the door: doorish, a doortag.')];
  await reading(amem, engine, turns, { embedder: wordEmbedder() });
  const numbers = evolutions(engine).map((request) =>
    [...shownIn(request).matchAll(/^(\d+): /gm)].map((m) => Number(m[1])),
  );
  assert.deepEqual(
    numbers.map(({ length }) => length),
    [1, 2, 3, 4, 5, 5, 5],
  );
  assert.equal(numbers.at(-1)![0], 1, 'the door is the nearest');
  assert.match(shownIn(evolutions(engine).at(-1)!), /Nearest neighbours \(5\):/);
});

test('strengthen connects a note with neighbours that it was shown, and gives it the tags', async () => {
  const engine = annotating({
    dog: {
      ...NOTHING,
      should_evolve: true,
      actions: ['strengthen'],
      suggested_connections: [0, 0, 3, 2],
      tags_to_update: ['pets'],
    },
  });
  const embedder = wordEmbedder();
  const method = await reading(amem, engine, talk(['cat', 'sky', 'dog']), { embedder });
  assert.match(
    (await method.kept()).text,
    /The dog is dogish\. \(context: About the dog\. keywords: dogish; tags: pets\)/,
  );
  assert.ok(embedder.embedded.at(-1)!.endsWith('tags: pets'), 'it is found by them');

  // Found by its own words alone, it brings the connected note with it; the sky and the moon are neither found nor connected.
  await method.observe(said('The moon is moonish.'));
  const crowd = talk(Array.from({ length: 12 }, (_, i) => `dogs${i}`)).map((turn) => ({
    ...turn,
    content: `${turn.content} dog dog`,
  }));
  for (const turn of crowd) await method.observe(turn);
  await method.settle();
  await method.answer({ text: 'What is it?', query: 'dog dogish pets' });
  assert.ok(lastShown(engine).includes('The dog is') && lastShown(engine).includes('The cat is'));
  assert.ok(!lastShown(engine).includes('The sky is') && !lastShown(engine).includes('The moon is'));
});

test('update_neighbor rewrites contexts and tags of neighbours, in the order shown, and they are found by the new ones', async () => {
  const engine = annotating({
    dog: {
      ...{ should_evolve: true, actions: ['update_neighbor'], suggested_connections: [], tags_to_update: ['x'] },
      ...{ new_context_neighborhood: ['Barks.'], new_tags_neighborhood: [['first'], ['second'], ['too', 'many']] },
    },
  });
  const embedder = wordEmbedder();
  const method = await reading(amem, engine, talk(['sky', 'door', 'dog']), { embedder });
  const order = [...shownIn(evolutions(engine)[1]!).matchAll(/^(\d): /gm)].map((match) => Number(match[1]));
  const lines = (await method.kept()).text.split('\n');
  assert.match(lines[order[0]!]!, /\(context: Barks\. keywords: \w+; tags: first\)$/);
  assert.match(lines[order[1]!]!, /\(context: About the \w+\. keywords: \w+; tags: second\)$/);
  assert.match(lines[2]!, /tags: dogtag\)$/, 'its own tags stay');
  assert.ok(embedder.embedded.at(-2)!.includes('Barks.') && embedder.embedded.at(-1)!.includes('second'));
});

test('what the model says that cannot be read changes nothing', async () => {
  const engine = scriptedPolicy(() => 'I do not know');
  const method = await reading(amem, engine, talk(['sky', 'door']), { embedder: wordEmbedder() });
  assert.match((await method.kept()).text, /The door is doorish\. \(context: General keywords: ; tags: \)$/);
});

test('notes are shown in the order in which they were said, the nearest ten of them', async () => {
  const engine = annotating();
  const subjects = Array.from({ length: 15 }, (_, i) => `thing${i}`);
  const embedder = wordEmbedder();
  const method = await reading(amem, engine, talk(subjects), { embedder });
  await method.answer({ text: 'Shortly.', query: 'thing13 thing13ish thing2 thing2ish' });
  const shown = lastShown(engine).match(/(?<=The )thing\d+/g)!;
  const numbers = shown.map((name) => Number(name.slice(5)));
  assert.equal(shown.length, 10);
  assert.ok(numbers.includes(13) && numbers.includes(2));
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
  assert.deepEqual(embedder.queries, ['thing13 thing13ish thing2 thing2ish']);
});

test('neighbours that the budget has no room for are not shown, the farthest first', async () => {
  const engine = annotating();
  await reading(amem, engine, talk(['sky', 'door', 'dog', 'sea'], 90), { embedder: wordEmbedder(), budget: 450 });
  const counts = evolutions(engine).map((request) => shownIn(request).match(/^\d: /gm)!.length);
  assert.deepEqual(counts.slice(0, 1), [1]);
  assert.ok(Math.max(...counts) < 3, counts.join());
});

test('a long turn is several notes; without an embedder the method is refused', async () => {
  const method = await reading(amem, annotating(), [said(filler(600))], { embedder: wordEmbedder() });
  assert.equal((await method.kept()).items, 3);
  await assert.rejects(reading(amem, annotating(), []), { code: 'usage', message: /embedder/ });
});
