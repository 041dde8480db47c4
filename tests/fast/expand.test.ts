/** Other ways of saying a pair, and what pairs and anchors are trained on. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { TrainRequest } from '../../src/engine/types.ts';
import { expand, type Form } from '../../src/memory/expand.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { anchorSamples, distilledSamples } from '../../src/memory/samples.ts';
import { emptyMemory, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { lastMessage } from '../support/scripted.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-expand-'));
process.env.TMEM_HOME = home;
after(() => rmSync(home, { recursive: true, force: true }));

const pair: Pair = {
  ...{ id: 'p', turn: 0, origin: 'user', time: '12 May 2026' },
  instruction: 'What is the job of Ann Lee?',
  output: 'The job of Ann Lee is pilot.',
  source: 'Ann Lee works as a pilot.',
};

/** A model that says the same to every request that holds some words. */
const saying = (answers: Record<string, string>) =>
  new ScriptedEngine({
    reply: (request) => Object.entries(answers).find(([part]) => lastMessage(request).includes(part))?.[1] ?? 'no idea',
  });
const wordings = async (engine: ScriptedEngine, ...forms: Form[]) =>
  (await expand(engine, pair, forms)).map(({ instruction, output }) => {
    assert.equal(output, pair.output);
    return instruction;
  });

describe('expand', () => {
  it('gives the sentence to be completed up to what answers, and the question as of its time, without asking anybody', async () => {
    const engine = saying({});
    assert.deepEqual(await wordings(engine, 'statement', 'dated'), [
      'Complete the sentence: The job of Ann Lee is …',
      'As of 12 May 2026: What is the job of Ann Lee?',
    ]);
    assert.equal(engine.calls.length, 0);
    const short = { ...pair, output: 'Pilot.', time: undefined };
    assert.deepEqual(await expand(engine, short, ['statement', 'dated']), []);
  });

  it('takes the reversed question only when it names the answer and not what is asked for', async () => {
    const given = async (text: string) => wordings(saying({ 'Ask for who': text }), 'reversed');
    assert.deepEqual(await given('Who is a pilot?'), ['Who is a pilot?']);
    for (const bad of ['Is Ann a pilot?', 'Who works?', 'Who is a pilot', 'What is the job of Ann Lee?'])
      assert.deepEqual(await given(bad), [], bad);
  });

  it('trains two wordings, asks others, and keeps the first of them out of the quiz', async () => {
    const four = [
      "What is Ann Lee's job?",
      'What does Ann Lee do?',
      'Tell me the job of Ann Lee.',
      'Ann Lee has which job?',
    ];
    const engine = saying({ 'in two ways': JSON.stringify(four.slice(0, 2)), 'in four ways': JSON.stringify(four) });
    const recipe = { ...getRecipe('default'), anchors: 0, expand: ['paraphrase'] as const, paraphrased: 1 };
    const { record } = await writePairs(engine, emptyMemory(engine.model.fingerprint), [pair], recipe);
    const [training] = engine.calls.flatMap((call) => (call.type === 'train' ? [call.request] : []));
    const { samples, stop } = training as TrainRequest;
    assert.deepEqual([samples.length, stop!.samples], [3, 1], 'training ends by the pair itself');
    for (const [i, question] of [pair.instruction, ...four.slice(0, 2)].entries())
      assert.ok(samples[i]!.prompt.includes(question));
    const asked = record.quiz!.filter(({ kind }) => kind === 'paraphrase').map(({ question }) => question);
    assert.deepEqual(asked, four.slice(2));
  });
});

describe('what is matched instead of words', () => {
  const layers = 2;
  const evaluations = (engine: ScriptedEngine) =>
    engine.calls.flatMap((call) => (call.type === 'evaluate' ? [call.request] : []));

  it('is what the base model says with the source before the question', async () => {
    const engine = saying({});
    const [sample] = await distilledSamples(engine, [pair], { layers });
    const [request] = evaluations(engine);
    assert.ok(request!.samples[0]!.prompt.includes(`${pair.source}\n\n${pair.instruction}`));
    assert.deepEqual([request!.weights, request!.layers, request!.samples[0]!.answer], [null, layers, sample!.answer]);
    assert.ok(!sample!.prompt.includes(pair.source));
    const tokens = await engine.tokenize(sample!.answer);
    assert.deepEqual(
      sample!.targets!.map((target) => target?.tokens[0]),
      tokens,
    );
  });

  it('is the word itself where the model would say another one', async () => {
    const engine = saying({});
    const { evaluate } = engine;
    engine.evaluate = async (request) => {
      const found = await evaluate.call(engine, request);
      return { ...found, losses: found.losses.map((of) => of.map((loss, t) => (t === 1 ? 3 : loss))) };
    };
    const [sample] = await distilledSamples(engine, [pair], { layers });
    assert.equal(sample!.targets![1], undefined);
    assert.ok(sample!.targets!.every((target, t) => t === 1 || target));
  });

  it('is what it says of its own answer to an ordinary prompt, up to where that was cut off', async () => {
    const engine = saying({});
    const answers = [{ instruction: 'Why?', output: 'Because it', whole: false }];
    const [words] = await anchorSamples(engine, answers);
    const [distribution] = await anchorSamples(engine, answers, { distributions: true, layers });
    assert.equal(words!.targets, undefined);
    assert.equal(distribution!.answer, 'Because it');
    assert.equal(distribution!.targets!.length, 2);
  });
});
