/** What the studio makes of a session's events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { follow, IDLE, type Live, settle } from '../../src/studio/live.ts';
import type { Pair, TraceEvent, WriteEvent } from '../../src/studio/types.ts';
import { emptySession, FACTS, scriptedWrite } from '../support/studio-data.ts';

const PAIRS = FACTS.slice(0, 6);
const CONTEXT = { tokens: 812, budget: 800, turns: 9 };
const { record, events } = scriptedWrite(0, PAIRS, [], CONTEXT);
const after = (given: readonly TraceEvent[], from: Live = IDLE) =>
  given.reduce((live, event) => follow(live, { event }), from);
const write = (event: WriteEvent): TraceEvent => ({ type: 'write', event });
const step = (n: number, loss: number | null) =>
  write({ type: 'train', event: { type: 'step', step: n, loss }, totalSteps: 12 });

test('a write goes from reading to its verdict, and leaves the context cleared', () => {
  const stages = events.map((_, i) => after(events.slice(0, i + 1)).write?.stage);
  assert.deepEqual([...new Set(stages)], ['reading', 'training', 'asking', 'done']);
  const live = after(events);
  assert.equal(live.tokens, 42);
  assert.deepEqual(live.write!.loss, record.loss);
  assert.deepEqual(live.write!.quiz, record.quiz);
  assert.equal(live.write!.record, record);
  assert.deepEqual(live.write!.dropped, { duplicate: 2, vague: 1 });
});

test('pairs appear part by part, each once, and in the end those that are trained on', () => {
  const part = (pairs: readonly Pair[] | null, about?: string[]): TraceEvent => {
    return { type: 'extract', part: 0, parts: 2, pairs, about };
  };
  const live = after([part(PAIRS.slice(0, 2)), part(null), part(PAIRS.slice(1, 3), ['Theo'])]);
  assert.deepEqual(live.write!.pairs, PAIRS.slice(0, 3));
  assert.deepEqual([live.write!.read, live.write!.parts], [2, 2], 'sentences that are asked about again are no parts');
  const chosen = follow(live, { event: { type: 'extraction', pairs: PAIRS.slice(2, 3), dropped: {} } });
  assert.deepEqual(chosen.write!.pairs, PAIRS.slice(2, 3));
});

test('training that is begun again from an earlier step replaces what it had lost from there', () => {
  const live = after([step(1, 1.8), step(2, 9), step(3, null), step(2, 1.1)]);
  assert.deepEqual(live.write!.loss, [1.8, 1.1]);
  assert.ok(Number.isNaN(after([step(1, null)]).write!.loss[0]), 'a diverged loss is not finite');
});

test('a quiz that begins again replaces the earlier one', () => {
  const quiz = (question: string, ok: boolean) => write({ type: 'quiz', kind: 'pair', question, answer: '', ok });
  const live = after([quiz('a', true), quiz('b', false), quiz('a', true)]);
  assert.deepEqual(
    live.write!.quiz.map(({ question }) => question),
    ['a'],
  );
});

test('a write that was not asked for in the chat, such as a correction, begins with its training', () => {
  const live = after([write({ type: 'write-start', pairs: 1, anchors: 8 })], after(events));
  assert.equal(live.write!.stage, 'training');
  assert.deepEqual([live.write!.loss, live.write!.quiz, live.write!.record], [[], [], null]);
});

test('what the server says ends a write that broke off, unless events came since', () => {
  const live = after(events.slice(0, 8));
  const idle = { ...emptySession('s'), contextTokens: 300, busy: false };
  assert.equal(settle(live, idle, false).write, null);
  assert.equal(settle(live, idle, true).write, live.write);
  assert.equal(settle(live, { ...idle, busy: true }, false).write, live.write);
  assert.equal(settle(after(events), idle, false).write!.stage, 'done', 'a finished one stays to be looked at');
  assert.equal(settle(live, idle, false).tokens, 300);
});

test('no order of events breaks it: the losses have no holes, and only a verdict ends a write', () => {
  const other: readonly TraceEvent[] = [{ type: 'observe', tokens: 3 }, { type: 'tool' }, step(5, 0.2), step(1, null)];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...events, ...other), { maxLength: 60 }), (given) => {
      const live = after(given);
      assert.ok(live.write?.loss.every((loss) => typeof loss === 'number') ?? true);
      assert.equal(live.write?.stage === 'done', live.write?.record != null);
      const questions = live.write?.quiz.map(({ kind, question }) => `${kind} ${question}`) ?? [];
      assert.equal(new Set(questions).size, questions.length);
    }),
  );
});
