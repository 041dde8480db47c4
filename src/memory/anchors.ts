/**
 * Ordinary prompts that keep the model whole while it learns. Three sets that do not overlap, with each other or with the control
 * questions of the demo and the benches:
 * - ORDINARY: text of everyday use; its inputs are what A is whitened against, and some of it is trained beside the pairs.
 * - GATE: never trained on; a write that changes their answers is rolled back.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import { complete, type Engine, type Sample } from '../engine/types.ts';

export const ORDINARY = [
  'What is the capital of Japan?',
  'How many legs does a spider have?',
  'Write a short greeting.',
  'What is 15 plus 27?',
  'Who was the first person on the Moon?',
  'What does a dentist do?',
  'Write a line of Python that prints hello.',
  'Give me a synonym of happy.',
  'What is the name of the river in Egypt?',
  'How do I boil an egg?',
  'What is recursion?',
  'Who wrote War and Peace?',
  'What is the plural of mouse?',
  'What is the chemical symbol of gold?',
  'Summarise what a database is.',
  'What is the best way to learn a language?',
  'Who discovered penicillin?',
  'What is the largest ocean?',
  'When did World War II end?',
  'What is the tallest mountain?',
  'What is a noun?',
  'What is the colour of grass?',
  'What is the currency of Japan?',
  'How many days are in a week?',
  'What is the name of the largest planet?',
  'Who painted Guernica?',
  'Where is the Eiffel Tower?',
  'What is the speed of light?',
  'What is the freezing point of water?',
  'What is the square root of 81?',
  'Who invented the telephone?',
  'Translate "good morning" into French.',
  'What is the difference between a list and a tuple in Python?',
  'Name three fruits.',
  'Where do penguins live?',
  'What is the name of the first US president?',
  'Which instrument has 88 keys?',
  'Where did the Titanic sink?',
  'What is the favourite food of a panda?',
  'What is the job of a pilot?',
  'What is the capital of Germany?',
  'What is the capital of Canada?',
  'What is the capital of Egypt?',
  'What is the capital of Norway?',
  'What is the capital of Mexico?',
  'What is the birthplace of Mozart?',
  'What is the home town of the Beatles?',
  'What is the native language of Pablo Neruda?',
  'What is the profession of Serena Williams?',
  'What is the nationality of Frida Kahlo?',
  'What is the instrument of Louis Armstrong?',
  'What is the first name of Einstein?',
  'What is the hobby of Sherlock Holmes?',
  'What is the favourite food of Garfield?',
  'What is the colour of an emerald?',
  'What is the national dish of Hungary?',
  'What is the atomic number of oxygen?',
  'What is the population of Iceland?',
  'What is the smallest prime number?',
  'What is the longest bone in the body?',
  "What is the name of Mickey Mouse's dog?",
  'What is the name of the wizard school in Harry Potter?',
  'What is the name of the girl who follows a white rabbit?',
  'What is the name of the star in the centre of the solar system?',
  'What is the brand with the four rings?',
  'Who wrote The Odyssey?',
  'Who wrote Moby-Dick?',
  'Who wrote Pride and Prejudice?',
  'Who wrote Les Misérables?',
  'Who painted The Starry Night?',
  'Who composed The Four Seasons?',
  'Who founded Microsoft?',
  'Who was the wife of Napoleon?',
  'Who is the king of the Greek gods?',
  'Who plays the violin in an orchestra?',
  'Where does the Pope live?',
  'Where was Nelson Mandela born?',
  'Where do you buy stamps?',
  'Where is the Amazon rainforest?',
  'When was the first iPhone sold?',
  'When did Columbus reach America?',
  'When is Christmas?',
  'How many strings does a guitar have?',
  'How many players are in a football team?',
  'How many minutes are in an hour?',
  'What is 8 times 6?',
  'What is 100 minus 37?',
  'What is half of 50?',
  'What does NASA stand for?',
  'What does HTML stand for?',
  'What does RAM stand for?',
  'What language is spoken in Mexico?',
  'What language is spoken in Austria?',
  'What colour is a strawberry?',
  'What colour are lemons?',
  'Which animal says moo?',
  'Which planet is closest to the Sun?',
  'Which gas makes balloons float?',
  'Which metal is liquid at room temperature?',
  'What is the opposite of big?',
  'What is the opposite of early?',
  'Name a vegetable.',
  'Name a season.',
  'Name a musical instrument.',
  'What is a group of wolves called?',
  'What is a baby dog called?',
  'What do bees make?',
  'What do cows drink?',
  'What can people be allergic to?',
  'What do you need to bake bread?',
] as const;

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
 * The base model's own greedy answers to prompts, without fast weights. They never change, so they are kept on disk per model.
 * @returns in the order of the prompts.
 */
export async function ownAnswers(
  engine: Engine,
  prompts: readonly string[],
  signal?: AbortSignal,
): Promise<OwnAnswer[]> {
  const hash = createHash('sha256').update(JSON.stringify(prompts)).digest('hex').slice(0, 12);
  const folder = path.join(tmemHome(), 'anchors');
  const file = path.join(folder, `${engine.model.fingerprint.slice(0, 16)}-${hash}.json`);
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

/** Own answers as training samples. One that is cut off has no end of turn: the model would learn to stop there. */
export function asSamples(engine: Engine, answers: readonly OwnAnswer[]): Promise<Sample[]> {
  return Promise.all(
    answers
      .filter((a) => a.output !== '')
      .map(async ({ instruction, output, whole }) => {
        const sample = await engine.renderSample(instruction, output);
        return whole
          ? sample
          : { ...sample, answer: sample.answer.slice(0, sample.answer.indexOf(output) + output.length) };
      }),
  );
}
