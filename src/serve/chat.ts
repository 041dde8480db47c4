/**
 * `POST /v1/chat/completions` (platform.openai.com/docs/api-reference/chat): whole answers, and streams of chunks in OpenAI's order: the
 * role, the text or the tool calls, the reason of the end, the usage if it is asked for, `[DONE]`.
 */
import { randomUUID } from 'node:crypto';
import { parseBody } from './body.ts';
import { type ChatBody, chatRequests, chatSchema } from './chat-request.ts';
import { begun, commentOn, openAiLogProb, runCompletions, tmemOf, totalUsage } from './completion.ts';
import { answerable } from './errors.ts';
import type { Owner } from './owner.ts';
import { type Ctx, headerOf, type Services } from './services.ts';
import { endingWith, type Followed, frame, sseResponse } from './sse.ts';
import type { CompletionEvent, CompletionMemory, CompletionUsage, ToolCall } from './types.ts';

type Events = AsyncGenerator<Followed<CompletionEvent>>;
type Done = Extract<CompletionEvent, { type: 'done' }>;
type Chosen = NonNullable<Extract<CompletionEvent, { type: 'text' }>['logProbs']>;

/** What every response and chunk of one request begins with. */
interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

interface Asked {
  readonly head: Head;
  readonly owner: Owner;
  readonly body: ChatBody;
}

const FINISH = { stop: 'stop', length: 'length', 'tool-calls': 'tool_calls' } as const;

export async function chatCompletions(c: Ctx, services: Services): Promise<Response> {
  const { limits, admission, onError } = services;
  const { model } = services.runtime;
  const owner = c.get('owner');
  const body = await parseBody(c, chatSchema, limits.bodyBytes);
  const requests = chatRequests(body, { owner, header: headerOf(c), limits });
  const ticket = admission.admit(owner.id, { client: c.req.raw.signal, completions: requests.length });
  const events = runCompletions(services, requests, ticket);
  const head: Head = {
    id: `chatcmpl-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(Date.now() / 1000),
    model: model.name,
    system_fingerprint: `fp_${model.fingerprint.slice(0, 12)}`,
  };
  if (!body.stream) return c.json(await whole(events, requests.length, { head, owner, body }));
  const frames = chunks(await begun(events), requests.length, { head, owner, body });
  return sseResponse(
    c,
    endingWith(frames, (error) => frame({ data: answerable(error, onError).body })),
  );
}

async function whole(events: Events, n: number, { head, owner, body }: Asked) {
  const asked = body.logprobs === true;
  const answers = Array.from({ length: n }, () => ({
    text: '',
    calls: [] as ToolCall[],
    logProbs: [] as Chosen[number][],
    done: undefined as Done | undefined,
  }));
  for await (const item of events) {
    if (item === null) continue;
    const { event } = item;
    const answer = answers[item.index]!;
    if (event.type === 'text') {
      answer.text += event.text;
      if (event.logProbs) answer.logProbs.push(...event.logProbs);
    } else if (event.type === 'tool-call') answer.calls.push(event.call);
    else if (event.type === 'done') answer.done = event;
  }
  const choices = answers.map(({ text, calls, logProbs, done }, index) => ({
    index,
    message: {
      role: 'assistant' as const,
      content: text === '' && calls.length > 0 ? null : text,
      refusal: null,
      ...(calls.length > 0 && { tool_calls: calls.map(toolCall) }),
    },
    logprobs: asked ? { content: logProbs.map(openAiLogProb), refusal: null } : null,
    finish_reason: FINISH[done!.finish],
  }));
  const usage = usageOf(totalUsage(answers.map(({ done }) => done!.usage)));
  return { ...head, object: 'chat.completion', choices, usage, ...tmemOf(answers[0]!.done!.memory, owner) };
}

async function* chunks(events: Events, n: number, { head, owner, body }: Asked): AsyncGenerator<string> {
  const usageWanted = body.stream_options?.include_usage === true;
  const base = { ...head, object: 'chat.completion.chunk' };
  const chunk = (index: number, delta: object, { logProbs, finish, memory = null }: ChunkParts = {}) =>
    frame({
      data: {
        ...base,
        choices: [
          {
            index,
            delta,
            logprobs: logProbs ? { content: logProbs.map(openAiLogProb), refusal: null } : null,
            finish_reason: finish ? FINISH[finish] : null,
          },
        ],
        ...(usageWanted && { usage: null }),
        ...tmemOf(memory, owner),
      },
    });
  // By completion: tool calls so far, and tokens.
  const calls = new Array<number>(n).fill(0);
  const usages: CompletionUsage[] = [];
  let memory: CompletionMemory | null = null;
  for (let index = 0; index < n; index++) yield chunk(index, { role: 'assistant', content: '', refusal: null });
  for await (const item of events) {
    const aside = commentOn(item);
    if (aside !== undefined) yield aside;
    if (item === null) continue;
    const { index, event } = item;
    if (event.type === 'text') yield chunk(index, { content: event.text }, { logProbs: event.logProbs });
    else if (event.type === 'tool-call') {
      const { id, name, arguments: args } = event.call;
      const at = calls[index]!++;
      yield chunk(index, { tool_calls: [{ index: at, id, type: 'function', function: { name, arguments: '' } }] });
      yield chunk(index, { tool_calls: [{ index: at, function: { arguments: args } }] });
    } else if (event.type === 'done') {
      usages[index] = event.usage;
      if (index === 0) ({ memory } = event);
      yield chunk(index, {}, { finish: event.finish, memory: index === 0 && !usageWanted ? memory : null });
    }
  }
  if (usageWanted)
    yield frame({ data: { ...base, choices: [], usage: usageOf(totalUsage(usages)), ...tmemOf(memory, owner) } });
  yield frame({ data: '[DONE]' });
}

interface ChunkParts {
  readonly logProbs?: Chosen | undefined;
  readonly finish?: Done['finish'];
  readonly memory?: CompletionMemory | null;
}

const toolCall = ({ id, name, arguments: args }: ToolCall) => ({
  id,
  type: 'function' as const,
  function: { name, arguments: args },
});

const usageOf = ({ promptTokens, cachedTokens, outputTokens }: CompletionUsage) => ({
  prompt_tokens: promptTokens,
  completion_tokens: outputTokens,
  total_tokens: promptTokens + outputTokens,
  prompt_tokens_details: { cached_tokens: cachedTokens },
});
