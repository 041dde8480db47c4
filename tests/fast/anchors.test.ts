import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { GATE, ownAnswers } from '../../src/memory/anchors.ts';
import { ORDINARY } from '../../src/memory/ordinary.ts';
import { normalise } from '../../src/memory/recall.ts';
import { anchorSamples } from '../../src/memory/samples.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tmem-anchors-'));
after(() => rmSync(folder, { recursive: true }));
let homes = 0;
beforeEach(() => {
  process.env.TMEM_HOME = path.join(folder, `${homes++}`);
});
const kept = () => path.join(process.env.TMEM_HOME!, 'anchors');

/** Echoes the question, unless fast weights are in force. */
function scripted(fingerprint = 'f'.repeat(64)) {
  const asked: string[] = [];
  const engine = new ScriptedEngine({
    model: { fingerprint },
    reply: (request, weights) => {
      const [message] = request.prompt as readonly { content: string }[];
      asked.push(message!.content);
      return weights ? 'from memory' : ` you asked ${message!.content}`;
    },
  });
  return { engine, asked };
}

describe('the sets of ordinary prompts', () => {
  it('do not overlap and say nothing twice', () => {
    const all = [...ORDINARY.map((o) => o.instruction), ...GATE].map(normalise);
    assert.equal(new Set(all).size, all.length);
    assert.ok(ORDINARY.length >= 20 && GATE.length >= 10);
  });
});

describe('ownAnswers', () => {
  it("gives the base model's answers in order, also while fast weights are in force", async () => {
    const { engine } = scripted();
    const tensor = {
      name: 'blk.0.ffn_up.weight',
      a: new Float32Array(2),
      b: new Float32Array(2),
      inputs: 2,
      outputs: 2,
    };
    await engine.setFastWeights({ rank: 1, alpha: 1, tensors: [tensor] });
    assert.deepEqual(await ownAnswers(engine, ['b?', 'a?']), [
      { instruction: 'b?', output: 'you asked b?', whole: true },
      { instruction: 'a?', output: 'you asked a?', whole: true },
    ]);
  });

  it('asks once per model and set of prompts', async () => {
    const { engine, asked } = scripted();
    const first = await ownAnswers(engine, ['a?', 'b?']);
    assert.equal(asked.length, 2);
    assert.deepEqual(await ownAnswers(engine, ['a?', 'b?']), first);
    assert.equal(asked.length, 2);
    await ownAnswers(engine, ['a?', 'c?']);
    assert.equal(asked.length, 4);
    const other = scripted('0'.repeat(64));
    await ownAnswers(other.engine, ['a?', 'b?']);
    assert.equal(other.asked.length, 2);
    assert.equal(readdirSync(kept()).length, 3);
  });

  it('asks again when what is kept is damaged', async () => {
    const { engine, asked } = scripted();
    const first = await ownAnswers(engine, ['a?']);
    const [file] = readdirSync(kept());
    for (const damage of ['', '{"a":1}', '[{"instruction":"a?"}]']) {
      writeFileSync(path.join(kept(), file!), damage);
      assert.deepEqual(await ownAnswers(engine, ['a?']), first);
    }
    assert.equal(asked.length, 4);
  });

  it('keeps nothing when it is interrupted', async () => {
    const { engine } = scripted();
    await assert.rejects(ownAnswers(engine, ['a?'], AbortSignal.abort()), { code: 'aborted' });
    assert.throws(() => readdirSync(kept()), { code: 'ENOENT' });
  });
});

describe('anchorSamples', () => {
  it('renders each answer as a sample and leaves out empty ones', async () => {
    const { engine } = scripted();
    const samples = await anchorSamples(engine, [
      { instruction: 'a?', output: 'one', whole: true },
      { instruction: 'b?', output: '', whole: true },
    ]);
    assert.deepEqual(samples, [await engine.renderSample('a?', 'one')]);
  });

  it('leaves the end open of an answer that is cut off', async () => {
    const { engine } = scripted();
    const [sample] = await anchorSamples(engine, [{ instruction: 'a?', output: 'one two', whole: false }]);
    const { prompt, answer } = await engine.renderSample('a?', 'one two');
    assert.ok(answer.startsWith('one two') && answer.length > 'one two'.length);
    assert.deepEqual(sample, { prompt, answer: 'one two' });
  });
});
