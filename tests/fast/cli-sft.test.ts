import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Command } from 'commander';
import { register } from '../../src/cli/commands/sft.ts';
import type { CliIo } from '../../src/cli/io.ts';
import { readAdapterGguf } from '../../src/engine/adapter/gguf.ts';
import { readSafetensors } from '../../src/engine/adapter/safetensors.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { writeTinyModel } from '../support/tiny-model.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tmem-sft-'));
after(() => rmSync(folder, { recursive: true }));
const modelPath = path.join(folder, 'model.gguf');
before(() => writeTinyModel(modelPath, { architecture: 'llama' }));

const file = (name: string, text: string) => {
  const at = path.join(folder, name);
  writeFileSync(at, text);
  return at;
};
const PAIRS = '{"instruction":"Who wrote it?","output":"Ada"}\n\n{"instruction":"When?","output":"1843"}\n';

async function sft(argv: string[], signal = new AbortController().signal) {
  const engine = new ScriptedEngine({ reply: () => '', model: { path: modelPath, architecture: 'llama' } });
  let document: Record<string, unknown> = {};
  const io: CliIo = {
    json: true,
    verbose: false,
    out: () => {},
    note: () => {},
    result: (value) => {
      document = value as Record<string, unknown>;
    },
    progress: () => ({ update: () => {}, done: () => {} }),
    signal,
    openEngine: async () => engine,
  };
  const program = new Command().exitOverride();
  register(program, io);
  await program.parseAsync(['sft', ...argv], { from: 'user' });
  return { document, engine };
}

const isError = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof TmemError && error.code === code && message.test(error.message);

describe('tmem sft', () => {
  it('writes the adapters and what the contract lists', async () => {
    const out = path.join(folder, 'out');
    const { document, engine } = await sft(['--data', file('pairs.jsonl', PAIRS), '--out', out, '--epochs', '3']);
    assert.deepEqual(readdirSync(out).sort(), ['adapter.gguf', 'peft', 'peft-initial', 'rendered.jsonl']);
    assert.deepEqual(document.adapter, {
      gguf: path.join(out, 'adapter.gguf'),
      peft: path.join(out, 'peft'),
      peftInitial: path.join(out, 'peft-initial'),
    });
    assert.equal((document.epochs as unknown[]).length, 3);
    assert.deepEqual(document.steps, [{ loss: 2 }, { loss: 1 }, { loss: 2 / 3 }]);
    for (const key of ['prefixMs', 'tokens', 'answerTokens']) assert.equal(typeof document[key], 'number');
    const rendered = readFileSync(document.rendered as string, 'utf8')
      .trim()
      .split('\n');
    assert.deepEqual(JSON.parse(rendered[1]!), await engine.renderSample('When?', '1843'));
    const base = { architecture: 'llama', fingerprint: 'scripted', shape: () => [4, 4] };
    const trained = await readAdapterGguf(path.join(out, 'adapter.gguf'), base);
    assert.ok(trained.tensors[0]!.b.every((x) => x === 3));
    const b = 'base_model.model.model.layers.0.mlp.up_proj.lora_B.weight';
    const stored = (name: string) => readSafetensors(path.join(out, name, 'adapter_model.safetensors'));
    assert.ok((await stored('peft')).get(b)!.data.every((x) => x === 3));
    assert.ok((await stored('peft-initial')).get(b)!.data.every((x) => x === 0));
  });

  it('hands the options on', async () => {
    const { engine } = await sft([
      ...['--data', file('pairs.jsonl', PAIRS), '--out', path.join(folder, 'options'), '--optimizer', 'adamw'],
      ...['--lr', '0.01', '--rank', '3', '--layers', '2', '--init', 'random', '--batch', '1', '--seed', '9'],
    ]);
    const [initialise, train] = engine.calls;
    assert.ok(initialise?.type === 'initialise' && train?.type === 'train');
    const { init, rank, layers, seed } = initialise.request;
    assert.deepEqual({ init, rank, layers, seed }, { init: { kind: 'random' }, rank: 3, layers: 2, seed: 9 });
    assert.deepEqual(train.request.optimizer, { kind: 'adamw', lr: 0.01 });
    assert.deepEqual([train.request.epochs, train.request.batch], [5, 1]);
  });

  it('names what is wrong with the data, and leaves nothing behind', async () => {
    const out = path.join(folder, 'bad');
    const bad: [string, string, RegExp][] = [
      [file('broken.jsonl', `${PAIRS}{"instruction":\n`), 'usage', /broken\.jsonl line 4: /],
      [file('partial.jsonl', '{"instruction":"Who?"}\n'), 'usage', /line 1: output/],
      [file('blank.jsonl', '{"instruction":"Who?","output":" "}\n'), 'usage', /line 1: output/],
      [file('extra.jsonl', '{"instruction":"Who?","output":"Ada","input":"x"}\n'), 'usage', /line 1: .*input/],
      [file('empty.jsonl', '\n'), 'usage', /empty\.jsonl is empty/],
      [path.join(folder, 'none.jsonl'), 'missing', /none\.jsonl does not exist/],
    ];
    for (const [data, code, message] of bad) {
      await assert.rejects(sft(['--data', data, '--out', out]), isError(code, message));
    }
    const data = file('pairs.jsonl', PAIRS);
    await assert.rejects(sft(['--data', data, '--out', data]), isError('usage', /is a file/));
    await assert.rejects(sft(['--data', data, '--out', out, '--init', 'keys']), isError('usage', /--init keys/));
    await assert.rejects(sft(['--data', data, '--out', out], AbortSignal.abort()), isError('aborted', /./));
    assert.ok(!readdirSync(folder).includes('bad'));
  });

  it('keeps the earlier adapters when the new ones cannot be written', async () => {
    const out = path.join(folder, 'kept');
    mkdirSync(out);
    writeFileSync(path.join(out, 'adapter.gguf'), 'earlier');
    const data = file('pairs.jsonl', PAIRS);
    rmSync(modelPath); // PEFT needs the model's metadata: writing fails after training
    try {
      await assert.rejects(sft(['--data', data, '--out', out]), isError('missing', /model\.gguf does not exist/));
    } finally {
      await writeTinyModel(modelPath, { architecture: 'llama' });
    }
    assert.deepEqual(readdirSync(out), ['adapter.gguf']);
    assert.equal(readFileSync(path.join(out, 'adapter.gguf'), 'utf8'), 'earlier');
  });
});
