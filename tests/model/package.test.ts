/** The package as npm makes it, unpacked elsewhere: it runs, and what the server serves is in it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'tmem-package-'));
after(() => rmSync(folder, { recursive: true }));

/** What the container's build is given (.dockerignore names what is not left out). */
const given = readFileSync(join(root, '.dockerignore'), 'utf8')
  .split('\n')
  .flatMap((line) => (line.startsWith('!') ? line.slice(1) : []));

const sources = join(folder, 'sources');
const unpacked = join(folder, 'package');
mkdirSync(sources);
for (const name of given) cpSync(join(root, name), join(sources, name), { recursive: true });
// Dependencies are found beside what is packed, and beside what is unpacked.
symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}`, TMEM_HOME: folder };
execFileSync('npm', ['pack', '--pack-destination', folder], { cwd: sources, env, stdio: ['ignore', 'ignore', 'pipe'] });
const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
execFileSync('tar', ['-xzf', tarball!], { cwd: folder });

const tmem = (...argv: string[]) =>
  execFileSync(process.execPath, [join(unpacked, 'dist/cli/main.js'), ...argv], { cwd: folder, env, encoding: 'utf8' });
const load = (name: string) => import(pathToFileURL(join(unpacked, 'dist', name)).href);

test('the command runs from the package', () => {
  assert.match(tmem('--help'), /Usage: tmem/);
  assert.match(tmem('serve', '--help'), /--port/);
  assert.ok(JSON.parse(tmem('models', '--json')).models.length > 0);
  assert.match(tmem('completion', 'bash'), /complete -o default -F _tmem tmem/);
  assert.equal(JSON.parse(tmem('config', '--json')).found, false);
});

test('every entry of the package is there, with its types', async () => {
  const { exports, version, bin } = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'));
  for (const { types, default: built } of Object.values<{ types: string; default: string }>(exports)) {
    assert.ok(existsSync(join(unpacked, types)), types);
    assert.ok(Object.keys(await import(pathToFileURL(join(unpacked, built)).href)).length > 0, built);
  }
  assert.equal(tmem('--version').trim(), version);
  assert.match(readFileSync(join(unpacked, bin.tmem), 'utf8'), /^#!\/usr\/bin\/env node\n/);
});

test('what the server serves is in the package', async () => {
  const { studioFile } = await load('serve/studio-files.js');
  for (const name of readdirSync(join(root, 'src/studio'))) {
    const path = name === 'index.html' ? '/' : `/studio/${name.replace(/\.ts$/, '.js')}`;
    assert.ok(await studioFile(path), path);
  }
  const { docsPages } = await load('docs/site.js');
  const { docsPages: here } = await import('../../src/docs/site.ts');
  assert.deepEqual([...(await docsPages())], [...(await here())]);
  const { openApiDocument } = await load('serve/openapi.js');
  assert.ok(Object.keys(openApiDocument('0').paths).length > 0);
});

test('the container takes from its build what the package has, and needs', () => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  const copied = [...dockerfile.matchAll(/^COPY --from=build (.*) \S+$/gm)].flatMap(([, names]) => names!.split(' '));
  const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  assert.deepEqual(
    copied.map((name) => name.replace('/opt/tmem/', '')).toSorted(),
    [...files, 'package.json', 'node_modules'].toSorted(),
  );
  const context = [...dockerfile.matchAll(/^COPY (?!--)(.*) \S+$/gm)].flatMap(([, names]) => names!.split(' '));
  for (const name of context) assert.ok(name === '.' || given.includes(name), name);
});
