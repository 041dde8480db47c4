/** What the answers of bench/memory/abstention.ts come to. */
import { ABSTAIN, type Coefficients, confidenceOf, type Evidence, FITTED } from '../../src/memory/confidence.ts';
import { auroc, calibrationError } from '../support/logistic.ts';
import { table } from '../support/report.ts';

export const KINDS = ['written', 'reworded', 'paraphrase', 'stranger', 'other', 'general'] as const;
export type Kind = (typeof KINDS)[number];

export interface Question {
  readonly kind: Kind;
  readonly question: string;
  /** undefined: nothing of it was ever written. */
  readonly answer?: string;
  readonly accept?: readonly string[] | undefined;
}

export interface Observation extends Question {
  readonly said: string;
  readonly right: boolean;
  readonly evidence: Evidence;
  /** Pairs that were shown beside the question. */
  readonly retrieve: number;
  /** Default 1. */
  readonly tries?: number;
}

/** Answers that say that there is none. */
const OWNS_UP =
  /\b(unknown|sorry|unable|cannot|can't|don't|do not know|does not|doesn't|no information|not (?:known|specified|mentioned|provided|available|have|enough|explicitly|possible|a )|need more|as an ai)/i;

export function figures(seen: readonly Observation[], coefficients: Coefficients = FITTED) {
  const said = seen.map((o) => ({ ...o, p: confidenceOf(o.evidence, coefficients).confidence }));
  const of = (...kinds: Kind[]) => said.filter((o) => kinds.includes(o.kind));
  const p = (list: readonly { readonly p: number }[]) => list.map((o) => o.p);
  const [asWritten, facts, never] = [of('written'), of('written', 'reworded', 'paraphrase'), of('stranger', 'other')];
  const by = (value: (e: Evidence) => number) =>
    auroc(
      facts.map((o) => value(o.evidence)),
      never.map((o) => value(o.evidence)),
    );
  return {
    kinds: KINDS.map((kind) => {
      const list = of(kind);
      return {
        kind,
        n: list.length,
        right: list.filter((o) => o.right).length,
        given: list.filter((o) => o.p >= ABSTAIN).length,
        givenRight: list.filter((o) => o.p >= ABSTAIN && o.right).length,
        ownsUp: list.filter((o) => OWNS_UP.test(o.said)).length,
        confidence: p(list).reduce((a, b) => a + b, 0) / list.length,
      };
    }),
    auroc: {
      asWritten: auroc(p(asWritten), p(never)),
      anyWords: auroc(p(facts), p(never)),
      rightly: auroc(p(facts.filter((o) => o.right)), p(never)),
      right: auroc(p(said.filter((o) => o.right)), p(said.filter((o) => !o.right))),
      meanAlone: by((e) => e.mean),
      gainAlone: by((e) => e.mean - e.base),
      lowestAlone: by((e) => e.lowest),
      similarityAlone: by((e) => e.similarity),
    },
    calibrationError: calibrationError(said),
    accuracy: said.filter((o) => o.p >= ABSTAIN === o.right).length / said.length,
  };
}

/** The figures as tables of text. */
export function tables({ kinds, auroc: area, calibrationError: ece, accuracy }: ReturnType<typeof figures>): string {
  const two = (x: number) => x.toFixed(3);
  const asked = [
    ['asked', 'n', 'right', 'given', 'given and right', 'owns up', 'mean confidence'],
    ...kinds.map((k) => [k.kind, ...[k.n, k.right, k.given, k.givenRight, k.ownsUp].map(String), two(k.confidence)]),
  ];
  const told = [
    ['figure', 'value'],
    ['AUROC: written in its own words against never written', two(area.asWritten)],
    ['AUROC: written in any words against never written', two(area.anyWords)],
    ['AUROC: written in any words and answered rightly against never written', two(area.rightly)],
    ['written in any words against never written by mean log-probability alone', two(area.meanAlone)],
    ['by its gain over the base model alone', two(area.gainAlone)],
    ['by the least probable token alone', two(area.lowestAlone)],
    ['by similarity of the nearest pair alone', two(area.similarityAlone)],
    ['AUROC: right against wrong answers', two(area.right)],
    ['expected calibration error', two(ece)],
    [`accuracy at ${ABSTAIN}`, two(accuracy)],
  ];
  return `${table(asked)}\n\n${table(told)}\n`;
}
