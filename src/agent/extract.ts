/** Extraction: the policy writes down what a session is worth remembering by, part by part. */
import { complete, type Engine, type JsonSchema } from '../engine/types.ts';
import type { WorkingTurn } from '../memory/session.ts';
import type { Pair } from '../memory/types.ts';
import { countTokens, extractionContext, layOut, transcript } from './context.ts';
import { DEFAULT_RULES, type DropCounts, groundPairs, type PairRules } from './pairs.ts';
import { parseExtraction, type RawExtraction, type RawPair } from './parse.ts';
import { CONDENSE } from './prompts.ts';
import { cut } from './split.ts';

/**
 * What the policy answers with. Its quotes are chosen from the lines of the part, so they are verbatim; a quote comes
 * before its question, so that the fact is chosen first.
 */
export function extractionSchema(lines: readonly string[]): JsonSchema {
  const text = { type: 'string' };
  const pair = {
    type: 'object',
    properties: { source: { type: 'string', enum: [...lines] }, instruction: text, output: text },
    required: ['source', 'instruction', 'output'],
    additionalProperties: false,
  };
  return {
    type: 'object',
    properties: { memory: text, pairs: { type: 'array', maxItems: 12, items: pair } },
    required: ['memory', 'pairs'],
    additionalProperties: false,
  };
}

export interface ExtractOptions {
  /** q, for question-aware extraction. */
  readonly task?: string;
  /** Turns and tokens of a part at the most. Default 3 and 250. */
  readonly chunkTurns?: number;
  readonly chunkTokens?: number;
  /** Turns before a part that are shown with it. Default 1. */
  readonly earlierTurns?: number;
  /** Tokens of an answer. Default 800. */
  readonly maxTokens?: number;
  /** false: the base model extracts, without fast weights. Default true, as in the paper. */
  readonly fastWeights?: boolean;
  readonly rules?: Partial<PairRules>;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: ExtractEvent) => void;
}

export type ExtractEvent = {
  readonly type: 'extract';
  readonly part: number;
  readonly parts: number;
  readonly attempt: number;
  /** null: the answer could not be read. */
  readonly pairs: readonly RawPair[] | null;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly ms: number;
};

export interface Extraction {
  readonly pairs: readonly Pair[];
  readonly dropped: DropCounts;
  /** New lines for the explicit memory, in order: the policy's notes, and parts whose answer could not be read as they stand. */
  readonly notes: readonly string[];
  /** What was extracted from. */
  readonly parts: readonly (readonly WorkingTurn[])[];
  /** How many of them gave no readable answer. */
  readonly unreadable: number;
}

/** @throws TmemError as `Engine.generate` does. */
export async function extract(
  engine: Engine,
  session: readonly WorkingTurn[],
  options: ExtractOptions = {},
): Promise<Extraction> {
  const parts = await chunk(engine, session, options);
  const candidates: RawPair[] = [];
  const notes: string[] = [];
  let unreadable = 0;
  for (const [i, part] of parts.entries()) {
    const earlier =
      options.earlierTurns === 0
        ? []
        : parts
            .slice(0, i)
            .flat()
            .slice(-(options.earlierTurns ?? 1));
    const read = await extractPart(engine, earlier, part, [i, parts.length], options);
    candidates.push(...(read?.pairs ?? []));
    if (read?.memory) notes.push(oneLine(read.memory));
    if (!read) {
      unreadable++;
      notes.push(transcript(part.map((item) => item.turn)));
    }
  }
  const { pairs, dropped } = groundPairs(candidates, parts.flat(), { ...DEFAULT_RULES, ...options.rules });
  return { pairs, dropped, notes, parts, unreadable };
}

/** One part: a second try with another seed when the first answer cannot be read, then null. */
async function extractPart(
  engine: Engine,
  earlier: readonly WorkingTurn[],
  part: readonly WorkingTurn[],
  [index, parts]: readonly [number, number],
  { task, signal, onEvent, fastWeights = true, maxTokens = 800 }: ExtractOptions,
): Promise<RawExtraction | null> {
  const turns = (items: readonly WorkingTurn[]) => items.map((item) => item.turn);
  const { quotes } = layOut(turns(part));
  if (quotes.size === 0) return { memory: '', pairs: [] }; // nothing but blanks
  const prompt = extractionContext({ task, earlier: turns(earlier), part: turns(part) });
  const schema = extractionSchema([...quotes.keys()]);
  for (const attempt of [0, 1]) {
    const sampling = attempt === 0 ? { temperature: 0 } : { temperature: 0.7, topP: 0.9, seed: attempt };
    const done = await complete(engine, {
      prompt,
      schema,
      maxTokens,
      fastWeights,
      signal,
      ...sampling,
    });
    const read = withQuotes(parseExtraction(done.text), quotes);
    const { promptTokens, outputTokens, ms } = done;
    const pairs = read?.pairs ?? null;
    onEvent?.({ type: 'extract', part: index, parts, attempt, pairs, promptTokens, outputTokens, ms });
    if (read) return read;
  }
  return null;
}

/** Lines that were quoted become the sentences in them. */
function withQuotes(read: RawExtraction | null, quotes: ReadonlyMap<string, string>): RawExtraction | null {
  return read && { ...read, pairs: read.pairs.map((p) => ({ ...p, source: quotes.get(p.source) ?? p.source })) };
}

/** A session in parts of a few turns each; a turn that is too long for a part is cut into several. Nothing is lost. */
export async function chunk(
  engine: Engine,
  session: readonly WorkingTurn[],
  { chunkTurns = 3, chunkTokens = 250 }: ExtractOptions = {},
): Promise<WorkingTurn[][]> {
  const length = async (content: string) => (await engine.tokenize(content, { plain: true })).length;
  const parts: WorkingTurn[][] = [];
  let tokens = 0;
  for (const item of session) {
    for (let rest = item.turn.content; rest; ) {
      let piece = rest;
      if ((await length(rest)) > chunkTokens) [piece] = await cut(rest, async (s) => (await length(s)) <= chunkTokens);
      rest = rest.slice(piece.length);
      const size = await length(piece);
      const last = parts.at(-1);
      const entry = { turn: { ...item.turn, content: piece }, index: item.index };
      if (last && last.length < chunkTurns && tokens + size <= chunkTokens) last.push(entry);
      else parts.push([entry]);
      tokens = parts.at(-1) === last ? tokens + size : size;
    }
  }
  return parts;
}

/**
 * The explicit memory with new lines, within `limit` tokens: when it has become too long the policy rewrites it; if that
 * is no shorter, the oldest lines go.
 */
export async function remember(
  engine: Engine,
  memory: string,
  notes: readonly string[],
  limit: number,
  options: { readonly fastWeights?: boolean; readonly signal?: AbortSignal } = {},
): Promise<string> {
  const known = new Set(memory.split('\n'));
  const lines = [memory, ...new Set(notes.filter((line) => !known.has(line)))].filter(Boolean);
  const text = lines.join('\n');
  const fits = async (s: string) => (await engine.tokenize(s, { plain: true })).length <= limit;
  if (await fits(text)) return text;
  // Aim below the limit, so that the next notes find room; a token is about three quarters of a word.
  const directive = CONDENSE.directive.replace('{words}', String(Math.max(10, Math.floor(limit / 2))));
  const prompt = [
    { role: 'system' as const, content: CONDENSE.system },
    { role: 'user' as const, content: `${await tail(text, (s) => roomFor(engine, s))}\n\n${directive}` },
  ];
  const { text: shorter } = await complete(engine, { prompt, maxTokens: limit, ...options });
  const condensed = shorter.trim();
  return condensed && (await fits(condensed)) ? condensed : tail(text, fits);
}

/** Half of the engine's context may be taken by the notes that are to be shortened. */
async function roomFor(engine: Engine, text: string): Promise<boolean> {
  return (await countTokens(engine, [{ role: 'user', content: text }])) <= engine.model.contextSize / 2;
}

/** The last lines that fit; of a single line that does not, its beginning. */
async function tail(text: string, fits: (s: string) => Promise<boolean>): Promise<string> {
  const lines = text.split('\n');
  for (let from = 0; from < lines.length; from++) {
    const rest = lines.slice(from).join('\n');
    if (await fits(rest)) return rest;
  }
  const [beginning] = await cut(lines.at(-1)!, fits);
  return (await fits(beginning)) ? beginning.trim() : '';
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
