/**
 * One question to a memory: what it answers, what that rests on, and whether it had better not.
 *
 * What was learned often is not what is said first but what is said sometimes, and the confidence tells which: so with `tries` an answer that
 * is not sure is sampled again, several times, and the surest one is given. Reciting more than once is RECITE's (Sun et al., arXiv 2210.01296),
 * which takes the majority; choosing by a score is best-of-n (Cobbe et al., arXiv 2110.14168).
 */
import type { Engine, SamplingOptions } from '../engine/types.ts';
import { type Confidence, confidenceOf, SURE, weigh } from '../memory/confidence.ts';
import { standingPairs } from '../memory/ledger.ts';
import { type NearestPair, nearestPairs } from '../memory/nearest.ts';
import type { MemoryState, Pair } from '../memory/types.ts';
import { answerContext } from './context.ts';
import { NOT_KNOWN } from './prompts.ts';

export interface AnswerOptions {
  /** m is in the context. Default true. */
  readonly useExplicit?: boolean;
  /** How many of the nearest standing pairs are shown beside the question. Default 0. */
  readonly retrieve?: number | undefined;
  /** How many nearest pairs are told, at least. Default 3. */
  readonly nearest?: number;
  /** An answer of a lower confidence than this is withheld. Default: none is. */
  readonly abstain?: number | undefined;
  /** Whether the confidence is wanted without `abstain` and `tries`, too: it takes two passes over the answer. Default false. */
  readonly assess?: boolean;
  /** Answers at the most: when the first one is not sure the others are sampled, and the surest of all is given. Default 1. */
  readonly tries?: number | undefined;
  /** Default 128. */
  readonly maxTokens?: number;
  readonly signal?: AbortSignal | undefined;
  /** Pieces of the answer as they come; with `abstain` or more than one try all of it at once, when it is known that it will be given. */
  readonly onText?: ((text: string) => void) | undefined;
}

export interface Answered {
  /** What is said. */
  readonly answer: string;
  /** undefined: not asked for. */
  readonly confidence: Confidence | undefined;
  readonly abstained: boolean;
  /** What would have been said. */
  readonly withheld?: string;
  readonly nearest: readonly NearestPair[];
  /** Those that were shown beside the question, oldest first. */
  readonly retrieved: readonly Pair[];
  /** Length of the context. */
  readonly tokens: number;
}

/** Nearest pairs that are told when none are retrieved. */
const TOLD = 3;
/** An answer without a token says nothing that one could be sure of. */
const NOTHING: Confidence = { written: 0, known: 0, confidence: 0 };

/**
 * Answers from (q, m) with the weights in force, which are to be those of `state`. Nothing is remembered of the question. Its
 * confidence is that of the answer alone, whatever was shown beside the question: see memory/confidence.ts.
 */
export async function answerQuestion(
  engine: Engine,
  state: MemoryState,
  question: string,
  options: AnswerOptions = {},
): Promise<Answered> {
  const { useExplicit = true, retrieve = 0, nearest: told = TOLD, maxTokens = 128, signal, onText } = options;
  const { abstain, tries = 1 } = options;
  const assess = options.assess || abstain !== undefined || tries > 1;
  const standing = standingPairs(state.writes);
  const near = nearestPairs(standing, question, standing.length);
  const shown = new Set(near.slice(0, retrieve).map(({ pair }) => pair));
  const retrieved = standing.filter((pair) => shown.has(pair));
  const prompt = answerContext(question, useExplicit ? state.explicit : '', retrieved);
  const streams = abstain === undefined && tries === 1;
  const weighed = new Map<string, ReturnType<typeof weigh>>();
  const weighOnce = (answer: string) => {
    const known = weighed.get(answer) ?? weigh(engine, question, answer, near, signal);
    weighed.set(answer, known);
    return known;
  };
  const say = async (sampling?: SamplingOptions): Promise<Said> => {
    let answer = '';
    let tokens = 0;
    for await (const event of engine.generate({ prompt, maxTokens, signal, ...sampling })) {
      if (event.type === 'done') [answer, tokens] = [event.text.trim(), event.promptTokens];
      else if (streams) onText?.(event.text);
    }
    const evidence = assess ? await weighOnce(answer) : undefined;
    return { answer, tokens, confidence: evidence ? confidenceOf(evidence) : NOTHING };
  };
  const first = await say();
  const again = tries > 1 && first.confidence.confidence < SURE ? tries - 1 : 0;
  const others = await Promise.all(Array.from({ length: again }, (_, i) => say({ temperature: 1, seed: i + 1 })));
  const { answer, tokens, confidence: found } = [first, ...others].reduce(surer);
  const abstained = abstain !== undefined && found.confidence < abstain;
  const given = abstained ? NOT_KNOWN : answer;
  if (!streams) onText?.(given);
  return {
    ...{ answer: given, abstained, ...(abstained && { withheld: answer }) },
    ...{ confidence: assess ? found : undefined, retrieved, tokens },
    nearest: near.slice(0, Math.max(retrieve, told)),
  };
}

interface Said {
  readonly answer: string;
  readonly tokens: number;
  /** NOTHING when it is not asked for. */
  readonly confidence: Confidence;
}

/** The earlier of two that are equally sure. */
const surer = (a: Said, b: Said) => (b.confidence.confidence > a.confidence.confidence ? b : a);
