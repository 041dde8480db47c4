/** Which of the pairs that a model wrote may be trained on: those that the session itself states. */
import { createHash } from 'node:crypto';
import { stemmer } from 'stemmer';
import { questionKey } from '../memory/ledger.ts';
import type { WorkingTurn } from '../memory/session.ts';
import { type Origin, originOf, type Pair } from '../memory/types.ts';
import { transcriptLine } from './context.ts';
import type { RawPair } from './parse.ts';

/** A pair to be checked, and what its quote must be in: default the whole session. */
export interface Candidate extends RawPair {
  readonly within?: readonly WorkingTurn[];
}

export type DropReason =
  /** A field is missing. */
  | 'empty'
  | 'too-long'
  /** The quote is not in the session. */
  | 'not-quoted'
  /** Nothing that the output adds to the question is in the turn that is quoted. */
  | 'unsupported'
  /**
   * The question names nothing of the turn, or only who speaks, or someone as "he" or "she", or the output says "me" or "your" of people
   * who have names: alone it cannot be understood.
   */
  | 'vague'
  /** What the speakers do to each other by talking: "Ann thanks Bob for his advice". Nobody asks for it later. */
  | 'small-talk'
  /** Said by someone whose words are not trained on. */
  | 'untrusted'
  | 'duplicate'
  /** The same question has another answer that was said later. */
  | 'contradiction';

export type DropCounts = Partial<Record<DropReason, number>>;

export interface PairRules {
  /** Origins that are trained on. */
  readonly trusted: readonly Origin[];
  /** Characters of an instruction, and of an output. */
  readonly maxInstruction: number;
  readonly maxOutput: number;
}

/** From this many words on, two equal outputs are one fact (short ones, such as "yes" or a name, answer many questions). */
const SENTENCE_WORDS = 4;

export const DEFAULT_RULES: PairRules = {
  // What a tool returns may be written by anyone; it is kept as text only.
  trusted: ['user', 'assistant', 'document'],
  maxInstruction: 240,
  maxOutput: 240,
};

/** The pairs to train on, in the order in which they were quoted, and how many others were dropped for what reason. */
export function groundPairs(
  candidates: readonly Candidate[],
  session: readonly WorkingTurn[],
  rules: PairRules = DEFAULT_RULES,
): { readonly pairs: Pair[]; readonly dropped: DropCounts } {
  const dropped: DropCounts = {};
  const drop = (reason: DropReason): void => {
    dropped[reason] = (dropped[reason] ?? 0) + 1;
  };
  const names = new Set(session.flatMap(({ turn }) => turn.speaker ?? []));
  const speakers = new Set([...names].flatMap(contentWords));
  const said = session.map(({ turn }) => normalise(transcriptLine(turn)));
  const kept = new Map<string, { pair: Pair; at: number; offset: number }>();
  /** Sentences that answer one question already: trained under several, a fact drowns its neighbours. */
  const sentences = new Set<string>();
  for (const candidate of candidates) {
    const quote = normalise(candidate.source);
    if (!normalise(candidate.instruction) || !normalise(candidate.output) || !quote) drop('empty');
    else if (candidate.instruction.length > rules.maxInstruction || candidate.output.length > rules.maxOutput)
      drop('too-long');
    else {
      const heard = said.map((text, at) => (candidate.within?.includes(session[at]!) === false ? '' : text));
      const at = findQuote(quote, candidate.output, heard);
      const spoken = session[at];
      const raw = spoken ? withOwner(candidate, spoken.turn.speaker, names) : candidate;
      const question = questionKey(raw.instruction);
      const before = kept.get(question);
      if (!spoken) drop('not-quoted');
      else if (!supports(said[at]!, raw)) drop('unsupported');
      else if (isVague(raw.instruction, said[at]!, speakers)) drop('vague');
      else if (spoken.turn.speaker && ADDRESSED.test(raw.output)) drop('vague');
      else if (isSmallTalk(raw.output, names)) drop('small-talk');
      else if (!rules.trusted.includes(originOf(spoken.turn))) drop('untrusted');
      else if (before && normalise(before.pair.output) === normalise(raw.output)) drop('duplicate');
      else if (sentences.has(normalise(raw.output))) drop('duplicate');
      else {
        if (raw.output.trim().split(/\s+/).length >= SENTENCE_WORDS) sentences.add(normalise(raw.output));
        const offset = said[at]!.indexOf(quote);
        const later = !before || at > before.at || (at === before.at && offset >= before.offset);
        if (before) drop('contradiction');
        if (later) kept.set(question, { pair: makePair(raw, spoken), at, offset });
      }
    }
  }
  const ordered = [...kept.values()].sort((x, y) => x.at - y.at || x.offset - y.offset);
  return { pairs: ordered.map(({ pair }) => pair), dropped };
}

/** Text as it is compared: one case, one kind of quote and dash, single blanks, no quotes or stops around it. */
export function normalise(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[‘’‛′`´]/g, "'")
    .replace(/[“”„‟″«»]/g, '"')
    .replace(/[‐‑‒–—―−]/g, '-')
    .replace(/\s+/g, ' ')
    .replace(/^[\s"'.,;:!?…]+|[\s"'.,;:!?…]+$/g, '');
}

/** Words that carry content: no function words; numbers of any length. */
export function contentWords(text: string): string[] {
  const words =
    normalise(text)
      .replace(/'s\b/g, '')
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.filter((word) => /\p{N}/u.test(word) || (word.length > 1 && !STOP_WORDS.has(word)));
}

/** Content words that a pair's output adds to its question: "Emil" answers "What is the name of Ann's brother?", not "Who is Emil?". */
export function answerWords(pair: Pick<Pair, 'instruction' | 'output'>): string[] {
  const asked = new Set(contentWords(pair.instruction));
  return contentWords(pair.output).filter((word) => !asked.has(word));
}

const STOP_WORDS = new Set(
  `a an and are as at be been being but by can could did do does doing for from had has have he her hers him his how i if
  in into is it its itself may me might mine must my no nor not of off on or our ours out over own she should so some such
  than that the their theirs them then there these they this those to too under up us very was we were what when where
  which while who whom whose why will with would yes you your yours about after again all also am any because before
  both during each few more most only other same through until name named called
  something anything nothing everything someone somebody anyone anybody everyone everybody nobody thing things`.split(
    /\s+/,
  ),
);

/** The pair with what its quote calls "my" given to who speaks: models like to give it to whom is spoken to. */
function withOwner(pair: Candidate, speaker: string | undefined, names: ReadonlySet<string>): Candidate {
  if (speaker === undefined) return pair;
  let { instruction, output } = pair;
  for (const [, owned] of pair.source.matchAll(/\bmy (\p{L}+)/giu)) {
    for (const name of names) {
      const wrong = `${name}'s ${owned}`;
      if (name === speaker || pair.source.includes(wrong)) continue;
      const right = `${speaker}'s ${owned}`;
      instruction = instruction.replaceAll(wrong, right);
      output = output.replaceAll(wrong, right);
    }
  }
  return { ...pair, instruction, output };
}

/** The turn with the quote; of several, the last one that also holds a word of the output. -1: none. */
function findQuote(quote: string, output: string, said: readonly string[]): number {
  const words = contentWords(output);
  const quoted = said.map((text, at) => (text.includes(quote) ? at : -1)).filter((at) => at >= 0);
  return quoted.findLast((at) => words.some((word) => hasWord(said[at]!, word))) ?? quoted.at(-1) ?? -1;
}

/** Whether what the output adds to its question is stated in the turn. An output that adds nothing, or only other forms of its words, is of no use. */
function supports(said: string, raw: RawPair): boolean {
  const asked = new Set(contentWords(raw.instruction).map(stemmer));
  return answerWords(raw).some((word) => !asked.has(stemmer(word)) && hasWord(said, word));
}

const SOCIAL = new Set(
  `admire agree appreciate apologise ask cheer comfort compliment congratulate encourage glad grateful greet impressed jealous
  praise proud reassure remind respond reply sorry support supportive thank thankful`
    .split(/\s+/)
    .map(stemmer),
);

function isSmallTalk(output: string, names: ReadonlySet<string>): boolean {
  const words = new Set(contentWords(output));
  const speakers = [...names].filter((name) => contentWords(name).some((word) => words.has(word)));
  return speakers.length > 1 && [...words].some((word) => SOCIAL.has(stemmer(word)));
}

/** First and second person in lower case: a capital letter makes a title ("My Fair Lady"). */
const ADDRESSED = /\b(me|my|mine|we|us|our|ours|you|your|yours)\b/;

function isVague(question: string, said: string, speakers: ReadonlySet<string>): boolean {
  const pronoun = /\b(he|she|him|his|her|hers|they|their)\b/i.test(question);
  const named = /(?<=\S\s+["'(]*)\p{Lu}/u.test(question); // a capital letter behind the first word
  const words = contentWords(question);
  return (pronoun && !named) || !words.some((word) => hasWord(said, word)) || words.every((word) => speakers.has(word));
}

function hasWord(said: string, word: string): boolean {
  return new RegExp(`(?<![\\p{L}\\p{N}])${word}(?!\\p{N})`, 'u').test(said);
}

function makePair(raw: RawPair, { turn, index }: WorkingTurn): Pair {
  const { instruction, output, source } = raw;
  const id = createHash('sha256')
    .update(JSON.stringify([instruction, output, source, index]))
    .digest('hex')
    .slice(0, 16);
  const time = turn.time === undefined ? {} : { time: turn.time };
  return { id, instruction, output, source, turn: index, ...time, origin: originOf(turn) };
}
