/**
 * LongMemEval (Wu et al., ICLR 2025, arXiv 2410.10813): questions to an assistant about many earlier chats with its
 * user. Format: github.com/xiaowu0162/LongMemEval; files `longmemeval_s`, `_m` and `_oracle`, also `_cleaned`.
 *
 * - Sessions are read in the order of their dates, as the official generation does; in `_oracle` they are not sorted.
 * - An answer is asked for in a sentence at most, as its F1 is reported, too; the official prompts leave its form open.
 * - The questions whose id ends with `_abs` are a category of their own; the official report counts them in their type
 *   as well.
 */
import { z } from 'zod';
import { checked } from '../agent/jsonl.ts';
import { TmemError } from '../engine/errors.ts';
import { spellTime } from '../memory/spell-time.ts';
import type { Turn } from '../memory/types.ts';
import { readJsonArray } from './json-array.ts';
import { judgedRight, judgePrompt } from './scoring/longmemeval.ts';
import { exactMatch, f1 } from './scoring/text.ts';
import type { Benchmark, Sample } from './types.ts';

const ASK = 'Today is {date}. {question}\nAnswer in one short sentence or less.';
const MAX_TOKENS = 128;
/** Of the judge, which says yes or no. */
const VERDICT_TOKENS = 10;
const ABSTENTION = 'abstention';

const itemSchema = z.object({
  question_id: z.string().min(1),
  question_type: z.enum([
    'single-session-user',
    'single-session-assistant',
    'single-session-preference',
    'temporal-reasoning',
    'knowledge-update',
    'multi-session',
  ]),
  question: z.string().min(1),
  answer: z.union([z.string(), z.number()]).transform(String),
  question_date: z.string(),
  haystack_dates: z.array(z.string()),
  haystack_sessions: z.array(
    z.array(z.object({ role: z.enum(['user', 'assistant']), content: z.string(), has_answer: z.boolean().nullish() })),
  ),
});

export interface LongMemEvalDetails {
  readonly type: z.infer<typeof itemSchema>['question_type'];
}

export const longmemeval: Benchmark = {
  name: 'longmemeval',
  description: 'LongMemEval: questions to an assistant about many earlier chats',
  metric: 'judged',
  prompts: { ASK },
  needsJudge: true,

  /**
   * A sample a question. What is read is held in memory: for `_m` that is gigabytes, unless `samples` says how many are
   * wanted.
   */
  async read(file, { samples: most = Number.POSITIVE_INFINITY } = {}) {
    const samples: Sample[] = [];
    for await (const { value, where } of readJsonArray(file, 'questions')) {
      samples.push(sampleOf(value, where));
      if (samples.length >= most) break;
    }
    return samples;
  },

  async score({ id, question, reference, details }, answer, judge, signal) {
    if (!judge) throw new TmemError('usage', 'LongMemEval is scored by a language model; name one by --judge.');
    const { type } = details as LongMemEvalDetails;
    const reply = await judge.ask(judgePrompt({ type, id, question, reference, answer }), VERDICT_TOKENS, signal);
    return { judged: judgedRight(reply) ? 1 : 0, f1: f1(answer, reference), em: exactMatch(answer, reference) };
  },
};

function sampleOf(value: unknown, where: string): Sample {
  const item = checked(itemSchema, value, where);
  const { question_id: id, question_type: type, question, haystack_dates: dates, haystack_sessions } = item;
  if (dates.length !== haystack_sessions.length)
    throw new TmemError(
      'usage',
      `${where}: there are ${haystack_sessions.length} sessions, but ${dates.length} dates.`,
    );
  const sessions = haystack_sessions.map((turns, i) => ({
    turns,
    time: isoTime(dates[i]!, `${where}: haystack_dates`),
  }));
  sessions.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  const turns: Turn[] = [];
  const evidence: number[] = [];
  for (const { turns: said, time } of sessions) {
    for (const { role, content, has_answer } of said) {
      if (content.trim() === '') continue;
      if (has_answer) evidence.push(turns.length);
      turns.push({ role, content, time });
    }
  }
  const date = spellTime(isoTime(item.question_date, `${where}: question_date`));
  const text = ASK.replace('{date}', date).replace('{question}', () => question);
  const details: LongMemEvalDetails = { type };
  const category = id.endsWith('_abs') ? ABSTENTION : type;
  const ask = { text, query: question, maxTokens: MAX_TOKENS };
  return { id, turns, questions: [{ id, question, ask, reference: item.answer, category, evidence, details }] };
}

/** `2023/05/20 (Sat) 02:21` as `2023-05-20T02:21`. */
function isoTime(date: string, where: string): string {
  const match = /^(\d{4})\/(\d{2})\/(\d{2}) \(\w+\) (\d{2}:\d{2})$/.exec(date.trim());
  if (!match) throw new TmemError('usage', `${where}: "${date}" is no date such as 2023/05/20 (Sat) 02:21.`);
  return `${match[1]}-${match[2]}-${match[3]}T${match[4]}`;
}
