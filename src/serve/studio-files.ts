/**
 * The files of the studio as the server gives them to a browser. There is no bundle: modules are served one by one, TypeScript without its
 * types, and the packages that they import by name are served beside them under the addresses below.
 */
import { readFile } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Address of each package. */
export const VENDOR: Readonly<Record<string, string>> = {
  preact: '/studio/vendor/preact.js',
  'preact/hooks': '/studio/vendor/hooks.js',
  htm: '/studio/vendor/htm.js',
};

/** Nothing but the server itself: no inline script or style, no other host, not in a frame. */
export const STUDIO_POLICY =
  "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

const STUDIO = new URL('../studio/', import.meta.url);

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.js': 'text/javascript; charset=utf-8',
  '.ts': 'text/javascript; charset=utf-8',
};

export interface StudioFile {
  readonly type: string;
  readonly body: string;
}

/**
 * @param path of the request: `/` is the page, `/studio/NAME` a file of its folder, `/studio/vendor/NAME` a package
 * @returns null when the studio has no such file.
 */
export async function studioFile(path: string): Promise<StudioFile | null> {
  const vendored = Object.entries(VENDOR).find(([, address]) => address === path);
  if (vendored) return { type: TYPES['.js']!, body: named(await read(import.meta.resolve(vendored[0]))) };
  const name = path === '/' ? 'index.html' : /^\/studio\/([a-z-]+\.(?:css|svg|js|ts))$/.exec(path)?.[1];
  if (name === undefined) return null;
  // The page names its first module as it is called once it is built.
  for (const file of new Set([name, name.replace(/\.js$/, '.ts')])) {
    const text = await read(new URL(file, STUDIO)).catch(missing);
    if (text !== null) return { type: TYPES[extname(file)]!, body: forBrowser(file, text) };
  }
  return null;
}

function forBrowser(file: string, text: string): string {
  if (file.endsWith('.ts')) return named(stripTypeScriptTypes(text));
  return file.endsWith('.js') ? named(text) : text;
}

const read = (url: string | URL) => readFile(fileURLToPath(url), 'utf8');

function missing(error: NodeJS.ErrnoException): null {
  if (error.code !== 'ENOENT') throw error;
  return null;
}

/** Browsers know no packages by name, and the policy allows no import map in the page. */
function named(module: string): string {
  return module.replace(
    /(\b(?:from|import)\s*)(["'])([\w/-]+)\2/g,
    (all, before: string, quote: string, name: string) =>
      VENDOR[name] ? `${before}${quote}${VENDOR[name]}${quote}` : all,
  );
}
