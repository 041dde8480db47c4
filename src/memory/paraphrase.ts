/** Questions in other words, which are asked after a write and never trained on: what a memory is good for. */
import { complete, type Engine } from '../engine/types.ts';
import { normalise } from './recall.ts';

/** Every word that is said to the model. */
const EXAMPLES: readonly (readonly [string, string, string])[] = [
  [
    "What is the name of Ingrid's parrot?",
    "What is Ingrid's parrot called?",
    "Do you know the name of Ingrid's parrot?",
  ],
  ['Where does Pavel Novak work?', 'What is the workplace of Pavel Novak?', 'Which place does Pavel Novak work at?'],
];
const ASK = 'Say this question in other words, in two ways: ';
const SCHEMA = {
  type: 'object',
  properties: { first: { type: 'string', maxLength: 160 }, second: { type: 'string', maxLength: 160 } },
  required: ['first', 'second'],
};

/** At most two other ways to ask, by the base model; those that lost a name or number of the question are left out. */
export async function paraphrase(engine: Engine, question: string, signal?: AbortSignal): Promise<string[]> {
  const shown = EXAMPLES.flatMap(([asked, first, second]) => [
    { role: 'user' as const, content: ASK + asked },
    { role: 'assistant' as const, content: JSON.stringify({ first, second }) },
  ]);
  const { text } = await complete(engine, {
    prompt: [...shown, { role: 'user', content: ASK + question }],
    schema: SCHEMA,
    maxTokens: 96,
    fastWeights: false,
    signal,
  });
  const known = new Set([normalise(question)]);
  return strings(text).filter((other) => {
    const isNew = !known.has(normalise(other));
    known.add(normalise(other));
    return isNew && keepsNames(question, other);
  });
}

function strings(text: string): string[] {
  try {
    const { first, second } = JSON.parse(text);
    return [first, second].filter((x) => typeof x === 'string' && x !== '');
  } catch {
    return [];
  }
}

/** Whether every word with a capital letter behind the first word, and every number, is in the other question. */
function keepsNames(question: string, other: string): boolean {
  const named = question.match(/(?<=\s)\p{Lu}[\p{L}-]*|[\p{L}\p{N}]*\p{N}[\p{L}\p{N}]*/gu) ?? [];
  const words = new Set(normalise(other).split(' '));
  return named.every((name) =>
    normalise(name)
      .split(' ')
      .every((word) => words.has(word)),
  );
}
