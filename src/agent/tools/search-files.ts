/** Search over a folder of text files by words. */
import { opendir, readFile, realpath, stat } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { z } from 'zod';
import { TmemError, throwIfAborted } from '../../engine/errors.ts';
import { contentWords } from '../pairs.ts';
import { defineTool, type Tool } from '../tools.ts';

const TEXT = new Set(['.txt', '.md', '.markdown', '.rst', '.org', '.csv', '.tsv', '.json', '.jsonl', '.html', '.log']);
const MAX_FILES = 2000;
const MAX_BYTES = 2_000_000;
const PASSAGE = 400;

/**
 * `search_files` over the text files below a folder. Links that lead out of it are not followed.
 * @throws TmemError `usage` when it is not a folder.
 */
export async function searchFiles(folder: string): Promise<Tool> {
  const root = await realpath(folder).catch(() => '');
  if (!root || !(await stat(root)).isDirectory())
    throw new TmemError('usage', `${folder} is not a folder; name one with text files to search.`);
  return defineTool({
    name: 'search_files',
    description: 'Finds passages about some words in the text files of the user.',
    parameters: z.strictObject({ query: z.string().min(1).max(200), limit: z.int().min(1).max(10).default(3) }),
    run: async ({ query, limit }, { signal }) => {
      const words = [...new Set(contentWords(query))];
      if (words.length === 0) throw new Error('the query has no words to search for');
      const found: { score: number; text: string }[] = [];
      for await (const path of textFiles(root)) {
        throwIfAborted(signal);
        const name = relative(root, path).split(sep).join('/');
        const content = await readFile(path, 'utf8').catch(() => ''); // removed meanwhile, or not ours to read
        for (const { text, line } of passages(content)) {
          const there = new Set(contentWords(`${name} ${text}`));
          const score = words.filter((word) => there.has(word)).length / words.length;
          if (score > 0) found.push({ score, text: `${name}:${line}: ${text}` });
        }
        found.sort((a, b) => b.score - a.score || (a.text < b.text ? -1 : 1)).splice(limit);
      }
      return found.length > 0 ? found.map((f) => f.text).join('\n\n') : 'nothing found';
    },
  });
}

async function* textFiles(root: string): AsyncGenerator<string> {
  const folders = [root];
  let count = 0;
  for (let folder = folders.pop(); folder; folder = folders.pop()) {
    for await (const entry of await opendir(folder)) {
      const path = join(folder, entry.name);
      if (entry.name.startsWith('.')) continue;
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile() && TEXT.has(extname(entry.name).toLowerCase()) && (await stat(path)).size <= MAX_BYTES) {
        if (++count > MAX_FILES) return;
        yield path;
      }
    }
  }
}

/** Paragraphs, long ones in pieces, each with the number of its first line. */
function passages(content: string): { text: string; line: number }[] {
  const result: { text: string; line: number }[] = [];
  let line = 1;
  for (const paragraph of content.split(/(?<=\n)\s*\n/)) {
    for (let from = 0; from < paragraph.length; from += PASSAGE) {
      const text = paragraph.slice(from, from + PASSAGE).trim();
      if (text) result.push({ text, line: line + newlines(paragraph.slice(0, from)) });
    }
    line += newlines(paragraph) + 1;
  }
  return result;
}

function newlines(text: string): number {
  return text.split('\n').length - 1;
}
