/** One answer to a conversation: its context, its text as it comes, its calls of tools. */
import { randomUUID } from 'node:crypto';
import { describeTools } from '../../agent/tools.ts';
import type { ChatMessage, ChosenToken, Engine, GenerateRequest, JsonSchema } from '../../engine/types.ts';
import type { ClientTool, CompletionEvent, CompletionRequest, CompletionUsage, TokenLogProb } from '../types.ts';
import { callText } from './conversation.ts';
import { ToolStream } from './tool-stream.ts';

/** Tokens of an answer whose request does not say how many. */
const DEFAULT_MAX_TOKENS = 1024;

export interface Completed {
  /** What the model said, as it is remembered. */
  readonly text: string;
  readonly finish: 'stop' | 'length' | 'tool-calls';
  readonly usage: CompletionUsage;
}

/** What the system message says beside the memory: the client's own words, and its tools. */
export function instructionsOf({ messages, tools = [], toolChoice }: CompletionRequest): string {
  const own = messages.filter(({ role }) => role === 'system').map(({ content }) => content);
  return [...own, toolChoice === 'none' ? '' : describeTools(tools)].filter(Boolean).join('\n\n');
}

/** Generates after a context; text and calls are emitted as they come. @throws TmemError as `Engine.generate` does. */
export async function answerTo(
  engine: Engine,
  prompt: readonly ChatMessage[],
  request: CompletionRequest,
  emit: (event: CompletionEvent) => void,
  signal: AbortSignal,
): Promise<Completed> {
  const { tools = [], toolChoice = 'auto', maxTokens = DEFAULT_MAX_TOKENS } = request;
  const { temperature, topK, topP, minP, seed, stop, logProbs } = request;
  const usable = toolChoice === 'none' ? [] : tools;
  const forced = toolChoice === 'required' || typeof toolChoice === 'object' ? schemaOf(usable, toolChoice) : undefined;
  const schema = forced ?? request.schema;
  const generation: GenerateRequest = {
    ...{ prompt, maxTokens, signal },
    ...{ temperature, topK, topP, minP, seed, stop, logProbs, schema },
  };
  const stream = new ToolStream(usable.map(({ name }) => name));
  let said = '';
  for await (const event of engine.generate(generation)) {
    const told = event.tokens && { logProbs: event.tokens.map(toldOf) };
    if (event.type === 'text') {
      const text = stream.push(event.text);
      said += text;
      if (text || told) emit({ type: 'text', text, ...told });
      continue;
    }
    const { call, text } = stream.end();
    if (text) emit({ type: 'text', text });
    if (call)
      emit({ type: 'tool-call', call: { id: `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`, ...call } });
    const { promptTokens, cachedTokens, outputTokens } = event;
    return {
      text: call ? [said.trim(), callText(call.name, call.arguments)].filter(Boolean).join('\n') : said + text,
      finish: call ? 'tool-calls' : event.finish === 'length' ? 'length' : 'stop',
      usage: { promptTokens, cachedTokens, outputTokens },
    };
  }
  throw new Error('generate ended without a done event');
}

/** Of a call that must be made. */
function schemaOf(tools: readonly ClientTool[], choice: 'required' | { readonly name: string }): JsonSchema {
  const chosen = tools.filter(({ name }) => choice === 'required' || name === choice.name);
  const calls = chosen.map(({ name, parameters = { type: 'object' } }) => ({
    type: 'object',
    properties: { tool: { const: name }, arguments: parameters },
    required: ['tool', 'arguments'],
    additionalProperties: false,
  }));
  return calls.length === 1 ? calls[0]! : { anyOf: calls };
}

function toldOf({ bytes, logProb, top }: ChosenToken): TokenLogProb & { readonly top: readonly TokenLogProb[] } {
  return { ...tokenOf({ bytes, logProb }), top: top.map(tokenOf) };
}

function tokenOf({ bytes, logProb }: Pick<ChosenToken, 'bytes' | 'logProb'>): TokenLogProb {
  return { text: Buffer.from(bytes).toString(), bytes: [...bytes], logProb };
}
