/** What a policy is trained in. An environment gives tasks; a task plays one episode of the agent and says how well it went. */
import type { Turn } from '../memory/types.ts';

/** `held-out` tasks are never trained on. */
export type Split = 'train' | 'held-out';

export interface TaskQuestion {
  /** As it is put to the model. */
  readonly text: string;
  /** The right answer, in words. */
  readonly gold: string;
  readonly maxTokens?: number | undefined;
}

/** One episode: turns come in, then questions are asked with the working context cleared. */
export interface Task {
  /** Names it in reports. */
  readonly id: string;
  /** q, which the extraction is shown. Default: what comes later is not known. */
  readonly task?: string | undefined;
  readonly turns: readonly Turn[];
  readonly questions: readonly TaskQuestion[];
  /** How good the answers are, in the order of the questions: from 0 to 1. The outcome is all that is rewarded. */
  reward(answers: readonly string[]): number | Promise<number>;
  /** Other figures of the outcome, that are reported and not rewarded. */
  figures?(answers: readonly string[]): Readonly<Record<string, number>>;
  /** Where what comes in depends on what the agent does. Resolves to what is rewarded. Default: `playTurns`. */
  play?(agent: Agent, signal?: AbortSignal): Promise<readonly string[]>;
}

/** What a task sees of the agent that plays it. */
export interface Agent {
  observe(turn: Turn): Promise<void>;
  /** What is still in the working context is written to memory. */
  settle(): Promise<void>;
  /** Nothing is remembered of a question. */
  answer(question: { readonly text: string; readonly maxTokens?: number | undefined }): Promise<{
    readonly text: string;
    readonly contextTokens: number;
  }>;
}

export interface Environment {
  readonly name: string;
  /** The same seed gives the same task. */
  episode(seed: number, split: Split): Task | Promise<Task>;
}

/** All turns, a last write, all questions. */
export async function playTurns({ turns, questions }: Task, agent: Agent): Promise<readonly string[]> {
  for (const turn of turns) await agent.observe(turn);
  await agent.settle();
  const answers = await Promise.all(questions.map((question) => agent.answer(question)));
  return answers.map(({ text }) => text);
}
