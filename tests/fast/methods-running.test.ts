import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Turn } from '../../src/memory/types.ts';
import { full } from '../../src/methods/full.ts';
import { mem1, mem1Aware } from '../../src/methods/mem1.ts';
import { memagent, memagentAware } from '../../src/methods/memagent.ts';
import { GENERAL_TASK } from '../../src/methods/prompts.ts';
import { Sections } from '../../src/methods/sections.ts';
import { summary } from '../../src/methods/summary.ts';
import type { MethodSpec } from '../../src/methods/types.ts';
import { digesting, filler, generated, reading, shownIn, talk, tokensOf } from '../support/methods.ts';
import { said, scriptedPolicy } from '../support/scripted.ts';

const SUBJECTS = ['sky', 'door', 'dog', 'sea'];

/** Reads four long turns; the n-th text of the model is `memory<n>`. */
async function rewritten(spec: MethodSpec, turns = talk(SUBJECTS, 190), budget = 400) {
  let n = 0;
  const engine = scriptedPolicy(() => ` memory${++n} `);
  const method = await reading(spec, engine, turns, { budget });
  const calls = generated(engine);
  return { engine, method, calls, shown: calls.map(shownIn) };
}

for (const spec of [summary, memagent, memagentAware, mem1, mem1Aware])
  test(`${spec.name}: each section comes with the memory before it, and what it makes of them is all that is kept`, async () => {
    const { calls, shown, method, engine } = await rewritten(spec);
    assert.equal(calls.length, SUBJECTS.length);
    for (const [i, text] of shown.entries()) {
      const facts = [...text.matchAll(/The (\w+) is/g)].map((match) => match[1]);
      assert.deepEqual(facts, [SUBJECTS[i]], 'one section');
      const memories = text.match(/memory\d+/g) ?? [];
      assert.deepEqual(memories, i === 0 ? [] : [`memory${i}`], 'the last memory alone');
      assert.equal(calls[i]!.maxTokens, 50, 'an eighth of the budget');
      assert.equal(calls[i]!.fastWeights, false);
      assert.match(text, new RegExp(`\\[\\w+ ${i + 1} March 2026\\] (Ann|Ben): The`));
    }
    assert.deepEqual(await method.kept(), { text: 'memory4', items: 1, weights: 0 });
    await method.answer({ text: 'What is the sky?' });
    const answer = shownIn(generated(engine).at(-1)!);
    assert.match(answer, /Notes from earlier conversations:\nmemory4\nWhat is the sky\?$/);
  });

test('memagent: the problem is a general task, or the question where it is known; the first section has no memory', async () => {
  const plain = await rewritten(memagent);
  assert.match(plain.shown[0]!, /<memory>\nNo previous memory\n<\/memory>\n\n<section>\n\[/);
  assert.match(plain.shown[1]!, /<memory>\nmemory1\n<\/memory>/);
  assert.ok(plain.shown.every((text) => text.includes(`<problem>\n${GENERAL_TASK}\n</problem>`)));
  const aware = await rewritten(memagentAware);
  assert.ok(aware.shown.every((text) => text.includes('<problem>\nWhich door?\n</problem>')));
});

test('memagent: short turns are read together, as many as fit', async () => {
  const { shown } = await rewritten(memagent, talk(['sky', 'door', 'dog'], 10));
  assert.equal(shown.length, 1);
  assert.match(shown[0]!, /The sky is.*\n.*The door is.*\n.*The dog is/);
});

test('mem1: the last state and the observation are in its own turn, and its text ends with the state', async () => {
  const { calls } = await rewritten(mem1);
  assert.match(calls[0]!.prefill!, /^<information>\n\[.*The sky is[\s\S]*\n<\/information>\n<think>$/);
  assert.match(calls[1]!.prefill!, /^<think>memory1<\/think>\n<information>\n\[.*The door is[\s\S]*<think>$/);
  assert.ok(calls.every(({ prompt }) => prompt.length === 1 && shownIn({ prompt }).includes(GENERAL_TASK)));
  assert.deepEqual(calls[0]!.stop, ['</think>']);

  const engine = scriptedPolicy(() => 'state</think> and more');
  const method = await reading(mem1, engine, talk(['sky']));
  assert.equal((await method.kept()).text, 'state');
});

test('mem1: an observation is at most 512 tokens, however large the budget is', async () => {
  const engine = scriptedPolicy(() => 'state');
  await reading(mem1, engine, talk(['sky', 'door', 'dog', 'sea', 'car', 'cat'], 150), { budget: 8000 });
  const facts = generated(engine).map((request) => shownIn(request).match(/The \w+ is/g)!.length);
  assert.deepEqual(facts, [3, 3]);
});

test('summary: the model is told how long it may be', async () => {
  const { shown } = await rewritten(summary);
  assert.match(shown[0]!, /Summary so far:\n\(nothing yet\)\n\nWhat comes next:\n\[.*at most 37 words/s);
  assert.match(shown[1]!, /Summary so far:\nmemory1\n/);
});

test('a memory that is too long is cut off at its bound', async () => {
  const engine = scriptedPolicy(() => filler(500));
  const method = await reading(memagent, engine, talk(['sky']), { budget: 400 });
  assert.equal((await method.kept()).text, filler(50));
});

test('sections hold what was read, in order, each as long as it may be: nothing is lost', async () => {
  const word = fc.constantFrom('alpha', 'beta', 'end.', 'gamma!', 'x\n');
  const turn = fc.array(word, { minLength: 1, maxLength: 60, size: 'max' }).map((words) => said(words.join(' ')));
  const length = (turns: readonly Turn[]) => turns.flatMap(({ content }) => content.match(/\S+/g) ?? []).length;
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 8 }), async (turns) => {
      const taken: Turn[][] = [];
      const sections = new Sections({
        fits: async (some) => length(some) <= 20,
        take: async (some) => void taken.push([...some]),
      });
      for (const one of turns) await sections.add(one);
      await sections.flush();
      await sections.flush();
      assert.ok(taken.every((some) => some.length > 0 && length(some) <= 20));
      assert.equal(
        taken
          .flat()
          .flatMap(({ content }) => content.match(/\S+/g))
          .join(' '),
        turns.flatMap(({ content }) => content.match(/\S+/g)).join(' '),
      );
    }),
    { numRuns: 50 },
  );
});

test('full: all turns, oldest first, before every question; they begin alike for every question', async () => {
  const engine = digesting();
  const method = await reading(full, engine, talk(SUBJECTS, 150), { budget: 100 });
  for (const text of ['What is the sky?', 'What is the dog, and what is the sea?']) await method.answer({ text });
  const [one, other] = generated(engine).map(({ prompt }) => prompt);
  assert.deepEqual(one![0], other![0]);
  assert.match(shownIn({ prompt: one! }), /1 March 2026\] Ann: The sky.*\n.*Ben: The door.*\n.*The dog.*\n.*The sea/);
});

test('full: of more than the engine holds the oldest turns go, more of them for a longer question', async () => {
  const engine = digesting(800);
  const method = await reading(full, engine, talk(SUBJECTS, 150));
  await method.answer({ text: 'What?' });
  await method.answer({ text: 'Who?' });
  await method.answer({ text: `Why? ${filler(300, 'q')}`, maxTokens: 100 });
  const asked = generated(engine);
  const facts = asked.map((request) => shownIn(request).match(/(?<=The )\w+/g));
  assert.deepEqual(facts, [
    ['door', 'dog', 'sea'],
    ['door', 'dog', 'sea'],
    ['dog', 'sea'],
  ]);
  for (const request of asked) assert.ok((await tokensOf(engine, request)) + request.maxTokens! <= 800);
  assert.equal((await method.kept()).items, 4, 'they are kept all the same');
});

test('full: a turn that is longer than the context is shown as far as it fits', async () => {
  const engine = digesting(400);
  const method = await reading(full, engine, [said(filler(1000))]);
  await method.answer({ text: 'What?' });
  const text = shownIn(generated(engine)[0]!);
  assert.ok(text.includes('w999') && !text.includes('w0 '), text);
});
