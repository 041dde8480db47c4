/** Pairs and the model's own answers as what is trained. */
import type { ChatMessage, Engine, Likely, Sample } from '../engine/types.ts';
import { messagesOf, type OwnAnswer } from './anchors.ts';
import type { Pair, Wording } from './types.ts';

/** Of a distribution that is matched, the most probable tokens. */
const LIKELY = 64;
/** Characters of a source that the model reads before the question. */
const MOST_SOURCE = 1000;

interface Options {
  /** Last layers that are trained. */
  readonly layers: number;
  readonly signal?: AbortSignal | undefined;
}

/** An answer to a conversation, closed as the chat template closes it. */
export async function sampleOf(engine: Engine, messages: readonly ChatMessage[], output: string): Promise<Sample> {
  const [first] = messages;
  if (messages.length === 1 && first!.role === 'user') return engine.renderSample(first!.content, output);
  const { answer } = await engine.renderSample('', output);
  return { prompt: await engine.renderChat(messages), answer };
}

/** Pairs by their words. */
export function pairSamples(engine: Engine, pairs: readonly Wording[]): Promise<Sample[]> {
  return Promise.all(pairs.map(({ instruction, output }) => engine.renderSample(instruction, output)));
}

/**
 * Pairs by what the base model says of each next token of the output while it reads the source (context distillation, arXiv 2209.15189);
 * by the word itself where it would say another one.
 */
export async function distilledSamples(engine: Engine, pairs: readonly Pair[], options: Options): Promise<Sample[]> {
  const samples = await pairSamples(engine, pairs);
  const read = pairs.map(({ instruction, output, source }) => ({
    instruction: `${source.slice(0, MOST_SOURCE)}\n\n${instruction}`,
    output,
  }));
  const { losses, likely } = await distributions(engine, await pairSamples(engine, read), options);
  return samples.map((sample, i) => ({
    ...sample,
    targets: likely[i]!.map((of, t) => (isMostProbable(losses[i]![t]!, of) ? of : undefined)),
  }));
}

/**
 * Own answers as training samples, by their words or by their distributions. One that is cut off has no end of turn: the model would
 * learn to stop there.
 */
export async function anchorSamples(
  engine: Engine,
  answers: readonly OwnAnswer[],
  by: 'words' | ({ readonly distributions: true } & Options) = 'words',
): Promise<Sample[]> {
  const samples = await Promise.all(
    answers
      .filter((a) => a.output !== '')
      .map(async ({ instruction, output, whole }) => {
        const sample = await sampleOf(engine, messagesOf(instruction), output);
        return whole
          ? sample
          : { ...sample, answer: sample.answer.slice(0, sample.answer.indexOf(output) + output.length) };
      }),
  );
  if (by === 'words' || samples.length === 0) return samples;
  const { likely } = await distributions(engine, samples, by);
  return samples.map((sample, i) => ({ ...sample, targets: likely[i]! }));
}

async function distributions(engine: Engine, samples: readonly Sample[], { layers, signal }: Options) {
  const { losses, likely } = await engine.evaluate({ samples, weights: null, layers, likely: LIKELY, signal });
  return { losses, likely: likely! };
}

function isMostProbable(loss: number, { logProbs }: Likely): boolean {
  return -loss >= Math.max(...logProbs) - 1e-3;
}
