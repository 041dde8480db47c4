/** A memory that is one text of bounded length, written anew after every section of what is read. */
import { transcript } from '../agent/context.ts';
import { throwIfAborted } from '../engine/errors.ts';
import { type ChatMessage, complete } from '../engine/types.ts';
import { answerFrom, checkBudget, taskOf } from './common.ts';
import { Sections } from './sections.ts';
import type { Method, MethodOptions, MethodSpec } from './types.ts';

/** Part of the budget that the text may take: 1024 of 8192 tokens in MemAgent. The same for all methods of this kind. */
const SHARE = 1 / 8;

export interface Rewriting {
  /** How the model is asked for the new text. @param memory empty at first. @param limit tokens of the new text at the most */
  readonly ask: (
    memory: string,
    section: string,
    limit: number,
  ) => { readonly prompt: readonly ChatMessage[]; readonly prefill?: string; readonly stop?: readonly string[] };
  /** Tokens of a section at the most. Default: what the budget has room for. */
  readonly sectionTokens?: number;
}

/**
 * A method that has such a memory, and is read for a task: a general one, or with `aware` the question.
 * @throws TmemError `usage` when it is opened with a budget without room, or aware of no question
 */
export function runningMethod(
  about: Pick<MethodSpec, 'name' | 'description' | 'source' | 'aware'>,
  rewriting: (task: string) => Rewriting,
): MethodSpec {
  return {
    ...about,
    open: async (options) => openRunning(options, rewriting(taskOf(about.aware, options))),
  };
}

/** @throws TmemError `usage` for a budget without room. */
export async function openRunning(options: MethodOptions, { ask, sectionTokens }: Rewriting): Promise<Method> {
  const { engine, budget, signal } = options;
  const limit = Math.floor(budget * SHARE);
  let memory = '';
  const length = async (section: string) => {
    const { prompt, prefill = '' } = ask(memory, section, limit);
    return (await engine.tokenize((await engine.renderChat(prompt)) + prefill)).length;
  };
  checkBudget(options, (await length('')) + limit);
  const sections = new Sections({
    async fits(turns) {
      const section = transcript(turns);
      if (sectionTokens && (await engine.tokenize(section, { plain: true })).length > sectionTokens) return false;
      return (await length(section)) <= budget;
    },
    async take(turns) {
      const request = ask(memory, transcript(turns), limit);
      memory = (await complete(engine, { ...request, maxTokens: limit, fastWeights: false, signal })).text.trim();
    },
  });
  return {
    async observe(turn) {
      throwIfAborted(signal);
      await sections.add(turn);
    },
    async settle() {
      throwIfAborted(signal);
      await sections.flush();
    },
    answer: (question) => answerFrom(options, memory, question),
    kept: async () => ({ text: memory, items: memory ? 1 : 0, weights: 0 }),
  };
}
