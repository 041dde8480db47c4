/** Extraction: the policy writes down what a session is worth remembering by, part by part. */
import { type ChatMessage, complete, type Engine, type JsonSchema } from '../engine/types.ts';
import { datesInstead, withDatesOf } from '../memory/dates.ts';
import type { WorkingTurn } from '../memory/session.ts';
import type { Pair } from '../memory/types.ts';
import { countTokens, extractionContext, noteContext, transcript } from './context.ts';
import { overlooked } from './coverage.ts';
import {
  answerWords,
  type Candidate,
  contentWords,
  DEFAULT_RULES,
  type DropCounts,
  groundPairs,
  type PairRules,
} from './pairs.ts';
import { parseExtraction, type RawExtraction, type RawPair } from './parse.ts';
import { asTheUserAsks } from './person.ts';
import { CONDENSE } from './prompts.ts';
import { cut, SENTENCE_END } from './split.ts';

const TEXT = { type: 'string', minLength: 1, maxLength: 200 };
const object = (properties: Record<string, JsonSchema>): JsonSchema => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

/**
 * What the policy answers with for a part. The answer is a full sentence and comes before its question: stated in the third
 * person first, it settles who "I" is, and the fact is later recalled in words that the model would use anyway. The quote of a
 * pair is the sentence that holds its output: models copy badly.
 */
export const PAIRS_SCHEMA = object({
  pairs: { type: 'array', maxItems: 5, items: object({ output: TEXT, instruction: TEXT }) },
});
/** What it answers with for the whole session: its note for the explicit memory. */
export const NOTE_SCHEMA = object({ memory: { ...TEXT, maxLength: 400 } });
const NOTE_TOKENS = 200;

export interface ExtractOptions {
  /** q, for question-aware extraction. */
  readonly task?: string;
  /** Turns and tokens of a part at the most. Default 1 and 250: a small model overlooks facts in longer ones. */
  readonly chunkTurns?: number;
  readonly chunkTokens?: number;
  /** Turns before a part that are shown with it. Default 1. */
  readonly earlierTurns?: number;
  /** Tokens of an answer. Default 400. */
  readonly maxTokens?: number;
  /** Ask again for sentences with a name or number that no pair answers with. Default true. */
  readonly secondLook?: boolean;
  /** Extract with fast weights in force, as in the paper. Default false: what they were trained on bends a long extraction (LOG.md). */
  readonly fastWeights?: boolean;
  readonly rules?: Partial<PairRules>;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: ExtractEvent) => void;
}

export type ExtractEvent = {
  readonly type: 'extract';
  readonly part: number;
  readonly parts: number;
  /** The names and numbers that a sentence is asked about again for; `part` and `parts` count these sentences then. */
  readonly about?: readonly string[];
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
  /** New lines for the explicit memory: the policy's note, and parts whose answer could not be read as they stand (all, without a note). */
  readonly notes: readonly string[];
  /** What was extracted from, with the dates of what is said relative to its day. */
  readonly parts: readonly (readonly WorkingTurn[])[];
  /** How many of them gave no readable answer. */
  readonly unreadable: number;
}

/** @throws TmemError as `Engine.generate` does. */
export async function extract(
  engine: Engine,
  said: readonly WorkingTurn[],
  options: ExtractOptions = {},
): Promise<Extraction> {
  const session = said.map(({ turn, index }) => ({ turn: withDatesOf(turn), index }));
  const parts = await chunk(engine, session, options);
  // The parts do not depend on each other's answers: they are decoded together.
  const answers = await Promise.all(
    parts.map((part, i) => {
      const before = options.earlierTurns ?? 1;
      const earlier = before === 0 ? [] : parts.slice(0, i).flat().slice(-before);
      return extractPart(engine, { earlier, part, place: [i, parts.length] }, options);
    }),
  );
  const candidates: Candidate[] = answers.flatMap((read, i) =>
    (read?.pairs ?? []).map((pair) => ({ ...pair, within: parts[i]! })),
  );
  const rules = { ...DEFAULT_RULES, ...options.rules };
  const ground = () => groundPairs(candidates, parts.flat(), rules);
  const first = ground().pairs;
  const [more, note] = await Promise.all([
    (options.secondLook ?? true) ? lookAgain(engine, parts.flat(), first, options) : [],
    writeNote(engine, session, first, options),
  ]);
  candidates.push(...more);
  const { pairs: grounded, dropped } = ground();
  const named = new Set(session.filter(({ turn }) => turn.speaker ?? turn.origin === 'document').map((t) => t.index));
  const pairs = grounded.map((pair) => (named.has(pair.turn) ? pair : asTheUserAsks(pair)));
  const text = parts.filter((_, i) => note === null || !answers[i]).map((part) => transcript(part.map((p) => p.turn)));
  const unreadable = answers.filter((read) => !read).length;
  return { pairs, dropped, notes: [note ?? '', ...text].filter(Boolean), parts, unreadable };
}

/** What the model writes about overlooked names and numbers when it is shown their sentence alone. */
async function lookAgain(
  engine: Engine,
  session: readonly WorkingTurn[],
  pairs: readonly Pair[],
  options: ExtractOptions,
): Promise<Candidate[]> {
  const sentences = overlooked(session, pairs);
  const answers = await Promise.all(
    sentences.map(async ({ item, sentence, before, about }, i) => {
      const part = { ...item, turn: { ...item.turn, content: sentence } };
      const earlier = before === '' ? [] : [{ ...item, turn: { ...item.turn, content: before } }];
      const place = [i, sentences.length] as const;
      const read = await extractPart(engine, { earlier, part: [part], about, place }, options);
      const words = about.flatMap(contentWords);
      const answers = (pair: RawPair) => answerWords(pair).some((word) => words.includes(word));
      return (read?.pairs ?? []).filter(answers).map((pair) => ({ ...pair, within: [item] }));
    }),
  );
  return answers.flat();
}

/** How an answer is sampled, and once more when it could not be read. */
const ATTEMPTS = [{ temperature: 0 }, { temperature: 0.7, topP: 0.9, seed: 1 }];

interface Asked {
  readonly earlier: readonly WorkingTurn[];
  readonly part: readonly WorkingTurn[];
  /** Names and numbers that the pairs shall be about. */
  readonly about?: readonly string[];
  /** Index of the part, and number of parts. */
  readonly place: readonly [number, number];
}

/** One part: a second try with another seed when the first answer cannot be read, then null. */
async function extractPart(
  engine: Engine,
  { earlier, part, about, place: [index, parts] }: Asked,
  { task, signal, onEvent, fastWeights = false, maxTokens = 400 }: ExtractOptions,
): Promise<RawExtraction | null> {
  const turns = (items: readonly WorkingTurn[]) => items.map((item) => item.turn);
  const sentences = part
    .flatMap(({ turn }) => turn.content.split(SENTENCE_END))
    .map((line) => line.trim())
    .filter(Boolean);
  if (sentences.length === 0) return { memory: '', pairs: [] };
  const prompt = extractionContext({ task, earlier: turns(earlier), part: turns(part), about });
  for (const [attempt, sampling] of ATTEMPTS.entries()) {
    const done = await complete(engine, {
      prompt,
      schema: PAIRS_SCHEMA,
      maxTokens,
      fastWeights,
      signal,
      ...sampling,
    });
    const read = withSources(dated(parseExtraction(done.text), part.at(-1)!.turn.time), sentences);
    const { promptTokens, outputTokens, ms } = done;
    const pairs = read?.pairs ?? null;
    onEvent?.({
      type: 'extract',
      part: index,
      parts,
      ...(about && { about }),
      attempt,
      pairs,
      promptTokens,
      outputTokens,
      ms,
    });
    if (read) return read;
  }
  return null;
}

/** Pairs outlive the day on which "yesterday" was said, and a small model writes it all the same. */
function dated(read: RawExtraction | null, time: string | undefined): RawExtraction | null {
  const date = ({ instruction, output, ...rest }: RawPair): RawPair => ({
    ...rest,
    ...{ instruction: datesInstead(instruction, time), output: datesInstead(output, time) },
  });
  return read && { ...read, pairs: read.pairs.map(date) };
}

/** Quotes for pairs that have none: the sentence that shares most words with the answer, then with the question. */
function withSources(read: RawExtraction | null, sentences: readonly string[]): RawExtraction | null {
  const shared = (sentence: string, text: string) => {
    const words = new Set(contentWords(sentence));
    return contentWords(text).filter((w) => words.has(w)).length;
  };
  const best = (pair: RawPair) => {
    const score = (s: string) => shared(s, pair.output) * 100 + shared(s, pair.instruction);
    return sentences.reduce((a, b) => (score(b) > score(a) ? b : a));
  };
  return read && { ...read, pairs: read.pairs.map((p) => ({ ...p, source: p.source || best(p) })) };
}

/**
 * The policy's note on a session, written from the facts in it, or from the session itself when there are none; from the end when not
 * all of that fits. null when no answer can be read.
 */
async function writeNote(
  engine: Engine,
  session: readonly WorkingTurn[],
  pairs: readonly Pair[],
  { signal, fastWeights = false }: ExtractOptions,
): Promise<string | null> {
  const [system, user] = noteContext(session.map((item) => item.turn));
  const facts = pairs.map((pair) => pair.output).join('\n');
  const ask = (content: string): ChatMessage[] => [system, { ...user, content }];
  const room = engine.model.contextSize - NOTE_TOKENS;
  const content = await tail(facts || user.content, async (s) => (await countTokens(engine, ask(s))) <= room);
  for (const sampling of ATTEMPTS) {
    const request = {
      prompt: ask(content),
      schema: NOTE_SCHEMA,
      maxTokens: NOTE_TOKENS,
      fastWeights,
      signal,
      ...sampling,
    };
    const read = parseExtraction((await complete(engine, request)).text);
    if (read) return oneLine(read.memory);
  }
  return null;
}

/** A session in parts of a few turns each; a turn that is too long for a part is cut into several. Nothing is lost. */
export async function chunk(
  engine: Engine,
  session: readonly WorkingTurn[],
  { chunkTurns = 1, chunkTokens = 250 }: ExtractOptions = {},
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
  { signal, fastWeights = false }: Pick<ExtractOptions, 'signal' | 'fastWeights'> = {},
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
  const { text: shorter } = await complete(engine, { prompt, maxTokens: limit, fastWeights, signal });
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
