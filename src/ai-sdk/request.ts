/** The AI SDK's call options as a request to a `Runtime`, and warnings about what is left out. */
import {
  InvalidArgumentError,
  type LanguageModelV4CallOptions,
  type LanguageModelV4ToolChoice,
  type SharedV4Warning,
} from '@ai-sdk/provider';
import { z } from 'zod';
import type { JsonSchema } from '../engine/types.ts';
import type { ClientTool, CompletionRequest } from '../serve/types.ts';
import { conversationOf } from './prompt.ts';

/** `providerOptions.tmem` of a call. */
export const tmemOptionsSchema = z.strictObject({
  /** Whose memory answers and learns; null: none, the base model. Default: the provider's. */
  session: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be up to 64 letters, digits, dots, dashes and underscores')
    .nullish(),
  /** Whether the session may learn the conversation. Default true. */
  teach: z.boolean().optional(),
  /** Standing pairs that are shown beside the conversation, the nearest to its last message. Default 0. */
  retrieve: z.int().nonnegative().optional(),
});
export type TmemOptions = z.infer<typeof tmemOptionsSchema>;

/**
 * @param session the provider's, for calls that name none
 * @throws InvalidArgumentError for wrong `providerOptions.tmem`, UnsupportedFunctionalityError for what a prompt cannot hold.
 */
export function completionRequest(
  options: LanguageModelV4CallOptions,
  session: string | undefined,
): { request: CompletionRequest; warnings: SharedV4Warning[] } {
  const { tools = [], toolChoice, responseFormat } = options;
  const own = tmemOptions(options.providerOptions?.tmem);
  const warnings: SharedV4Warning[] = [];
  const unsupported = (feature: string, details?: string) => warnings.push({ type: 'unsupported', feature, details });
  if (options.presencePenalty !== undefined) unsupported('presencePenalty');
  if (options.frequencyPenalty !== undefined) unsupported('frequencyPenalty');
  if (options.reasoning !== undefined && options.reasoning !== 'provider-default') unsupported('reasoning');
  if (responseFormat?.type === 'json' && !responseFormat.schema)
    unsupported('responseFormat JSON without a schema', 'The prompt has to ask for JSON.');
  const reasons = ({ role, content }: (typeof options.prompt)[number]) =>
    role === 'assistant' && content.some(({ type }) => type === 'reasoning' || type === 'reasoning-file');
  if (options.prompt.some(reasons)) unsupported('reasoning in the prompt', 'It is left out.');
  const functions: ClientTool[] = [];
  for (const tool of tools) {
    if (tool.type === 'provider') unsupported(`provider-defined tool ${tool.id}`);
    else functions.push({ name: tool.name, description: tool.description, parameters: tool.inputSchema as JsonSchema });
  }
  const request: CompletionRequest = {
    session: own.session === undefined ? (session ?? null) : own.session,
    teach: own.teach,
    retrieve: own.retrieve,
    messages: conversationOf(options.prompt),
    tools: functions.length > 0 ? functions : undefined,
    toolChoice: functions.length > 0 ? toolChoiceOf(toolChoice) : undefined,
    schema: responseFormat?.type === 'json' ? (responseFormat.schema as JsonSchema | undefined) : undefined,
    maxTokens: options.maxOutputTokens,
    temperature: options.temperature,
    topP: options.topP,
    topK: options.topK,
    seed: options.seed,
    stop: options.stopSequences,
    signal: options.abortSignal,
  };
  return { request, warnings };
}

function toolChoiceOf(choice: LanguageModelV4ToolChoice | undefined): CompletionRequest['toolChoice'] {
  return choice?.type === 'tool' ? { name: choice.toolName } : choice?.type;
}

function tmemOptions(given: unknown): TmemOptions {
  const parsed = tmemOptionsSchema.safeParse(given ?? {});
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError({
    argument: 'providerOptions',
    message: `providerOptions.tmem is wrong: ${z.prettifyError(parsed.error)}`,
    cause: parsed.error,
  });
}
