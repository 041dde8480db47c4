/** `tmem memory why`: the weights made again without the pairs that an answer may rest on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { register } from '../../src/cli/commands/memory.ts';
import { BOAT, DOG, JOB, knowing, openHome } from '../support/knowing.ts';

const QUESTION = "How do they call Nadia's dog?";
const engineOf = () => knowing({ [QUESTION]: DOG });

interface Ground {
  readonly id: string;
  readonly similarity: number;
  readonly without?: number;
  readonly drop?: number;
  readonly reason?: string;
}

test('the pair that an answer rests on is the one without which it is lost', async (t) => {
  const { engine, run, stored, notes } = await openHome(t, register, { engine: engineOf() });
  const before = await stored();
  const { value, text } = await run('memory', 'why', 's', QUESTION);
  assert.deepEqual([value.answer, value.logProb, value.base, value.quick], [DOG.output, 0, -5, false]);
  const pairs = value.pairs as Ground[];
  assert.deepEqual(
    pairs.map(({ id, without, drop }) => [id, without, drop]),
    [
      [DOG.id, -5, 5],
      [JOB.id, 0, 0],
    ],
  );
  // The dog is of the second write, the job of the first.
  assert.deepEqual(
    notes.filter((note) => note.startsWith('Without')).map((note) => /: (\d) writes again/.exec(note)?.[1]),
    ['1', '2'],
  );
  // The write of the dog alone is nothing to train without it.
  assert.equal(engine.calls.filter((call) => call.type === 'train').length, 2);
  assert.match(
    text,
    /^Nadia's dog is called Biscuit\.\nLog-probability of a token: 0\.00, without the memory -5\.00\./,
  );
  assert.match(text, /id-What.*Biscuit\.\n {4}similarity .* -5\.00 without it \(-5\.00\)\n/);
  assert.deepEqual(await stored(), before, 'nothing on disk changes');
});

test('--top leaves out fewer, --quick none', async (t) => {
  const { engine, run } = await openHome(t, register, { engine: engineOf() });
  const one = (await run('memory', 'why', 's', QUESTION, '--top', '1')).value.pairs as Ground[];
  assert.deepEqual(
    one.map(({ id, drop }) => [id, drop]),
    [[DOG.id, 5]],
  );
  engine.calls.length = 0;
  const { value } = await run('memory', 'why', 's', QUESTION, '--quick');
  assert.deepEqual(
    (value.pairs as Ground[]).map(({ id, drop }) => [id, drop]),
    [
      [DOG.id, undefined],
      [JOB.id, undefined],
    ],
  );
  assert.ok(!engine.calls.some((call) => call.type === 'train'));
  const none = await run('memory', 'why', 's', 'Who painted the Mona Lisa?');
  assert.deepEqual(none.value.pairs, []);
  assert.match(none.text, /No pair shares a word/);
});

test('a memory that cannot be made again without a pair says so of that pair alone', async (t) => {
  const engine = engineOf();
  const { run, stored } = await openHome(t, register, { engine });
  const before = await stored();
  const { train } = engine;
  engine.train = async (request, onEvent) => {
    const result = await train.call(engine, request, onEvent);
    const isWithoutJob = request.samples.some((s) => s.prompt.includes(BOAT.instruction));
    const tensors = result.weights.tensors.map((w) => ({ ...w, b: w.b.map((x) => (isWithoutJob ? 0 : x)) }));
    return { ...result, weights: { ...result.weights, tensors } };
  };
  const pairs = (await run('memory', 'why', 's', QUESTION)).value.pairs as Ground[];
  assert.deepEqual(
    pairs.map(({ id, drop }) => [id, drop]),
    [
      [DOG.id, 5],
      [JOB.id, undefined],
    ],
  );
  assert.match(pairs[1]!.reason!, /Write 1 does not pass the gate/);
  assert.deepEqual(await stored(), before);
});

test('an interruption ends it, and the session can be opened again', async (t) => {
  const engine = engineOf();
  const { run, stored, interruption } = await openHome(t, register, { engine });
  const before = await stored();
  const { train } = engine;
  engine.train = (request, onEvent) => {
    interruption.abort();
    return train.call(engine, request, onEvent);
  };
  await assert.rejects(run('memory', 'why', 's', QUESTION), { code: 'aborted' });
  assert.deepEqual(await stored(), before);
  await assert.rejects(run('memory', 'why', 'none', QUESTION), { code: 'missing' });
  await assert.rejects(run('memory', 'why', 's', QUESTION, '--top', '0'), { code: 'usage' });
});
