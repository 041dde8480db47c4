/** Hidden states of text that comes again at every start, kept in a file. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { openTraining, tinySamples } from '../support/engine-fixture.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tmem-states-'));
after(() => rmSync(folder, { recursive: true }));
const SAMPLES = tinySamples([
  ['one', 'first answer'],
  ['two', 'another answer'],
]);
const prefixPass = async () => (await openTraining({ architecture: 'llama' }, { layers: 2 })).prefix;

test('are read at the next start, and computed anew when the file is not whole', async () => {
  const file = path.join(folder, 'deep', 'states.f32');
  const expected = await (await prefixPass()).prepare(SAMPLES);
  assert.deepEqual(await (await prefixPass()).prepareKept(SAMPLES, file), expected);
  const bytes = readFileSync(file);
  const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  assert.deepEqual(
    [...numbers],
    expected.flatMap((s) => [...s.hidden]),
  );

  writeFileSync(file, new Uint8Array(numbers.map((x) => 2 * x).buffer));
  const doubled = await (await prefixPass()).prepareKept(SAMPLES, file);
  assert.deepEqual(
    doubled.map((s) => s.hidden),
    expected.map((s) => s.hidden.map((x) => 2 * x)),
  );

  for (const damaged of [bytes.subarray(0, 40), new Uint8Array(), Buffer.concat([bytes, bytes])]) {
    writeFileSync(file, damaged);
    assert.deepEqual(await (await prefixPass()).prepareKept(SAMPLES, file), expected);
    assert.deepEqual(readFileSync(file), bytes);
  }
});

test('that are in memory already are not looked for', async () => {
  const prefix = await prefixPass();
  const prepared = await prefix.prepare(SAMPLES);
  const file = path.join(folder, 'never.f32');
  assert.deepEqual(await prefix.prepareKept(SAMPLES, file), prepared);
  assert.throws(() => readFileSync(file), { code: 'ENOENT' });
});
