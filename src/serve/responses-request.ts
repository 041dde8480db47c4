/** Requests of the responses API (platform.openai.com/docs/api-reference/responses/create) as the runtime takes them. */
import { z } from 'zod';
import { ApiError } from './errors.ts';
import {
  ANY_OBJECT,
  type Asker,
  commonFields,
  commonRequest,
  joined,
  jsonSchemaSchema,
  toolNameSchema,
  withToolNames,
} from './request.ts';
import type { CompletionRequest, ConversationMessage, ToolCall } from './types.ts';

const ONLY_TEXT = 'Only parts of text can be read, no images, audio or files.';
const UNKNOWN_ITEM = 'The input is made of messages, function_call, function_call_output and reasoning items.';

const contentSchema = z.union(
  [z.string(), z.array(z.object({ type: z.enum(['input_text', 'output_text'], ONLY_TEXT), text: z.string() }))],
  'Content is a text or a list of parts of text.',
);

const messageItem = z.object({
  type: z.literal('message', UNKNOWN_ITEM).nullish(),
  role: z.enum(['system', 'developer', 'user', 'assistant'], UNKNOWN_ITEM),
  content: contentSchema,
});
const callItem = z.object({
  type: z.literal('function_call'),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
const outputItem = z.object({ type: z.literal('function_call_output'), call_id: z.string(), output: contentSchema });
/** What a model thought is nothing that it is told again. */
const reasoningItem = z.object({ type: z.literal('reasoning') });

const unsupported = (what: string) =>
  z.null(`${what} is not supported: nothing is kept of a response; send all of the input.`);

export const responsesSchema = z.object({
  ...commonFields,
  input: z.union(
    [
      z.string(),
      z.array(z.union([callItem, outputItem, reasoningItem, messageItem], UNKNOWN_ITEM)).min(1, 'The input is empty.'),
    ],
    'The input is a text or a list of items.',
  ),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  include: z.array(z.string()).nullish().describe('`message.output_text.logprobs` asks for log-probabilities.'),
  previous_response_id: unsupported('previous_response_id').optional(),
  conversation: unsupported('conversation').optional(),
  background: z.literal(false, 'A response cannot be made in the background.').nullish(),
  tools: z
    .array(
      z.object({
        type: z.literal('function', 'Only tools of type function can be used.'),
        name: toolNameSchema,
        description: z.string().nullish(),
        parameters: jsonSchemaSchema.nullish(),
        strict: z.boolean().nullish(),
      }),
    )
    .nullish(),
  tool_choice: z
    .union(
      [z.enum(['auto', 'none', 'required']), z.object({ type: z.literal('function'), name: z.string() })],
      'The choice is auto, none, required or a function.',
    )
    .nullish(),
  text: z
    .object({
      format: z
        .discriminatedUnion(
          'type',
          [
            z.object({ type: z.literal('text') }),
            z.object({ type: z.literal('json_object') }),
            z.object({ type: z.literal('json_schema'), name: z.string(), schema: jsonSchemaSchema }),
          ],
          'The format is text, json_object or json_schema.',
        )
        .nullish(),
    })
    .nullish(),
});
export type ResponsesBody = z.infer<typeof responsesSchema>;

/** @throws ApiError 400 for fields that do not fit each other. */
export function responsesRequest(body: ResponsesBody, asker: Asker): CompletionRequest {
  const { tools, tool_choice: choice, top_logprobs: top } = body;
  const name = typeof choice === 'object' ? choice?.name : undefined;
  if ((name !== undefined && !tools?.some((tool) => tool.name === name)) || (choice === 'required' && !tools?.length))
    throw new ApiError(400, 'tool_choice: There is no such tool.', { param: 'tool_choice' });
  const messages = withToolNames(messagesOf(body));
  const format = body.text?.format;
  return {
    ...commonRequest(body, messages, { param: 'max_output_tokens', value: body.max_output_tokens ?? undefined }, asker),
    ...(tools?.length && {
      tools: tools.map(({ name, description, parameters }) => ({
        name,
        description: description ?? undefined,
        parameters: parameters ?? undefined,
      })),
      toolChoice: name !== undefined ? { name } : ((choice as 'auto' | 'none' | 'required' | null) ?? undefined),
    }),
    schema: format?.type === 'json_schema' ? format.schema : format?.type === 'json_object' ? ANY_OBJECT : undefined,
    logProbs: body.include?.includes('message.output_text.logprobs') ? (top ?? 0) : undefined,
  };
}

function messagesOf({ instructions, input }: ResponsesBody): ConversationMessage[] {
  const messages: ConversationMessage[] = instructions ? [{ role: 'system', content: instructions }] : [];
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }];
  for (const item of input) {
    if (item.type === 'function_call') {
      const call: ToolCall = { id: item.call_id, name: item.name, arguments: item.arguments };
      // A message and the calls after it are items of their own here, and one turn of the assistant there.
      const last = messages.at(-1);
      if (last?.role === 'assistant')
        messages[messages.length - 1] = { ...last, toolCalls: [...(last.toolCalls ?? []), call] };
      else messages.push({ role: 'assistant', content: '', toolCalls: [call] });
    } else if (item.type === 'function_call_output')
      messages.push({ role: 'tool', content: joined(item.output), callId: item.call_id });
    else if (item.type !== 'reasoning')
      messages.push({ role: item.role === 'developer' ? 'system' : item.role, content: joined(item.content) });
  }
  return messages;
}
