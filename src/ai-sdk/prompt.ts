/** The AI SDK's prompt as a conversation of text. */
import {
  type LanguageModelV4FilePart,
  type LanguageModelV4Message,
  type LanguageModelV4Prompt,
  type LanguageModelV4ToolResultOutput,
  type LanguageModelV4ToolResultPart,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider';
import type { ConversationMessage } from '../serve/types.ts';

/**
 * Reasoning and other providers' own parts are left out. Text files are text.
 * @throws UnsupportedFunctionalityError for files of another kind.
 */
export function conversationOf(prompt: LanguageModelV4Prompt): ConversationMessage[] {
  return prompt.flatMap(messagesOf);
}

function messagesOf(message: LanguageModelV4Message): ConversationMessage[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user': {
      const texts = message.content.map((part) => (part.type === 'text' ? part.text : textOfFile(part)));
      return [{ role: 'user', content: texts.join('\n') }];
    }
    case 'assistant':
      return assistantMessages(message);
    case 'tool':
      return message.content.flatMap((part) => (part.type === 'tool-result' ? [resultOf(part)] : []));
  }
}

type AssistantMessage = Extract<LanguageModelV4Message, { role: 'assistant' }>;

/** What it said and called, and the results of the calls that its provider carried out itself. */
function assistantMessages({ content }: AssistantMessage): ConversationMessage[] {
  const texts: string[] = [];
  const toolCalls = [];
  const results: ConversationMessage[] = [];
  for (const part of content) {
    if (part.type === 'text') texts.push(part.text);
    else if (part.type === 'file') texts.push(textOfFile(part));
    else if (part.type === 'tool-call') {
      const { toolCallId: id, toolName: name, input } = part;
      toolCalls.push({ id, name, arguments: JSON.stringify(input ?? {}) });
    } else if (part.type === 'tool-result') results.push(resultOf(part));
  }
  const said = { role: 'assistant' as const, content: texts.join('') };
  return [toolCalls.length > 0 ? { ...said, toolCalls } : said, ...results];
}

function resultOf({ toolCallId, toolName, output }: LanguageModelV4ToolResultPart): ConversationMessage {
  return { role: 'tool', content: resultText(output), callId: toolCallId, name: toolName };
}

function resultText(output: LanguageModelV4ToolResultOutput): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The user did not allow this tool call.';
    case 'content':
      return output.value
        .flatMap((part) => {
          if (part.type === 'text') return [part.text];
          return part.type === 'file' ? [textOfFile(part)] : [];
        })
        .join('\n');
  }
}

function textOfFile({ data, mediaType }: Pick<LanguageModelV4FilePart, 'data' | 'mediaType'>): string {
  if (data.type === 'text') return data.text;
  if (data.type === 'data' && mediaType.startsWith('text')) {
    const bytes = typeof data.data === 'string' ? Buffer.from(data.data, 'base64') : data.data;
    return new TextDecoder().decode(bytes);
  }
  throw new UnsupportedFunctionalityError({
    functionality: `files of type ${mediaType}`,
    message: `tmem reads text only, so a file of type ${mediaType} cannot be in the prompt.`,
  });
}
