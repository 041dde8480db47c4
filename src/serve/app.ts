/** All routes of the server as one application. */
import { readFileSync } from 'node:fs';
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { chatCompletions } from './chat.ts';
import { embeddings } from './embeddings.ts';
import { ApiError, answerable } from './errors.ts';
import { authenticate, sameSite } from './guard.ts';
import type { KeyFile } from './keys.ts';
import { Admission, DEFAULT_LIMITS, type Limits } from './limits.ts';
import { measured } from './measured.ts';
import { memoryRoutes } from './memory.ts';
import { createMetrics } from './metrics.ts';
import { openApiDocument } from './openapi.ts';
import { createResponse } from './responses.ts';
import type { Env, Services } from './services.ts';
import { notFound, staticRoutes } from './static.ts';
import type { Runtime } from './types.ts';

export interface AppOptions {
  readonly limits?: Partial<Limits> | undefined;
  /** Keys that open the server; undefined: it is open. */
  readonly keys?: KeyFile | undefined;
  /** Origins of other pages that may use it; `*`: all. Default none. */
  readonly cors?: readonly string[] | undefined;
  /** Only this machine can reach it: other names for it are refused. Default true. */
  readonly loopback?: boolean | undefined;
  /** Milliseconds of silence after which a stream sends a comment. */
  readonly quietMs?: number | undefined;
  /** Told of failures that are the server's own. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export interface App {
  readonly app: Hono<Env>;
  /** Lets nobody in any more, and ends what has not ended after `ms`. */
  stop(ms: number): Promise<void>;
}

/** A model as OpenAI lists it. */
const listed = ({ model, created }: Runtime) => ({ id: model.name, object: 'model', created, owned_by: 'tmem' });

export function createApp(runtime: Runtime, options: AppOptions = {}): App {
  const { keys, cors: origins = [], loopback = true, quietMs, onError = () => {} } = options;
  const limits = { ...DEFAULT_LIMITS, maxTokens: runtime.model.contextSize, ...options.limits };
  const admission = new Admission(runtime, limits);
  const metrics = createMetrics(runtime);
  const services: Services = { runtime, limits, admission, metrics, quietMs, onError };
  const app = new Hono<Env>();

  app.onError((error, c) => {
    const answer = answerable(error, onError);
    return c.json(answer.body, answer.status as 400, answer.headers);
  });
  app.notFound((c) => {
    throw notFound(c);
  });
  app.use(measured(metrics));
  app.use(sameSite(loopback, origins));
  if (origins.length > 0)
    app.use(cors({ origin: origins.includes('*') ? '*' : [...origins], exposeHeaders: ['Retry-After'] }));
  app.use(async (_, next) => {
    admission.checkOpen();
    await next();
  });

  app.get('/health', (c) => c.json({ status: 'ok', model: runtime.model.name, ...runtime.status() }));
  const document = openApiDocument(version());
  app.get('/openapi.json', (c) => c.json(document));
  app.route('/', staticRoutes());

  const authenticated = authenticate(keys);
  app.use('/v1/*', authenticated);
  app.use('/metrics', authenticated);
  app.get('/metrics', async (c) => c.text(await metrics.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4' }));
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [listed(runtime)] }));
  app.get('/v1/models/:id{.+}', (c) => {
    const id = c.req.param('id');
    if (id !== runtime.model.name)
      throw new ApiError(404, `There is no model ${id}; this server has ${runtime.model.name}.`, {
        param: 'model',
        code: 'model_not_found',
      });
    return c.json(listed(runtime));
  });
  app.post('/v1/chat/completions', (c) => chatCompletions(c, services));
  app.post('/v1/responses', (c) => createResponse(c, services));
  app.post('/v1/embeddings', (c) => embeddings(c, services));
  app.route('/v1/memory/sessions', memoryRoutes(services));
  return { app, stop: (ms) => admission.stop(ms) };
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
