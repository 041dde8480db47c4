/** What a run keeps on disk, line by line, so that a killed one goes on where it was. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';
import { appendLine, readLines } from '../report/json-lines.ts';
import { KeptGenerations } from './kept-generations.ts';
import { KeptTrainings } from './kept-trainings.ts';

/** One answer; `scores` by name of the metric. */
const answerSchema = z.object({
  run: z.int().positive(),
  method: z.string(),
  sample: z.string(),
  id: z.string(),
  category: z.string(),
  question: z.string(),
  reference: z.string(),
  answer: z.string(),
  scores: z.record(z.string(), z.number()),
  /** Tokens of the context that it was read from. */
  contextTokens: z.int().nonnegative(),
  ms: z.number().nonnegative(),
});
export type AnswerLine = z.infer<typeof answerSchema>;

/** One memory that was made: of a sample, or of a sample for one question where that is known while reading. */
const memorySchema = z.object({
  run: z.int().positive(),
  method: z.string(),
  sample: z.string(),
  /** Id of the question. */
  question: z.string().optional(),
  /** The text that was kept. */
  text: z.string(),
  items: z.int().nonnegative(),
  /** Bytes of fast weights. */
  weights: z.int().nonnegative(),
  /** From the first turn to the last question; what an earlier run, or another method, has done for it is not in it. */
  seconds: z.number().nonnegative(),
  /** Generations that were taken over from those. Tokens are counted as if they had not been. */
  reused: z.int().nonnegative(),
  peakMiB: z.number().nonnegative().nullable(),
  promptTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  trainedTokens: z.int().nonnegative(),
  /** Length of the prompt of every call, in their order. */
  contexts: z.array(z.int().nonnegative()),
});
export type MemoryLine = z.infer<typeof memorySchema>;

/** The folder of one run: `settings.json`, `answers.jsonl`, `memories.jsonl`, `generations.jsonl`. */
export class Results {
  readonly answers: readonly AnswerLine[];
  readonly memories: readonly MemoryLine[];
  readonly generations: KeptGenerations;
  readonly trainings: KeptTrainings;
  readonly #folder: string;
  readonly #answers: AnswerLine[];
  readonly #memories: MemoryLine[];

  private constructor(folder: string) {
    this.#folder = folder;
    this.answers = this.#answers = readLines(this.answersFile, answerSchema);
    this.memories = this.#memories = readLines(this.#memoriesFile, memorySchema);
    this.generations = new KeptGenerations(folder);
    this.trainings = new KeptTrainings(folder);
  }

  /**
   * @param settings all that the answers depend on
   * @throws TmemError `usage` when the folder holds a run with other settings.
   */
  static async open(folder: string, settings: object): Promise<Results> {
    mkdirSync(folder, { recursive: true });
    const file = path.join(folder, 'settings.json');
    const wanted = JSON.parse(JSON.stringify(settings));
    if (existsSync(file)) {
      const kept = JSON.parse(readFileSync(file, 'utf8'));
      const other = [...new Set([...Object.keys(kept), ...Object.keys(wanted)])].filter(
        (key) => !isDeepStrictEqual(kept[key], wanted[key]),
      );
      if (other.length > 0)
        throw new TmemError(
          'usage',
          `${folder} holds a run with another ${other.join(', ')}; give another folder by --out, or the settings of that run.`,
        );
    } else await writeFileAtomic(file, (chunk) => chunk(Buffer.from(JSON.stringify(wanted, null, 1))));
    return new Results(folder);
  }

  get answersFile(): string {
    return path.join(this.#folder, 'answers.jsonl');
  }

  get #memoriesFile(): string {
    return path.join(this.#folder, 'memories.jsonl');
  }

  addAnswer(line: AnswerLine): void {
    this.#answers.push(line);
    appendLine(this.answersFile, line);
  }

  /** Of one reading. What was trained for it is then not kept any more. */
  addMemories(lines: readonly MemoryLine[]): void {
    for (const line of lines) {
      this.#memories.push(line);
      appendLine(this.#memoriesFile, line);
    }
    this.trainings.clear();
  }
}
