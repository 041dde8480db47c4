/** API keys: their file, their commands, and that none sees another one's sessions. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Command } from 'commander';
import { register } from '../../src/cli/commands/keys.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { createKey, findKey, KeyFile, keysPath, readKeys, revokeKey } from '../../src/serve/keys.ts';
import { recordingIo, temporaryHome } from '../support/home.ts';
import { saying, served } from '../support/serving.ts';

/** A server with a key for each of some names. */
async function withKeys(t: TestContext, ...names: string[]) {
  temporaryHome(t);
  const keys: string[] = [];
  for (const name of names) keys.push((await createKey(name)).key);
  const server = await served(t, () => 'Yes.', { keys: new KeyFile(keysPath()) });
  const call = (
    key: string | undefined,
    path: string,
    init: { method?: string; body?: unknown; session?: string } = {},
  ) =>
    fetch(server.url + path, {
      method: init.method ?? (init.body ? 'POST' : 'GET'),
      headers: {
        ...(key !== undefined && { Authorization: `Bearer ${key}` }),
        ...(init.session !== undefined && { 'X-Tmem-Session': init.session }),
      },
      ...(init.body !== undefined && { body: JSON.stringify(init.body) }),
    });
  return { ...server, keys, call };
}

test('A key is shown once, and only its hash is kept', async (t) => {
  const home = temporaryHome(t);
  const { key, entry } = await createKey('ann');
  assert.match(key, /^tmem-[A-Za-z0-9_-]{43}$/);
  assert.ok(!readFileSync(join(home, 'keys.json'), 'utf8').includes(key.slice(5)));
  const keys = await readKeys();
  assert.deepEqual(keys, [entry]);
  assert.equal(findKey(keys, key)?.name, 'ann');
  for (const wrong of ['', 'tmem-', key.slice(0, -1), `${key}x`, entry.hash])
    assert.equal(findKey(keys, wrong), undefined);
  await assert.rejects(createKey('ann'), { code: 'usage', message: /already/ });
  await revokeKey('ann');
  assert.deepEqual(await readKeys(), []);
  await assert.rejects(revokeKey('ann'), { code: 'missing' });
});

test('A file that holds no keys is not taken for one that is empty', async (t) => {
  const home = temporaryHome(t);
  for (const text of ['', '{}', '[{"name":"ann"}]', 'null']) {
    writeFileSync(join(home, 'keys.json'), text);
    await assert.rejects(readKeys(), { code: 'missing', message: /not a readable file of API keys/ });
  }
});

test('Without a key, or with a wrong one, nothing is answered but what is open', async (t) => {
  const { call, keys, runtime } = await withKeys(t, 'ann');
  for (const path of ['/v1/models', '/v1/memory/sessions', '/metrics', '/v1/nothing']) {
    for (const key of [undefined, 'tmem-wrong', 'none']) {
      const response = await call(key, path);
      const { error } = await response.json();
      const code = key === undefined ? 'missing_api_key' : 'invalid_api_key';
      assert.deepEqual([response.status, error.code, error.type], [401, code, 'authentication_error'], path);
    }
  }
  const body = { messages: saying('Hi') };
  assert.equal((await call('tmem-wrong', '/v1/chat/completions', { body })).status, 401);
  assert.equal(runtime.requests.length, 0);
  assert.equal((await call(keys[0], '/v1/chat/completions', { body })).status, 200);
  for (const path of ['/health', '/openapi.json']) assert.equal((await call(undefined, path)).status, 200);
});

test('No key sees, reads, changes or guesses the sessions of another one', async (t) => {
  const { call, keys, runtime } = await withKeys(t, 'ann', 'ben');
  const [ann, ben] = keys;
  const body = { messages: saying('The sky is blue.') };
  assert.equal((await call(ann, '/v1/chat/completions', { body, session: 'notes' })).status, 200);
  const [bound] = await runtime.sessions();
  assert.match(bound!, /^[0-9a-f]{12}\.notes$/);
  const names = async (key: string | undefined) => (await (await call(key, '/v1/memory/sessions')).json()).sessions;
  assert.deepEqual(await names(ann), ['notes']);
  assert.deepEqual(await names(ben), []);
  for (const name of ['notes', bound!]) {
    const at = `/v1/memory/sessions/${name}`;
    assert.equal((await call(ben, at)).status, 404);
    for (const path of ['write', 'undo', 'verify', 'consolidate'])
      assert.equal((await call(ben, `${at}/${path}`, { body: {} })).status, 404, path);
    assert.equal((await call(ben, `${at}/export?format=jsonl`)).status, 404);
    assert.equal((await call(ben, at, { method: 'DELETE' })).status, 404);
  }
  assert.deepEqual((await (await call(ann, '/v1/memory/sessions/notes')).json()).session, 'notes');
  assert.equal((await call(ben, '/v1/chat/completions', { body, session: 'notes' })).status, 200);
  assert.deepEqual(await names(ben), ['notes']);
  assert.equal((await runtime.sessions()).length, 2);
  assert.equal((await call(ann, '/v1/memory/sessions/notes/branch', { body: { to: 'copy' } })).status, 200);
  assert.deepEqual(await names(ann), ['copy', 'notes']);
  assert.equal((await call(ben, '/v1/memory/sessions/notes/diff?other=copy')).status, 404);
});

test('A key that is revoked while the server runs is shut out, and a new one let in', async (t) => {
  const { call, keys } = await withKeys(t, 'ann');
  assert.equal((await call(keys[0], '/v1/models')).status, 200);
  const { key } = await createKey('ben');
  assert.equal((await call(key, '/v1/models')).status, 200);
  await revokeKey('ann');
  assert.equal((await call(keys[0], '/v1/models')).status, 401);
  await revokeKey('ben');
  for (const wrong of [key, undefined]) assert.equal((await call(wrong, '/v1/models')).status, 401);
});

test('The limit of requests at once is each key its own', async (t) => {
  temporaryHome(t);
  const [ann, ben] = [await createKey('ann'), await createKey('ben')];
  const { url } = await served(t, () => '', { keys: new KeyFile(keysPath()), limits: { perKey: 1 } });
  const watch = (key: string) =>
    fetch(`${url}/v1/memory/sessions/s/events`, { headers: { Authorization: `Bearer ${key}` } });
  const [first, second, other] = [await watch(ann.key), await watch(ann.key), await watch(ben.key)];
  assert.deepEqual([first.status, second.status, other.status], [200, 429, 200]);
});

test('The command makes, lists and revokes keys', async (t) => {
  const home = temporaryHome(t);
  const { io, results } = recordingIo<Record<string, never>>(new ScriptedEngine({ reply: () => '' }));
  const keys = async (...args: string[]) => {
    const program = new Command('tmem').exitOverride();
    register(program, io);
    await program.parseAsync(['keys', ...args], { from: 'user' });
    return results.at(-1)!;
  };
  const { value, text } = await keys('create', 'ann');
  assert.deepEqual([value.name, value.key], ['ann', text]);
  assert.equal(findKey(await readKeys(), text)?.name, 'ann');
  const elsewhere = join(home, 'other.json');
  await keys('create', 'ben', '--keys', elsewhere);
  assert.match((await keys('list')).text, /^NAME +CREATED\nann +20/);
  assert.match((await keys('list', '--keys', elsewhere)).text, /\nben/);
  await keys('revoke', 'ann');
  assert.deepEqual((await keys('list')).value.keys, []);
});
