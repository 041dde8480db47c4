/**
 * LongMemEval: what a judge is asked, and what it said.
 * The judge's prompts are those of xiaowu0162/LongMemEval, src/evaluation/evaluate_qa.py, word for word, under its
 * licence:
 *
 * MIT License. Copyright (c) 2024 Di Wu. Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following
 * conditions: The above copyright notice and this permission notice shall be included in all copies or substantial
 * portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
 * INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
 * IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
 * ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
 * DEALINGS IN THE SOFTWARE.
 */
import { TmemError } from '../../engine/errors.ts';

interface Template {
  readonly rules: string;
  /** What the dataset's `answer` is called. */
  readonly reference: string;
  readonly ask: string;
}

const GIVEN =
  'I will give you a question, a correct answer, and a response from a model. Please answer yes if the response contains the correct answer. Otherwise, answer no. ';
const EQUIVALENT =
  'If the response is equivalent to the correct answer or contains all the intermediate steps to get the correct answer, you should also answer yes. If the response only contains a subset of the information required by the answer, answer no. ';
const ASK = 'Is the model response correct? Answer yes or no only.';

const WHOLE: Template = { rules: GIVEN + EQUIVALENT, reference: 'Correct Answer', ask: ASK };

const TEMPLATES: ReadonlyMap<string, Template> = new Map([
  ['single-session-user', WHOLE],
  ['single-session-assistant', WHOLE],
  ['multi-session', WHOLE],
  [
    'temporal-reasoning',
    {
      ...WHOLE,
      rules: `${GIVEN}${EQUIVALENT}In addition, do not penalize off-by-one errors for the number of days. If the question asks for the number of days/weeks/months, etc., and the model makes off-by-one errors (e.g., predicting 19 days when the answer is 18), the model's response is still correct. `,
    },
  ],
  [
    'knowledge-update',
    {
      ...WHOLE,
      rules: `${GIVEN}If the response contains some previous information along with an updated answer, the response should be considered as correct as long as the updated answer is the required answer.`,
    },
  ],
  [
    'single-session-preference',
    {
      rules:
        "I will give you a question, a rubric for desired personalized response, and a response from a model. Please answer yes if the response satisfies the desired response. Otherwise, answer no. The model does not need to reflect all the points in the rubric. The response is correct as long as it recalls and utilizes the user's personal information correctly.",
      reference: 'Rubric',
      ask: ASK,
    },
  ],
]);

const ABSTENTION: Template = {
  rules:
    'I will give you an unanswerable question, an explanation, and a response from a model. Please answer yes if the model correctly identifies the question as unanswerable. The model could say that the information is incomplete, or some other information is given but the asked information is not.',
  reference: 'Explanation',
  ask: 'Does the model correctly identify the question as unanswerable? Answer yes or no only.',
};

export interface Judged {
  /** `question_type` of the dataset. */
  readonly type: string;
  /** `question_id`; one that holds `_abs` is of a question that cannot be answered, whatever its type. */
  readonly id: string;
  readonly question: string;
  /** The right answer, the rubric of a preference, or why there is no answer. */
  readonly reference: string;
  readonly answer: string;
}

/**
 * What the judge is asked. In the original it may say ten tokens, and is greedy.
 * @throws TmemError `usage` for a type that the dataset does not have.
 */
export function judgePrompt({ type, id, question, reference, answer }: Judged): string {
  const template = id.includes('_abs') ? ABSTENTION : TEMPLATES.get(type);
  if (!template) {
    const known = [...TEMPLATES.keys()].join(', ');
    throw new TmemError(
      'usage',
      `Question ${id} is of the type "${type}", which LongMemEval does not have; it has ${known}.`,
    );
  }
  return `${template.rules}\n\nQuestion: ${question}\n\n${template.reference}: ${reference}\n\nModel Response: ${answer}\n\n${template.ask}`;
}

/** Whether the judge said yes, in whatever words, as the original takes it. */
export function judgedRight(reply: string): boolean {
  return reply.toLowerCase().includes('yes');
}
