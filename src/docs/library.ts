/** The pages of the library: all exports of its entries with their doc comments. */
import { readFileSync } from 'node:fs';
import { type Declaration, exportsOf } from './exports.ts';
import { code, escaped, heading, pre, table } from './html.ts';
import { renderInline } from './markdown.ts';
import type { Draft } from './page.ts';

const ROOT = new URL('../../', import.meta.url);

export interface Entry {
  /** As it is imported: `tmem`. */
  readonly name: string;
  readonly declarations: readonly Declaration[];
}

/** The entries that `package.json` names. */
export function entries(): Entry[] {
  const { name, exports } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as {
    readonly name: string;
    readonly exports: Readonly<Record<string, { readonly default: string }>>;
  };
  return Object.entries(exports).map(([key, { default: built }]) => {
    const source = built.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts');
    return { name: name + key.slice(1), declarations: exportsOf(new URL(source, ROOT)) };
  });
}

/** The folder below `src` that a declaration stands in. */
const roomOf = ({ file }: Declaration) => file.pathname.slice(new URL('src/', ROOT).pathname.length).split('/')[0]!;

interface Room {
  readonly entry: string;
  readonly room: string;
  readonly path: string;
  readonly declarations: readonly Declaration[];
}

function rooms(all: readonly Entry[]): Room[] {
  return all.flatMap(({ name: entry, declarations }, index) => {
    const grouped = Object.entries(Object.groupBy(declarations, roomOf));
    return grouped.map(([room, found = []]) => {
      // Two entries may export from one room.
      const path = `library/${index === 0 ? room : entry.split('/').slice(1).join('-')}.html`;
      return { entry, room: index === 0 ? room : entry, path, declarations: found };
    });
  });
}

/** All exports by their pages, to stand below the introduction. */
export function exportList(all: readonly Entry[]): string {
  return rooms(all)
    .map(({ entry, room, path, declarations }) => {
      const rows = declarations.map(({ name, kind, doc }) => [
        `<a href="${path}#${name}">${code(name)}</a>`,
        kind,
        renderInline(firstSentence(doc)),
      ]);
      return `${heading(2, room.replaceAll('/', '-'), `<a href="${path}">${escaped(room)}</a>`)}
<p>From ${code(`'${entry}'`)}.</p>
${table(['export', 'kind', 'what it is'], rows)}`;
    })
    .join('\n');
}

export function libraryPages(all: readonly Entry[]): Draft[] {
  return rooms(all).map(({ entry, room, path, declarations }) => ({
    path,
    title: `${entry}: ${room}`,
    html: `<h1>${escaped(room)}</h1>
<p>Exports of ${code(`'${entry}'`)} from ${code(`src/${room.replace(/^\w+\//, '')}`)}.</p>
${declarations.map(described).join('\n')}`,
  }));
}

function described({ name, doc, code: text }: Declaration): string {
  const { about, tags } = parseDoc(doc);
  return [
    heading(2, name, escaped(name)),
    ...about.split(/\n\s*\n/).flatMap((part) => (part.trim() ? [`<p>${renderInline(part)}</p>`] : [])),
    pre(text),
    ...(tags.length > 0 ? [`<dl class="tags">${tags.map(tagged).join('')}</dl>`] : []),
  ].join('\n');
}

interface Tag {
  readonly name: string;
  readonly text: string;
}

/** A doc comment's text and its `@param`, `@returns` and `@throws`; a tag may stand in the line of another. */
export function parseDoc(doc: string): { readonly about: string; readonly tags: readonly Tag[] } {
  const [about = '', ...rest] = doc.split(/(?<=^|\s)@(?=(?:param|returns|throws)\b)/m);
  const tags = rest.map((part) => {
    const [name] = /^\w+/.exec(part)!;
    return { name, text: part.slice(name.length).trim() };
  });
  return { about: about.trim(), tags };
}

const TITLES: Readonly<Record<string, string>> = { returns: 'Returns', throws: 'Throws' };

function tagged({ name, text }: Tag): string {
  if (name !== 'param') return `<dt>${TITLES[name]}</dt><dd>${renderInline(text)}</dd>`;
  const [parameter = '', ...rest] = text.split(/\s+/);
  return `<dt>${code(parameter)}</dt><dd>${renderInline(rest.join(' '))}</dd>`;
}

const firstSentence = (doc: string) => /^[\s\S]*?[.:](?=\s|$)/.exec(parseDoc(doc).about)?.[0] ?? parseDoc(doc).about;
