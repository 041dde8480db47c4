/**
 * LoCoMo's own scores: other than plain F1 they take away "and", compare stems, and depend on the question's category.
 * Source of the rules: snap-research/locomo, task_eval/evaluation.py and gpt_utils.py. The order of the two choices,
 * random there, follows from a seed and the question here. All else is as it is there, the odd ones too: an empty part
 * between commas is a reference that no answer matches, and "(a)." is not taken for a choice. The stems are those of
 * NLTK's PorterStemmer (porter.ts).
 */
import { createHash } from 'node:crypto';
import { stem } from './porter.ts';
import { overlap, PUNCTUATION, words } from './text.ts';

/** 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop, 5 adversarial. */
export type LocomoCategory = 1 | 2 | 3 | 4 | 5;

const NOT_MENTIONED = 'Not mentioned in the conversation';
/** An answer to an adversarial question that says one of these is right. */
const ABSTENTIONS = ['no information available', 'not mentioned'];

/** Word boundaries are those of Python's `regex`, which counts combining marks as parts of words, other than `re`. */
const SMALL = /(?<![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])(?:a|an|the|and)(?![\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])/gu;

function stems(text: string): string[] {
  return words(text.toLowerCase().replace(PUNCTUATION, '').replace(SMALL, ' ')).map(stem);
}

const stemmedF1 = (answer: string, reference: string) => overlap(stems(answer), stems(reference));

/** From 0 to 1. Adversarial questions have no reference: whatever is given is not looked at. */
export function scoreLocomo(category: LocomoCategory, answer: string, reference: string): number {
  switch (category) {
    case 1: {
      const given = answer.split(',');
      const wanted = reference.split(',');
      const best = wanted.map((one) => Math.max(...given.map((other) => stemmedF1(other, one))));
      return best.reduce((sum, score) => sum + score, 0) / best.length;
    }
    case 2:
    case 4:
      return stemmedF1(answer, reference);
    case 3:
      return stemmedF1(answer, reference.split(';', 1)[0]!);
    case 5: {
      const said = answer.toLowerCase();
      return ABSTENTIONS.some((phrase) => said.includes(phrase)) ? 1 : 0;
    }
  }
}

export interface AdversarialChoice {
  /** The question with its two choices. */
  readonly question: string;
  /** What a reply says: the words of the choice for a bare a, b, (a) or (b), else the reply itself. To be scored. */
  readonly answerOf: (reply: string) => string;
}

/**
 * An adversarial question as it is asked: the wrong answer against there being none, in an order that is fair over
 * questions.
 */
export function adversarialChoice(question: string, adversarialAnswer: string, seed: number): AdversarialChoice {
  const hash = createHash('sha256').update(JSON.stringify([seed, question]));
  const [a, b] = hash.digest()[0]! < 128 ? [NOT_MENTIONED, adversarialAnswer] : [adversarialAnswer, NOT_MENTIONED];
  return {
    question: `${question} Select the correct answer: (a) ${a} (b) ${b}. `,
    answerOf(reply) {
      const said = reply.trim().toLowerCase();
      // By length alone: any other letter, and any other three characters, count as b.
      const { length } = [...said];
      if (length === 1) return said === 'a' ? a : b;
      if (length === 3) return said === '(a)' ? a : b;
      return said;
    },
  };
}
