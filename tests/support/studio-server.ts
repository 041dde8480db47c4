/**
 * A server that serves the studio's files and plays its API: sessions in memory, writes from a script, with the timing of a small model.
 * `node tests/support/studio-server.ts` starts it to be looked at.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { STUDIO_POLICY, studioFile } from '../../src/serve/studio-files.ts';
import type { KnownPair, Pair, SessionEvent, SessionState, TraceEvent, WriteRecord } from '../../src/studio/types.ts';
import { deltaAfter, emptySession, FACTS, fullSession, replyTo, scriptedWrite, WRITE_SIZE } from './studio-data.ts';

export interface StudioServer {
  readonly url: string;
  readonly sessions: Map<string, SessionState>;
  /** Of the API, in order: method and path. */
  readonly requests: string[];
  /** Answers of requests whose path holds the text, until it is taken away. */
  readonly faults: Map<string, { readonly status: number; readonly message: string }>;
  close(): Promise<void>;
}

export interface StudioServerOptions {
  /** What all waiting is multiplied with. Default 1. */
  readonly pace?: number;
  readonly sessions?: readonly SessionState[];
  /** Must be sent with every request to the API. */
  readonly key?: string;
  /** Called after each event of a write; the write waits for it. */
  readonly after?: (event: TraceEvent) => Promise<void> | void;
  readonly port?: number;
}

type Body = Readonly<Record<string, unknown>>;
type Tell = (message: string) => void;

class HttpError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Milliseconds of one step of training and of one token. */
const STEP = 420;
const TOKEN = 45;
const tokensOf = (text: string) => Math.ceil(text.length / 4) + 4;

export async function startStudio(options: StudioServerOptions = {}): Promise<StudioServer> {
  const { pace = 1, key, after = () => {}, port = 0 } = options;
  const sessions = new Map((options.sessions ?? []).map((state) => [state.session, state]));
  const listeners = new Set<{ readonly session: string; readonly response: ServerResponse }>();
  const requests: string[] = [];
  const faults: StudioServer['faults'] = new Map();
  const pause = (ms: number) => wait(ms * pace);

  const at = (session: string): SessionState => {
    const state = sessions.get(session);
    if (!state) throw new HttpError(404, `There is no session ${session}.`);
    return state;
  };
  const change = (session: string, next: Partial<SessionState>) =>
    void sessions.set(session, { ...(sessions.get(session) ?? emptySession(session)), ...next });

  const emit = async (session: string, event: TraceEvent) => {
    const message: SessionEvent = { session, time: new Date().toISOString(), event };
    for (const listener of listeners)
      if (listener.session === session)
        listener.response.write(`event: ${event.type}\ndata: ${JSON.stringify(message)}\n\n`);
    await after(event);
  };

  const write = async (session: string, pairs: readonly Pair[], tell: Tell, reads: boolean): Promise<WriteRecord> => {
    const { writes, pairs: before, contextTokens, budget, working } = at(session);
    const context = reads ? { tokens: contextTokens, budget, turns: working.length } : null;
    const { record, events } = scriptedWrite(writes.length, pairs, before, context);
    change(session, { busy: true });
    let step = 0;
    for (const event of events) {
      const isStep = event.type === 'write' && event.event.type === 'train' && event.event.event.type === 'step';
      if (isStep) tell(`writing ${++step} of 12 steps`);
      if (event.type === 'extract') tell(`reading part ${event.part + 1} of ${event.parts}`);
      await pause(event.type === 'extract' ? 2 * STEP : isStep ? STEP : STEP / 6);
      if (event.type === 'write' && event.event.type === 'verdict') commit(session, record, reads);
      await emit(session, event);
    }
    return record;
  };

  const commit = (session: string, record: WriteRecord, reads: boolean) => {
    const state = at(session);
    const superseded = state.pairs.filter(
      (pair) => pair.standing && record.pairs.some(({ instruction }) => instruction === pair.instruction),
    );
    const ended = (pair: KnownPair): KnownPair => {
      if (!superseded.includes(pair)) return pair;
      const by = record.pairs.find(({ instruction }) => instruction === pair.instruction)!.id;
      return { ...pair, standing: false, ended: { time: record.time, by } };
    };
    const added = record.pairs.map((pair) => ({
      ...pair,
      write: state.writes.length + 1,
      standing: true,
      ended: null,
    }));
    change(session, {
      ...{ busy: false, writes: [...state.writes, record], pairs: [...state.pairs.map(ended), ...added] },
      ...{ delta: deltaAfter(state.writes.length + 1), ...(reads && { working: [], contextTokens: 42 }) },
    });
  };

  const nextFacts = (session: string) => {
    const known = new Set(at(session).pairs.map(({ id }) => id));
    return FACTS.filter(({ id }) => !known.has(id)).slice(0, WRITE_SIZE);
  };

  const observe = async (session: string, role: string, content: string) => {
    const { working, contextTokens } = at(session);
    const tokens = contextTokens + tokensOf(content);
    const index = (working.at(-1)?.index ?? -1) + 1;
    change(session, { working: [...working, { index, role, content }], contextTokens: tokens });
    await emit(session, { type: 'observe', tokens });
  };

  const chat = async (session: string, body: Body, response: ServerResponse) => {
    if (!sessions.has(session)) change(session, {});
    const question = (body.messages as { content: string }[]).at(-1)!.content;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (chunk: object) => response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    await observe(session, 'user', question);
    const writes: WriteRecord[] = [];
    if (at(session).contextTokens > at(session).budget)
      writes.push(await write(session, nextFacts(session), (message) => response.write(`: ${message}\n\n`), true));
    const answer = replyTo(question, at(session).pairs);
    for (const text of answer.match(/\S+\s*/g)!) {
      await pause(TOKEN);
      if (response.destroyed) return;
      send({ choices: [{ delta: { content: text } }] });
    }
    await observe(session, 'assistant', answer);
    const { contextTokens, budget } = at(session);
    const told = writes.map((record) => ({ ...record, pairs: record.pairs.length, quiz: undefined, loss: undefined }));
    send({ choices: [{ delta: {}, finish_reason: 'stop' }] });
    send({
      choices: [],
      usage: { total_tokens: contextTokens },
      tmem: { session, contextTokens, budget, writes: told },
    });
    response.end('data: [DONE]\n\n');
    await emit(session, { type: 'answer' });
  };

  const found = (session: string, query: string) => {
    const { pairs } = at(session);
    const named = pairs.filter(({ id }) => id === query);
    const words = query.toLowerCase().split(/\s+/);
    return named.length > 0
      ? named
      : pairs.filter((p) => words.every((w) => `${p.instruction} ${p.output} ${p.source}`.toLowerCase().includes(w)));
  };

  const operations: Record<string, (session: string, body: Body, tell: Tell) => Promise<object>> = {
    async ask(session, { question, memory }) {
      await pause(20 * TOKEN);
      const answer = replyTo(String(question), memory ? at(session).pairs : []);
      return { answer, confidence: memory ? 0.94 : 0.31, abstained: false, nearest: [] };
    },
    async write(session, _, tell) {
      return { write: at(session).working.length > 0 ? await write(session, nextFacts(session), tell, true) : null };
    },
    async undo(session) {
      const { writes, pairs } = at(session);
      change(session, {
        ...{ writes: writes.slice(0, -1), pairs: pairs.filter((pair) => pair.write < writes.length) },
        delta: deltaAfter(writes.length - 1),
      });
      return { write: writes.at(-1) ?? null };
    },
    async branch(session, { to }) {
      change(String(to), { ...at(session), session: String(to) });
      return { session: to };
    },
    async forget(session, { query, dryRun }, tell) {
      const removed = found(session, String(query));
      if (dryRun) return { removed, verified: false };
      for (let step = 1; step <= 6; step++) {
        tell(`making write 2 again, step ${step} of 6`);
        await pause(STEP);
      }
      change(session, { pairs: at(session).pairs.filter((pair) => !removed.includes(pair)) });
      return { removed, verified: true };
    },
    async verify(_, __, tell) {
      tell('making write 1 of 2 again');
      await pause(3 * STEP);
      return { ok: true };
    },
    async consolidate(session, _, tell) {
      return { write: await write(session, [], tell, false) };
    },
    async recall(session, { pairs }) {
      await pause(10 * TOKEN);
      const results = (pairs as string[]).map((id) => {
        const pair = at(session).pairs.find((known) => known.id === id)!;
        return { pair: id, answer: pair.standing ? pair.output : 'Theo works at the Clock Museum.', ok: pair.standing };
      });
      return { results };
    },
    async edit(session, { pair, output }, tell) {
      const old = at(session).pairs.find(({ id }) => id === pair);
      if (!old) throw new HttpError(404, 'There is no such pair.');
      const next = { ...old, id: `${old.id}-2`, output: String(output) };
      return { write: await write(session, [next], tell, false) };
    },
    async why(session, { question }, tell) {
      tell('making write 1 again without “What is Nadia allergic to?”');
      await pause(4 * STEP);
      const answer = replyTo(String(question), at(session).pairs);
      const said = found(session, 'nadia').filter(({ output }) => output === answer);
      const near = [...said, ...found(session, 'nadia').filter((pair) => !said.includes(pair))].slice(0, 3);
      const pairs = near.map((pair, i) => ({ ...pair, similarity: 0.92 - 0.3 * i, drop: [2.41, 0.31, null][i] }));
      return { answer, pairs };
    },
    async import(session, { pairs }, tell) {
      if (!sessions.has(session)) change(session, {});
      const given = (pairs as Pair[]).map((pair, i) => ({
        ...{ ...pair, id: `import-${i}`, source: `${pair.instruction} ${pair.output}`, turn: i, origin: 'document' },
      }));
      return { writes: [await write(session, given, tell, false)] };
    },
  };

  const operate = async (session: string, name: string, request: IncomingMessage, response: ServerResponse) => {
    const run = operations[name];
    if (!run) throw new HttpError(404, `There is no operation ${name}.`);
    const body = await bodyOf(request);
    if (request.headers.accept !== 'text/event-stream') return json(response, 200, await run(session, body, () => {}));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (event: string, data: object) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    await run(session, body, (message) => send('progress', { message })).then(
      (result) => send('result', result),
      (error: Error) => send('error', { error: { message: error.message } }),
    );
    response.end();
  };

  const api = async (request: IncomingMessage, response: ServerResponse, url: URL) => {
    const { pathname } = url;
    requests.push(`${request.method} ${pathname}`);
    const fault = [...faults].find(([part]) => pathname.includes(part))?.[1];
    if (fault) throw new HttpError(fault.status, fault.message);
    if (key !== undefined && request.headers.authorization !== `Bearer ${key}`)
      throw new HttpError(401, 'This server wants an API key; give it as a bearer token.');
    if (pathname === '/v1/models') return json(response, 200, { data: [{ id: 'qwen2.5-coder-1.5b' }] });
    if (pathname === '/v1/memory/sessions') return json(response, 200, { sessions: [...sessions.keys()] });
    if (pathname === '/v1/chat/completions')
      return chat(String(request.headers['x-tmem-session']), await bodyOf(request), response);
    const [, session = '', rest = ''] = /^\/v1\/memory\/sessions\/([^/]+)\/?(.*)$/.exec(pathname) ?? [];
    if (request.method === 'DELETE') {
      sessions.delete(session);
      return void response.writeHead(204).end();
    }
    if (request.method === 'POST') return operate(session, rest, request, response);
    if (rest === '') return json(response, 200, at(session));
    if (rest === 'events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': open\n\n');
      const listener = { session, response };
      listeners.add(listener);
      response.on('close', () => listeners.delete(listener));
      return;
    }
    if (rest === 'diff') {
      const [own, other] = [at(session).pairs, at(url.searchParams.get('other') ?? '').pairs];
      const without = (pairs: readonly KnownPair[], ids: readonly KnownPair[]) =>
        pairs.filter(({ id }) => !ids.some((pair) => pair.id === id));
      const only = without(own, other);
      return json(response, 200, { only, other: without(other, own), same: own.length - only.length });
    }
    if (rest === 'export') {
      const lines = at(session)
        .pairs.map((pair) => JSON.stringify(pair))
        .join('\n');
      return void response.writeHead(200, { 'content-disposition': 'attachment' }).end(lines);
    }
    throw new HttpError(404, `There is nothing at ${pathname}.`);
  };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://studio');
    try {
      const file = await studioFile(url.pathname);
      if (file)
        response.writeHead(200, { 'content-type': file.type, 'content-security-policy': STUDIO_POLICY }).end(file.body);
      else await api(request, response, url);
    } catch (error) {
      const { status = 500, message } = error as HttpError;
      if (response.headersSent) response.end();
      else json(response, status, { error: { message, type: 'error', param: null, code: null } });
    }
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    ...{ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sessions, requests, faults },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString() || '{}');
}

if (import.meta.main) {
  const { url } = await startStudio({ port: 4141, sessions: [fullSession('nadia'), emptySession('empty')] });
  console.log(url);
}
