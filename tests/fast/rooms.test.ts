import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.join(import.meta.dirname, '../..');
const src = path.join(root, 'src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.ts$/.test(file));

interface Room {
  readonly name: string;
  /** Of what may be imported, as CONTRIBUTING says it. */
  readonly allowed: string;
}

/** The rows of CONTRIBUTING's table, from the top of the house down. */
const rooms: readonly Room[] = [
  ...readFileSync(path.join(root, 'CONTRIBUTING.md'), 'utf8').matchAll(/^\| `src\/([\w-]+)` \|[^|]+\| ([^|]+) \|$/gm),
].map(([, name, allowed]) => ({ name: name!, allowed: allowed! }));

interface Import {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Imported when it is needed, not when the file is loaded. */
  readonly late: boolean;
}

/** What files of one room import from another. `src/index.ts` stands in none. */
function imports(): Import[] {
  const roomOf = (file: string) => file.split(path.sep)[0]!;
  return files.flatMap((file) => {
    const text = readFileSync(path.join(src, file), 'utf8');
    const found = text.matchAll(/\b(from|import)( |\()'(\.[^']+)'/g);
    return [...found]
      .map(([, , paren, target]) => ({
        ...{ file, from: roomOf(file), late: paren === '(' },
        to: roomOf(path.join(path.dirname(file), target!)),
      }))
      .filter(({ from, to }) => from !== to && file !== 'index.ts');
  });
}

test('CONTRIBUTING has every room', () => {
  const folders = readdirSync(src, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(rooms.map(({ name }) => name).sort(), folders.map(({ name }) => name).sort());
});

test('rooms import only what CONTRIBUTING allows them, and on loading only from below', () => {
  const found = imports();
  assert.ok(found.length > 100);
  for (const { file, from, to, late } of found) {
    const above = rooms.findIndex(({ name }) => name === from);
    const below = rooms.findIndex(({ name }) => name === to);
    const { allowed } = rooms[above]!;
    const everything = allowed === 'everything below' && below > above;
    assert.ok(
      everything || new RegExp(`\\b${to}\\b`).test(allowed),
      `${file} imports from ${to}, which ${from} may not`,
    );
    assert.ok(below > above || late, `${file} imports from ${to} above it`);
  }
});

test('only the native room has pointers', () => {
  const using = files.filter((file) => /from 'koffi'/.test(readFileSync(path.join(src, file), 'utf8')));
  assert.ok(using.length > 0);
  for (const file of using) assert.match(file, /^engine\/native\//);
});
