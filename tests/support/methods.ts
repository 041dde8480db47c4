/** Scripted models, an embedder of word counts, and streams of turns, for tests of the methods. */
import { createHash } from 'node:crypto';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Embedder, GenerateRequest } from '../../src/engine/types.ts';
import type { Turn } from '../../src/memory/types.ts';
import type { Method, MethodSpec } from '../../src/methods/types.ts';
import { said, scriptedPolicy } from './scripted.ts';

/** Hashed bags of words as vectors of length 1. */
export function wordEmbedder(width = 512): Embedder & { readonly embedded: string[]; readonly queries: string[] } {
  const embedded: string[] = [];
  const queries: string[] = [];
  return {
    ...{ model: { name: 'words', width }, embedded, queries },
    async embed(texts, { query = false } = {}) {
      (query ? queries : embedded).push(...texts);
      return texts.map((text) => {
        const vector = new Float32Array(width);
        for (const word of text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [])
          vector[createHash('md5').update(word).digest().readUInt16LE() % width]! += 1;
        const length = Math.hypot(...vector) || 1;
        return vector.map((x) => x / length);
      });
    },
    async close() {},
  };
}

/** A policy that extracts facts, and else says one word that stands for the whole prompt and the weights in force. */
export function digesting(contextSize = 32768): ScriptedEngine {
  return scriptedPolicy(
    ({ prompt, prefill }, weights) => {
      const marks = weights?.tensors.map(({ b }) => [...b]);
      return createHash('md5')
        .update(JSON.stringify([prompt, prefill, marks]))
        .digest('hex');
    },
    { contextSize },
  );
}

export const generated = (engine: ScriptedEngine): GenerateRequest[] =>
  engine.calls.flatMap((call) => (call.type === 'generate' ? [call.request] : []));

/** All that a request shows the model. */
export const shownIn = ({ prompt, prefill = '' }: GenerateRequest): string =>
  (typeof prompt === 'string' ? prompt : prompt.map(({ content }) => content).join('\n')) + prefill;

export async function tokensOf(engine: ScriptedEngine, { prompt, prefill = '' }: GenerateRequest): Promise<number> {
  const text = typeof prompt === 'string' ? prompt : await engine.renderChat(prompt);
  return (await engine.tokenize(text + prefill)).length;
}

export const filler = (words: number, prefix = 'w') =>
  Array.from({ length: words }, (_, i) => `${prefix}${i}`).join(' ');

/** Dated turns of two speakers with one fact each. */
export function talk(subjects: readonly string[], words = 0): Turn[] {
  return subjects.map((subject, i) =>
    said(`The ${subject} is ${subject}ish. ${filler(words, `${subject}`)}`.trim(), {
      ...{ speaker: i % 2 === 0 ? 'Ann' : 'Ben', time: `2026-03-${String(i + 1).padStart(2, '0')}` },
    }),
  );
}

/** Opens a method on an engine and lets it read. */
export async function reading(
  spec: MethodSpec,
  engine: ScriptedEngine,
  turns: readonly Turn[],
  options: Partial<Parameters<MethodSpec['open']>[0]> = {},
): Promise<Method> {
  const method = await spec.open({ engine, budget: 1000, ...(spec.aware && { task: 'Which door?' }), ...options });
  for (const turn of turns) await method.observe(turn);
  await method.settle();
  return method;
}
