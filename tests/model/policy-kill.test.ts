/** A training that is killed at any moment goes on to the same weights and metrics, on a real engine. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { hashOf } from '../../src/engine/adapter/fast-weights.ts';
import { loadCheckpoint } from '../../src/policy/checkpoint.ts';
import { tinyModel } from '../support/engine-fixture.ts';

const STEPS = 5;
const CHILD = path.join(import.meta.dirname, '../support/policy-child.ts');

async function run(model: string, folder: string, killAfter?: number): Promise<boolean> {
  const child = spawn(process.execPath, [CHILD, model, folder, `${STEPS}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (killAfter !== undefined) {
    // From its first step on: before that there is nothing to lose.
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), killAfter));
  }
  child.stdout.resume();
  const [code] = await once(child, 'close');
  return code === 0;
}

/** Metrics without the clock. */
function metricsIn(folder: string): unknown[] {
  const lines = readFileSync(path.join(folder, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => {
    const { step_time, tokens_per_second, ...rest } = JSON.parse(line) as Record<string, unknown>;
    return rest;
  });
}

test('a training that is killed again and again ends with the same bits and metrics as one that was not', async (t) => {
  const home = mkdtempSync(path.join(tmpdir(), 'tmem-policy-kill-'));
  t.after(() => rmSync(home, { recursive: true }));
  const model = await tinyModel({ architecture: 'llama', layers: 2, contextLength: 4096 });
  const [whole, broken] = [path.join(home, 'whole'), path.join(home, 'broken')];
  assert.ok(await run(model, whole));
  let kills = 0;
  for (const delay of [0, 40, 90, 150]) if (!(await run(model, broken, delay))) kills++;
  while (!(await run(model, broken)));
  assert.ok(kills >= 2, `${kills} kills`);
  const hash = async (folder: string) => hashOf((await loadCheckpoint(folder)).state.policy);
  assert.equal(await hash(broken), await hash(whole));
  assert.deepEqual(metricsIn(broken), metricsIn(whole));
});
