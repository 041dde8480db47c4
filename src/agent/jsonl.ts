/** JSONL files from users: one document a line, every line checked. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { TmemError } from '../engine/errors.ts';

/**
 * @param what what a line holds, in the plural, for the error about an empty file
 * @throws TmemError `missing` when the file cannot be read, `usage` naming the line that is wrong, or for an empty file.
 */
export async function readJsonl<S extends z.ZodType>(path: string, schema: S, what: string): Promise<z.output<S>[]> {
  const text = await readFile(path, 'utf8').catch((cause) => {
    const reason = cause.code === 'ENOENT' ? 'does not exist' : `cannot be read (${cause.code ?? cause.message})`;
    throw new TmemError('missing', `${path} ${reason}; name a JSONL file of ${what}.`, { cause });
  });
  const values: z.output<S>[] = [];
  for (const [i, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    if (line.trim() !== '') values.push(parseLine(line, schema, `${path} line ${i + 1}`));
  }
  if (values.length === 0)
    throw new TmemError('usage', `${path} is empty; it must hold ${what}, one JSON object a line.`);
  return values;
}

/** @throws TmemError `usage`, a sentence with what is wrong with the line. */
export function parseLine<S extends z.ZodType>(line: string, schema: S, where: string): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new TmemError('usage', `${where}: this is not JSON (${(cause as Error).message}).`, { cause });
  }
  return checked(schema, value, where);
}

/** @throws TmemError `usage`, a sentence with the first thing that is wrong. */
export function checked<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  throw new TmemError('usage', `${where}: ${path.length > 0 ? `${path.join('.')}: ` : ''}${message}.`);
}
