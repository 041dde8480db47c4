/** What tmem and its rivals have in common: a stream of turns is read, then questions are answered from what was kept. */
import type { Embedder, Engine } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';

export interface MethodOptions {
  /** Its use is counted by whoever gives it (`metered`). */
  readonly engine: Engine;
  /** L_max: tokens of the working context that a method may fill before it has to keep less. */
  readonly budget: number;
  /**
   * What the memory is for, known while reading: the question itself in the question-aware setting. undefined: what a user has, the
   * question comes later.
   */
  readonly task?: string | undefined;
  /** Text embeddings, for methods that retrieve by them. */
  readonly embedder?: Embedder | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Question {
  /** As the model reads it, with what it needs to know of the form of the answer. */
  readonly text: string;
  /** What retrieval goes by. Default `text`. */
  readonly query?: string;
  /** Default 64. */
  readonly maxTokens?: number;
}

/** What is there after reading. */
export interface Kept {
  /** Text that the method may show the model again, whole or in part. */
  readonly text: string;
  /** Things that it consists of: notes, chunks, pairs. */
  readonly items: number;
  /** Bytes of fast weights. */
  readonly weights: number;
}

export interface Answer {
  readonly text: string;
  /** Tokens of the context that it was read from. */
  readonly contextTokens: number;
}

/** One memory of one stream of turns. */
export interface Method {
  observe(turn: Turn): Promise<void>;
  /** No more turns for now: what is still in the working context is taken into memory. */
  settle(): Promise<void>;
  /** Nothing is remembered of a question. */
  answer(question: Question): Promise<Answer>;
  kept(): Promise<Kept>;
  /** The same memory, as the method of that name answers from it: one that would have read the stream in the same way. undefined for all others. */
  as?(name: string): Promise<Method | undefined>;
}

export interface MethodSpec {
  readonly name: string;
  /** In a sentence, for help and reports. */
  readonly description: string;
  /** Where the method was published; what of it is changed is in the header of its file. */
  readonly source: string;
  /** The question is known while reading: the memory is made anew for every question. */
  readonly aware: boolean;
  /** It looks texts up by their embeddings: `MethodOptions.embedder` is needed. */
  readonly embeds?: boolean;
  /** All turns are in the context of an answer, as far as the engine's holds them. */
  readonly wholeStream?: boolean;
  open(options: MethodOptions): Promise<Method>;
}
