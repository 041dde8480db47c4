/** One turn of an agent: it calls tools until it answers. */
import type { ChatMessage, Engine, SamplingOptions } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';
import { TOOLS } from './prompts.ts';
import { parseToolCall, runTool, type Tool } from './tools.ts';
import type { TraceListener } from './trace.ts';

export interface TurnOptions extends SamplingOptions {
  readonly tools?: readonly Tool[];
  /** Tool calls at the most; then it must answer. Default 6. */
  readonly steps?: number;
  /** Tokens of each text of the model. Default 512. */
  readonly maxTokens?: number;
  readonly signal?: AbortSignal;
  /** The model's text as it comes, tool calls included. */
  readonly onText?: (text: string) => void;
  readonly trace?: TraceListener;
}

/**
 * The turns that follow a context: calls and results if there are any, the answer last. They are handed to `onTurn` as
 * they happen; an interrupted answer is handed over as far as it came, if at all.
 * @throws TmemError as `Engine.generate` does.
 */
export async function act(
  engine: Engine,
  context: readonly ChatMessage[],
  onTurn: (turn: Turn) => void,
  options: TurnOptions = {},
): Promise<string> {
  const { tools = [], steps = 6, maxTokens = 512, trace, onText, signal, ...sampling } = options;
  const messages = [...context];
  for (let step = 0; ; step++) {
    let text = '';
    try {
      for await (const event of engine.generate({ prompt: messages, maxTokens, signal, ...sampling })) {
        if (event.type === 'done') break;
        text += event.text;
        onText?.(event.text);
      }
    } catch (error) {
      if (text) onTurn({ role: 'assistant', content: text });
      throw error;
    }
    if (text) onTurn({ role: 'assistant', content: text });
    const request = tools.length > 0 ? parseToolCall(text) : ({ type: 'none' } as const);
    if (request.type === 'none' || step >= steps) return text;

    const { name, ok, result } = await runTool(tools, request, { signal });
    const arguments_ = request.type === 'call' ? request.arguments : text;
    trace?.({ type: 'tool', name, arguments: arguments_, ok, result });
    const header = (ok ? TOOLS.result : TOOLS.error).replace('{name}', () => name);
    const limit = step === steps - 1 ? `\n${TOOLS.limit}` : '';
    const content = `${header}\n${result}${limit}`;
    onTurn({ role: 'tool', content });
    messages.push({ role: 'assistant', content: text }, { role: 'user', content });
  }
}
