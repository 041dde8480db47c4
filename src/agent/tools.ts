/** Tools: what an agent can do besides talking, and how a model asks for it. */
import { z } from 'zod';
import type { JsonSchema } from '../engine/types.ts';
import { isObject, parseLenient } from './parse.ts';
import { TOOLS } from './prompts.ts';

export interface Tool<P extends z.ZodType = z.ZodType> {
  readonly name: string;
  /** One sentence for the model. */
  readonly description: string;
  readonly parameters: P;
  /** The result as text for the model; what it throws is told to the model as an error. */
  run(args: z.output<P>, options: { readonly signal?: AbortSignal }): string | Promise<string>;
}

/** Gives `run` the type of its parameters. */
export function defineTool<P extends z.ZodType>(tool: Tool<P>): Tool {
  return tool as unknown as Tool;
}

/** A tool as a model is told of it. */
export interface ToolDescription {
  readonly name: string;
  readonly description?: string | undefined;
  /** JSON schema of its arguments. */
  readonly parameters?: JsonSchema | undefined;
}

/** What the system message says about the tools; empty without any. */
export function toolInstructions(tools: readonly Tool[]): string {
  return describeTools(
    tools.map(({ name, description, parameters }) => {
      const { $schema, ...schema } = z.toJSONSchema(parameters, { io: 'input' });
      return { name, description, parameters: schema as JsonSchema };
    }),
  );
}

/** The same for tools that somebody else runs. */
export function describeTools(tools: readonly ToolDescription[]): string {
  if (tools.length === 0) return '';
  const lines = tools.map(({ name, description, parameters }) => JSON.stringify({ name, description, parameters }));
  return TOOLS.system.replace('{tools}', () => lines.join('\n'));
}

export type ToolRequest =
  /** Plain text: the answer. */
  | { readonly type: 'none' }
  | { readonly type: 'call'; readonly name: string; readonly arguments: unknown }
  /** Meant as a call, but not one. */
  | { readonly type: 'malformed'; readonly reason: string };

/** Finds a call in a model's text: `{"tool": …, "arguments": …}` or `<tool_call>{"name": …, "arguments": …}</tool_call>`. */
export function parseToolCall(text: string): ToolRequest {
  const native = text.indexOf('<tool_call>');
  const scope = native < 0 ? text : text.slice(native);
  // A JSON object in an answer is a call only if it says so; inside the tags it is meant as one in any case.
  const isCall = (v: unknown) =>
    isObject(v) && (typeof v.tool === 'string' || (native >= 0 && typeof v.name === 'string'));
  const value = parseLenient(scope, isCall);
  if (isObject(value)) {
    const args = value.arguments ?? value.parameters ?? {};
    return {
      type: 'call',
      name: String(value.tool ?? value.name),
      arguments: typeof args === 'string' ? parseLenient(args) : args,
    };
  }
  const meant = native >= 0 || /^\s*(?:```(?:json)?\s*)?\{\s*"(?:tool|arguments)"/.test(text);
  return meant ? { type: 'malformed', reason: 'the call is not valid JSON' } : { type: 'none' };
}

export interface ToolResult {
  readonly name: string;
  readonly ok: boolean;
  readonly result: string;
}

/** Checks and runs a call. Everything that is wrong with it is a result that the model can read. */
export async function runTool(
  tools: readonly Tool[],
  request: Exclude<ToolRequest, { type: 'none' }>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<ToolResult> {
  if (request.type === 'malformed') return { name: 'tool', ok: false, result: `${request.reason}; try again` };
  const { name } = request;
  const tool = tools.find((t) => t.name === name);
  const names = tools.map((t) => t.name).join(', ');
  if (!tool) return { name, ok: false, result: `there is no tool of this name; the tools are: ${names}` };
  const parsed = tool.parameters.safeParse(request.arguments);
  if (!parsed.success) return { name, ok: false, result: `wrong arguments: ${z.prettifyError(parsed.error)}` };
  try {
    return { name, ok: true, result: await tool.run(parsed.data, options) };
  } catch (error) {
    if (options.signal?.aborted) throw error;
    return { name, ok: false, result: (error as Error).message };
  }
}
