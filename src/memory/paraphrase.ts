/** Questions in other words, which are asked after a write and never trained on: what a memory is good for. */
import { complete, type Engine } from '../engine/types.ts';
import { capitalised, normalise } from './recall.ts';

/** Every word that is said to the model. */
const EXAMPLES: readonly (readonly [string, ...string[]])[] = [
  [
    "What is the name of Ingrid's parrot?",
    "What is Ingrid's parrot called?",
    "Do you know the name of Ingrid's parrot?",
    'Tell me what Ingrid calls her parrot.',
    'Ingrid has a parrot. What is its name?',
  ],
  [
    'Where does Pavel Novak work?',
    'What is the workplace of Pavel Novak?',
    'Which place does Pavel Novak work at?',
    'Do you remember where Pavel Novak has a job?',
    "Tell me Pavel Novak's place of work.",
  ],
];
const TOKENS = 48;

/** At most `ways` other ways to ask, by the base model; those that lost a name or number of the question are left out. */
export async function paraphrase(
  engine: Engine,
  question: string,
  { ways, signal }: { readonly ways: 2 | 4; readonly signal?: AbortSignal | undefined },
): Promise<string[]> {
  const ask = (asked: string) => `Say this question in other words, in ${ways === 2 ? 'two' : 'four'} ways: ${asked}`;
  const shown = EXAMPLES.flatMap(([asked, ...others]) => [
    { role: 'user' as const, content: ask(asked) },
    { role: 'assistant' as const, content: JSON.stringify(others.slice(0, ways)) },
  ]);
  const { text } = await complete(engine, {
    prompt: [...shown, { role: 'user', content: ask(question) }],
    schema: { type: 'array', items: { type: 'string', maxLength: 160 }, minItems: ways, maxItems: ways },
    maxTokens: TOKENS * ways,
    fastWeights: false,
    signal,
  });
  const known = new Set([normalise(question)]);
  return strings(text).filter((other) => {
    const isNew = !known.has(normalise(other));
    known.add(normalise(other));
    return isNew && keepsNames(question, other) && (!isOwn(question) || isOwn(other));
  });
}

function strings(text: string): string[] {
  try {
    return (JSON.parse(text) as unknown[]).filter((x): x is string => typeof x === 'string' && x !== '');
  } catch {
    return [];
  }
}

/** Who asks of himself must do so in other words, too. */
const isOwn = (question: string) =>
  /\b(?:I|me|my|mine|myself)\b/.test(question.replace(/\b(?:tell|remind) me\b/gi, ''));

/** Whether every word with a capital letter behind the first word, and every number, is in the other question. */
function keepsNames(question: string, other: string): boolean {
  const numbers = question.match(/[\p{L}\p{N}]*\p{N}[\p{L}\p{N}]*/gu) ?? [];
  const words = new Set(normalise(other).split(' '));
  return [...capitalised(question), ...numbers].every((name) =>
    normalise(name)
      .split(' ')
      .every((word) => words.has(word)),
  );
}
