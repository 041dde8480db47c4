/** The body of a request: read up to a limit, parsed as JSON, checked against a schema. */
import type { Context } from 'hono';
import type { z } from 'zod';
import { ApiError } from './errors.ts';

type Issue = z.core.$ZodIssue;

/**
 * @param maxBytes also holds for a body that does not announce its length
 * @throws ApiError 413 for a larger body, 400 for one that is not JSON or does not fit the schema, naming the field.
 */
export async function parseBody<S extends z.ZodType>(c: Context, schema: S, maxBytes: number): Promise<z.output<S>> {
  const text = await readBody(c, maxBytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ApiError(400, 'The body is not valid JSON.', { code: 'invalid_json' }, { cause });
  }
  return parseValue(schema, value);
}

/** @throws ApiError 400 naming the field that does not fit. */
export function parseValue<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = deepest(parsed.error.issues[0]!);
  const param = nameOf(path);
  throw new ApiError(400, param ? `${param}: ${message}` : message, { param: param || undefined });
}

async function readBody(c: Context, maxBytes: number): Promise<string> {
  const tooLarge = () => new ApiError(413, `The body is larger than ${maxBytes} bytes.`, { code: 'request_too_large' });
  if (Number(c.req.header('content-length') ?? 0) > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Of the branches of a union the one that came furthest, so that the message is about what was meant. */
function deepest(issue: Issue, base: readonly PropertyKey[] = []): { path: PropertyKey[]; message: string } {
  const path = [...base, ...issue.path];
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { path, message: issue.message };
  const found = issue.errors.flatMap((branch) => branch.slice(0, 1).map((inner) => deepest(inner, path)));
  return found.reduce((a, b) => (b.path.length > a.path.length ? b : a), { path, message: issue.message });
}

/** As OpenAI writes it: `messages[0].content`. */
function nameOf(path: readonly PropertyKey[]): string {
  return path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${String(key)}`)).join('');
}
