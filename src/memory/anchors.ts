/**
 * Ordinary prompts with the base model's own answers, which keep the model whole while it learns: some of `ordinary.ts` are trained
 * beside the pairs, and the gate asks its own.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import { complete, type Engine } from '../engine/types.ts';

/** Never trained on, and none of them ordinary text or a control question: a write that changes their answers is rolled back. */
export const GATE = [
  'What is the capital of Spain?',
  'How many hours are in a day?',
  'Who wrote Don Quixote?',
  'What is 9 times 7?',
  'What gas do plants take in?',
  'Name a primary colour.',
  'What language is spoken in Brazil?',
  'What does CPU stand for?',
  'Which planet is known as the red planet?',
  'What is the opposite of hot?',
  'Where is the Great Wall?',
  'What is the name of the fairy tale girl with glass slippers?',
] as const;

const ANSWER_TOKENS = 16;
const storedSchema = z.array(z.strictObject({ instruction: z.string(), output: z.string(), whole: z.boolean() }));

/** A prompt with the answer that the base model gives. */
export interface OwnAnswer {
  readonly instruction: string;
  readonly output: string;
  /** false: cut off at its first tokens. */
  readonly whole: boolean;
}

/**
 * The model's own greedy answers to prompts, without fast weights. They never change, so they are kept on disk per model and policy.
 * @returns in the order of the prompts.
 */
export async function ownAnswers(
  engine: Engine,
  prompts: readonly string[],
  signal?: AbortSignal,
): Promise<OwnAnswer[]> {
  const hash = createHash('sha256').update(JSON.stringify(prompts)).digest('hex').slice(0, 12);
  const folder = path.join(tmemHome(), 'anchors');
  const { fingerprint, policy = '' } = engine.model;
  const file = path.join(folder, `${fingerprint.slice(0, 16)}${policy}-${hash}.json`);
  const kept = readKept(file);
  if (kept?.length === prompts.length) return kept;
  const answers = await Promise.all(
    prompts.map(async (instruction) => {
      const { text, finish } = await complete(engine, {
        prompt: [{ role: 'user', content: instruction }],
        maxTokens: ANSWER_TOKENS,
        fastWeights: false,
        signal,
      });
      return { instruction, output: text.trim(), whole: finish !== 'length' };
    }),
  );
  mkdirSync(folder, { recursive: true });
  await writeFileAtomic(file, (write) => write(new TextEncoder().encode(JSON.stringify(answers))));
  return answers;
}

function readKept(file: string): OwnAnswer[] | undefined {
  try {
    return storedSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return undefined;
  }
}
