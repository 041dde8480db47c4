/** Data files of the benchmarks, read piece by piece. */
import { createReadStream } from 'node:fs';
import { TmemError } from '../engine/errors.ts';

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * The elements of a JSON file that holds one array. Only one element is in memory at a time: such a file may be larger
 * than the longest string that there can be.
 * @param what what the array holds, in the plural
 * @throws TmemError `missing` when the file cannot be read, `usage` naming the element that is wrong.
 */
export async function* readJsonArray(file: string, what: string): AsyncGenerator<{ value: unknown; where: string }> {
  const wrong = (problem: string, cause?: unknown) => new TmemError('usage', `${file}${problem}.`, { cause });
  let [depth, count, quoted, escaped, ended] = [0, 0, false, false, false];
  let element = '';
  for await (const chunk of textOf(file, what)) {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const code = chunk.charCodeAt(i);
      if (escaped) escaped = false;
      else if (quoted) {
        if (code === QUOTE) quoted = false;
        else escaped = code === BACKSLASH;
      } else if (depth === 0) {
        if (chunk[i]!.trim() === '') continue;
        if (ended) throw wrong(` goes on behind its array of ${what}`);
        if (code !== OPEN_ARRAY) throw wrong(` must hold a JSON array of ${what}`);
        [depth, from] = [1, i + 1];
      } else if (code === QUOTE) quoted = true;
      else if (code === OPEN_ARRAY || code === OPEN_OBJECT) depth++;
      else {
        const closes = code === CLOSE_ARRAY || code === CLOSE_OBJECT;
        if (closes) depth--;
        ended = closes && depth === 0;
        if (!ended && (code !== COMMA || depth !== 1)) continue;
        element += chunk.slice(from, i);
        from = i + 1;
        if (ended && count === 0 && element.trim() === '') throw wrong(` holds no ${what}`);
        const where = ` element ${++count}`;
        let value: unknown;
        try {
          value = JSON.parse(element);
        } catch (cause) {
          throw wrong(`${where}: this is not JSON (${(cause as Error).message})`, cause);
        }
        element = '';
        yield { value, where: `${file}${where}` };
      }
    }
    if (depth > 0) element += chunk.slice(from);
  }
  if (!ended)
    throw wrong(count > 0 || depth > 0 ? ` ends within element ${count + 1}` : ` must hold a JSON array of ${what}`);
}

/** The text of a file, in pieces. @throws TmemError `missing`. */
export async function* textOf(file: string, what: string): AsyncGenerator<string> {
  let first = true;
  try {
    for await (const chunk of createReadStream(file, { encoding: 'utf8', highWaterMark: 1 << 20 })) {
      yield first ? chunk.replace(/^\uFEFF/, '') : chunk;
      first = false;
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
    throw new TmemError('missing', `${file} ${reason}; name a file of ${what}.`, { cause });
  }
}
