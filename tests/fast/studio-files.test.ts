/** What the server gives to a browser: all that the studio needs, little of it, and nothing from elsewhere. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { STUDIO_POLICY, type StudioFile, studioFile } from '../../src/serve/studio-files.ts';

const MOST_SCRIPT_BYTES = 150_000;
let page: StudioFile;
/** Every module that the page loads, by its address. */
const modules = new Map<string, string>();

before(async () => {
  page = (await studioFile('/'))!;
  const open = [/<script type="module" src="([^"]+)"/.exec(page.body)![1]!];
  for (let address = open.pop(); address; address = open.pop()) {
    if (modules.has(address)) continue;
    const file = await studioFile(address);
    assert.ok(file, `${address} is imported and not served`);
    assert.match(file.type, /^text\/javascript/);
    modules.set(address, file.body);
    for (const [, name] of file.body.matchAll(/\b(?:from|import)\s*["']([^"'\n]+)["']/g))
      open.push(new URL(name!, `http://studio${address}`).pathname);
  }
});

test('all modules of the folder are reached from the page, but for the one that serves them', () => {
  const folder = readdirSync(new URL('../../src/studio/', import.meta.url)).filter((name) => name.endsWith('.ts'));
  const served = folder.filter((name) => !['files.ts', 'main.ts', 'types.ts'].includes(name));
  for (const name of served) assert.ok(modules.has(`/studio/${name}`), name);
  assert.ok(!modules.has('/studio/files.ts'));
});

test('no module names a package or has types left', () => {
  for (const [address, text] of modules) {
    assert.doesNotMatch(text, /\bfrom\s*["'](?![./])/, address);
    assert.doesNotMatch(text, /^\s*(interface|export type) /m, address);
  }
});

test('scripts are small when they are packed', () => {
  const bytes = [...modules.values()].reduce((sum, text) => sum + gzipSync(text).length, 0);
  assert.ok(bytes < MOST_SCRIPT_BYTES, `${bytes} bytes`);
});

test('the page and its styles keep to the policy: nothing inline, nothing from elsewhere', async () => {
  assert.match(STUDIO_POLICY, /^default-src 'self';/);
  assert.doesNotMatch(page.body, /<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/);
  const linked = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, address]) => address!);
  assert.ok(linked.length > 4);
  for (const address of linked) assert.ok(await studioFile(address), address);
  for (const address of linked.filter((name) => name.endsWith('.css')))
    assert.doesNotMatch((await studioFile(address))!.body, /url\(|@import/, address);
});

test('nothing else of the machine is served', async () => {
  for (const path of [
    '/studio/',
    '/studio/nothing.ts',
    '/studio/../index.ts',
    '/studio/%2e%2e/index.ts',
    '/index.html',
  ])
    assert.equal(await studioFile(path), null, path);
});
