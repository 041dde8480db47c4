/**
 * The provider on a server by URL: OpenAI's chat completions (always streamed, so that a long write does not look like a dead connection)
 * and embeddings, with the extensions of `tmem serve`: the header `X-Tmem-Session`, `tmem` in the request and in the last chunk.
 */
import { APICallError, InvalidResponseDataError, type JSONObject } from '@ai-sdk/provider';
import { z } from 'zod';
import type { CompletionRequest, ConversationMessage, ToolCall } from '../serve/types.ts';
import { serverSentEvents } from './sse.ts';
import type { Headers, ReplyEvent, Transport } from './transport.ts';

export interface HttpOptions {
  /** With `/v1`. */
  readonly baseURL: string;
  readonly headers: Headers;
  readonly fetch: typeof globalThis.fetch;
}

const usageSchema = z.looseObject({
  prompt_tokens: z.number(),
  completion_tokens: z.number().optional(),
  prompt_tokens_details: z.looseObject({ cached_tokens: z.number().nullish() }).nullish(),
});

const callSchema = z.object({
  index: z.number().default(0),
  id: z.string().nullish(),
  function: z.object({ name: z.string().nullish(), arguments: z.string().nullish() }).nullish(),
});

const chunkSchema = z.object({
  id: z.string().optional(),
  created: z.number().optional(),
  model: z.string().optional(),
  choices: z
    .array(
      z.object({
        delta: z.object({ content: z.string().nullish(), tool_calls: z.array(callSchema).nullish() }).nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .default([]),
  usage: usageSchema.nullish(),
  tmem: z.record(z.string(), z.json()).nullish(),
});
type Chunk = z.infer<typeof chunkSchema>;

const embeddingsSchema = z.object({
  data: z.array(z.object({ index: z.number(), embedding: z.array(z.number()) })),
  usage: z.object({ prompt_tokens: z.number() }).nullish(),
});

const errorSchema = z.object({ error: z.object({ message: z.string() }) });

export function httpTransport({ baseURL, headers: common, fetch }: HttpOptions): Transport {
  const post = async (path: string, body: unknown, headers: Headers, signal: AbortSignal | undefined) => {
    const url = `${baseURL.replace(/\/+$/, '')}${path}`;
    const about = { url, requestBodyValues: body };
    const request = { method: 'POST', headers: present({ 'Content-Type': 'application/json', ...headers }) };
    let response: Response;
    try {
      response = await fetch(url, { ...request, body: JSON.stringify(body), signal: signal ?? null });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      const message = `There is no answer from ${url} (${reasonOf(cause)}); start the server with 'tmem serve', or give its address as baseURL.`;
      throw new APICallError({ ...about, message, cause, isRetryable: true });
    }
    const answered = { ...about, responseHeaders: Object.fromEntries(response.headers) };
    if (!response.ok) throw refusal(response, await response.text(), answered);
    return { response, about: answered };
  };

  return {
    async complete({ model, request, headers }) {
      const body = chatBody(model, request);
      const all = { ...common, ...headers, ...(request.session !== null && { 'X-Tmem-Session': request.session }) };
      const { response, about } = await post('/chat/completions', body, all, request.signal);
      return {
        events: replyEvents(response, model, about, request.signal),
        request: { url: about.url, body },
        response: { headers: about.responseHeaders },
      };
    },
    async embed({ model, texts, headers, signal }) {
      const body = { model, input: texts, encoding_format: 'float' };
      const { response, about } = await post('/embeddings', body, { ...common, ...headers }, signal);
      const data = jsonOf(await response.text());
      const parsed = embeddingsSchema.safeParse(data);
      if (!parsed.success || parsed.data.data.length !== texts.length) throw unreadable(data, 'embeddings');
      const vectors = parsed.data.data.toSorted((a, b) => a.index - b.index).map(({ embedding }) => embedding);
      const tokens = parsed.data.usage?.prompt_tokens;
      return { vectors, tokens, response: { headers: about.responseHeaders, body: data } };
    },
    async close() {},
  };
}

/** By lower-case name, so that a later one takes the place of an earlier one; without those that have no value. */
function present(headers: Headers): Record<string, string> {
  const named = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  return Object.fromEntries(named.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** As OpenAI's API takes it. */
function chatBody(model: string, request: CompletionRequest): JSONObject {
  const { teach, retrieve, tools = [], toolChoice, schema } = request;
  const extension = { teach, retrieve };
  const body = {
    model,
    messages: request.messages.map(chatMessage),
    stream: true,
    stream_options: { include_usage: true },
    max_completion_tokens: request.maxTokens,
    temperature: request.temperature,
    top_p: request.topP,
    top_k: request.topK,
    seed: request.seed,
    stop: request.stop,
    tools: tools.length > 0 ? tools.map((tool) => ({ type: 'function', function: tool })) : undefined,
    tool_choice: typeof toolChoice === 'object' ? { type: 'function', function: toolChoice } : toolChoice,
    response_format: schema && { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
    tmem: Object.values(extension).some((value) => value !== undefined) ? extension : undefined,
  };
  return JSON.parse(JSON.stringify(body)); // without what is undefined
}

function chatMessage(message: ConversationMessage): object {
  if (message.role === 'tool') return { role: 'tool', content: message.content, tool_call_id: message.callId };
  if (message.role !== 'assistant' || !message.toolCalls?.length)
    return { role: message.role, content: message.content };
  const calls = message.toolCalls.map(({ id, ...call }) => ({ id, type: 'function', function: call }));
  return { role: 'assistant', content: message.content || null, tool_calls: calls };
}

type About = {
  readonly url: string;
  readonly requestBodyValues: unknown;
  readonly responseHeaders: Record<string, string>;
};

/** Tool calls are told when all of them are there, which is when the answer ends. */
async function* replyEvents(
  response: Response,
  model: string,
  about: About,
  signal: AbortSignal | undefined,
): AsyncGenerator<ReplyEvent> {
  const calls = new Map<number, ToolCall>();
  let begun = false;
  let finish: string | undefined;
  let usage: Chunk['usage'];
  let memory: Chunk['tmem'];
  for await (const event of serverSentEvents(bytesOf(response, about, signal))) {
    if (event.type === 'comment') {
      yield { type: 'waiting' };
      continue;
    }
    if (event.data === '[DONE]') break;
    const { value, chunk } = readChunk(event.data, about);
    yield { type: 'raw', value };
    if (!begun) {
      begun = true;
      const timestamp = chunk.created === undefined ? new Date() : new Date(chunk.created * 1000);
      yield { type: 'response', id: chunk.id, modelId: chunk.model ?? model, timestamp };
    }
    const [choice] = chunk.choices;
    if (choice?.delta?.content) yield { type: 'text', text: choice.delta.content };
    for (const { index, id, function: call } of choice?.delta?.tool_calls ?? []) {
      const before = calls.get(index);
      calls.set(index, {
        id: before?.id || id || `call_${crypto.randomUUID()}`,
        name: (before?.name ?? '') + (call?.name ?? ''),
        arguments: (before?.arguments ?? '') + (call?.arguments ?? ''),
      });
    }
    finish = choice?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
    memory = chunk.tmem ?? memory;
  }
  if (finish !== undefined) for (const call of calls.values()) yield { type: 'tool-call', call };
  yield {
    type: 'done',
    finish,
    usage: usage ? usageOf(usage) : undefined,
    memory: memory ?? null,
  };
}

function usageOf(usage: z.infer<typeof usageSchema>) {
  return {
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    outputTokens: usage.completion_tokens ?? 0,
    raw: usage as JSONObject,
  };
}

async function* bytesOf(response: Response, about: About, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  if (!response.body) return;
  try {
    yield* response.body;
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new APICallError({ ...about, message: `The answer of ${about.url} broke off (${reasonOf(cause)}).`, cause });
  }
}

function readChunk(data: string, about: About): { value: unknown; chunk: Chunk } {
  const value = jsonOf(data);
  const failed = errorSchema.safeParse(value);
  if (failed.success) throw new APICallError({ ...about, message: failed.data.error.message, data: value });
  const parsed = chunkSchema.safeParse(value);
  if (!parsed.success) throw unreadable(data, 'a chunk');
  return { value, chunk: parsed.data };
}

function refusal({ status, statusText }: Response, responseBody: string, about: About): APICallError {
  const data = jsonOf(responseBody);
  const parsed = errorSchema.safeParse(data);
  const message = parsed.success ? parsed.data.error.message : `${about.url} answered ${status} ${statusText}.`;
  // OpenAI's clients heed this header; without it the status decides.
  const never = about.responseHeaders['x-should-retry'] === 'false';
  return new APICallError({
    ...about,
    message,
    statusCode: status,
    responseBody,
    data,
    ...(never && { isRetryable: false }),
  });
}

function unreadable(data: unknown, what: string): InvalidResponseDataError {
  return new InvalidResponseDataError({
    data,
    message: `The server's answer cannot be read as ${what} of OpenAI's API.`,
  });
}

/** undefined: it is none, but a proxy's page. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `fetch` says why in the cause of a TypeError that says nothing. */
function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? String((error as Error).message ?? error);
}
