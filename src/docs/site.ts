/**
 * The documentation as a site: the texts in `docs`, and pages made from the program, the server's routes and the library's exports. It needs nothing but
 * its own files, so that the server gives it to a browser offline, and it can be put anywhere as files.
 */
import { readFile } from 'node:fs/promises';
import { commandList, commandPages, fullProgram } from './commands.ts';
import { entries, exportList, libraryPages } from './library.ts';
import { renderMarkdown } from './markdown.ts';
import { type Chapter, type Draft, renderPage } from './page.ts';
import { routeList } from './routes.ts';

export interface DocsFile {
  /** Media type. */
  readonly type: string;
  readonly body: string;
}

const ROOT = new URL('../../', import.meta.url);
const DOCS = new URL('docs/', ROOT);
/** Texts in their order. */
const TEXTS = ['index', 'guide', 'concepts', 'configuration', 'cli', 'http', 'library', 'how', 'benchmarks', 'limits'];

const HTML = 'text/html; charset=utf-8';
const CSS = 'text/css; charset=utf-8';
const JS = 'text/javascript; charset=utf-8';
const SVG = 'image/svg+xml';
const ASSETS: Readonly<Record<string, { readonly type: string; readonly from: string }>> = {
  'assets/base.css': { type: CSS, from: 'src/studio/base.css' },
  'assets/docs.css': { type: CSS, from: 'docs/assets/docs.css' },
  'assets/theme.js': { type: JS, from: 'docs/assets/theme.js' },
  'assets/icon.svg': { type: SVG, from: 'src/studio/icon.svg' },
};

let built: Promise<ReadonlyMap<string, DocsFile>> | undefined;

/** All files by their path from the root of the site (`index.html`, `cli/serve.html`, `assets/docs.css`), made at the first call. */
export function docsPages(): Promise<ReadonlyMap<string, DocsFile>> {
  built ??= build().catch((error) => {
    built = undefined;
    throw error;
  });
  return built;
}

async function build(): Promise<ReadonlyMap<string, DocsFile>> {
  const { version } = JSON.parse(await readFile(new URL('package.json', ROOT), 'utf8')) as { version: string };
  const program = fullProgram();
  const library = entries();
  const below: Readonly<Record<string, string>> = {
    ...{ cli: commandList(program), http: routeList(version), library: exportList(library) },
  };
  const parts: Readonly<Record<string, readonly Draft[]>> = {
    ...{ cli: commandPages(program), library: libraryPages(library) },
  };
  const chapters = await Promise.all(
    TEXTS.map(async (name): Promise<Chapter> => {
      const { title, html } = await renderMarkdown(await readFile(new URL(`${name}.md`, DOCS), 'utf8'), DOCS);
      const page = {
        path: `${name}.html`,
        title: name === 'index' ? 'Overview' : title,
        html: html + (below[name] ?? ''),
      };
      return { page, parts: parts[name] ?? [] };
    }),
  );
  const pages = chapters.flatMap((chapter) => [chapter.page, ...chapter.parts]);
  const files = new Map<string, DocsFile>();
  for (const page of pages) files.set(page.path, { type: HTML, body: renderPage(page, chapters, version) });
  for (const [path, { type, from }] of Object.entries(ASSETS))
    files.set(path, { type, body: await readFile(new URL(from, ROOT), 'utf8') });
  return files;
}
