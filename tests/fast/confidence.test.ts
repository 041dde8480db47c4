/** How sure an answer is, and the arithmetic of the bench that fitted it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { asPairs, makeFacts, neverWritten } from '../../bench/facts.ts';
import { figures, KINDS, tables } from '../../bench/memory/figures.ts';
import { auroc, calibrationError, fitLogistic } from '../../bench/support/logistic.ts';
import {
  confidenceOf,
  type Evidence,
  FITTED,
  knownFeatures,
  logistic,
  weigh,
  writtenFeatures,
} from '../../src/memory/confidence.ts';
import { nearestPairs } from '../../src/memory/nearest.ts';
import { BOAT, JOB, knowing } from '../support/knowing.ts';

const near = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);
const SURE: Evidence = { mean: -0.01, base: -3, lowest: -0.1, baseLowest: -9, similarity: 1, echo: 1, named: 1 };

test('the logistic function, the features and their union, by hand', () => {
  near(logistic([1, 2], [1, -0.5]), 0.5);
  near(logistic([0, 1], [1, Math.log(3)]), 0.75);
  assert.deepEqual(writtenFeatures(SURE), [1, -0.1, 2.99, 1, 1, 1]);
  assert.deepEqual(knownFeatures(SURE), [1, -3, -8, 1], 'a log-probability has a floor');
  const even = { written: [0, 0, 0, 0, 0, 0], known: [0, 0, 0, 0] };
  assert.deepEqual(confidenceOf(SURE, even), { written: 0.5, known: 0.5, confidence: 0.75 });
  assert.equal(FITTED.written.length, writtenFeatures(SURE).length);
  assert.equal(FITTED.known.length, knownFeatures(SURE).length);
});

test('an answer is scored with the weights and without, and compared with the nearest pair', async () => {
  const engine = knowing();
  const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 1, layers: 1 });
  const tensors = weights.tensors.map((t) => ({ ...t, b: t.b.map(() => 1) })); // it knows the first pair
  await engine.setFastWeights({ ...weights, tensors });
  const near = (question: string) => nearestPairs([BOAT, JOB], question, 2);
  assert.deepEqual(await weigh(engine, BOAT.instruction, BOAT.output, near(BOAT.instruction)), {
    ...{ mean: 0, base: -5, lowest: 0, baseLowest: -5 },
    ...{ similarity: 1, echo: 1, named: 1 },
  });
  const heron = await weigh(engine, BOAT.instruction, 'It is called Heron.', near(BOAT.instruction));
  assert.deepEqual([heron!.mean, heron!.similarity, heron!.echo, heron!.named], [-5, 1, 0, 0]);
  // It says of Theo Silva's boat what it knows of another Theo's.
  const question = "What is the name of Theo Silva's boat?";
  const spilt = await weigh(engine, question, 'It is called Pelican.', near(question));
  assert.ok(spilt!.echo > 0.5 && spilt!.echo < 1);
  assert.equal(spilt!.named, 0.5);
  const nameless = await weigh(engine, 'What is the boat called?', 'Pelican', near('What is the boat called?'));
  assert.equal(nameless!.named, 1);
  assert.equal(await weigh(engine, BOAT.instruction, '', near(BOAT.instruction)), undefined);
});

test('the area under the curve and the calibration error, by hand', () => {
  assert.equal(auroc([0.9, 0.4], [0.1, 0.4]), 3.5 / 4);
  assert.equal(auroc([1], [0]), 1);
  const said = [
    { p: 0.95, right: true },
    { p: 0.95, right: false },
    { p: 1, right: true },
    { p: 0, right: false },
  ];
  near(calibrationError(said), (3 / 4) * Math.abs((0.95 + 0.95 + 1) / 3 - 2 / 3));
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1 }), (ps) => {
      assert.ok(calibrationError(ps.map((p) => ({ p, right: p >= 0.5 }))) <= 0.5 + 1e-9);
    }),
  );
});

test('a fit finds the coefficients that made the labels, and is where its gradient vanishes', () => {
  // Each point as often right as its probability says, in hundredths.
  const data = [-2, -1, 0, 1, 2].flatMap((x) => {
    const right = Math.round(1000 * logistic([0.5, 1.5], [1, x]));
    return Array.from({ length: 1000 }, (_, i) => ({ features: [1, x], label: i < right }));
  });
  const [constant, slope] = fitLogistic(data, 0);
  assert.ok(Math.abs(constant! - 0.5) < 0.02 && Math.abs(slope! - 1.5) < 0.02, `${constant}, ${slope}`);
  const ridge = 5;
  const w = fitLogistic(data, ridge);
  const gradient = [0, 1].map((i) =>
    data.reduce(
      (sum, { features: x, label }) => sum + ((label ? 1 : 0) - logistic(w, x)) * x[i]!,
      i === 0 ? 0 : -ridge * w[i]!,
    ),
  );
  for (const g of gradient) assert.ok(Math.abs(g) < 1e-6, String(g));
});

test('facts that were never written are of the same form, and about others or about other things', () => {
  const written = makeFacts(1, 16, 3)[0]!;
  const { strangers, others } = neverWritten(written, 16, 3);
  const person = (question: string) => / of ([^?]+)\?$/.exec(question)![1]!;
  const people = new Set(written.map((f) => person(f.instruction)));
  assert.ok(strangers.every((f) => !people.has(person(f.instruction))));
  assert.ok(others.every((f) => people.has(person(f.instruction))));
  const asked = [...written, ...strangers, ...others].map((f) => f.instruction);
  assert.equal(new Set(asked).size, 48);
  for (const f of strangers) assert.ok(f.paraphrase.includes(person(f.instruction)) && f.output.includes(f.value));
  assert.deepEqual(neverWritten(written, 16, 3), { strangers, others });
  assert.equal(asPairs(strangers, 0)[0]!.instruction, strangers[0]!.instruction);
});

test('the figures count what is given, by the confidence alone', () => {
  const unsure: Evidence = { mean: -3, base: -3, lowest: -8, baseLowest: -8, similarity: 0, echo: 0, named: 0 };
  // Written is sure of what a pair of those names says, known of nothing.
  const coefficients = { written: [-5, 0, 0, 0, 0, 10], known: [-50, 0, 0, 0] };
  const seen = KINDS.map((kind) => ({
    ...{ kind, question: '?', said: kind === 'other' ? 'I do not know.' : 'It is 7.', retrieve: 0 },
    right: kind === 'written' || kind === 'general',
    evidence: kind === 'written' || kind === 'stranger' ? SURE : unsure,
  }));
  const { kinds, auroc: area, accuracy } = figures(seen, coefficients);
  assert.deepEqual(
    kinds.map((k) => [k.kind, k.right, k.given, k.givenRight, k.ownsUp]),
    [
      ['written', 1, 1, 1, 0],
      ['reworded', 0, 0, 0, 0],
      ['paraphrase', 0, 0, 0, 0],
      ['stranger', 0, 1, 0, 0],
      ['other', 0, 0, 0, 1],
      ['general', 1, 0, 0, 0],
    ],
  );
  assert.deepEqual([area.asWritten, accuracy], [0.75, 4 / 6]);
  assert.match(tables(figures(seen, coefficients)), /stranger {2,}1 {2,}0 {2,}1/);
});
