/** The server's HTTP interface: one method for each thing that the studio asks for. */
import { readEvents } from './sse.ts';
import type {
  AskResult,
  CompletionMemory,
  DiffResult,
  ForgetResult,
  RecallResult,
  SessionEvent,
  SessionState,
  WhyResult,
  WriteRecord,
} from './types.ts';

/** What the server answered instead of a result; the message is one sentence. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** Where the API key is kept. `ask` is called when the server wants one, or another one than `refused`. */
export interface Keys {
  read(): string | null;
  /** null: there is none to be had. */
  ask(refused: string | null): Promise<string | null>;
}

export interface ChatMessage {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}

export type ChatEvent =
  | { readonly type: 'text'; readonly text: string }
  /** What the server does before it answers. */
  | { readonly type: 'status'; readonly text: string }
  | { readonly type: 'memory'; readonly memory: CompletionMemory };

export interface Step {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((message: string) => void) | undefined;
}

interface Call extends Step {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Api = ReturnType<typeof createApi>;

/** @param send what is called in the place of `fetch` */
export function createApi(keys: Keys, send: typeof fetch = (...of) => fetch(...of)) {
  async function request(path: string, { method, body, headers, signal }: Call = {}): Promise<Response> {
    for (let key = keys.read(); ; ) {
      const response = await send(path, {
        method: method ?? (body === undefined ? 'GET' : 'POST'),
        headers: {
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...(key !== null && { authorization: `Bearer ${key}` }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      }).catch((cause: unknown) => {
        if (signal?.aborted) throw cause;
        throw new ApiError('The server cannot be reached; see whether `tmem serve` is running.', 0);
      });
      if (response.ok) return response;
      const error = await errorOf(response);
      if (response.status !== 401) throw error;
      key = await keys.ask(key);
      if (key === null) throw error;
    }
  }

  const json = async <T>(path: string, call?: Call): Promise<T> => (await request(path, call)).json() as Promise<T>;

  const at = (session: string, rest = '') => `/v1/memory/sessions/${encodeURIComponent(session)}${rest}`;

  /** An operation that tells how far it is, and then what came of it. */
  async function operate<T>(
    session: string,
    name: string,
    body: object,
    { signal, onProgress }: Step = {},
  ): Promise<T> {
    const headers = { accept: 'text/event-stream' };
    const response = await request(at(session, `/${name}`), { body, headers, signal });
    if (!isEventStream(response)) return response.json() as Promise<T>;
    for await (const item of readEvents(response.body!)) {
      if (item.type === 'comment') continue;
      const data = JSON.parse(item.data);
      if (item.event === 'progress') onProgress?.(String(data.message));
      else if (item.event === 'error') throw new ApiError(messageOf(data), 500);
      else if (item.event === 'result') return data as T;
    }
    throw new ApiError('The connection broke off before the result came; look whether it was done.', 0);
  }

  return {
    sessions: async () => (await json<{ sessions: string[] }>('/v1/memory/sessions')).sessions,
    models: async () => (await json<{ data: { id: string }[] }>('/v1/models')).data.map(({ id }) => id),
    info: (session: string, signal?: AbortSignal) => json<SessionState>(at(session), { signal }),
    diff: (session: string, other: string) => json<DiffResult>(at(session, `/diff?other=${encodeURIComponent(other)}`)),
    remove: async (session: string) => void (await request(at(session), { method: 'DELETE' })),
    export: async (session: string, format: 'gguf' | 'jsonl') =>
      (await request(at(session, `/export?format=${format}`))).blob(),

    ask: (session: string, question: string, memory: boolean, step?: Step) =>
      operate<AskResult>(session, 'ask', { question, memory }, step),
    write: (session: string, step?: Step) => operate<{ write: WriteRecord | null }>(session, 'write', {}, step),
    undo: (session: string, step?: Step) => operate<{ write: WriteRecord | null }>(session, 'undo', {}, step),
    branch: (session: string, to: string, step?: Step) => operate<{ session: string }>(session, 'branch', { to }, step),
    forget: (session: string, query: string, dryRun: boolean, step?: Step) =>
      operate<ForgetResult>(session, 'forget', { query, dryRun }, step),
    verify: (session: string, step?: Step) => operate<{ ok: boolean }>(session, 'verify', {}, step),
    consolidate: (session: string, step?: Step) => operate<{ write: WriteRecord }>(session, 'consolidate', {}, step),
    recall: (session: string, pairs: readonly string[], step?: Step) =>
      operate<{ results: RecallResult[] }>(session, 'recall', { pairs }, step),
    edit: (session: string, pair: string, output: string, step?: Step) =>
      operate<{ write: WriteRecord }>(session, 'edit', { pair, output }, step),
    why: (session: string, question: string, step?: Step) => operate<WhyResult>(session, 'why', { question }, step),
    import: (session: string, pairs: readonly { instruction: string; output: string }[], step?: Step) =>
      operate<{ writes: WriteRecord[] }>(session, 'import', { pairs }, step),

    /** What happens in a session from now on, until the connection ends. `onOpen` is called when it stands. */
    async *watch(session: string, signal: AbortSignal, onOpen: () => void): AsyncGenerator<SessionEvent> {
      const response = await request(at(session, '/events'), { signal });
      onOpen();
      for await (const item of readEvents(response.body!)) {
        if (item.type === 'comment') continue;
        if (item.event === 'error') throw new ApiError(messageOf(JSON.parse(item.data)), 500);
        yield JSON.parse(item.data);
      }
    },

    /** Streams the answer to a conversation. */
    async *chat(
      session: string,
      model: string,
      messages: readonly ChatMessage[],
      signal: AbortSignal,
    ): AsyncGenerator<ChatEvent> {
      const response = await request('/v1/chat/completions', {
        body: { model, messages, stream: true, stream_options: { include_usage: true } },
        headers: { 'x-tmem-session': session },
        signal,
      });
      for await (const item of readEvents(response.body!)) {
        if (item.type === 'comment') yield { type: 'status', text: item.text };
        else if (item.data !== '[DONE]') yield* chatEvents(JSON.parse(item.data));
      }
    },
  };
}

function* chatEvents(chunk: {
  readonly error?: unknown;
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly tmem?: CompletionMemory;
}): Generator<ChatEvent> {
  if (chunk.error) throw new ApiError(messageOf(chunk), 500);
  const text = chunk.choices?.[0]?.delta?.content;
  if (text) yield { type: 'text', text };
  if (chunk.tmem) yield { type: 'memory', memory: chunk.tmem };
}

const isEventStream = ({ headers }: Response) => headers.get('content-type')?.startsWith('text/event-stream') === true;

async function errorOf(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  return new ApiError(messageOf(body) || `The server answered ${response.status} without saying why.`, response.status);
}

/** The message in an error of OpenAI's form, or an empty text. */
function messageOf(body: unknown): string {
  const message = (body as { error?: { message?: unknown } } | null)?.error?.message;
  return typeof message === 'string' ? message : '';
}
