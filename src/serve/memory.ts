/** `/v1/memory/sessions`: seeing, asking, correcting and moving what sessions remember. */
import { Hono } from 'hono';
import type { z } from 'zod';
import { differenceOf } from '../memory/ledger.ts';
import type { WriteRecord } from '../memory/types.ts';
import { parseBody } from './body.ts';
import { Channel } from './channel.ts';
import { ApiError, answerable } from './errors.ts';
import * as bodies from './memory-requests.ts';
import { viewOf } from './memory-view.ts';
import type { Ctx, Env, Services } from './services.ts';
import { comment, endingWith, follow, frame, type SseEvent, sseResponse } from './sse.ts';
import type { Progress, Runtime } from './types.ts';
import { watchEvents } from './watch.ts';

/** What an operation is given: the session, bound to its owner, and the checked body. */
interface Operation<B> {
  readonly runtime: Runtime;
  readonly session: string;
  readonly body: B;
  readonly step: { readonly signal: AbortSignal; readonly onProgress: Progress };
  /** Binds another session's name to the same owner. */
  readonly bind: (name: string, param: string) => string;
}

interface Route<S extends z.ZodType = z.ZodType> {
  readonly schema: S;
  readonly run: (operation: Operation<z.output<S>>) => Promise<unknown>;
}

const route = <S extends z.ZodType>(schema: S, run: Route<S>['run']): Route => ({ schema, run }) as unknown as Route;

/** By the last part of the address. */
export const OPERATIONS: Readonly<Record<string, Route>> = {
  ask: route(bodies.askSchema, ({ runtime, session, body: { question, ...options }, step }) =>
    runtime.ask(session, question, { ...options, ...step }),
  ),
  write: route(bodies.emptySchema, async ({ runtime, session, step }) => ({
    write: await runtime.write(session, step),
  })),
  undo: route(bodies.emptySchema, async ({ runtime, session }) => ({ write: await runtime.undo(session) })),
  branch: route(bodies.branchSchema, async ({ runtime, session, body: { to }, bind }) => {
    await runtime.branch(session, bind(to, 'to'));
    return { session: to };
  }),
  forget: route(bodies.forgetSchema, ({ runtime, session, body: { query, dryRun }, step }) =>
    runtime.forget(session, query, { dryRun, ...step }),
  ),
  verify: route(bodies.emptySchema, ({ runtime, session, step }) => runtime.verify(session, step)),
  consolidate: route(bodies.emptySchema, async ({ runtime, session, step }) => ({
    write: await runtime.consolidate(session, step),
  })),
  recall: route(bodies.recallSchema, async ({ runtime, session, body: { pairs }, step }) => ({
    results: await runtime.recall(session, pairs, step),
  })),
  edit: route(bodies.editSchema, async ({ runtime, session, body: { pair, output }, step }) => ({
    write: await runtime.edit(session, pair, output, step),
  })),
  why: route(bodies.whySchema, ({ runtime, session, body: { question }, step }) =>
    runtime.why(session, question, step),
  ),
  import: route(bodies.importSchema, async ({ runtime, session, body: { pairs }, step }) => ({
    writes: await runtime.import(session, pairs, step),
  })),
};
/** These make no write, although what they give holds one. */
const NO_WRITE = new Set(['undo']);

export function memoryRoutes(services: Services): Hono<Env> {
  const { runtime } = services;
  const app = new Hono<Env>();
  const bound = (c: Ctx) => c.get('owner').bind(c.req.param('session')!);

  app.get('/', async (c) => {
    const owner = c.get('owner');
    const names = (await runtime.sessions()).filter((name) => owner.owns(name));
    return c.json({ sessions: names.map((name) => owner.unbind(name)) });
  });
  app.get('/:session', (c) =>
    admitted(c, services, async () =>
      c.json(viewOf(await runtime.info(bound(c)), c.req.param('session'), runtime.model.name)),
    ),
  );
  app.get('/:session/events', (c) => watchEvents(c, services, bound(c)));
  app.get('/:session/diff', (c) =>
    admitted(c, services, async () => {
      const other = c.get('owner').bind(c.req.query('other') ?? '', 'other');
      const [one, two] = await Promise.all([runtime.info(bound(c)), runtime.info(other)]);
      return c.json(differenceOf(one.state.writes, two.state.writes));
    }),
  );
  app.get('/:session/export', (c) =>
    admitted(c, services, async () => {
      const format = c.req.query('format') ?? 'gguf';
      if (format !== 'gguf' && format !== 'jsonl')
        throw new ApiError(400, 'format: It is gguf or jsonl.', { param: 'format' });
      const bytes = await runtime.export(bound(c), format);
      return c.body(new Uint8Array(bytes), 200, {
        'Content-Type': format === 'gguf' ? 'application/octet-stream' : 'application/jsonl',
        'Content-Disposition': `attachment; filename="${c.req.param('session')}.${format}"`,
      });
    }),
  );
  for (const [name, { schema, run }] of Object.entries(OPERATIONS))
    app.post(`/:session/${name}`, async (c) => {
      const session = bound(c);
      const body = await parseBody(c, schema, services.limits.bodyBytes);
      const bind = (other: string, param: string) => c.get('owner').bind(other, param);
      return operate(c, services, async (step) => {
        const result = await run({ runtime, session, body, step, bind });
        if (!NO_WRITE.has(name)) services.metrics.writes(writesOf(result));
        return result;
      });
    });
  app.delete('/:session', (c) =>
    admitted(c, services, async () => {
      await runtime.remove(bound(c));
      return c.body(null, 204);
    }),
  );
  return app;
}

/** Counts a request among those of its key, which a stopping server waits for. */
async function admitted(c: Ctx, { admission }: Services, answer: () => Promise<Response>): Promise<Response> {
  const { end } = admission.admit(c.get('owner').id, { client: c.req.raw.signal });
  return answer().finally(end);
}

function writesOf(result: unknown): readonly WriteRecord[] {
  const { write, writes } = result as { write?: WriteRecord | null; writes?: WriteRecord[] };
  return writes ?? (write ? [write] : []);
}

/** Answers with what the operation gives; to a client that reads events, with its progress before. */
async function operate(
  c: Ctx,
  { admission, quietMs, onError }: Services,
  run: (step: Operation<unknown>['step']) => Promise<unknown>,
): Promise<Response> {
  const { signal, end } = admission.admit(c.get('owner').id, { client: c.req.raw.signal });
  const told = new Channel<SseEvent>();
  const onProgress = (message: string) => told.push({ event: 'progress', data: { message } });
  run({ signal, onProgress }).then(
    (data) => {
      told.push({ event: 'result', data });
      told.close();
    },
    (error) => told.close({ error }),
  );
  const items = (async function* () {
    try {
      yield* follow([told], { signal, quietMs });
    } finally {
      end();
    }
  })();
  if (!c.req.header('accept')?.includes('text/event-stream')) {
    for await (const item of items) if (item?.event.event === 'result') return c.json(item.event.data as object);
  }
  const frames = (async function* () {
    for await (const item of items) yield item === null ? comment('still at work') : frame(item.event);
  })();
  return sseResponse(
    c,
    endingWith(frames, (error) => frame({ event: 'error', data: answerable(error, onError).body })),
  );
}
