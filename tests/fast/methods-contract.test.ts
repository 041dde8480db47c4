import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { getMethod, methodNames } from '../../src/methods/registry.ts';
import { digesting, filler, generated, reading, shownIn, talk, tokensOf, wordEmbedder } from '../support/methods.ts';
import { said } from '../support/scripted.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-methods-'));
process.env.TMEM_HOME = home; // the base model's own answers are kept there
after(() => rmSync(home, { recursive: true, force: true }));

const BUDGET = 1000;
const TASK = 'Which door did they paint?';
const QUESTION = { text: 'What is the sea? Answer shortly.', query: 'What is the sea?', maxTokens: 20 };
const LONG = said(`The moon is moonish. ${filler(2500, 'long')}`, { time: '2026-04-01' });
const TURNS = [...talk(['sky', 'door', 'dog', 'sea', 'car', 'cat'], 150), LONG, ...talk(['cup', 'pen'], 150)];

const embedder = wordEmbedder();
const optionsOf = (name: string) => ({ embedder, budget: BUDGET, ...(getMethod(name).aware && { task: TASK }) });

test('every method has a name of its own, says what it is and where it was published; an unknown one is refused', () => {
  assert.deepEqual([...methodNames].sort(), [
    ...['amem', 'bm25', 'explicit', 'full', 'mem1', 'mem1-aware', 'memagent', 'memagent-aware', 'none', 'rag', 'raw'],
    ...[
      'summary',
      'tmem',
      'tmem-aware',
      'tmem-hybrid',
      'tmem-hybrid-text',
      'tmem-recall',
      'tmem-retrieve',
      'tmem-weights',
      'trained-summary',
    ],
  ]);
  for (const name of methodNames) {
    const { description, source, aware } = getMethod(name);
    assert.ok(description.endsWith('.') && source, name);
    assert.equal(aware, name.endsWith('-aware'));
  }
  assert.throws(() => getMethod('magic'), { code: 'usage', message: /"magic".*none, full, summary/ });
});

for (const name of methodNames) {
  const spec = getMethod(name);
  const settings = optionsOf(name);

  test(`${name}: what it reads fits its budget, and answers alike to a question asked again`, async () => {
    const engine = digesting();
    const method = await reading(spec, engine, TURNS, settings);
    const kept = await method.kept();
    const read = generated(engine).length;
    const first = await method.answer(QUESTION);
    await method.answer({ text: 'What is the cup?' });
    const again = await method.answer(QUESTION);
    assert.deepEqual(again, first);
    assert.equal(first.text, first.text.trim());
    assert.notEqual(first.text, '');
    assert.deepEqual(await method.kept(), kept);
    const answers = generated(engine).slice(read);
    assert.deepEqual(
      answers.map(({ maxTokens }) => maxTokens),
      [20, 64, 20],
    );
    assert.equal(first.contextTokens, await tokensOf(engine, answers[0]!));
    assert.ok(shownIn(answers[0]!).endsWith(QUESTION.text));
    assert.ok(generated(engine).every(({ temperature }) => !temperature));
    if (spec.wholeStream) return;
    for (const request of generated(engine)) assert.ok((await tokensOf(engine, request)) <= BUDGET, shownIn(request));
  });

  test(`${name}: sees ${spec.aware ? 'its task while it reads' : 'no question while it reads, even if it is given one'}`, async () => {
    const engine = digesting();
    await reading(spec, engine, TURNS, { ...settings, task: TASK });
    const seen = generated(engine).map((request) => shownIn(request).includes(TASK));
    assert.equal(seen.some(Boolean), spec.aware);
  });

  test(`${name}: what is kept is what was read, settling again changes nothing, reading can go on`, async () => {
    const engine = digesting();
    const method = await reading(spec, engine, TURNS, settings);
    const kept = await method.kept();
    const calls = engine.calls.length;
    await method.settle();
    assert.equal(engine.calls.length, calls);
    assert.deepEqual(await method.kept(), kept);
    // The scripted model recalls nothing, so that the gate refuses what tmem has trained.
    if (!name.startsWith('tmem')) assert.equal(kept.items > 0, name !== 'none');
    await method.observe(said('The hat is hattish.'));
    await method.settle();
    assert.notEqual((await method.answer(QUESTION)).text, '');
    if (kept.text) assert.notEqual((await method.kept()).text, kept.text);
  });

  test(`${name}: nothing read is nothing kept, and the question is answered alone`, async () => {
    const engine = digesting();
    const method = await reading(spec, engine, [], settings);
    assert.deepEqual(await method.kept(), { text: '', items: 0, weights: 0 });
    assert.deepEqual(generated(engine), []);
    await method.answer(QUESTION);
    const [asked] = generated(engine);
    assert.deepEqual(asked!.prompt, [{ role: 'user', content: QUESTION.text }]);
  });

  test(`${name}: an interruption ends it`, async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const method = await reading(spec, digesting(), TURNS.slice(0, 3), { ...settings, signal });
    await method.observe(TURNS[3]!);
    controller.abort();
    await assert.rejects(method.observe(TURNS[4]!), { code: 'aborted' });
    await assert.rejects(method.settle(), { code: 'aborted' });
    await assert.rejects(method.answer(QUESTION), { code: 'aborted' });
  });

  if (spec.aware)
    test(`${name}: without a task it is refused`, async () => {
      await assert.rejects(spec.open({ engine: digesting(), budget: BUDGET, embedder }), { code: 'usage' });
    });
}

test('a budget that leaves no room, or that the engine cannot hold, is refused with those that do', async () => {
  for (const name of methodNames.filter((n) => n !== 'none' && n !== 'full')) {
    const open = (budget: number) => getMethod(name).open({ engine: digesting(), ...optionsOf(name), budget });
    await assert.rejects(open(5), { code: 'usage', message: /budget of 5 tokens/ }, name);
    await assert.rejects(open(100_000), { code: 'usage', message: /32768/ }, name);
  }
});
