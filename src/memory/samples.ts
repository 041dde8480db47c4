/** Pairs and the model's own answers as what is trained. */
import type { Engine, Likely, Sample } from '../engine/types.ts';
import type { OwnAnswer } from './anchors.ts';
import type { Pair, Wording } from './types.ts';

/** Of a distribution that is matched, the most probable tokens. */
const LIKELY = 64;

/** Pairs by their words. */
export function pairSamples(engine: Engine, pairs: readonly Wording[]): Promise<Sample[]> {
  return Promise.all(pairs.map(({ instruction, output }) => engine.renderSample(instruction, output)));
}

/**
 * Pairs by what the base model says of each next token of the output while it reads the source (context distillation, arXiv 2209.15189).
 * One after the other: bits of a sum depend on what is computed beside it, and a ledger gives the same weights again.
 */
export async function distilledSamples(
  engine: Engine,
  pairs: readonly Pair[],
  signal?: AbortSignal,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const { instruction, output, source } of pairs) {
    const sample = await engine.renderSample(instruction, output);
    const content = `${source}\n\n${instruction}`;
    samples.push({ ...sample, targets: await likelyAfter(engine, content, sample.answer, signal) });
  }
  return samples;
}

/**
 * Own answers as training samples, by their words or by their distributions. One that is cut off has no end of turn: the model would
 * learn to stop there.
 */
export async function anchorSamples(
  engine: Engine,
  answers: readonly OwnAnswer[],
  {
    distributions = false,
    signal,
  }: { readonly distributions?: boolean; readonly signal?: AbortSignal | undefined } = {},
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const { instruction, output, whole } of answers) {
    if (output === '') continue;
    const sample = await engine.renderSample(instruction, output);
    const end = whole ? sample.answer.length : sample.answer.indexOf(output) + output.length;
    const answer = sample.answer.slice(0, end);
    const targets = distributions ? await likelyAfter(engine, instruction, answer, signal) : undefined;
    samples.push({ ...sample, answer, ...(targets && { targets }) });
  }
  return samples;
}

async function likelyAfter(engine: Engine, content: string, answer: string, signal?: AbortSignal) {
  const prompt = [{ role: 'user' as const, content }];
  const { likely } = await engine.score({ prompt, answer, fastWeights: false, likely: LIKELY, signal });
  return likely as readonly Likely[];
}
