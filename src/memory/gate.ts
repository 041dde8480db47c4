import type { Engine } from '../engine/types.ts';
import { GATE, ownAnswers } from './anchors.ts';
import type { WriteEvent } from './types.ts';

/** Share of the gate's prompts that must keep their answers. */
const KEPT = 0.9;
/** A prompt keeps its answer while the base model's own words lose at most this many nats a token. */
const NATS = 0.5;

interface GatePrompt {
  readonly instruction: string;
  readonly output: string;
  /** Mean log-probability of a token of the output, without fast weights. */
  readonly base: number;
}

export interface GateOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: WriteEvent) => void) | undefined;
}

/** The base model does not change while an engine lives, so its side is computed once. */
const prompts = new WeakMap<Engine, GatePrompt[]>();

/** Asks the gate's prompts, which are never trained on, with the weights in force. @returns what is wrong, or undefined. */
export async function ordinaryAnswersChanged(
  engine: Engine,
  { signal, onEvent = () => {} }: GateOptions,
): Promise<string | undefined> {
  const gate = prompts.get(engine) ?? (await basePrompts(engine, signal));
  prompts.set(engine, gate);
  const kept = await Promise.all(
    gate.map(async ({ instruction, output, base }) => {
      const lost = base - (await meanLogProb(engine, instruction, output, true, signal));
      const ok = lost <= NATS;
      onEvent({ type: 'quiz', kind: 'anchor', question: instruction, answer: `${lost.toFixed(2)} nats a token`, ok });
      return ok;
    }),
  );
  const n = kept.filter(Boolean).length;
  return n < gate.length * KEPT ? `${gate.length - n} of ${gate.length} ordinary answers changed` : undefined;
}

async function basePrompts(engine: Engine, signal?: AbortSignal): Promise<GatePrompt[]> {
  const answers = (await ownAnswers(engine, GATE, signal)).filter((a) => a.output !== '');
  return Promise.all(
    answers.map(async (a) => ({ ...a, base: await meanLogProb(engine, a.instruction, a.output, false, signal) })),
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
