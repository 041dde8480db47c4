/** One question to a memory: what is in its context, what is withheld, and `tmem ask`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerQuestion } from '../../src/agent/answer.ts';
import { answerContext } from '../../src/agent/context.ts';
import { Episode } from '../../src/agent/episode.ts';
import { NOT_KNOWN, RETRIEVED } from '../../src/agent/prompts.ts';
import type { TraceEvent } from '../../src/agent/trace.ts';
import { register } from '../../src/cli/commands/ask.ts';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { BOAT, DOG, JOB, knowing, openHome, WRITES } from '../support/knowing.ts';
import { plainWriter } from '../support/scripted.ts';

/** A memory of all writes, its weights in force. */
async function remembering(engine: ScriptedEngine): Promise<MemoryState> {
  let state = emptyMemory(engine.model.fingerprint);
  for (const pairs of WRITES) ({ state } = await writePairs(engine, state, pairs, getRecipe('default', { layers: 1 })));
  engine.calls.length = 0;
  return state;
}

const generations = (engine: ScriptedEngine) =>
  engine.calls.flatMap((call) => (call.type === 'generate' ? [call.request] : []));

test('retrieved pairs stand before the question, with their time and the rule for those that disagree', () => {
  const [system, user] = answerContext('Which boat?', 'Nadia keeps bees.', [BOAT, JOB]);
  assert.deepEqual(user, { role: 'user', content: 'Which boat?' });
  assert.ok(system!.content.includes('Notes from earlier conversations:\nNadia keeps bees.\n\n'));
  assert.ok(
    system!.content.endsWith(
      `${RETRIEVED.header}\n[Saturday 8 March 2025] ${BOAT.instruction} -> ${BOAT.output}\n${JOB.instruction} -> ${JOB.output}`,
    ),
  );
  assert.match(RETRIEVED.header, /oldest first.*newest.*right/);
  assert.deepEqual(answerContext('Which boat?', '', []), [user], 'without any of it the bare question');
});

/** The model of these tests writes no other wordings. */
const asWritten = (pair: Pair): Pair => ({ ...pair, also: [] });

test('the n nearest of the standing pairs are shown, oldest first', async () => {
  const engine = knowing();
  const state = await remembering(engine);
  const question = "What is Nadia's dog, what is Nadia's job?";
  for (const [retrieve, shown] of [
    [0, []],
    [1, [DOG]],
    [2, [JOB, DOG]],
    [9, [JOB, DOG]],
  ] as const) {
    engine.calls.length = 0;
    const { nearest, retrieved } = await answerQuestion(engine, state, question, { retrieve });
    assert.deepEqual(retrieved, shown.map(asWritten));
    assert.deepEqual(generations(engine)[0]!.prompt, answerContext(question, '', shown));
    assert.deepEqual(nearest[0]!.pair, asWritten(DOG));
  }
});

test('an answer streams; one that may be withheld comes at once, or not at all', async () => {
  const engine = knowing();
  const state = await remembering(engine);
  const ask = async (question: string, abstain?: number) => {
    const pieces: string[] = [];
    const given = await answerQuestion(engine, state, question, { abstain, onText: (text) => pieces.push(text) });
    return { ...given, pieces };
  };
  const plain = await ask(BOAT.instruction);
  assert.deepEqual([plain.answer, plain.abstained, plain.confidence], [BOAT.output, false, undefined]);
  assert.ok(plain.pieces.length > 1);
  const sure = await ask(BOAT.instruction, 0.5);
  assert.deepEqual([sure.answer, sure.abstained, sure.withheld], [BOAT.output, false, undefined]);
  assert.ok(sure.confidence!.confidence > 0.9);
  assert.deepEqual(sure.pieces, [BOAT.output]);
  const unsure = await ask('What is the name of the cat of Theo?', 1);
  assert.deepEqual([unsure.answer, unsure.abstained], [NOT_KNOWN, true]);
  assert.equal(unsure.withheld, 'on: What is the name of the cat of Theo?');
  assert.deepEqual(unsure.pieces, [NOT_KNOWN]);
});

test('what is not sure is asked again, and the surest answer is given', async () => {
  const engine = knowing();
  const state = await remembering(engine);
  const pieces: string[] = [];
  const asked: (number | undefined)[] = [];
  /** What it knows is what it says with one seed only. */
  const ask = (seed: number | undefined, tries?: number) => {
    pieces.length = 0;
    asked.length = 0;
    const wavering = withMethods(engine, {
      async *generate(request) {
        asked.push(request.seed);
        assert.equal(request.temperature ?? 0, request.seed === undefined ? 0 : 1);
        const prompt = request.seed === seed ? request.prompt : `Boat ${request.seed}`;
        yield* engine.generate({ ...request, prompt });
      },
    });
    return answerQuestion(wavering, state, BOAT.instruction, { tries, onText: (text) => pieces.push(text) });
  };
  assert.equal((await ask(3)).answer, 'on: Boat undefined');
  assert.deepEqual(asked, [undefined]);
  assert.equal((await ask(3, 3)).answer, 'on: Boat undefined', 'of two that are equally sure the earlier one');
  const found = await ask(3, 5);
  assert.equal(found.answer, BOAT.output);
  assert.ok(found.confidence!.confidence > 0.9);
  assert.deepEqual(pieces, [BOAT.output]);
  assert.deepEqual(asked, [undefined, 1, 2, 3, 4]);
  assert.equal((await ask(undefined, 5)).answer, BOAT.output);
  assert.deepEqual(asked, [undefined], 'what is sure is asked once');
});

test('an answer without words is not trusted', async () => {
  const engine = knowing({}, [{ ...BOAT, output: ' ' }]);
  await engine.setFastWeights({
    ...(await engine.initialise({ init: { kind: 'svd' }, rank: 1, layers: 1 })),
    tensors: [{ name: 'x', a: new Float32Array(1), b: new Float32Array([1]), inputs: 1, outputs: 1 }],
  });
  const given = await answerQuestion(engine, emptyMemory('scripted'), BOAT.instruction, { abstain: 0.01 });
  assert.deepEqual([given.abstained, given.withheld, given.confidence!.confidence], [true, '', 0]);
});

test('an episode retrieves and abstains, and its trace tells what was withheld', async () => {
  const engine = knowing();
  const state = await remembering(engine);
  const events: TraceEvent[] = [];
  const episode = await Episode.open({
    ...{ engine, write: plainWriter(engine), budget: 512, retrieve: 1 },
    from: { state, working: [], turns: 2 },
    trace: (event) => events.push(event),
  });
  engine.calls.length = 0;
  assert.equal(await episode.answer(BOAT.instruction), BOAT.output);
  assert.deepEqual(generations(engine)[0]!.prompt, answerContext(BOAT.instruction, '', [BOAT]));
  assert.equal(await episode.answer('What about Theo?', { abstain: 1 }), NOT_KNOWN);
  const [open, withheld] = events.flatMap((e) => (e.type === 'answer' ? [e] : []));
  assert.ok(!('confidence' in open!));
  assert.equal(withheld!.withheld, 'on: What about Theo?');
  assert.ok(withheld!.confidence! < 1);
  assert.deepEqual(episode.snapshot.state, state, 'nothing is remembered of a question');
});

test('ask answers from the session and leaves it as it was', async (t) => {
  const { engine, run, stored } = await openHome(t, register);
  const before = await stored();
  const { value } = await run('ask', BOAT.instruction, '--session', 's');
  assert.deepEqual([value.answer, value.abstained, value.session], [BOAT.output, false, 's']);
  assert.ok(!('withheld' in value));
  assert.ok(Number(value.confidence) > 0.9 && Number(value.written) > 0.9, JSON.stringify(value));
  const { id, instruction, output, similarity } = (value.nearest as Record<string, unknown>[])[0]!;
  assert.deepEqual({ id, instruction, output, similarity }, { ...idOf(BOAT), similarity: 1 });
  const [{ prompt }] = generations(engine) as [{ prompt: unknown }];
  assert.deepEqual(prompt, answerContext(BOAT.instruction, 'Nadia keeps bees.'));
  assert.deepEqual(await stored(), before);
});

const idOf = ({ id, instruction, output }: typeof BOAT) => ({ id, instruction, output });

test('ask without memory asks the base model alone', async (t) => {
  const { engine, run } = await openHome(t, register);
  for (const session of [[], ['--session', 's']]) {
    const { value } = await run('ask', BOAT.instruction, '--no-memory', '--retrieve', '2', ...session);
    assert.deepEqual([value.answer, value.nearest, value.session], [`on: ${BOAT.instruction}`, [], null]);
    assert.deepEqual(generations(engine).at(-1)!.prompt, [{ role: 'user', content: BOAT.instruction }]);
  }
  assert.equal(engine.weights, null);
});

test('ask withholds what rests on nothing', async (t) => {
  const { run } = await openHome(t, register);
  const { value } = await run('ask', 'Tell me of Theo.', '--session', 's', '--abstain', '1');
  assert.deepEqual([value.answer, value.abstained, value.withheld], [NOT_KNOWN, true, 'on: Tell me of Theo.']);
});

test('ask may try more than once', async (t) => {
  const question = 'Who is the mayor of Ghent?';
  const { engine, run } = await openHome(t, register, { engine: knowing({ [question]: DOG }) });
  const { value } = await run('ask', question, '--session', 's', '--tries', '4');
  assert.ok(Number(value.confidence) < 0.8, JSON.stringify(value));
  assert.equal(generations(engine).length, 4);
});

test('ask streams to the terminal and says beside it how sure it is', async (t) => {
  const { run, printed, notes } = await openHome(t, register, { json: false });
  await run('ask', BOAT.instruction, '--session', 's');
  assert.equal(printed(), `${BOAT.output}\n`);
  assert.match(notes[0]!, /^Confidence [01]\.\d\d: /);
  assert.match(notes[1]!, /1\.00 .*boat\? {2}-> {2}Theo's boat is called Pelican\./);
});

test('ask refuses what it cannot do in one sentence', async (t) => {
  const { run, interruption } = await openHome(t, register);
  await assert.rejects(run('ask', 'Who?'), { code: 'usage', message: /--session NAME, or --no-memory/ });
  await assert.rejects(run('ask', ' ', '--no-memory'), { code: 'usage', message: /empty/ });
  await assert.rejects(run('ask', 'Who?', '--session', 'none'), { code: 'missing', message: /no session none/ });
  for (const p of ['2', '-1', '', 'x'])
    await assert.rejects(run('ask', 'Who?', '--no-memory', `--abstain=${p}`), { code: 'usage', message: /0 to 1/ });
  await assert.rejects(run('ask', 'Who?', '--no-memory', '--retrieve=1.5'), { code: 'usage' });
  for (const n of ['0', '65', '1.5'])
    await assert.rejects(run('ask', 'Who?', '--no-memory', `--tries=${n}`), {
      code: 'usage',
      message: /--tries must be a whole number from 1 to 64/,
    });
  interruption.abort();
  await assert.rejects(run('ask', 'Who?', '--session', 's'), { code: 'aborted' });
});
