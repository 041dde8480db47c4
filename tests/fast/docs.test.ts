/** The documentation: complete, without dead links, and without anything from elsewhere. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { wordsOf } from '../../src/cli/config.ts';
import { fullProgram } from '../../src/docs/commands.ts';
import { exportsOf } from '../../src/docs/exports.ts';
import { slug } from '../../src/docs/html.ts';
import { entries, parseDoc } from '../../src/docs/library.ts';
import { renderMarkdown } from '../../src/docs/markdown.ts';
import { docsPages } from '../../src/docs/site.ts';
import { openApiDocument } from '../../src/serve/openapi.ts';

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const files = await docsPages();
const pages = [...files].filter(([, { type }]) => type.startsWith('text/html'));
const body = (path: string) => files.get(path)?.body ?? assert.fail(`there is no ${path}`);
const idsOf = (html: string) => [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!);

test('every link inside the site leads to a file, and to a place in it', () => {
  let links = 0;
  for (const [path, { body: html }] of pages) {
    for (const [, address] of html.matchAll(/(?:href|src)="([^"]*)"/g)) {
      if (/^https?:/.test(address!)) continue;
      const [file, id] = address!.split('#');
      const target = file ? posix.join(posix.dirname(path), file) : path;
      assert.ok(files.has(target), `${path} links to ${address}`);
      if (id) assert.ok(idsOf(body(target)).includes(id), `${path} links to ${address}`);
      links++;
    }
  }
  assert.ok(links > 500);
});

test('no name is given twice in a page', () => {
  for (const [path, { body: html }] of pages) {
    const ids = idsOf(html);
    assert.deepEqual([...new Set(ids)], ids, path);
  }
});

test('nothing is fetched from elsewhere, and nothing inline would be refused by the policy', () => {
  for (const [path, { body: html }] of pages) {
    assert.doesNotMatch(html, /<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?\/\//, path);
    assert.doesNotMatch(html, /<script(?![^>]* src=)|<style|\sstyle="|\son\w+="/, path);
  }
  for (const [path, { type, body: css }] of files)
    if (type.includes('css')) assert.doesNotMatch(css, /url\(|@import/, path);
});

test('every command has a page with its description and options', () => {
  const all = (command: Command): Command[] => command.commands.flatMap((child) => [child, ...all(child)]);
  for (const command of all(fullProgram())) {
    const [first, ...rest] = wordsOf(command);
    const html = body(`cli/${first}.html`);
    if (rest.length > 0) assert.ok(idsOf(html).includes(slug([first, ...rest].join(' '))), command.name());
    for (const { long } of command.options) assert.ok(html.includes(`<code>${long}`), `${command.name()} ${long}`);
    assert.ok(body('cli.html').includes(`href="cli/${first}.html"`));
  }
});

test('every route has an entry', () => {
  const ids = idsOf(body('http.html'));
  for (const [path, methods] of Object.entries(openApiDocument('0').paths))
    for (const method of Object.keys(methods)) assert.ok(ids.includes(slug(`${method} ${path}`)), `${method} ${path}`);
});

test('every export of the library has an entry', async () => {
  const index = read('src/index.ts');
  const listed = [...index.matchAll(/\{([^}]*)\} from/g)].flatMap(([, names]) =>
    names!.split(',').flatMap((name) => name.replace(/\btype\s/, '').trim() || []),
  );
  const engine = [
    ...read('src/engine/types.ts').matchAll(/^export (?:\w+ )*?(?:interface|type|const|function) (\w+)/gm),
  ];
  assert.ok(index.includes("export * from './engine/types.ts';"));
  const named = [...listed, ...engine.map(([, name]) => name!), ...Object.keys(await import('../../src/index.ts'))];
  const ids = pages.filter(([path]) => path.startsWith('library/')).flatMap(([, { body: html }]) => idsOf(html));
  for (const name of named) assert.ok(ids.includes(name), name);
  const provider = Object.keys(await import('../../src/ai-sdk/index.ts'));
  const shown = entries()
    .find(({ name }) => name === 'tmem/ai-sdk')!
    .declarations.map(({ name }) => name);
  for (const name of provider) assert.ok(shown.includes(name), name);
});

test('figures of benchmarks and limits stand in the README or the log', () => {
  const said = `${read('README.md')}\n${read('LOG.md')}`.replaceAll(',', '');
  const known = new Set(said.match(/\d*\.?\d+/g));
  for (const file of ['docs/benchmarks.md', 'docs/limits.md']) {
    const figures = read(file)
      .replaceAll(/`[^`\n]*`/g, '')
      .match(/\d*\.?\d+/g)!;
    assert.ok(figures.length > 0);
    for (const figure of figures) assert.ok(known.has(figure), `${file}: ${figure}`);
  }
});

test('examples in the documentation import what the library exports', async () => {
  const library = Object.keys(await import('../../src/index.ts'));
  const texts = ['docs/guide.md', 'docs/library.md'].map(read).join('\n');
  const imports = [...texts.matchAll(/import \{ ([^}]+) \} from 'tmem'/g)];
  assert.ok(imports.length >= 3);
  for (const [, names] of imports) for (const name of names!.split(', ')) assert.ok(library.includes(name), name);
});

test('commands and flags that the texts name exist', () => {
  const program = fullProgram();
  const find = (words: string[], command: Command = program): Command => {
    const child = command.commands.find((c) => c.name() === words[0]);
    return child ? find(words.slice(1), child) : command;
  };
  const texts = ['guide', 'configuration', 'http', 'benchmarks', 'how']
    .map((name) => read(`docs/${name}.md`))
    .join('\n');
  const lines = [...texts.matchAll(/(?:^|`|<\()tmem ((?:[a-z][\w-]*)(?: [^`\n)]*)?)/gm)].map(([, line]) => line!);
  assert.ok(lines.length > 20);
  for (const line of lines) {
    const command = find(line.split(' '));
    assert.notEqual(command, program, line);
    const flags = [...command.options, ...program.options].map(({ long }) => long);
    for (const [flag] of line.matchAll(/--[\w-]+/g)) assert.ok(flags.includes(flag), line);
  }
});

test('declarations are read with their comments and without bodies', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tmem-docs-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const put = (name: string, text: string) => writeFileSync(join(folder, name), text);
  put(
    'a.ts',
    `import { z } from 'zod';
const pointSchema = z.strictObject({
  x: z.number(),
});
export type Point = z.infer<typeof pointSchema>;
/** Adds. @returns the sum */
export async function add(
  a: { readonly x: number },
  b = '{',
): Promise<number> {
  return a.x;
}
/**
 * A thing.
 * Of two lines.
 */
export class Thing {
  readonly #secret = 1;
  /** Its name. */
  readonly name: string;
  private hidden(): void {}
  /** Says it. */
  say(word: string): string {
    return word;
  }
  get #inner(): number {
    return 2;
  }
}
export const LIST = ['a', 'b'] as const;
function internal() {}
`,
  );
  put('index.ts', "export { type Point, add as plus, Thing } from './a.ts';\n");
  const file = (name: string) => pathToFileURL(join(folder, name));
  const [point, plus, thing] = exportsOf(file('index.ts'));
  assert.equal(
    point!.code,
    'const pointSchema = z.strictObject({\n  x: z.number(),\n});\ntype Point = z.infer<typeof pointSchema>;',
  );
  assert.deepEqual([plus!.name, plus!.kind, plus!.doc], ['plus', 'function', 'Adds. @returns the sum']);
  assert.equal(plus!.code, "async function add(\n  a: { readonly x: number },\n  b = '{',\n): Promise<number>;");
  assert.equal(thing!.doc, 'A thing.\nOf two lines.');
  assert.equal(
    thing!.code,
    'class Thing {\n  /** Its name. */\n  readonly name: string;\n  /** Says it. */\n  say(word: string): string;\n}',
  );
  assert.deepEqual(
    exportsOf(file('a.ts')).map(({ name }) => name),
    ['Point', 'add', 'Thing', 'LIST'],
  );
  put('index.ts', "export { nothing } from './a.ts';\n");
  assert.throws(() => exportsOf(file('index.ts')), /nothing/);
});

test('tags of a doc comment are taken apart, wherever they stand', () => {
  const { about, tags } = parseDoc('Says it. @param word what\nis said @returns it\n@throws TmemError `usage`: never');
  assert.equal(about, 'Says it.');
  assert.deepEqual(
    tags.map(({ name, text }) => `${name}: ${text}`),
    ['param: word what\nis said', 'returns: it', 'throws: TmemError `usage`: never'],
  );
  assert.deepEqual(parseDoc('Write to me@returns.org.').tags, []);
});

test('Markdown becomes pages that link to pages, with headings that can be linked to', async () => {
  const source = '# A `b`\n\n## C & d\n\n[x](how.md#y) [z](https://e.org/a.md)\n\n```ts\na < b\n```\n';
  const { title, html } = await renderMarkdown(source, pathToFileURL(`${root}/docs/`));
  assert.equal(title, 'A `b`');
  assert.match(html, /<h2 id="c-d">C &amp; d</);
  assert.match(html, /<a href="how\.html#y">x<\/a>/);
  assert.match(html, /<a href="https:\/\/e\.org\/a\.md">/);
  assert.match(html, /<code>a &#60; b\n?<\/code>/);
});
