/**
 * `POST /v1/responses` (platform.openai.com/docs/api-reference/responses and responses-streaming): a message and function calls as items,
 * whole or as a stream of events in OpenAI's order. Nothing is kept of a response.
 */
import { randomUUID } from 'node:crypto';
import { parseBody } from './body.ts';
import { begun, commentOn, openAiLogProb, runCompletions, tmemOf } from './completion.ts';
import { answerable } from './errors.ts';
import type { Owner } from './owner.ts';
import { type ResponsesBody, responsesRequest, responsesSchema } from './responses-request.ts';
import { type Ctx, headerOf, type Services } from './services.ts';
import { endingWith, frame, sseResponse } from './sse.ts';
import type { CompletionEvent, ToolCall } from './types.ts';

type Done = Extract<CompletionEvent, { type: 'done' }>;
type Text = Extract<CompletionEvent, { type: 'text' }>;
type Status = 'in_progress' | 'completed' | 'incomplete';
type StreamEvent = { readonly type: string; readonly [field: string]: unknown };

export async function createResponse(c: Ctx, services: Services): Promise<Response> {
  const { limits, admission, runtime, onError } = services;
  const owner = c.get('owner');
  const body = await parseBody(c, responsesSchema, limits.bodyBytes);
  const request = responsesRequest(body, { owner, header: headerOf(c), limits });
  const ticket = admission.admit(owner.id, { client: c.req.raw.signal, completions: 1 });
  const events = runCompletions(services, [request], ticket);
  const building = new ResponseBuilder(body, runtime.model.name, owner);
  if (!body.stream) {
    for await (const item of events) if (item) building.take(item.event);
    return c.json(building.response);
  }
  const items = await begun(events);
  let sequence = 0;
  const numbered = (event: StreamEvent) =>
    frame({ event: event.type, data: { ...event, sequence_number: sequence++ } });
  const frames = async function* () {
    yield* building.start().map(numbered);
    for await (const item of items) {
      const aside = commentOn(item);
      if (aside !== undefined) yield aside;
      if (item) yield* building.take(item.event).map(numbered);
    }
  };
  return sseResponse(
    c,
    endingWith(frames(), (error) => {
      const { message, code, param } = answerable(error, onError).body.error;
      return numbered({ type: 'error', code, message, param });
    }),
  );
}

const newId = (prefix: string) => `${prefix}_${randomUUID().replaceAll('-', '')}`;

/** Makes the response from a completion's events, and says what changes in it. */
class ResponseBuilder {
  readonly #owner: Owner;
  readonly #head: object;
  readonly #output: object[] = [];
  #message: { readonly id: string; text: string; logprobs: object[] } | null = null;
  #done: Done | null = null;

  constructor(body: ResponsesBody, model: string, owner: Owner) {
    this.#owner = owner;
    this.#head = {
      id: newId('resp'),
      object: 'response',
      created_at: Math.floor(Date.now() / 1000),
      model,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      metadata: body.metadata ?? {},
      parallel_tool_calls: true,
      previous_response_id: null,
      store: false,
      temperature: body.temperature ?? 0,
      text: { format: body.text?.format ?? { type: 'text' } },
      tool_choice: body.tool_choice ?? 'auto',
      tools: body.tools ?? [],
      top_p: body.top_p ?? 1,
      truncation: 'disabled',
    };
  }

  get response() {
    const done = this.#done;
    const cut = done?.finish === 'length';
    const usage = done?.usage;
    return {
      ...this.#head,
      status: this.#status,
      error: null,
      incomplete_details: cut ? { reason: 'max_output_tokens' } : null,
      output: [...this.#output],
      usage: usage
        ? {
            input_tokens: usage.promptTokens,
            input_tokens_details: { cached_tokens: usage.cachedTokens },
            output_tokens: usage.outputTokens,
            output_tokens_details: { reasoning_tokens: 0 },
            total_tokens: usage.promptTokens + usage.outputTokens,
          }
        : null,
      ...tmemOf(done?.memory ?? null, this.#owner),
    };
  }

  get #status(): Status {
    if (this.#done === null) return 'in_progress';
    return this.#done.finish === 'length' ? 'incomplete' : 'completed';
  }

  start(): StreamEvent[] {
    return ['response.created', 'response.in_progress'].map((type) => ({ type, response: this.response }));
  }

  take(event: CompletionEvent): StreamEvent[] {
    if (event.type === 'text') return this.#text(event);
    if (event.type === 'tool-call') return [...this.#endMessage('completed'), ...this.#call(event.call)];
    if (event.type !== 'done') return [];
    this.#done = event;
    const ended = this.#endMessage(this.#status);
    return [...ended, { type: `response.${this.#status}`, response: this.response }];
  }

  #text({ text, logProbs = [] }: Text): StreamEvent[] {
    const events: StreamEvent[] = [];
    if (this.#message === null) {
      const message = { id: newId('msg'), text: '', logprobs: [] };
      this.#message = message;
      events.push(
        { type: 'response.output_item.added', output_index: this.#output.length, item: this.#item('in_progress') },
        { type: 'response.content_part.added', ...this.#place(message.id), part: this.#part() },
      );
    }
    const logprobs = logProbs.map(openAiLogProb);
    this.#message.text += text;
    this.#message.logprobs.push(...logprobs);
    events.push({ type: 'response.output_text.delta', ...this.#place(this.#message.id), delta: text, logprobs });
    return events;
  }

  #endMessage(status: Status): StreamEvent[] {
    if (this.#message === null) return [];
    const { id, text, logprobs } = this.#message;
    const [at, item, part] = [this.#output.length, this.#item(status), this.#part()];
    const place = this.#place(id);
    this.#output.push(item);
    this.#message = null;
    return [
      { type: 'response.output_text.done', ...place, text, logprobs },
      { type: 'response.content_part.done', ...place, part },
      { type: 'response.output_item.done', output_index: at, item },
    ];
  }

  #call({ id: call_id, name, arguments: args }: ToolCall): StreamEvent[] {
    const item = { id: newId('fc'), type: 'function_call', status: 'completed', call_id, name, arguments: args };
    const place = { item_id: item.id, output_index: this.#output.length };
    const { output_index } = place;
    const added = { ...item, status: 'in_progress', arguments: '' };
    this.#output.push(item);
    return [
      { type: 'response.output_item.added', output_index, item: added },
      { type: 'response.function_call_arguments.delta', ...place, delta: args },
      { type: 'response.function_call_arguments.done', ...place, name, arguments: args },
      { type: 'response.output_item.done', output_index, item },
    ];
  }

  #place(item_id: string) {
    return { item_id, output_index: this.#output.length, content_index: 0 };
  }

  #part() {
    const { text, logprobs } = this.#message!;
    return { type: 'output_text', text, annotations: [], logprobs: [...logprobs] };
  }

  #item(status: Status) {
    const content = status === 'in_progress' ? [] : [this.#part()];
    return { id: this.#message!.id, type: 'message', role: 'assistant', status, content };
  }
}
