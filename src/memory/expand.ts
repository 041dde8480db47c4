/**
 * Other ways of saying a pair. A fact that is trained as one question and one answer is found by that question only (Allen-Zhu and Li,
 * arXiv 2309.14316; the reversal curse, arXiv 2309.12288).
 */
import { complete, type Engine } from '../engine/types.ts';
import { paraphrase } from './paraphrase.ts';
import { addedWords, capitalised, contentWords, normalise } from './recall.ts';
import type { Pair, Wording } from './types.ts';

/**
 * `paraphrase`: the question in two other wordings. `reversed`: the question that the same sentence answers the other way round, which
 * names the answer. `statement`: the sentence, to be completed. `dated`: the question as of the time when it was said.
 */
export type Form = 'paraphrase' | 'reversed' | 'statement' | 'dated';

/** Wordings of `paraphrase` that are trained. */
const TRAINED_WORDINGS = 2;

/**
 * The pairs with what is trained beside each: written by the base model where a rule cannot, and checked against the pair. Those that have it
 * already keep it, so that a ledger is written again as it was.
 */
export function withWordings(
  engine: Engine,
  pairs: readonly Pair[],
  forms: readonly Form[],
  signal?: AbortSignal,
): Promise<Pair[]> {
  return Promise.all(
    pairs.map(async (pair) =>
      forms.length === 0 || pair.also ? pair : { ...pair, also: await expand(engine, pair, forms, signal) },
    ),
  );
}

/** Other wordings of one pair. */
export async function expand(
  engine: Engine,
  pair: Pair,
  forms: readonly Form[],
  signal?: AbortSignal,
): Promise<Wording[]> {
  const { output } = pair;
  const found = await Promise.all(
    forms.map(async (form): Promise<Wording[]> => {
      switch (form) {
        case 'paraphrase': {
          const others = await paraphrase(engine, pair.instruction, { ways: TRAINED_WORDINGS, signal });
          return others.map((instruction) => ({ instruction, output }));
        }
        case 'reversed':
          return (await reversed(engine, pair, signal)).map((instruction) => ({ instruction, output }));
        case 'statement':
          return statement(pair);
        case 'dated':
          return pair.time ? [{ instruction: `As of ${pair.time}: ${pair.instruction}`, output }] : [];
      }
    }),
  );
  return found.flat();
}

/** The sentence up to the first word that answers, to be completed. */
function statement({ instruction, output }: Pair): Wording[] {
  const added = new Set(addedWords({ instruction, output }));
  const words = output.split(/\s+/);
  const at = words.findIndex((word) => contentWords(word).some((w) => added.has(w)));
  return at > 1 ? [{ instruction: `Complete the sentence: ${words.slice(0, at).join(' ')} …`, output }] : [];
}

/** Every word that is said to the model. */
const EXAMPLES: readonly (readonly [string, string, string])[] = [
  ["What is the name of Ingrid's parrot?", "The name of Ingrid's parrot is Kiki.", 'Whose parrot is called Kiki?'],
  ['Where does Pavel Novak work?', 'Pavel Novak works at the harbour.', 'Who works at the harbour?'],
  ['What is the hobby of Maria Lopez?', 'The hobby of Maria Lopez is chess.', 'Who has chess as a hobby?'],
];
const ASK = 'Ask for who or what this sentence is about; name the answer, do not name who or what is asked for. ';

/** The question that names the answer and asks for what the pair's question names; none unless it does so. */
async function reversed(engine: Engine, pair: Pair, signal: AbortSignal | undefined): Promise<string[]> {
  const told = (question: string, sentence: string) => `${ASK}Question: ${question} Sentence: ${sentence}`;
  const shown = EXAMPLES.flatMap(([question, sentence, other]) => [
    { role: 'user' as const, content: told(question, sentence) },
    { role: 'assistant' as const, content: other },
  ]);
  const { text } = await complete(engine, {
    prompt: [...shown, { role: 'user', content: told(pair.instruction, pair.output) }],
    maxTokens: 48,
    stop: ['\n'],
    fastWeights: false,
    signal,
  });
  const words = new Set(normalise(text).split(' '));
  const names = capitalised(pair.instruction);
  const namesAnswer = addedWords(pair).every((word) => words.has(word));
  const asksForNamed = names.length > 0 && !names.some((name) => words.has(normalise(name)));
  return text.trim().endsWith('?') && namesAnswer && asksForNamed ? [text.trim()] : [];
}
