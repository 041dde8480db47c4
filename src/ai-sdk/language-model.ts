/** The AI SDK's LanguageModelV4 on either transport. `doGenerate` is `doStream` read to its end. */
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4GenerateResult,
  LanguageModelV4ResponseMetadata,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  SharedV4ProviderMetadata,
} from '@ai-sdk/provider';
import { completionRequest } from './request.ts';
import type { ReplyEvent, Transport } from './transport.ts';

export interface LanguageModelOptions {
  readonly provider: string;
  readonly modelId: string;
  readonly transport: Transport;
  /** For calls that name none. */
  readonly session: string | undefined;
}

export function languageModel({ provider, modelId, transport, session }: LanguageModelOptions): LanguageModelV4 {
  /** What was answered, as parts, and what was asked. */
  const ask = async (options: LanguageModelV4CallOptions) => {
    const { request, warnings } = completionRequest(options, session);
    const { events, ...about } = await transport.complete({ model: modelId, request, headers: options.headers });
    return { about, warnings, parts: streamParts(events, options.includeRawChunks) };
  };
  return {
    specificationVersion: 'v4',
    provider,
    modelId,
    supportedUrls: {},
    async doGenerate(options) {
      const { about, warnings, parts } = await ask(options);
      const { response, ...rest } = await collect(parts);
      return { ...rest, request: about.request, response: { ...about.response, ...response }, warnings };
    },
    async doStream(options) {
      const left = new AbortController();
      const { abortSignal } = options;
      const signal = abortSignal ? AbortSignal.any([abortSignal, left.signal]) : left.signal;
      const { about, warnings, parts } = await ask({ ...options, abortSignal: signal });
      const stream = readable(withStart({ type: 'stream-start', warnings }, parts, signal), left);
      return { stream, ...about };
    },
  };
}

async function* streamParts(
  events: AsyncIterable<ReplyEvent>,
  raw: boolean | undefined,
): AsyncGenerator<LanguageModelV4StreamPart> {
  let blocks = 0;
  let open: string | undefined;
  const end = (): LanguageModelV4StreamPart[] => {
    const id = open;
    open = undefined;
    return id === undefined ? [] : [{ type: 'text-end', id }];
  };
  for await (const event of events) {
    switch (event.type) {
      case 'response':
        yield { ...event, type: 'response-metadata' };
        break;
      case 'waiting':
        yield { type: 'ping' };
        break;
      case 'raw':
        if (raw) yield { type: 'raw', rawValue: event.value };
        break;
      case 'text':
        if (open === undefined) {
          open = String(blocks++);
          yield { type: 'text-start', id: open };
        }
        yield { type: 'text-delta', id: open, delta: event.text };
        break;
      case 'tool-call': {
        yield* end();
        const { id, name, arguments: input } = event.call;
        yield { type: 'tool-input-start', id, toolName: name };
        yield { type: 'tool-input-delta', id, delta: input };
        yield { type: 'tool-input-end', id };
        yield { type: 'tool-call', toolCallId: id, toolName: name, input };
        break;
      }
      case 'done':
        yield* end();
        yield {
          type: 'finish',
          finishReason: finishReason(event.finish),
          usage: usageOf(event.usage),
          ...(event.memory && { providerMetadata: { tmem: event.memory } }),
        };
    }
  }
}

/** An error after the beginning is a part of the stream; an interruption breaks it off. */
async function* withStart(
  start: LanguageModelV4StreamPart,
  parts: AsyncIterable<LanguageModelV4StreamPart>,
  signal: AbortSignal,
): AsyncGenerator<LanguageModelV4StreamPart> {
  yield start;
  try {
    yield* parts;
  } catch (error) {
    if (signal.aborted) throw error;
    yield { type: 'error', error };
    yield { type: 'finish', finishReason: { unified: 'error', raw: undefined }, usage: usageOf(undefined) };
  }
}

/** @param left aborted when the reader leaves */
function readable<T>(parts: AsyncGenerator<T>, left: AbortController): ReadableStream<T> {
  return new ReadableStream<T>({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel(reason) {
      left.abort(reason);
      await parts.return(undefined).catch(() => {});
    },
  });
}

type Collected = Omit<LanguageModelV4GenerateResult, 'warnings' | 'request' | 'response'> & {
  response: LanguageModelV4ResponseMetadata;
};

async function collect(parts: AsyncIterable<LanguageModelV4StreamPart>): Promise<Collected> {
  const content: LanguageModelV4Content[] = [];
  let response: LanguageModelV4ResponseMetadata = {};
  let finish: { finishReason: LanguageModelV4FinishReason; providerMetadata?: SharedV4ProviderMetadata } = {
    finishReason: finishReason(undefined),
  };
  let usage = usageOf(undefined);
  let text = '';
  for await (const part of parts) {
    if (part.type === 'text-delta') text += part.delta;
    else if (part.type === 'text-end') {
      content.push({ type: 'text', text });
      text = '';
    } else if (part.type === 'tool-call') content.push(part);
    else if (part.type === 'response-metadata') {
      const { type, ...metadata } = part;
      response = metadata;
    } else if (part.type === 'finish') {
      const { type, usage: used, ...rest } = part;
      [finish, usage] = [rest, used];
    }
  }
  return { content, response, usage, ...finish };
}

/** Both what OpenAI's API says and what a `Runtime` does. */
function finishReason(raw: string | undefined): LanguageModelV4FinishReason {
  switch (raw) {
    case undefined:
      return { unified: 'interrupted', raw };
    case 'stop':
    case 'length':
      return { unified: raw, raw };
    case 'tool-calls':
    case 'tool_calls':
      return { unified: 'tool-calls', raw };
    default:
      return { unified: 'other', raw };
  }
}

function usageOf(usage: Extract<ReplyEvent, { type: 'done' }>['usage']): LanguageModelV4Usage {
  if (!usage) {
    const inputTokens = { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined };
    return { inputTokens, outputTokens: { total: undefined, text: undefined, reasoning: undefined } };
  }
  const { promptTokens: total, cachedTokens: cacheRead, outputTokens, raw } = usage;
  return {
    inputTokens: { total, noCache: total - cacheRead, cacheRead, cacheWrite: undefined },
    outputTokens: { total: outputTokens, text: outputTokens, reasoning: undefined },
    raw,
  };
}
