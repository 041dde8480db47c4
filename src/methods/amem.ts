/**
 * A-MEM (arXiv 2502.12110; WujiangXu/A-mem, memory_layer.py): every turn becomes a note with keywords, tags and a context that the model
 * writes; the model then connects it with the nearest notes and rewrites their contexts and tags. A question is answered from the notes
 * nearest to it and from those that they are connected with.
 *
 * What differs, and why:
 * - A note is embedded as in the paper, content with context, keywords and tags, both to find its neighbours and to be found, and anew as
 *   soon as these change. The repository looks for neighbours by the content alone, and embeds anew after every hundredth change.
 * - A question is looked for as it is, as in the paper; the repository's evaluation has the model write keywords of it first.
 * - Connections are taken over if they name neighbours that were shown; the repository takes any number. A neighbour beyond those that the
 *   model has written for keeps its own tags.
 * - When nothing changes the model says just that; the repository has it write all lists. The first note, which has no neighbours, is not
 *   asked about at all.
 * - A turn that is longer than 256 tokens, or a quarter of the budget, is several notes; and neighbours or notes that a context has no room
 *   for within the budget are left out, the farthest first. The paper has no bound.
 * - Notes are analysed some at a time, as that does not depend on other notes; they are connected one after the other, in order.
 * - Notes that are shown beside a question are in the order of time, each once, in the form that all methods share; the repository puts each
 *   note's connections behind it.
 * - The model writes greedily (the repository samples at 0.7) under a grammar for JSON with bounds on all lengths, and the words of the
 *   prompts are our own, with the repository's fields. The text embedder is the one that is given (theirs: all-MiniLM-L6-v2).
 */
import { z } from 'zod';
import { countTokens, transcriptLine } from '../agent/context.ts';
import { parseLenient } from '../agent/parse.ts';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { complete, type Embedder, type JsonSchema } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';
import { answerFrom, checkBudget, chunkTokens, mostThatFit, piecesOf } from './common.ts';
import { AMEM, fill } from './prompts.ts';
import { VectorIndex } from './retrieval.ts';
import type { Method, MethodOptions, MethodSpec } from './types.ts';

/** Neighbours that a new note is compared with, and notes that a question finds, as in the repository. */
const NEIGHBOURS = 5;
const FOUND = 10;
/** Notes that are analysed at once. */
const BATCH = 8;

const text = (maxLength: number) => ({ type: 'string', minLength: 1, maxLength });
const list = (items: JsonSchema, maxItems: number) => ({ type: 'array', items, maxItems });
const object = (properties: Record<string, JsonSchema>): JsonSchema => ({
  ...{ type: 'object', properties },
  ...{ required: Object.keys(properties), additionalProperties: false },
});
const WORDS = list(text(40), 6);
const CONTEXT = text(240);

export const ANALYSIS_SCHEMA = object({ keywords: WORDS, context: CONTEXT, tags: WORDS });
const ANALYSIS_TOKENS = 256;
export const EVOLUTION_SCHEMA: JsonSchema = {
  anyOf: [
    object({ should_evolve: { const: false } }),
    object({
      should_evolve: { const: true },
      actions: list({ enum: ['strengthen', 'update_neighbor'] }, 2),
      suggested_connections: list({ type: 'integer', minimum: 0 }, NEIGHBOURS),
      tags_to_update: WORDS,
      new_context_neighborhood: list(CONTEXT, NEIGHBOURS),
      new_tags_neighborhood: list(WORDS, NEIGHBOURS),
    }),
  ],
};
const EVOLUTION_TOKENS = 768;

const words = z.array(z.string()).catch([]);
const analysisSchema = z
  .object({ keywords: words, context: z.string().min(1).catch(AMEM.general), tags: words })
  .catch({ keywords: [], context: AMEM.general, tags: [] });
const NOTHING = {
  should_evolve: false,
  actions: [],
  suggested_connections: [],
  tags_to_update: [],
  new_context_neighborhood: [],
  new_tags_neighborhood: [],
};
const evolutionSchema = z
  .object({
    should_evolve: z.boolean(),
    actions: words,
    suggested_connections: z.array(z.int()).catch([]),
    tags_to_update: words,
    new_context_neighborhood: words,
    new_tags_neighborhood: z.array(words).catch([]),
  })
  .catch(NOTHING);

interface Note {
  readonly turn: Turn;
  readonly keywords: readonly string[];
  context: string;
  tags: readonly string[];
  /** Numbers of the notes that it is connected with. */
  links: readonly number[];
}

class Notes implements Method {
  readonly #options: MethodOptions;
  readonly #embedder: Embedder;
  readonly #notes: Note[] = [];
  readonly #vectors = new VectorIndex();
  #pending: Turn[] = [];

  constructor(options: MethodOptions, embedder: Embedder) {
    this.#options = options;
    this.#embedder = embedder;
  }

  async observe(turn: Turn): Promise<void> {
    const { engine, signal } = this.#options;
    throwIfAborted(signal);
    this.#pending.push(...(await piecesOf(engine, turn, chunkTokens(this.#options))));
    while (this.#pending.length >= BATCH) await this.#take();
  }

  async settle(): Promise<void> {
    throwIfAborted(this.#options.signal);
    while (this.#pending.length > 0) await this.#take();
  }

  async answer(question: Parameters<Method['answer']>[0]) {
    const [vector] = await this.#embed([question.query ?? question.text], true);
    const hits = this.#vectors.search(vector!, FOUND).map(({ index }) => index);
    // Behind every note those that it is connected with, at most as many as are looked for.
    const found = new Set(hits.flatMap((index) => [index, ...this.#notes[index]!.links.slice(0, FOUND)]));
    const layOut = (indices: readonly number[]) =>
      indices
        .toSorted((a, b) => a - b)
        .map((index) => layOutNote(this.#notes[index]!))
        .join('\n');
    return answerFrom(this.#options, await mostThatFit(this.#options, question, [...found], layOut), question);
  }

  async kept() {
    return { text: this.#notes.map(layOutNote).join('\n'), items: this.#notes.length, weights: 0 };
  }

  /** The next notes: analysed together, connected one after the other. */
  async #take(): Promise<void> {
    const turns = this.#pending.slice(0, BATCH);
    const notes = await Promise.all(turns.map((turn) => this.#analyse(turn)));
    const vectors = await this.#embed(notes.map(embedded));
    for (const [i, note] of notes.entries()) await this.#connect(note, vectors[i]!);
    this.#pending = this.#pending.slice(turns.length);
  }

  async #analyse(turn: Turn): Promise<Note> {
    const { engine, signal } = this.#options;
    const { text } = await complete(engine, {
      prompt: [{ role: 'user', content: fill(AMEM.analysis, { content: transcriptLine(turn) }) }],
      ...{ schema: ANALYSIS_SCHEMA, maxTokens: ANALYSIS_TOKENS, fastWeights: false, signal },
    });
    return { turn, links: [], ...analysisSchema.parse(parseLenient(text)) };
  }

  /** Link generation and memory evolution: the new note's connections and tags, and its neighbours' contexts and tags. */
  async #connect(note: Note, vector: Float32Array): Promise<void> {
    const neighbours = this.#vectors.search(vector, NEIGHBOURS).map(({ index }) => index);
    const { shown, evolution } = await this.#evolve(note, neighbours);
    const { actions } = evolution;
    const updated = new Set<number>();
    const number = this.#notes.push(note) - 1;
    this.#vectors.add([vector]);
    if (actions.includes('strengthen')) {
      note.links = [...new Set(evolution.suggested_connections)].filter((index) => shown.includes(index));
      note.tags = evolution.tags_to_update;
      updated.add(number);
    }
    if (actions.includes('update_neighbor')) {
      for (const [i, tags] of evolution.new_tags_neighborhood.slice(0, shown.length).entries()) {
        const neighbour = this.#notes[shown[i]!]!;
        neighbour.tags = tags;
        neighbour.context = evolution.new_context_neighborhood[i] ?? neighbour.context;
        updated.add(shown[i]!);
      }
    }
    const changed = [...updated];
    const vectors = await this.#embed(changed.map((index) => embedded(this.#notes[index]!)));
    for (const [i, index] of changed.entries()) this.#vectors.replace(index, vectors[i]!);
  }

  /** What the model decides on a note, and the numbers of the neighbours that it was shown. */
  async #evolve(note: Note, neighbours: readonly number[]) {
    const { engine, budget, signal } = this.#options;
    for (let n = neighbours.length; n > 0; n--) {
      const shown = neighbours.slice(0, n);
      const lines = shown.map((index) => `${index}: ${layOutNote(this.#notes[index]!)}`);
      const values = { note: layOutNote(note), count: String(n), neighbours: lines.join('\n') };
      const prompt = [{ role: 'user' as const, content: fill(AMEM.evolution, values) }];
      if ((await countTokens(engine, prompt)) > budget) continue;
      const request = { schema: EVOLUTION_SCHEMA, maxTokens: EVOLUTION_TOKENS, fastWeights: false, signal };
      const { text } = await complete(engine, { prompt, ...request });
      const evolution = evolutionSchema.parse(parseLenient(text));
      return { shown, evolution: evolution.should_evolve ? evolution : NOTHING };
    }
    return { shown: [], evolution: NOTHING };
  }

  async #embed(texts: readonly string[], query = false): Promise<Float32Array[]> {
    return texts.length === 0 ? [] : this.#embedder.embed(texts, { query, signal: this.#options.signal });
  }
}

/** Content, context, keywords and tags, as a note is found by; when it was said is no part of that. */
function embedded({ turn, ...note }: Note): string {
  return `${transcriptLine({ ...turn, time: undefined })} ${annotation(note)}`;
}

/** The same as the model is shown it. */
function layOutNote({ turn, ...note }: Note): string {
  return `${transcriptLine(turn)} (${annotation(note)})`;
}

function annotation({ context, keywords, tags }: Pick<Note, 'context' | 'keywords' | 'tags'>): string {
  return `context: ${context} keywords: ${keywords.join(', ')}; tags: ${tags.join(', ')}`;
}

export const amem: MethodSpec = {
  name: 'amem',
  description: 'A-MEM: notes that the model annotates, connects and rewrites, found by text embeddings.',
  source: 'arXiv 2502.12110',
  aware: false,
  embeds: true,
  async open(options) {
    const { engine, embedder } = options;
    if (!embedder)
      throw new TmemError('usage', 'The method amem finds its notes by text embeddings; give an embedder.');
    const bare = await countTokens(engine, [{ role: 'user', content: AMEM.evolution }]);
    checkBudget(options, bare + chunkTokens(options));
    return new Notes(options, embedder);
  },
};
