/**
 * CL-bench (Dou et al. 2026, arXiv 2602.03587): tasks that need what their context teaches, answered at length and
 * judged by rubrics. Format: github.com/Tencent-Hunyuan/CL-bench, `CL-bench.jsonl` and `CLBench-life.jsonl`.
 *
 * All messages but the last are the stream that a memory reads, the last one is the question; officially the model is
 * shown all of them. A task of a single user message holds its context in the question: a memory is hardly tested by
 * it. A verdict that cannot be read counts as failed at once, where the original asks up to three times.
 */
import { z } from 'zod';
import { readJsonl } from '../agent/jsonl.ts';
import { TmemError } from '../engine/errors.ts';
import type { Turn } from '../memory/types.ts';
import { allMet, parseVerdict, rubricPrompt } from './scoring/clbench.ts';
import type { Benchmark, Sample } from './types.ts';

/** As in the paper of TMEM. */
const MAX_TOKENS = 1024;
/** Of the judge, which gives a reason for every rubric. */
const VERDICT_TOKENS = { all: 256, rubric: 96 };

const taskSchema = z
  .object({
    messages: z.array(z.object({ role: z.enum(['system', 'user', 'assistant']), content: z.string() })).min(1),
    rubrics: z.array(z.union([z.string(), z.object({ rubric_criteria: z.string() })])).min(1),
    metadata: z.object({ task_id: z.string().min(1), context_category: z.string().min(1) }),
  })
  .refine(({ messages }) => messages.at(-1)!.role === 'user', {
    path: ['messages'],
    message: 'the last one must be of the user',
  })
  .refine(({ messages }) => messages.at(-1)!.content.trim() !== '', {
    path: ['messages'],
    message: 'the last one is empty',
  });

export interface ClbenchDetails {
  readonly rubrics: readonly string[];
}

export const clbench: Benchmark = {
  name: 'clbench',
  description: 'CL-bench: tasks that need what their context teaches, judged by rubrics',
  metric: 'solved',
  prompts: {},
  needsJudge: true,

  async read(file, { samples } = {}) {
    return (await readJsonl(file, taskSchema, 'tasks')).slice(0, samples).map(sampleOf);
  },

  /** `solved`: all rubrics are met. An empty answer is not shown to the judge. */
  async score({ details }, answer, judge, signal) {
    if (!judge) throw new TmemError('usage', 'CL-bench is scored by a language model; name one by --judge.');
    if (answer.trim() === '') return { solved: 0 };
    const { rubrics } = details as ClbenchDetails;
    const tokens = VERDICT_TOKENS.all + rubrics.length * VERDICT_TOKENS.rubric;
    const reply = await judge.ask(rubricPrompt({ rubrics, answer }), tokens, signal);
    return { solved: allMet(parseVerdict(reply)) ? 1 : 0 };
  },
};

function sampleOf({ messages, rubrics: given, metadata }: z.infer<typeof taskSchema>): Sample {
  const { task_id: id, context_category: category } = metadata;
  const turns = messages.slice(0, -1).flatMap(({ role, content }): Turn[] => {
    if (content.trim() === '') return [];
    // What the system message says is read as a text: no turn has that role.
    return [role === 'system' ? { role: 'user', content, origin: 'document' } : { role, content }];
  });
  const rubrics = given.map((rubric) => (typeof rubric === 'string' ? rubric : rubric.rubric_criteria));
  const question = messages.at(-1)!.content;
  const details: ClbenchDetails = { rubrics };
  const ask = { text: question, maxTokens: MAX_TOKENS };
  return { id, turns, questions: [{ id, question, ask, reference: rubrics.join('\n'), category, details }] };
}
