import type { Engine, Likely, ModelInfo } from '../engine/types.ts';
import { GATE, GATE_TALK, messagesOf, ownAnswers, type Prompt } from './anchors.ts';
import type { WriteEvent } from './types.ts';

/** Share of the gate's prompts that must keep their answers. */
const KEPT = 0.9;
/** A prompt keeps its answer while the next-token distributions along it are this near to the base model's, in nats a token. */
const NATS = 0.5;
/** Tokens whose probabilities are compared one by one; the others as one. */
const LIKELY = 64;

interface GatePrompt {
  readonly instruction: Prompt;
  /** The base model's own answer, and what it might have said at each of its tokens. */
  readonly output: string;
  readonly likely: readonly Likely[];
}

export interface GateOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: WriteEvent) => void) | undefined;
}

/** The base model does not change while an engine lives, so its side is computed once, also for engines around that one. */
const prompts = new WeakMap<ModelInfo, GatePrompt[]>();

/**
 * Asks the gate's prompts (`GATE`, `GATE_TALK`), which are never trained on, with the weights in force: the KL divergence of the next-token
 * distributions along the base model's own answers from those at Delta = 0.
 * @returns what is wrong, or undefined.
 */
export async function ordinaryAnswersChanged(
  engine: Engine,
  { signal, onEvent = () => {} }: GateOptions,
): Promise<string | undefined> {
  const gate = prompts.get(engine.model) ?? (await basePrompts(engine, signal));
  prompts.set(engine.model, gate);
  const kept = await Promise.all(
    gate.map(async ({ instruction, output, likely }) => {
      const nats = await meanDivergence(engine, instruction, output, likely, signal);
      const ok = nats <= NATS;
      const question = messagesOf(instruction).at(-1)!.content;
      onEvent({ type: 'quiz', kind: 'anchor', question, answer: `${nats.toFixed(2)} nats a token`, ok });
      return ok;
    }),
  );
  const n = kept.filter(Boolean).length;
  return n < gate.length * KEPT ? `${gate.length - n} of ${gate.length} ordinary answers changed` : undefined;
}

/** The most probable next tokens of the base model along an answer. */
export async function likelyAlong(
  engine: Engine,
  instruction: Prompt,
  answer: string,
  signal?: AbortSignal,
): Promise<readonly Likely[]> {
  const prompt = messagesOf(instruction);
  return (await engine.score({ prompt, answer, fastWeights: false, likely: LIKELY, signal })).likely!;
}

/** Mean KL divergence of the weights in force from the base model along an answer, in nats a token. */
export async function meanDivergence(
  engine: Engine,
  instruction: Prompt,
  answer: string,
  likely: readonly Likely[],
  signal?: AbortSignal,
): Promise<number> {
  const others = likely.map(({ tokens }) => tokens);
  const prompt = messagesOf(instruction);
  const now = await engine.score({ prompt, answer, fastWeights: true, others, signal });
  return likely.reduce((sum, base, i) => sum + divergence(base.logProbs, now.others![i]!), 0) / likely.length;
}

/** KL divergence of q from p in nats, of which the log-probabilities of some tokens are given; all others count as one. */
export function divergence(p: ArrayLike<number>, q: ArrayLike<number>): number {
  let [sum, pRest, qRest] = [0, 1, 1];
  for (let i = 0; i < p.length; i++) {
    const mass = Math.exp(p[i]!);
    sum += mass * (p[i]! - q[i]!);
    pRest -= mass;
    qRest -= Math.exp(q[i]!);
  }
  // What rounding leaves of nothing is not a difference.
  const [pLeft, qLeft] = [Math.max(pRest, 1e-6), Math.max(qRest, 1e-6)];
  return sum + pLeft * Math.log(pLeft / qLeft);
}

async function basePrompts(engine: Engine, signal?: AbortSignal): Promise<GatePrompt[]> {
  const answers = (await ownAnswers(engine, [...GATE, ...GATE_TALK], signal)).filter((a) => a.output !== '');
  return Promise.all(
    answers.map(async ({ instruction, output }) => {
      return { instruction, output, likely: await likelyAlong(engine, instruction, output, signal) };
    }),
  );
}

/** Mean log-probability of a token of an answer to a question with nothing else in the context. */
export async function meanLogProb(
  engine: Engine,
  instruction: string,
  answer: string,
  fastWeights: boolean,
  signal?: AbortSignal,
): Promise<number> {
  const { logProbs } = await engine.score({
    prompt: [{ role: 'user', content: instruction }],
    answer,
    fastWeights,
    signal,
  });
  return logProbs.reduce((a, b) => a + b, 0) / logProbs.length;
}
