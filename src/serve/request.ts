/** What the requests of both completion APIs have in common. */
import { randomInt } from 'node:crypto';
import { z } from 'zod';
import type { JsonSchema } from '../engine/types.ts';
import { ApiError } from './errors.ts';
import type { Limits } from './limits.ts';
import { type Owner, sessionOf } from './owner.ts';
import type { CompletionRequest, ConversationMessage } from './types.ts';

export const jsonSchemaSchema: z.ZodType<JsonSchema> = z.record(z.string(), z.unknown());

export const toolNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'A tool is named with up to 64 letters, digits, dashes and underscores.');

/** Ours: the nearest facts of the memory that are shown beside the conversation, and whether it may be learned. */
export const tmemSchema = z
  .object({ retrieve: z.int().min(0).max(64).nullish(), teach: z.boolean().nullish() })
  .describe('How the memory of the session is used; an extension of tmem.');

/** Fields of the same name in both APIs. Others that are not known are passed over, as OpenAI-compatible servers do. */
export const commonFields = {
  model: z.string().nullish().describe('There is one model, which answers whatever is named here.'),
  stream: z.boolean().nullish(),
  temperature: z.number().min(0).max(2).nullish().describe('Default 0: always the most probable token.'),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  seed: z.int().nullish(),
  user: z.string().nullish().describe('Names the session whose memory answers, unless a header does.'),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  tmem: tmemSchema.nullish(),
};
export const commonSchema = z.object(commonFields);
type Common = z.infer<typeof commonSchema>;

/** Any JSON object, for clients that want JSON and do not say which. */
export const ANY_OBJECT: JsonSchema = {
  $ref: '#/$defs/object',
  $defs: {
    object: { type: 'object', additionalProperties: { $ref: '#/$defs/value' } },
    array: { type: 'array', items: { $ref: '#/$defs/value' } },
    value: {
      anyOf: [{ $ref: '#/$defs/object' }, { $ref: '#/$defs/array' }, { type: ['string', 'number', 'boolean', 'null'] }],
    },
  },
};

export interface Asker {
  readonly owner: Owner;
  readonly header: (name: string) => string | undefined;
  readonly limits: Limits;
}

/** The request's own part of what the runtime is asked. @throws ApiError 400 for a bad session name or too many tokens. */
export function commonRequest(
  body: Common,
  messages: readonly ConversationMessage[],
  maxTokens: { readonly param: string; readonly value: number | undefined },
  { owner, header, limits }: Asker,
): CompletionRequest {
  const { param, value } = maxTokens;
  if (value !== undefined && value > limits.maxTokens)
    throw new ApiError(400, `${param}: At most ${limits.maxTokens} tokens can be asked for.`, { param });
  const temperature = body.temperature ?? 0;
  return {
    session: sessionOf(owner, { header, user: body.user }),
    teach: mayTeach(body, messages, header),
    messages,
    temperature,
    topP: body.top_p ?? undefined,
    topK: body.top_k ?? undefined,
    minP: body.min_p ?? undefined,
    seed: seedOf(body.seed ?? (temperature > 0 ? randomInt(2 ** 32) : 0)),
    maxTokens: value,
    retrieve: body.tmem?.retrieve ?? undefined,
  };
}

/** The engine takes 32 bits without a sign. */
export const seedOf = (seed: number): number => ((seed % 2 ** 32) + 2 ** 32) % 2 ** 32;

/**
 * Whether a conversation may be learned. Open WebUI also asks for its title, its tags and the like in requests that hold the conversation
 * (backend/open_webui/utils/task.py there): these are about it, not part of it.
 */
function mayTeach(body: Common, messages: readonly ConversationMessage[], header: Asker['header']): boolean {
  if (body.tmem?.teach === false || header('x-openwebui-task') || body.metadata?.task) return false;
  const asked = messages.findLast(({ role }) => role === 'user')?.content ?? '';
  return !(asked.startsWith('### Task:') && asked.includes('<chat_history>'));
}

/** Text parts as one text. */
export const joined = (content: string | readonly { readonly text: string }[]): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('\n');

/** A tool's answer says only which call it answers; the tool's name is in the call. */
export function withToolNames(messages: readonly ConversationMessage[]): ConversationMessage[] {
  const names = new Map<string, string>();
  return messages.map((message) => {
    if (message.role === 'assistant') for (const { id, name } of message.toolCalls ?? []) names.set(id, name);
    return message.role === 'tool' ? { ...message, name: names.get(message.callId) } : message;
  });
}
