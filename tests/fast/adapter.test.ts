import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { readAdapterGguf, writeAdapterGguf } from '../../src/engine/adapter/gguf.ts';
import { type PeftBase, readPeft, writePeft } from '../../src/engine/adapter/peft.ts';
import { readSafetensors, writeSafetensors } from '../../src/engine/adapter/safetensors.ts';
import type { BaseModel } from '../../src/engine/adapter/weights.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import { writeGguf } from '../../src/engine/gguf/writer.ts';
import type { FastWeights } from '../../src/engine/types.ts';
import { gaussian } from '../support/tiny-model.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tmem-adapter-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;
const fresh = (name: string) => path.join(folder, `${count++}-${name}`);

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  'blk.1.ffn_gate.weight': [8, 12],
  'blk.1.ffn_down.weight': [12, 8],
  'blk.2.ffn_gate.weight': [8, 12],
  'blk.2.ffn_down.weight': [12, 8],
  'blk.2.attn_q.weight': [8, 8],
  'blk.2.attn_k.weight': [8, 4],
  'blk.1.attn_norm.weight': [8],
  'blk.3.ffn_up.weight': [8, 24],
  'blk.3.attn_qkv.weight': [8, 16],
};
const base: BaseModel & PeftBase = {
  architecture: 'llama',
  fingerprint: 'f1',
  name: 'a base model',
  heads: 2,
  kvHeads: 1,
  shape: (name) => SHAPES[name],
};

function weights(names: readonly string[], rank = 2): FastWeights {
  const normal = gaussian(7);
  const values = (n: number) => Float32Array.from({ length: n }, normal);
  const tensors = names.map((name) => {
    const [inputs, outputs] = SHAPES[name] as [number, number];
    return { name, a: values(rank * inputs), b: values(outputs * rank), inputs, outputs };
  });
  return { rank, alpha: rank, tensors };
}
const FFN = ['blk.1.ffn_gate.weight', 'blk.1.ffn_down.weight', 'blk.2.ffn_gate.weight', 'blk.2.ffn_down.weight'];

const isError = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof TmemError && error.code === code && message.test(error.message);

describe('GGUF adapter', () => {
  it('comes back as it was written', async () => {
    const file = fresh('a.gguf');
    await writeAdapterGguf(file, weights(FFN), base);
    assert.deepEqual(await readAdapterGguf(file, base), weights(FFN));
  });

  it("has llama.cpp's names and shapes", async () => {
    const file = fresh('a.gguf');
    await writeAdapterGguf(file, weights(['blk.1.ffn_gate.weight']), base);
    const { metadata, tensors } = readGguf(file);
    assert.equal(metadata.get('general.type'), 'adapter');
    assert.equal(metadata.get('adapter.type'), 'lora');
    assert.equal(metadata.get('adapter.lora.alpha'), 2);
    const shapes = tensors.map(({ name, shape }) => [name, [...shape]]);
    assert.deepEqual(shapes, [
      ['blk.1.ffn_gate.weight.lora_a', [8, 2]],
      ['blk.1.ffn_gate.weight.lora_b', [2, 12]],
    ]);
  });

  it('is refused by another model', async () => {
    const file = fresh('a.gguf');
    await writeAdapterGguf(file, weights(FFN), base);
    const other = isError('missing', /was made for another model/);
    await assert.rejects(readAdapterGguf(file, { ...base, fingerprint: 'f2' }), other);
    await assert.rejects(readAdapterGguf(file, { ...base, architecture: 'qwen2' }), other);
    await assert.rejects(
      readAdapterGguf(file, { ...base, shape: () => [8, 8] }),
      isError('missing', /8 x 12 but 8 x 8/),
    );
    await assert.rejects(readAdapterGguf(file, { ...base, shape: () => undefined }), isError('missing', /no tensor/));
  });

  it('is refused when its tensors do not make sense', async () => {
    const a = { name: 'blk.1.ffn_gate.weight.lora_a', type: 0, shape: [8, 2], data: new Float32Array(16) };
    const b = { name: 'blk.1.ffn_gate.weight.lora_b', type: 0, shape: [2, 12], data: new Float32Array(24) };
    const metadata = {
      'general.type': 'adapter',
      'general.architecture': 'llama',
      'adapter.type': 'lora',
      'adapter.lora.alpha': { type: 'f32', value: 2 },
    } as const;
    const cases: [Parameters<typeof writeGguf>[1], RegExp][] = [
      [{ metadata, tensors: [a] }, /pair/],
      [{ metadata, tensors: [b] }, /pair/],
      [{ metadata, tensors: [] }, /no tensors|rank/],
      [{ metadata, tensors: [a, { ...b, shape: [3, 12], data: new Float32Array(36) }] }, /rank/],
      [{ metadata, tensors: [a, { ...b, data: new Float32Array(24).fill(Number.NaN) }] }, /finite/],
      [{ metadata, tensors: [a, { ...b, type: 1, data: new Uint8Array(48) }] }, /pair|F32/],
      [{ metadata: { ...metadata, 'general.type': 'model' }, tensors: [a, b] }, /not a GGUF adapter/],
      [
        { metadata: { ...metadata, 'adapter.lora.alpha': { type: 'f32', value: Number.NaN } }, tensors: [a, b] },
        /alpha/,
      ],
      [{ metadata: { ...metadata, 'adapter.lora.alpha': '2' }, tensors: [a, b] }, /alpha/],
    ];
    for (const [content, message] of cases) {
      const file = fresh('bad.gguf');
      await writeGguf(file, content);
      await assert.rejects(readAdapterGguf(file, base), isError('missing', message));
    }
  });

  it('is not written with values that are not finite', async () => {
    const bad = weights(FFN);
    bad.tensors[0]!.b[0] = Number.POSITIVE_INFINITY;
    const file = fresh('a.gguf');
    await assert.rejects(writeAdapterGguf(file, bad, base), isError('missing', /finite/));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith(path.basename(file))),
      [],
    );
  });

  it('throws nothing but TmemError for a damaged file', async () => {
    const file = fresh('a.gguf');
    await writeAdapterGguf(file, weights(FFN), base);
    await fuzz(file, () => readAdapterGguf(file, base));
  });
});

describe('safetensors', () => {
  it('comes back as it was written', async () => {
    const file = fresh('a.safetensors');
    const tensors = new Map([
      ['x', { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, -6) }],
      ['ünï', { shape: [1], data: Float32Array.of(0.5) }],
    ]);
    await writeSafetensors(file, tensors);
    assert.deepEqual(await readSafetensors(file), tensors);
    const headerBytes = Number(readFileSync(file).readBigUInt64LE());
    assert.equal(headerBytes % 8, 0);
  });

  it('throws nothing but TmemError for a damaged file', async () => {
    const file = fresh('a.safetensors');
    await writeSafetensors(file, new Map([['x', { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, -6) }]]));
    await fuzz(file, () => readSafetensors(file));
  });
});

describe('PEFT folder', () => {
  it('has the names and the configuration that PEFT looks for', async () => {
    const out = fresh('peft');
    await writePeft(out, weights(FFN), base);
    assert.deepEqual(readdirSync(out).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    const config = JSON.parse(readFileSync(path.join(out, 'adapter_config.json'), 'utf8'));
    assert.deepEqual(config.target_modules, ['gate_proj', 'down_proj']);
    assert.deepEqual(config.layers_to_transform, [1, 2]);
    assert.deepEqual([config.r, config.lora_alpha, config.bias, config.task_type], [2, 2, 'none', 'CAUSAL_LM']);
    assert.equal(config.base_model_name_or_path, 'a base model');
    const stored = await readSafetensors(path.join(out, 'adapter_model.safetensors'));
    assert.deepEqual(stored.get('base_model.model.model.layers.1.mlp.gate_proj.lora_A.weight')?.shape, [2, 8]);
    assert.deepEqual(stored.get('base_model.model.model.layers.1.mlp.gate_proj.lora_B.weight')?.shape, [12, 2]);
    assert.equal(stored.size, 8);
  });

  it('comes back as it was written, attention of llama included', async () => {
    const all = weights([...FFN, 'blk.2.attn_q.weight', 'blk.2.attn_k.weight']);
    const out = fresh('peft');
    await writePeft(out, all, base);
    assert.deepEqual(await readPeft(out, base), all);
    const config = JSON.parse(readFileSync(path.join(out, 'adapter_config.json'), 'utf8'));
    // Only layer 2 has attention: layers times short names would name modules that have no weights.
    assert.ok(config.target_modules.includes('model.layers.2.self_attn.q_proj'));
    assert.equal(config.layers_to_transform, null);
  });

  it('undoes the order of rotary rows that the conversion of llama models makes', async () => {
    const q = weights(['blk.2.attn_q.weight'], 1);
    // GGUF rows of a head of 4: pairs of the two halves, 0 2 1 3 of the original.
    q.tensors[0]!.b.set([0, 2, 1, 3, 4, 6, 5, 7]);
    const stored = async (architecture: string) => {
      const out = fresh('peft');
      await writePeft(out, q, { ...base, architecture });
      const file = await readSafetensors(path.join(out, 'adapter_model.safetensors'));
      return [...file.get('base_model.model.model.layers.2.self_attn.q_proj.lora_B.weight')!.data];
    };
    assert.deepEqual(await stored('llama'), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.deepEqual(await stored('qwen2'), [0, 2, 1, 3, 4, 6, 5, 7]);
  });

  it("has phi3's joint products under their own names", async () => {
    const phi3 = { ...base, architecture: 'phi3' };
    const out = fresh('peft');
    const all = weights(['blk.1.ffn_down.weight', 'blk.3.ffn_up.weight', 'blk.3.attn_qkv.weight']);
    await writePeft(out, all, phi3);
    const stored = await readSafetensors(path.join(out, 'adapter_model.safetensors'));
    assert.ok(stored.has('base_model.model.model.layers.3.mlp.gate_up_proj.lora_B.weight'));
    assert.ok(stored.has('base_model.model.model.layers.3.self_attn.qkv_proj.lora_A.weight'));
    assert.deepEqual(await readPeft(out, phi3), all);
    await assert.rejects(writePeft(out, weights(['blk.1.ffn_gate.weight']), phi3), isError('usage', /ffn_gate/));
  });

  it('replaces a folder whole and leaves nothing beside it', async () => {
    const out = fresh('peft');
    await writePeft(out, weights(FFN), base);
    writeFileSync(path.join(out, 'stale'), '');
    const before = readdirSync(folder).length;
    await writePeft(out, weights(FFN.slice(0, 2)), base);
    assert.deepEqual(readdirSync(out).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    assert.equal(readdirSync(folder).length, before);
  });

  it('refuses what it cannot express or what does not fit', async () => {
    const out = fresh('peft');
    await writePeft(out, weights(FFN), base);
    const file = path.join(out, 'adapter_config.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    const changes = [{ use_dora: true }, { use_rslora: true }, { bias: 'all' }, { rank_pattern: { x: 3 } }, { r: 3 }];
    for (const change of changes) {
      writeFileSync(file, JSON.stringify({ ...config, ...change }));
      await assert.rejects(readPeft(out, base), isError('missing', /PEFT adapter/), JSON.stringify(change));
    }
    writeFileSync(file, JSON.stringify(config));
    await assert.rejects(readPeft(out, { ...base, shape: () => [1, 1] }), isError('missing', /another model/));
    await assert.rejects(readPeft(fresh('none'), base), isError('missing', /adapter_config/));
    await assert.rejects(
      writePeft(
        fresh('peft'),
        { ...weights(FFN), tensors: [{ ...weights(FFN).tensors[0]!, name: 'output.weight' }] },
        base,
      ),
      isError('usage', /no counterpart/),
    );
  });
});

/** Truncations and changed bytes of a valid file: read or refused, never another error. */
async function fuzz(file: string, read: () => Promise<unknown>): Promise<void> {
  const valid = readFileSync(file);
  const damage = fc.record({
    keep: fc.oneof(fc.constant(valid.length), fc.nat(valid.length)),
    edits: fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 4 }),
  });
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(damage, async ({ keep, edits }) => {
      const bytes = Buffer.from(valid.subarray(0, keep));
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      writeFileSync(file, bytes);
      await read().catch((error) => {
        refused++;
        assert.ok(error instanceof TmemError, String(error?.stack));
      });
    }),
    { numRuns: 200 },
  );
  assert.ok(refused > 0);
}
