import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Command } from 'commander';
import type { Register } from '../../src/cli/program.ts';

const root = path.join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
const readme = read('README.md');
const scripts = Object.keys(JSON.parse(read('package.json')).scripts);

/** The fenced blocks of a Markdown text. */
function blocks(text: string): string[] {
  return [...text.matchAll(/^```\w*\n([\s\S]*?)^```$/gm)].map((match) => match[1]!);
}

/** Lines of the README's tree: two spaces a level, a name, two spaces or more, what it is. Folders end with a slash. */
function treeLines(): { readonly path: string; readonly about: string | undefined }[] {
  const block = blocks(readme).find((text) => text.startsWith('.ci/\n'));
  assert.ok(block, 'the README shows the tree');
  const open: string[] = [];
  return block
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [, indent, name, about] =
        /^( *)(\S+)(?: {2,}(\S.*))?$/.exec(line) ?? assert.fail(`not a line of the tree: ${line}`);
      open.splice(indent!.length / 2, open.length, name!);
      return { path: open.join(''), about };
    });
}

test('the tree names only what exists, says what each file is, and has every room', () => {
  const lines = treeLines();
  for (const { path: name, about } of lines) {
    assert.ok(existsSync(path.join(root, name)), `${name} is in the README and does not exist`);
    assert.equal(statSync(path.join(root, name)).isDirectory(), name.endsWith('/'), name);
    assert.ok(about || name.endsWith('/'), `${name} is not said to be anything`);
  }
  const paths = lines.map((line) => line.path);
  assert.equal(new Set(paths).size, paths.length, 'each path once');
  for (const room of readdirSync(path.join(root, 'src'), { withFileTypes: true })) {
    if (room.isDirectory() && readdirSync(path.join(root, 'src', room.name)).length === 0) continue;
    const name = `src/${room.name}${room.isDirectory() ? '/' : ''}`;
    assert.ok(paths.includes(name), `${name} is not in the README's tree`);
  }
});

for (const file of ['README.md', 'CONTRIBUTING.md', '.ci/run']) {
  test(`${file} names only npm scripts that exist`, () => {
    const text = read(file);
    const named = [...text.matchAll(/npm (?:run (?:-\S+ )*([\w:-]+)|(test))/g)].map((m) => m[1] ?? m[2]!);
    assert.ok(named.length > 0);
    for (const name of named) assert.ok(scripts.includes(name), `npm run ${name}`);
  });
}

for (const file of ['README.md', 'CONTRIBUTING.md', 'LOG.md']) {
  test(`${file} links to and runs only files that exist`, () => {
    const text = read(file);
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map((m) => m[1]!);
    const programs = [...text.matchAll(/^node (\S+\.ts)/gm)].map((m) => m[1]!);
    for (const name of [...links, ...programs]) assert.ok(existsSync(path.join(root, name)), name);
  });
}

test('the CI script installs and tests as the README says', () => {
  const steps = [...read('.ci/run').matchAll(/^npm .*$/gm)].map(([line]) => line);
  const [install, check] = [steps.indexOf('npm ci'), steps.indexOf('npm run check')];
  assert.ok(readme.includes('npm ci && npm test'));
  assert.ok(install >= 0 && install < check && check < steps.indexOf('npm test'));
  assert.equal(steps.at(-1), 'npm test', 'the totals of the tests are the last lines');
});

test('the table of commands is that of the program', async () => {
  const program = new Command();
  const folder = path.join(root, 'src/cli/commands');
  for (const file of readdirSync(folder)) {
    const { register } = (await import(path.join(folder, file))) as { register: Register };
    register(program, {} as Parameters<Register>[1]);
  }
  const named = [...readme.matchAll(/^\| `tmem (\S+)( [^`]*)?` \|/gm)];
  const names = named.map((match) => match[1]!);
  assert.deepEqual(names.toSorted(), program.commands.map((command) => command.name()).toSorted());
  for (const [, name, rest = ''] of named) {
    const options = program.commands.find((command) => command.name() === name)!.options.map((option) => option.long);
    for (const [flag] of rest.matchAll(/--[\w-]+/g)) assert.ok(options.includes(flag), `tmem ${name} ${flag}`);
  }
});

test('the library example imports what the library exports, and calls what it has', async () => {
  const library = (await import('../../src/index.ts')) as Record<string, unknown>;
  const example = blocks(readme).find((text) => text.includes("from 'tmem'"));
  assert.ok(example);
  const names = /import \{ ([^}]+) \} from 'tmem'/.exec(example)![1]!.split(', ');
  assert.ok(names.length > 0);
  for (const name of names) assert.notEqual(library[name], undefined, name);
  const { Episode } = await import('../../src/index.ts');
  for (const [, method] of example.matchAll(/episode\.(\w+)\(/g)) assert.ok(method! in Episode.prototype, method);
});
