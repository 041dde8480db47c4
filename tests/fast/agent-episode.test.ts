import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Episode, type EpisodeOptions } from '../../src/agent/episode.ts';
import type { TraceEvent } from '../../src/agent/trace.ts';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights, GenerateRequest } from '../../src/engine/types.ts';
import type { Snapshot } from '../../src/memory/session.ts';
import { isPart, lastMessage, partOf, plainWriter, said, scriptedPolicy } from '../support/scripted.ts';

async function open(engine: ScriptedEngine, options: Partial<EpisodeOptions> = {}) {
  const events: TraceEvent[] = [];
  const trace = (event: TraceEvent) => void events.push(event);
  const episode = await Episode.open({ engine, write: plainWriter(engine), budget: 130, trace, ...options });
  const ofType = <T extends TraceEvent['type']>(type: T) =>
    events.filter((e): e is Extract<TraceEvent, { type: T }> => e.type === type);
  return { episode, events, ofType };
}

const filler = (words: number) => Array.from({ length: words }, (_, i) => `w${i}`).join(' ');
const generations = (engine: ScriptedEngine) =>
  engine.calls.flatMap((call) => (call.type === 'generate' ? [call.request] : []));

test('the context grows until the next turn does not fit, is written and cleared, and never passes the budget', async () => {
  const engine = scriptedPolicy();
  const { episode, ofType } = await open(engine);
  for (const subject of ['sky', 'door', 'dog', 'sea', 'car'])
    await episode.observe(said(`The ${subject} is ${subject}ish. ${filler(20)}`));
  assert.ok(ofType('observe').every((e) => e.tokens <= 130));
  assert.ok(ofType('trigger').length >= 1);
  await episode.write();
  const { state, working } = episode.snapshot;
  const outputs = state.writes.flatMap((w) => w.pairs.map((p) => [p.output, p.turn]));
  assert.deepEqual(outputs, [
    ['skyish', 0],
    ['doorish', 1],
    ['dogish', 2],
    ['seaish', 3],
    ['carish', 4],
  ]);
  assert.deepEqual(working, []);
  assert.equal(engine.weights, state.weights);
  assert.equal(state.weights!.tensors[0]!.b[0], 3 * state.writes.length, 'B goes on from where it was');
  assert.deepEqual(ofType('cleared').at(-1)!.tokens, await episode.contextTokens());
});

test('whatever is observed is extracted from: nothing is lost, nothing is doubled, the budget holds', async () => {
  const word = fc.constantFrom('alpha', 'beta', 'end.', 'gamma!', 'x\n');
  const turn = fc.array(word, { minLength: 1, maxLength: 400 }).map((words) => words.join(' '));
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 4 }), async (turns) => {
      const parts: string[] = [];
      const engine = scriptedPolicy();
      const { generate } = engine;
      engine.generate = (request: GenerateRequest) => {
        if (isPart(request)) parts.push(partOf(request));
        return generate.call(engine, request);
      };
      const { episode, ofType } = await open(engine);
      for (const content of turns) await episode.observe(said(content));
      await episode.write();
      assert.ok(ofType('observe').every((e) => e.tokens <= 130));
      const bare = (texts: string[]) => texts.join('').replace(/\s/g, '');
      assert.equal(bare(parts.map((part) => part.replace(/^User: /gm, ''))), bare(turns));
    }),
    { numRuns: 25 },
  );
});

test('a budget without room is refused with the smallest possible one, which works', async () => {
  const engine = scriptedPolicy();
  const error = await open(engine, { budget: 5 }).catch((e) => e);
  assert.equal(error.code, 'usage');
  const least = Number(/smallest possible is (\d+)/.exec(error.message)![1]);
  await assert.rejects(open(engine, { budget: least - 1 }), { code: 'usage' });
  const { episode } = await open(engine, { budget: least });
  await episode.observe(said(filler(500)));
  await episode.write();
  assert.ok(episode.snapshot.state.writes.length > 3);
  await assert.rejects(open(engine, { budget: 1_000_000 }), { code: 'usage', message: /largest possible is 32768/ });
});

test('with the method explicit there is no training, and the notes are in the answer', async () => {
  const engine = scriptedPolicy();
  const { episode } = await open(engine, { method: 'explicit', useExplicit: false });
  await episode.observe(said('The sky is grey.'));
  assert.equal(await episode.write(), null);
  assert.equal(engine.calls.filter((c) => c.type === 'train').length, 0);
  await episode.answer('What?');
  assert.match(JSON.stringify(generations(engine).at(-1)!.prompt), /Talk grey/);
});

test('an answer of the weights alone sees nothing but the question, and is not remembered', async () => {
  const seen: (FastWeights | null)[] = [];
  const engine = scriptedPolicy((_, weights) => {
    seen.push(weights);
    return ' grey ';
  });
  const { episode, ofType } = await open(engine, { useExplicit: false });
  await episode.observe(said('The sky is grey.'));
  await episode.write();
  assert.equal(await episode.answer('What is the sky?'), 'grey');
  assert.deepEqual(generations(engine).at(-1)!.prompt, [{ role: 'user', content: 'What is the sky?' }]);
  assert.equal(seen[0], episode.snapshot.state.weights);
  assert.equal(ofType('answer').length, 1);
  assert.equal(episode.snapshot.working.length, 0);
});

test('a reply is made in the context, remembered, and followed by a write when the budget is reached', async () => {
  const engine = scriptedPolicy((request) => (lastMessage(request) === 'talk' ? filler(100) : 'yes'));
  const { episode, ofType } = await open(engine);
  const pieces: string[] = [];
  assert.equal(await episode.reply(said('hello'), { onText: (t) => pieces.push(t) }), 'yes');
  assert.equal(pieces.join(''), 'yes');
  assert.deepEqual(
    episode.snapshot.working.map(({ turn, index }) => [turn.role, turn.content, index]),
    [
      ['user', 'hello', 0],
      ['assistant', 'yes', 1],
    ],
  );
  assert.equal(ofType('trigger').length, 0);
  await episode.reply(said('talk'));
  assert.equal(ofType('trigger').length, 1);
  assert.deepEqual(episode.snapshot.working, []);
});

test('an interruption during the write leaves state, history and weights as they were', async () => {
  const engine = scriptedPolicy();
  const controller = new AbortController();
  const write = plainWriter(engine);
  const { episode } = await open(engine, {
    write: async (state, pairs, options) => {
      const written = await write(state, pairs, options);
      await engine.setFastWeights(written.state.weights);
      if (state.writes.length === 1) controller.abort();
      options.signal?.throwIfAborted();
      return written;
    },
  });
  await episode.observe(said('The sky is grey.'));
  await episode.write({ signal: controller.signal });
  await episode.observe(said('The door is green.'));
  const before = episode.snapshot;
  await assert.rejects(episode.write({ signal: controller.signal }));
  assert.deepEqual(episode.snapshot, before);
  assert.equal(engine.weights, before.state.weights);
  await episode.write();
  assert.equal(episode.snapshot.state.writes.length, 2);
});

test('a state that cannot be kept is not gone on with', async () => {
  const engine = scriptedPolicy();
  const onChange = async (next: Snapshot) => {
    if (next.state.writes.length > 0) throw new Error('disk full');
  };
  const { episode } = await open(engine, { onChange });
  await episode.observe(said('The sky is grey.'));
  await assert.rejects(episode.write(), /disk full/);
  assert.equal(episode.snapshot.working.length, 1);
  assert.equal(engine.weights, null);
});

test('a fact that does not stick is kept as text, the others are not', async () => {
  const engine = scriptedPolicy();
  const write = plainWriter(engine);
  const { episode } = await open(engine, {
    write: async (state, pairs, options) => {
      const { state: next, record } = await write(state, pairs, options);
      const quiz = pairs.map(({ id, instruction }, i) => ({
        ...{ kind: 'pair' as const, pair: id, question: instruction, answer: '', ok: i > 0 },
      }));
      const asked = { ...record, quiz };
      return { state: { ...next, writes: [...state.writes, asked] }, record: asked };
    },
  });
  await episode.observe(said('The sky is grey. The door is green.'));
  const record = await episode.write();
  assert.equal(record!.verdict, 'committed');
  const { explicit } = episode.snapshot.state;
  assert.ok(explicit.includes('What is the sky? grey') && !explicit.includes('door? green'), explicit);
});

test('the facts of a refused write are kept as text', async () => {
  const engine = scriptedPolicy();
  const { episode } = await open(engine, {
    write: async (state, pairs) => {
      const common = { id: 'w', time: '', pairs, recipe: 'x', loss: [Number.NaN], recalled: 0, ms: 1 };
      const record = { ...common, verdict: 'refused' as const, reason: 'the loss diverged' };
      return { state: { ...state, writes: [record] }, record };
    },
  });
  await episode.observe(said('The sky is grey.'));
  const record = await episode.write();
  assert.equal(record!.verdict, 'refused');
  assert.match(episode.snapshot.state.explicit, /What is the sky\? grey/);
  assert.equal(engine.weights, null);
});

test('goes on from a snapshot, and an overlong explicit memory is brought within its bound', async () => {
  const engine = scriptedPolicy();
  const first = await open(engine);
  await first.episode.observe(said('The sky is grey.'));
  await first.episode.write();
  const { state } = first.episode.snapshot;
  const from = {
    state: { ...state, explicit: filler(200) },
    working: [{ turn: said('The door is green.'), index: 1 }],
    turns: 2,
  };
  const { episode } = await open(engine, { from });
  assert.equal(episode.snapshot.state.explicit, 'short notes');
  await episode.write();
  assert.deepEqual(
    episode.snapshot.state.writes.map((w) => w.pairs[0]!.output),
    ['grey', 'green'],
  );
});

test('question-aware: the task is in the extraction, else it is not', async () => {
  for (const questionAware of [true, false]) {
    const engine = scriptedPolicy();
    const { episode } = await open(engine, { task: 'Which door?', questionAware });
    await episode.observe(said('Hi.'));
    await episode.write();
    const parts = generations(engine).filter(isPart);
    assert.deepEqual(
      parts.map((request) => lastMessage(request).includes('Which door?')),
      [questionAware],
    );
  }
});

test('the extraction is done by the base model unless fast weights are asked for', async () => {
  for (const fastWeights of [undefined, true]) {
    const engine = scriptedPolicy();
    const { episode } = await open(engine, { extract: { fastWeights }, explicitTokens: 3 });
    for (const fact of ['The sky is grey.', 'The door is green.']) {
      await episode.observe(said(`${fact} It is.`));
      await episode.write();
    }
    const asked = generations(engine);
    assert.equal(asked.length, 5, 'a part and a note a write, and the rewritten memory');
    assert.ok(asked.every((request) => request.fastWeights === (fastWeights ?? false)));
  }
});
