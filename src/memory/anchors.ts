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
import { type ChatMessage, complete, type Engine } from '../engine/types.ts';

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

/** A question alone, or a conversation that ends with the user. */
export type Prompt = string | readonly ChatMessage[];

export const messagesOf = (prompt: Prompt): readonly ChatMessage[] =>
  typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt;

/** A conversation behind a system message, of the user and the assistant in turn. */
export const talk = (system: string, ...turns: readonly string[]): readonly ChatMessage[] => [
  { role: 'system', content: system },
  ...turns.map((content, i): ChatMessage => ({ role: i % 2 === 0 ? 'user' : 'assistant', content })),
];

/** The gate's conversations, of which the same is true. */
export const GATE_TALK: readonly (readonly ChatMessage[])[] = [
  talk('You are a helpful assistant with a memory.', 'I slept badly last night.'),
  talk(
    'You are a helpful assistant with a memory.\n\nNotes from earlier conversations:\nThe user has a bicycle and likes the sea.',
    'Hi!',
    'Hello! What can I do for you?',
    'Nothing much. I only wanted to say hello.',
  ),
  talk(
    'You are a helpful assistant with a memory.\n\nNotes from earlier conversations:\nThe user plays the guitar.',
    'How do I clean a window?',
  ),
  talk('You are a helpful assistant.', 'Write one sentence about the sea.'),
];

const ANSWER_TOKENS = 16;
const messageSchema = z.strictObject({ role: z.enum(['system', 'user', 'assistant', 'tool']), content: z.string() });
const storedSchema = z.array(
  z.strictObject({
    instruction: z.union([z.string(), z.array(messageSchema)]),
    output: z.string(),
    whole: z.boolean(),
  }),
);

/** A prompt with the answer that the base model gives. */
export interface OwnAnswer {
  readonly instruction: Prompt;
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
  prompts: readonly Prompt[],
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
        prompt: messagesOf(instruction),
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
