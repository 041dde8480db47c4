/**
 * LoCoMo (Maharana et al., ACL 2024, arXiv 2402.17753): questions about conversations of two people over many sessions.
 * Format: github.com/snap-research/locomo, `data/locomo10.json`; how turns and questions are laid out:
 * task_eval/gpt_utils.py there.
 *
 * - The questions do not speak of "the above context", as a memory has none, and the hint about dates says which: other
 *   than there, the words are our own. The choice of an adversarial question is that of scoring/locomo.ts, in an order
 *   that follows from the seed.
 * - `f1` and `em` are plain, as the TMEM paper reports them; `official` is LoCoMo's own score. All are of the answer
 *   that a choice stands for, and the reference of an adversarial question is that nothing was said.
 */
import { z } from 'zod';
import { checked } from '../agent/jsonl.ts';
import { TmemError } from '../engine/errors.ts';
import type { Turn } from '../memory/types.ts';
import type { Question } from '../methods/types.ts';
import { readJsonArray } from './json-array.ts';
import { adversarialChoice, type LocomoCategory, scoreLocomo } from './scoring/locomo.ts';
import { exactMatch, f1 } from './scoring/text.ts';
import type { Benchmark, BenchmarkQuestion, Sample } from './types.ts';

const ASK = {
  phrase: '{question}\nAnswer with a short phrase, in exact words from the conversation where possible.',
  date: '{question}\nAnswer with an approximate date in a short phrase; work it out from the date of the conversation.',
  choice: '{question}',
} as const;
const SHARED = '[shares {caption}]';
const NOTHING_SAID = 'Not mentioned in the conversation';

const CATEGORIES: Readonly<Record<LocomoCategory, string>> = {
  1: 'multi-hop',
  2: 'temporal',
  3: 'open-domain',
  4: 'single-hop',
  5: 'adversarial',
};

const words = z.union([z.string(), z.number()]).transform(String);
const categorySchema = z.union([z.literal(1), z.literal(2), z.literal(3), z.literal(4), z.literal(5)]);
const qaSchema = z
  .object({
    question: z.string().min(1),
    answer: words.nullish(),
    adversarial_answer: words.nullish(),
    category: categorySchema,
    evidence: z.array(z.string()).default([]),
  })
  .refine(
    ({ category, answer, adversarial_answer }) => (category === 5 && adversarial_answer) || answer,
    'there is no answer',
  );
const sampleSchema = z.object({
  sample_id: z.string().min(1),
  /** `session_N`, `session_N_date_time`, and the names of the two. */
  conversation: z.record(z.string(), z.unknown()),
  qa: z.array(qaSchema),
});
const sessionSchema = z.array(
  z.object({ speaker: z.string().min(1), dia_id: z.string(), text: z.string(), blip_caption: z.string().nullish() }),
);

export interface LocomoDetails {
  readonly category: LocomoCategory;
  /** The wrong choice of an adversarial question, and the seed of the order. */
  readonly choice?: { readonly wrong: string; readonly seed: number };
}

export const locomo: Benchmark = {
  name: 'locomo',
  description: 'LoCoMo: questions about long conversations of two people',
  metric: 'f1',
  prompts: { ASK, SHARED },
  needsJudge: false,
  apart: [CATEGORIES[5]],

  async read(file, { samples: most = Number.POSITIVE_INFINITY, seed = 0, sessions = Number.POSITIVE_INFINITY } = {}) {
    const samples: Sample[] = [];
    for await (const { value, where } of readJsonArray(file, 'conversations')) {
      const { sample_id: id, conversation, qa } = checked(sampleSchema, value, where);
      const said = turnsOf(conversation, where);
      const places = new Map(said.flatMap(({ id }, i) => placesIn(id).map((place) => [place, i] as const)));
      const questions = qa.map((item, i) => questionOf(item, `${id}/${i}`, seed, places));
      const read = said.filter(({ session }) => session <= sessions);
      const answerable = ({ evidence }: BenchmarkQuestion) => evidence?.length && evidence.at(-1)! < read.length;
      samples.push({
        id,
        turns: read.map(({ turn }) => turn),
        questions: sessions === Number.POSITIVE_INFINITY ? questions : questions.filter(answerable),
      });
      if (samples.length >= most) break;
    }
    return samples;
  },

  async score({ question, reference, details }, answer) {
    const { category, choice } = details as LocomoDetails;
    const said = choice ? adversarialChoice(question, choice.wrong, choice.seed).answerOf(answer) : answer;
    return {
      f1: f1(said, reference),
      em: exactMatch(said, reference),
      official: scoreLocomo(category, said, reference),
    };
  },
};

/** In their order, with the ids that evidence names them by, and the numbers of their sessions. */
function turnsOf(
  conversation: Readonly<Record<string, unknown>>,
  where: string,
): { readonly id: string; readonly session: number; readonly turn: Turn }[] {
  const numbers = Object.keys(conversation).flatMap((key) => /^session_(\d+)$/.exec(key)?.[1] ?? []);
  return numbers
    .map(Number)
    .sort((a, b) => a - b)
    .flatMap((n) => {
      const session = checked(sessionSchema, conversation[`session_${n}`], `${where}: session_${n}`);
      const time = isoTime(conversation[`session_${n}_date_time`], `${where}: session_${n}_date_time`);
      return session.flatMap(({ speaker, dia_id: id, text, blip_caption }) => {
        const shared = blip_caption ? SHARED.replace('{caption}', () => blip_caption) : '';
        const content = [text, shared].filter(Boolean).join(' ');
        const turn: Turn = { role: 'user', speaker, content, time };
        return content ? [{ id, session: n, turn }] : [];
      });
    });
}

function questionOf(
  item: z.infer<typeof qaSchema>,
  id: string,
  seed: number,
  places: ReadonlyMap<string, number>,
): BenchmarkQuestion {
  const { question, answer, adversarial_answer, category } = item;
  const evidence = evidenceIn(item.evidence, places);
  const ask = (form: keyof typeof ASK, asked: string): Question => ({
    text: ASK[form].replace('{question}', () => asked),
    query: question,
  });
  const common = { id, question, category: CATEGORIES[category], evidence };
  if (category === 5) {
    const wrong = (adversarial_answer ?? answer)!;
    const details: LocomoDetails = { category, choice: { wrong, seed } };
    const choice = adversarialChoice(question, wrong, seed).question.trim();
    return { ...common, ask: ask('choice', choice), reference: NOTHING_SAID, details };
  }
  const details: LocomoDetails = { category };
  return { ...common, ask: ask(category === 2 ? 'date' : 'phrase', question), reference: answer!, details };
}

/** `1:3` of an id as published, `D1:3`; a few stand together (`D8:6; D9:17`) or are slightly off (`D:11:26`). */
const placesIn = (ids: string): readonly string[] => ids.match(/\d+:\d+/g) ?? [];

function evidenceIn(ids: readonly string[], places: ReadonlyMap<string, number>): number[] {
  const found = ids.flatMap(placesIn).map((place) => places.get(place));
  return [...new Set(found.filter((index) => index !== undefined))].sort((a, b) => a - b);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');

/** `1:56 pm on 8 May, 2023` as `2023-05-08T13:56`. */
function isoTime(date: unknown, where: string): string {
  const [, hour, minute, half, day, name, year] =
    /^(\d{1,2}):(\d{2}) ([ap])m on (\d{1,2}) (\w+), (\d{4})$/.exec(typeof date === 'string' ? date.trim() : '') ?? [];
  const month = MONTHS.indexOf(name ?? '') + 1;
  if (month === 0)
    throw new TmemError(
      'usage',
      `${where}: ${JSON.stringify(date) ?? 'nothing'} is no date such as "1:56 pm on 8 May, 2023".`,
    );
  const hours = (Number(hour) % 12) + (half === 'p' ? 12 : 0);
  const two = (n: unknown) => String(n).padStart(2, '0');
  return `${year}-${two(month)}-${two(day)}T${two(hours)}:${minute}`;
}
