/** Our own files of one JSON document a line, which grow while a benchmark runs and may end within a line when it is killed. */
import { appendFileSync, existsSync, readFileSync, truncateSync } from 'node:fs';
import type { z } from 'zod';

/** The whole lines of a file; what a kill has left of a last one is cut off. A file that is not there has none. */
export function readLines<S extends z.ZodType>(file: string, schema: S): z.output<S>[] {
  if (!existsSync(file)) return [];
  const bytes = readFileSync(file);
  const end = bytes.lastIndexOf(0x0a) + 1;
  if (end < bytes.length) truncateSync(file, end);
  const lines = bytes.toString('utf8', 0, end).split('\n').filter(Boolean);
  return lines.map((line) => schema.parse(JSON.parse(line)));
}

export function appendLine(file: string, value: unknown): void {
  appendFileSync(file, `${JSON.stringify(value)}\n`);
}
