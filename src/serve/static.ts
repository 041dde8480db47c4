/** The studio at `/`, and the documentation at `/docs`. */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Hono } from 'hono';
import { STUDIO_POLICY, studioFile } from '../studio/files.ts';
import { ApiError } from './errors.ts';
import type { Ctx, Env } from './services.ts';

const DOCS = new URL('../../docs/', import.meta.url);
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.md': 'text/markdown; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
};
const HEADERS = {
  'Content-Security-Policy': STUDIO_POLICY,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};

/** @param docs folder of the documentation, with a slash at its end */
export function staticRoutes(docs: URL = DOCS): Hono<Env> {
  const app = new Hono<Env>();
  const studio = async (c: Ctx) => {
    const file = await studioFile(c.req.path);
    if (!file) throw notFound(c);
    return c.body(file.body, 200, { ...HEADERS, 'Content-Type': file.type });
  };
  const documentation = async (c: Ctx) => {
    const name = c.req.path.slice('/docs/'.length) || 'index.html';
    // Plain names and folders only: nothing that leads out of the folder.
    const plain = name.split('/').every((part) => /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(part));
    const type = TYPES[extname(name)];
    const bytes = plain && type ? await readFile(new URL(name, docs)).catch(() => null) : null;
    if (!bytes) throw notFound(c);
    return c.body(new Uint8Array(bytes), 200, { ...HEADERS, 'Content-Type': type! });
  };
  app.get('/', studio);
  app.get('/studio/*', studio);
  app.get('/docs', (c) => c.redirect('/docs/'));
  app.get('/docs/*', documentation);
  return app;
}

export const notFound = (c: Ctx): ApiError =>
  new ApiError(404, `There is nothing at ${c.req.method} ${c.req.path}.`, { code: 'not_found' });
