/** The studio at `/`, and the documentation at `/docs`. */
import { Hono } from 'hono';
import { ApiError } from './errors.ts';
import type { Ctx, Env } from './services.ts';
import { STUDIO_POLICY, studioFile } from './studio-files.ts';

const HEADERS = {
  'Content-Security-Policy': STUDIO_POLICY,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};

export function staticRoutes(): Hono<Env> {
  const app = new Hono<Env>();
  const studio = async (c: Ctx) => {
    const file = await studioFile(c.req.path);
    if (!file) throw notFound(c);
    return c.body(file.body, 200, { ...HEADERS, 'Content-Type': file.type });
  };
  const documentation = async (c: Ctx) => {
    const { docsPages } = await import('../docs/site.ts');
    const file = (await docsPages()).get(c.req.path.slice('/docs/'.length) || 'index.html');
    if (!file) throw notFound(c);
    return c.body(file.body, 200, { ...HEADERS, 'Content-Type': file.type });
  };
  app.get('/', studio);
  app.get('/studio/*', studio);
  app.get('/docs', (c) => c.redirect('/docs/'));
  app.get('/docs/*', documentation);
  return app;
}

export const notFound = (c: Ctx): ApiError =>
  new ApiError(404, `There is nothing at ${c.req.method} ${c.req.path}.`, { code: 'not_found' });
