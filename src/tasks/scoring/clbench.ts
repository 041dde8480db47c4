/**
 * CL-bench: a judge goes through a task's rubrics, and only an answer that meets all of them counts.
 * Source of the rules: Dou et al., CL-bench: A Benchmark for Context Learning (arXiv 2602.03587) and
 * Tencent-Hunyuan/CL-bench, eval.py, all rights reserved: the prompt states its rules, steps and form of the verdict in
 * our own words. As there, the judge sees the rubrics and the answer, neither task nor context; the verdict's overall
 * score decides, not its list; an empty answer counts 0 and need not be judged. There a verdict that is not bare JSON
 * is asked for again; here JSON is also found between other words.
 */
import { z } from 'zod';
import { parseLenient } from '../../agent/parse.ts';

const NO_RUBRICS = 'No specific rubrics provided.';

const RULES = `You are a strict grader. Grade a student's answer by a list of rubrics, accurately and by nothing else.

The grade is all or nothing: 1 if the answer fully meets every single requirement of the rubrics, 0 if it fails even one of them in part.

Work through these steps and leave none out.
1. List every requirement that the rubrics state (form, content, amount, order and so on), and those that they imply (such as style or logical structure). Say for each what exactly an answer must or must not do to meet it.
2. Take the requirements one by one and decide whether the answer fully meets each.
3. Before you give the grade, check yourself: no requirement was left out; "fully met" was not loosened by leniency; your reasons and your grade agree; you judged by what the answer says, not by guesses.`;

const FORM = `Reply with this JSON and nothing else. The list has one "yes" or "no" for each rubric, in their order; the score is the number 0 or 1.
{
  "Grading Rationale": "your reasons in detail",
  "List of Requirement Satisfaction Status": ["yes", "no", ...],
  "Overall Score": 0 or 1
}`;

export interface Verdict {
  readonly rationale: string;
  /** Whether each rubric is met, as far as the judge said. */
  readonly met: readonly boolean[];
  /** The judge's overall score is 1. */
  readonly passed: boolean;
}

/** What the judge is asked; rubrics are numbered from 1, empty ones left out. */
export function rubricPrompt({
  rubrics,
  answer,
}: {
  readonly rubrics: readonly string[];
  readonly answer: string;
}): string {
  const numbered = rubrics.map((rubric, i) => (rubric.trim() ? `${i + 1}. ${rubric.trim()}` : '')).filter(Boolean);
  return `${RULES}\n\nRubrics:\n${numbered.join('\n') || NO_RUBRICS}\n\nThe student's answer:\n${answer}\n\n${FORM}`;
}

const verdictSchema = z.object({
  'Grading Rationale': z.string().catch(''),
  'List of Requirement Satisfaction Status': z.array(z.unknown()).catch([]),
  'Overall Score': z.unknown(),
});

/** What the judge said; null where there is no JSON with an overall score in it. */
export function parseVerdict(reply: string): Verdict | null {
  const scored = (value: unknown) => typeof value === 'object' && value !== null && 'Overall Score' in value;
  const verdict = verdictSchema.safeParse(parseLenient(reply, scored));
  if (!verdict.success) return null;
  return {
    rationale: verdict.data['Grading Rationale'],
    met: verdict.data['List of Requirement Satisfaction Status'].map((status) => /^\s*yes\b/i.test(String(status))),
    // In Python true equals 1.
    passed: verdict.data['Overall Score'] === 1 || verdict.data['Overall Score'] === true,
  };
}

/**
 * Whether the result counts 1: the judge's overall score is 1. A verdict that could not be had or read (null) counts 0.
 */
export function allMet(verdict: Verdict | null): boolean {
  return verdict?.passed ?? false;
}
