/** Requests of the chat completions API (platform.openai.com/docs/api-reference/chat/create) as the runtime takes them. */
import { z } from 'zod';
import { ApiError } from './errors.ts';
import {
  ANY_OBJECT,
  type Asker,
  commonFields,
  commonRequest,
  joined,
  jsonSchemaSchema,
  seedOf,
  toolNameSchema,
  withToolNames,
} from './request.ts';
import type { CompletionRequest, ConversationMessage } from './types.ts';

const ONLY_TEXT = 'Only parts of type text can be read, no images, audio or files.';

const contentSchema = z.union(
  [z.string(), z.array(z.object({ type: z.literal('text', ONLY_TEXT), text: z.string() }))],
  'Content is a text or a list of parts of type text.',
);

const toolCallSchema = z.object({
  id: z.string(),
  type: z.literal('function').nullish(),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const messageSchema = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.enum(['system', 'developer']), content: contentSchema }),
    z.object({ role: z.literal('user'), content: contentSchema }),
    z.object({
      role: z.literal('assistant'),
      content: contentSchema.nullish(),
      tool_calls: z.array(toolCallSchema).nullish(),
    }),
    z.object({ role: z.literal('tool'), content: contentSchema, tool_call_id: z.string() }),
  ],
  'The role is one of system, developer, user, assistant and tool.',
);

export const chatSchema = z.object({
  ...commonFields,
  messages: z.array(messageSchema).min(1, 'There must be a message at least.'),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish().describe('Counts before max_tokens.'),
  n: z.int().min(1).max(8).nullish().describe('Completions. Only the first one may teach the session.'),
  stop: z.union([z.string(), z.array(z.string()).max(4)], 'Stop is a text or a list of up to four.').nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  tools: z
    .array(
      z.object({
        type: z.literal('function', 'Only tools of type function can be used.'),
        function: z.object({
          name: toolNameSchema,
          description: z.string().nullish(),
          parameters: jsonSchemaSchema.nullish(),
        }),
      }),
    )
    .nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['auto', 'none', 'required']),
        z.object({ type: z.literal('function'), function: z.object({ name: z.string() }) }),
      ],
      'The choice is auto, none, required or a function.',
    )
    .nullish(),
  response_format: z
    .discriminatedUnion(
      'type',
      [
        z.object({ type: z.literal('text') }),
        z.object({ type: z.literal('json_object') }),
        z.object({
          type: z.literal('json_schema'),
          json_schema: z.object({ name: z.string().nullish(), schema: jsonSchemaSchema.nullish() }),
        }),
      ],
      'The format is text, json_object or json_schema.',
    )
    .nullish(),
});
export type ChatBody = z.infer<typeof chatSchema>;

/** One request for each completion that is wanted. @throws ApiError 400 for fields that do not fit each other. */
export function chatRequests(body: ChatBody, asker: Asker): CompletionRequest[] {
  if (body.top_logprobs != null && body.logprobs !== true)
    throw new ApiError(400, 'top_logprobs: It needs logprobs.', { param: 'top_logprobs' });
  const messages = withToolNames(body.messages.map(toMessage));
  const param = body.max_completion_tokens == null ? 'max_tokens' : 'max_completion_tokens';
  const stop = (typeof body.stop === 'string' ? [body.stop] : body.stop)?.filter((text) => text !== '');
  const request: CompletionRequest = {
    ...commonRequest(body, messages, { param, value: body[param] ?? undefined }, asker),
    ...toolsOf(body),
    stop: stop?.length ? stop : undefined,
    schema: schemaOf(body.response_format),
    logProbs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
  };
  const { teach, seed } = request;
  return Array.from({ length: body.n ?? 1 }, (_, i) => ({
    ...request,
    teach: teach && i === 0,
    seed: seedOf(seed! + i),
  }));
}

function toMessage(message: ChatBody['messages'][number]): ConversationMessage {
  switch (message.role) {
    case 'system':
    case 'developer':
      return { role: 'system', content: joined(message.content) };
    case 'user':
      return { role: 'user', content: joined(message.content) };
    case 'tool':
      return { role: 'tool', content: joined(message.content), callId: message.tool_call_id };
    case 'assistant': {
      const calls = message.tool_calls?.map(({ id, function: { name, arguments: args } }) => ({
        id,
        name,
        arguments: args,
      }));
      return {
        role: 'assistant',
        content: joined(message.content ?? ''),
        ...(calls?.length && { toolCalls: calls }),
      };
    }
  }
}

function toolsOf({ tools, tool_choice: choice }: ChatBody): Pick<CompletionRequest, 'tools' | 'toolChoice'> {
  const name = typeof choice === 'object' ? choice?.function.name : undefined;
  if (name !== undefined && !tools?.some((tool) => tool.function.name === name))
    throw new ApiError(400, `tool_choice: There is no tool ${name}.`, { param: 'tool_choice' });
  if (choice === 'required' && !tools?.length)
    throw new ApiError(400, 'tool_choice: There are no tools.', { param: 'tool_choice' });
  if (!tools?.length) return {};
  return {
    tools: tools.map(({ function: { name, description, parameters } }) => ({
      name,
      description: description ?? undefined,
      parameters: parameters ?? undefined,
    })),
    toolChoice: name !== undefined ? { name } : ((choice as 'auto' | 'none' | 'required' | null) ?? undefined),
  };
}

function schemaOf(format: ChatBody['response_format']): CompletionRequest['schema'] {
  if (format?.type === 'json_object') return ANY_OBJECT;
  return format?.type === 'json_schema' ? (format.json_schema.schema ?? ANY_OBJECT) : undefined;
}
