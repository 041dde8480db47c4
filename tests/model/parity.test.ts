/**
 * One write of 16 pairs against PyTorch + PEFT in float32 on the same weights, from the same A; fixtures by
 * tests/fixtures/parity/generate.py. llama.cpp's quantised products round their inputs to 8 bits, which is the deviation that is left.
 * The comparison on the larger model runs with TMEM_LARGE_TESTS=1.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { resolveModel } from '../../src/engine/models/store.ts';
import { findBlas } from '../../src/engine/native/blas.ts';
import type { Engine, FastWeights, Optimizer, Token, TrainResult } from '../../src/engine/types.ts';
import { fixture, openReal, SMALL_MODEL } from '../support/real-model.ts';

const LOSS_TOLERANCE = 0.02;
const NORM_TOLERANCE = 0.05;
/** Of the rows of A: rounding of its computation differs between processors. */
const A_TOLERANCE = 1e-3;

interface Fixture {
  readonly modelSha256: string;
  readonly pairsSha256: string;
  readonly optimizer: Optimizer;
  readonly tokens: number;
  readonly answerTokens: number;
  readonly loss: number[];
  readonly bNorm: Record<string, number>;
  readonly a: { readonly rows: Record<string, { norms: number[]; waves: number[] }> };
}

interface ExportFixture extends Pick<Fixture, 'modelSha256' | 'pairsSha256' | 'optimizer'> {
  readonly epochs: number;
  readonly nextTokens: readonly { readonly prompt: string; readonly token: Token; readonly lead: number }[];
}

const blas = findBlas('auto');
const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));

/** The write of a fixture, after a check that it is about these files. */
async function write(engine: Engine, model: string, expected: Fixture | ExportFixture, epochs: number) {
  assert.equal((await resolveModel(model)).sha256, expected.modelSha256);
  const digest = createHash('sha256').update(fixture('parity/pairs.jsonl')).digest('hex');
  assert.equal(digest, expected.pairsSha256);
  const pairs = fixture('parity/pairs.jsonl').trim().split('\n');
  const samples = await Promise.all(
    pairs.map((line) => {
      const { instruction, output } = JSON.parse(line);
      return engine.renderSample(instruction, output);
    }),
  );
  const initial = await engine.initialise({ init: { kind: 'svd' }, rank: 6, layers: 4 });
  const { optimizer } = expected;
  const result = await engine.train({ samples, weights: initial, optimizer, epochs, batch: 16 });
  return { initial, result };
}

function checkA(initial: FastWeights, { a }: Fixture): void {
  assert.equal(initial.tensors.length, Object.keys(a.rows).length);
  for (const { name, a: values, inputs } of initial.tensors) {
    const { norms, waves } = a.rows[name]!;
    norms.forEach((expected, r) => {
      const row = values.subarray(r * inputs, (r + 1) * inputs);
      const wave = row.reduce((sum, x, i) => sum + x * Math.cos(i), 0);
      assert.ok(Math.abs(norm(row) / expected - 1) < A_TOLERANCE, `${name} row ${r}: norm ${norm(row)}, ${expected}`);
      assert.ok(Math.abs(wave - waves[r]!) < A_TOLERANCE * expected, `${name} row ${r}: ${wave} is not ${waves[r]}`);
    });
  }
}

function checkTraining({ weights, steps, tokens, answerTokens }: TrainResult, expected: Fixture): void {
  assert.deepEqual([tokens, answerTokens], [expected.tokens, expected.answerTokens]);
  assert.equal(steps.length, expected.loss.length);
  steps.forEach(({ loss }, i) => {
    const deviation = Math.abs(loss / expected.loss[i]! - 1);
    assert.ok(deviation < LOSS_TOLERANCE, `step ${i + 1}: loss ${loss} is ${deviation} off ${expected.loss[i]}`);
  });
  for (const { name, b } of weights.tensors) {
    const deviation = Math.abs(norm(b) / expected.bNorm[name]! - 1);
    assert.ok(deviation < NORM_TOLERANCE, `${name}: norm of B ${norm(b)} is ${deviation} off ${expected.bNorm[name]}`);
  }
}

/** The trained weights answer as PEFT does with the adapter that `tmem sft` exported. */
async function checkNextTokens(engine: Engine, weights: FastWeights, { nextTokens }: ExportFixture): Promise<void> {
  assert.equal(nextTokens.length, 20);
  await engine.setFastWeights(weights);
  for (const { prompt, token, lead } of nextTokens) {
    const answer = await engine.detokenize([token]);
    const { tokens, greedy } = await engine.score({ prompt: [{ role: 'user', content: prompt }], answer });
    assert.deepEqual(tokens, [token]);
    assert.ok(greedy[0], `after "${prompt}" PEFT says "${answer}" (by ${lead} nats)`);
  }
  await engine.setFastWeights(null);
}

for (const model of [SMALL_MODEL, 'qwen2.5-coder-0.5b']) {
  const large = model !== SMALL_MODEL;
  describe(`parity with PEFT on ${model}`, { skip: large && process.env.TMEM_LARGE_TESTS !== '1' }, () => {
    for (const kind of ['sgd', 'adamw'] as const) {
      it(`${kind}: A, every loss, and the norm of every B`, async () => {
        await parity(kind);
      });

      it(`${kind} with the system's BLAS`, { skip: blas === undefined && 'there is none' }, async () => {
        process.env.TMEM_BLAS = blas!.library;
        try {
          await parity(kind);
        } finally {
          process.env.TMEM_BLAS = 'off';
        }
      });
    }

    async function parity(kind: Optimizer['kind']): Promise<void> {
      const expected: Fixture = JSON.parse(fixture(`parity/${model}-${kind}.json`));
      assert.equal(expected.optimizer.kind, kind);
      const { initial, result } = await write(await openReal(model), model, expected, expected.loss.length);
      checkA(initial, expected);
      checkTraining(result, expected);
    }
  });
}

describe('the exported PEFT adapter', () => {
  it('gives PEFT the next tokens that it gives us', async () => {
    const expected: ExportFixture = JSON.parse(fixture(`parity/${SMALL_MODEL}-export.json`));
    const engine = await openReal();
    const { result } = await write(engine, SMALL_MODEL, expected, expected.epochs);
    await checkNextTokens(engine, result.weights, expected);
  });
});
