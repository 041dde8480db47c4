import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { TmemError } from '../../src/engine/errors.ts';
import { SourceError } from '../../src/engine/models/context.ts';
import { chooseFile, parseHubUri } from '../../src/engine/models/hub.ts';
import { listModels, type PullProgress, resolveModel } from '../../src/engine/models/store.ts';
import { COMMIT, type Hub, startHub } from '../support/hub-server.ts';

const REPO = 'maker/tiny-GGUF';
const FILE = 'tiny-Q4_K_M.gguf';
const URI = `hf:${REPO}/${FILE}`;
const CONTENT = randomBytes(300_000);
const SHA = createHash('sha256').update(CONTENT).digest('hex');

let hub: Hub;
let home: string;
let env: Record<string, string>;
before(async () => {
  hub = await startHub();
});
after(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'tmem-hub-'));
  env = { TMEM_HOME: join(home, 'tmem'), HF_HOME: join(home, 'hf'), HF_ENDPOINT: hub.url };
  hub.repos.set(REPO, new Map([[FILE, CONTENT]]));
});
afterEach(() => {
  for (const key of Object.keys(hub.faults)) delete hub.faults[key as keyof typeof hub.faults];
  hub.requests.length = 0;
  hub.repos.clear();
  hub.renamed.clear();
  rmSync(home, { recursive: true, force: true });
});

const folder = () => join(home, 'hf', 'hub', 'models--maker--tiny-GGUF');
const partial = () => join(folder(), 'blobs', `${SHA}.incomplete`);
const bytesRequests = () => hub.requests.filter(({ kind }) => kind === 'bytes');

function fails(code: string, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof TmemError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

test('a file is fetched into the shared cache, once', async () => {
  const events: PullProgress[] = [];
  const found = await resolveModel(URI, { env, onProgress: (event) => events.push(event) });
  assert.deepEqual(found, {
    path: join(folder(), 'snapshots', COMMIT, FILE),
    sha256: SHA,
    bytes: CONTENT.length,
    source: URI,
  });
  assert.deepEqual(readFileSync(found.path), CONTENT);
  assert.equal(readFileSync(join(folder(), 'refs', 'main'), 'utf8'), COMMIT);
  if (lstatSync(found.path).isSymbolicLink()) assert.equal(readlinkSync(found.path), join('..', '..', 'blobs', SHA));
  assert.ok(!existsSync(partial()));
  const last = events.findLast(({ phase }) => phase === 'download');
  assert.deepEqual([last?.received, last?.total, last?.file], [CONTENT.length, CONTENT.length, FILE]);
  assert.ok(events.some(({ phase }) => phase === 'verify'));

  const asked = hub.requests.length;
  const quiet: PullProgress[] = [];
  assert.deepEqual(await resolveModel(URI, { env, onProgress: (event) => quiet.push(event) }), found);
  assert.equal(hub.requests.length, asked, 'nothing is asked for a file that is here');
  assert.equal(quiet.length, 0, 'and it is not read again');
  const listed = (await listModels(env)).find(({ name }) => name === URI);
  assert.deepEqual([listed?.present, listed?.bytes, listed?.path], [true, CONTENT.length, found.path]);
});

test('a file of a folder in the repository keeps its place', async () => {
  hub.repos.set(REPO, new Map([[`sub/${FILE}`, CONTENT]]));
  const { path, source } = await resolveModel(`hf:${REPO}/sub/${FILE}`, { env });
  assert.equal(source, `hf:${REPO}/sub/${FILE}`);
  assert.equal((await resolveModel(source, { env })).source, source);
  assert.equal(path, join(folder(), 'snapshots', COMMIT, 'sub', FILE));
  assert.deepEqual(readFileSync(path), CONTENT);
});

test('quant and default are looked up in the list of files', async () => {
  hub.repos.set(REPO, new Map([['tiny-Q8_0.gguf', randomBytes(10)]]).set(FILE, CONTENT));
  assert.equal((await resolveModel(`hf:${REPO}:q8_0`, { env })).bytes, 10);
  // The default must not be answered with the other quant that is in the cache by now.
  assert.equal((await resolveModel(`hf:${REPO}`, { env })).sha256, SHA);
  await assert.rejects(
    resolveModel(`hf:${REPO}:Q2_K`, { env }),
    fails('missing', /has no Q2_K GGUF \(it has tiny-Q8_0/),
  );
});

test('a dropped connection is taken up where it broke', async () => {
  hub.faults.dropAfter = [100_000, 50_000];
  assert.equal((await resolveModel(URI, { env, patience: 0.01 })).sha256, SHA);
  const ranges = bytesRequests().map(({ range }) => Number(/\d+/.exec(range ?? '0')?.[0]));
  assert.equal(ranges.length, 3);
  assert.equal(ranges[0], 0);
  assert.ok(ranges[1]! > 0 && ranges[2]! > ranges[1]!, String(ranges));
});

test('an interrupted pull is resumable, and the next one asks for the rest only', async () => {
  hub.faults.pace = 20;
  const controller = new AbortController();
  const onProgress = ({ received }: PullProgress) => received > 60_000 && controller.abort();
  await assert.rejects(
    resolveModel(URI, { env, signal: controller.signal, onProgress }),
    fails('aborted', /Interrupted/),
  );
  const kept = statSync(partial()).size;
  assert.ok(kept >= 60_000 && kept < CONTENT.length);
  hub.faults.pace = 0;
  assert.equal((await resolveModel(URI, { env })).sha256, SHA);
  assert.equal(bytesRequests().at(-1)?.range, `bytes=${kept}-`);
  await assert.rejects(resolveModel(URI, { env, signal: AbortSignal.abort() }), fails('aborted', /Interrupted/));
});

test('servers that ignore or refuse a range are given the time to send all', async () => {
  for (const fault of ['ignoreRange', 'refuseRange'] as const) {
    hub.faults[fault] = true;
    hub.faults.dropAfter = [90_000];
    const { path } = await resolveModel(URI, { env, patience: 0.01 });
    assert.deepEqual(readFileSync(path), CONTENT);
    hub.faults[fault] = false;
    rmSync(join(home, 'hf'), { recursive: true });
  }
});

test('wrong bytes are thrown away and named', async () => {
  hub.faults.wrongBytes = true;
  await assert.rejects(resolveModel(URI, { env }), fails('missing', /do not match the announced sha256.*thrown away/));
  assert.ok(!existsSync(partial()));
  assert.ok(!existsSync(join(folder(), 'blobs', SHA)));
  hub.faults.wrongBytes = false;
  assert.equal((await resolveModel(URI, { env })).sha256, SHA);
});

test('a partial file of other bytes ends in one clear error, then in the right file', async () => {
  hub.faults.dropAfter = [100_000, 0, 0, 0, 0, 0];
  await assert.rejects(
    resolveModel(URI, { env, patience: 0.01 }),
    fails('missing', /broke off .*kept for the next pull/),
  );
  const bytes = readFileSync(partial());
  assert.ok(bytes.length > 0);
  writeFileSync(partial(), bytes.fill(0));
  hub.faults.dropAfter = [];
  await assert.rejects(resolveModel(URI, { env }), fails('missing', /do not match/));
  assert.equal((await resolveModel(URI, { env })).sha256, SHA);
});

test('a refusal keeps what was fetched', async () => {
  hub.faults.dropAfter = [100_000, 0, 0, 0, 0, 0];
  await assert.rejects(resolveModel(URI, { env, patience: 0.01 }), fails('missing', /broke off/));
  const { size } = statSync(partial());
  hub.faults.status = 404;
  await assert.rejects(resolveModel(URI, { env }), fails('missing', /no such repository or file/));
  assert.equal(statSync(partial()).size, size);
});

test('a damaged file in the cache is fetched again', async () => {
  const { path } = await resolveModel(URI, { env });
  const blob = join(folder(), 'blobs', SHA);
  writeFileSync(blob, randomBytes(CONTENT.length));
  const notes: string[] = [];
  assert.equal((await resolveModel(URI, { env, onNote: (text) => notes.push(text) })).path, path);
  assert.match(notes.join(), /is damaged/);
  assert.deepEqual(readFileSync(blob), CONTENT);
});

test('the token goes to the hub and to no other host', async () => {
  hub.faults.token = 'secret';
  await assert.rejects(resolveModel(URI, { env }), fails('missing', /refuses access \(401\).*HF_TOKEN/));
  assert.equal((await resolveModel(URI, { env: { ...env, HF_TOKEN: 'secret' } })).sha256, SHA);
  assert.deepEqual(
    bytesRequests().map(({ authorization }) => authorization),
    [undefined],
  );
});

test('a blob that another tool left damaged is not trusted', async () => {
  mkdirSync(join(folder(), 'blobs'), { recursive: true });
  writeFileSync(join(folder(), 'blobs', SHA), randomBytes(CONTENT.length));
  assert.deepEqual(readFileSync((await resolveModel(URI, { env })).path), CONTENT);
});

test('a renamed repository is followed', async () => {
  hub.renamed.set('maker/old', REPO);
  assert.equal((await resolveModel(`hf:maker/old/${FILE}`, { env })).sha256, SHA);
});

test('an absent file, an unreachable and a silent hub are named', { timeout: 20_000 }, async () => {
  await assert.rejects(resolveModel('hf:maker/none/x.gguf', { env }), fails('missing', /hf:maker\/none has no such/));
  const closed = { ...env, HF_ENDPOINT: 'http://127.0.0.1:9' };
  await assert.rejects(resolveModel(URI, { env: closed }), fails('missing', /cannot be reached/));
  await assert.rejects(resolveModel(URI, { env: { ...env, HF_ENDPOINT: 'nowhere' } }), fails('missing', /HF_ENDPOINT/));
  await assert.rejects(resolveModel(URI, { env: { ...env, HF_HUB_OFFLINE: '1' } }), fails('missing', /HF_HUB_OFFLINE/));
  hub.faults.silent = true;
  await assert.rejects(resolveModel(URI, { env, patience: 0.05 }), fails('missing', /did not answer within 0.25 s/));
});

test('offline answers from the cache only', async () => {
  await assert.rejects(resolveModel(URI, { env, offline: true }), fails('missing', /is not on this machine/));
  assert.equal(hub.requests.length, 0);
  await resolveModel(URI, { env });
  const asked = hub.requests.length;
  assert.equal((await resolveModel(`hf:${REPO}`, { env, offline: true })).sha256, SHA);
  assert.equal(hub.requests.length, asked);
});

test('two pulls at once fetch once', async () => {
  hub.faults.pace = 2;
  const [a, b] = await Promise.all([resolveModel(URI, { env }), resolveModel(URI, { env })]);
  assert.deepEqual(a, b);
  assert.equal(bytesRequests().length, 1);
  assert.deepEqual(readFileSync(a.path), CONTENT);
});

test('hub addresses are parsed strictly', () => {
  assert.deepEqual({ ...parseHubUri('hf:a/b.c') }, { repo: 'a/b.c', quant: undefined, file: undefined });
  assert.deepEqual({ ...parseHubUri('hf:a/b:Q4_K_M') }, { repo: 'a/b', quant: 'Q4_K_M', file: undefined });
  assert.deepEqual({ ...parseHubUri('hf:a/b/c/d.gguf') }, { repo: 'a/b', quant: undefined, file: 'c/d.gguf' });
  for (const uri of ['hf:', 'hf:a', 'hf:a/b/c', 'hf:a/b/../x.gguf', 'hf:../b/x.gguf', 'hf:a/b//x.gguf', 'hf:a/b:'])
    assert.throws(() => parseHubUri(uri), fails('usage', /is no hub address/), uri);
  const part = fc.stringMatching(/^[\w][\w.-]{0,12}$/);
  fc.assert(
    fc.property(part, part, part, (user, repo, quant) => {
      assert.equal(parseHubUri(`hf:${user}/${repo}:${quant}`).quant, quant);
      assert.equal(parseHubUri(`hf:${user}/${repo}/${quant}.gguf`).file, `${quant}.gguf`);
    }),
  );
  // Whatever the text: a reference that stays within its folder, or a usage error.
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        assert.doesNotMatch(parseHubUri(`hf:a/${text}`).file ?? '', /(^|\/)\.\.?(\/|$)/);
      } catch (error) {
        fails('usage', /./)(error);
      }
    }),
  );
});

test('the file of a quant is chosen by its whole name', () => {
  const files = [
    'README.md',
    'm-Q4_K_M.gguf',
    'm-IQ4_K.gguf',
    'm-q8_0.gguf',
    'mmproj-f16.gguf',
    'm-F16-00001-of-00002.gguf',
  ];
  assert.equal(chooseFile({ repo: 'a/b' }, files), 'm-Q4_K_M.gguf');
  assert.equal(chooseFile({ repo: 'a/b', quant: 'Q8_0' }, files), 'm-q8_0.gguf');
  assert.equal(chooseFile({ repo: 'a/b' }, ['only-f16.gguf', 'mmproj-f16.gguf']), 'only-f16.gguf');
  assert.throws(() => chooseFile({ repo: 'a/b', quant: 'Q4_K' }, files), SourceError);
  assert.throws(() => chooseFile({ repo: 'a/b', quant: 'F16' }, files), /several pieces/);
  assert.throws(
    () => chooseFile({ repo: 'a/b' }, ['a.gguf', 'b.gguf']),
    /has no Q4_K_M GGUF \(it has a.gguf, b.gguf\)/,
  );
});
