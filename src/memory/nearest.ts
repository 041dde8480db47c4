/** Which pairs of the ledger a question is about, by its words. */
import { stemmer } from 'stemmer';
import { normalise } from './recall.ts';
import type { Pair } from './types.ts';

export interface NearestPair {
  readonly pair: Pair;
  /** BM25 of question and answer of the pair, above 0. */
  readonly score: number;
  /** How much the two questions share: 0 nothing, 1 the same words. */
  readonly similarity: number;
}

/** Robertson and Zaragoza, The Probabilistic Relevance Framework (2009). */
const K1 = 1.2;
const B = 0.75;

/** Words that frame a question and say nothing of what it is about. */
const FRAME = new Set(
  'a an the is are was were be been am has have had do does did will would can could shall should may might must at in on to of by for from with about and or not no that this there which what who whom whose when where why how i me my you your he him his she her it its we us our they them their s tell say give know please called name named'.split(
    ' ',
  ),
);

/** Stems of the words that say what a text is about, in order; of all its words where there are no others. */
export function stems(text: string): string[] {
  const words = normalise(text).split(' ').filter(Boolean);
  const telling = words.filter((word) => !FRAME.has(word));
  return (telling.length > 0 ? telling : words).map(stemmer);
}

interface Indexed {
  readonly pair: Pair;
  /** By wording. */
  readonly asked: readonly ReadonlySet<string>[];
  readonly counts: ReadonlyMap<string, number>;
  readonly length: number;
}

/**
 * The n pairs that share most with a question, best first: BM25 over the stems (Porter's) of their questions and answers. Pairs that
 * share no stem with it are left out. A pair's questions are its own and its other wordings. The similarity is Dice's coefficient of the two
 * questions that share most, every stem weighing its inverse document frequency: words that many pairs hold tell little, one that none holds
 * tells most.
 */
export function nearestPairs(pairs: readonly Pair[], question: string, n: number): NearestPair[] {
  const documents = pairs.map(index);
  const wanted = new Set(stems(question));
  const frequency = new Map<string, number>();
  for (const { counts } of documents)
    for (const stem of counts.keys()) frequency.set(stem, (frequency.get(stem) ?? 0) + 1);
  const idf = (stem: string) => {
    const f = frequency.get(stem) ?? 0;
    return Math.log(1 + (documents.length - f + 0.5) / (f + 0.5));
  };
  const mean = documents.reduce((sum, d) => sum + d.length, 0) / documents.length;
  const found = documents.map(({ pair, asked, counts, length }) => {
    let score = 0;
    for (const stem of wanted) {
      const count = counts.get(stem) ?? 0;
      score += (idf(stem) * count * (K1 + 1)) / (count + K1 * (1 - B + (B * length) / mean));
    }
    return { pair, score, similarity: Math.max(...asked.map((one) => dice(wanted, one, idf))) };
  });
  return found
    .filter(({ score }) => score > 0)
    .sort((x, y) => y.score - x.score || y.similarity - x.similarity)
    .slice(0, n);
}

/** The same pairs in the order in which they were given: the newest comes last where they come from the ledger. */
export function nearestInOrder(pairs: readonly Pair[], question: string, n: number): Pair[] {
  const near = new Set(nearestPairs(pairs, question, n).map(({ pair }) => pair));
  return pairs.filter((pair) => near.has(pair));
}

function index(pair: Pair): Indexed {
  const own = stems(pair.instruction);
  const others = (pair.also ?? []).map(({ instruction }) => stems(instruction));
  const added = new Set(others.flat().filter((stem) => !own.includes(stem)));
  const all = [...own, ...added, ...stems(pair.output)];
  const counts = new Map<string, number>();
  for (const stem of all) counts.set(stem, (counts.get(stem) ?? 0) + 1);
  return { pair, asked: [own, ...others].map((asked) => new Set(asked)), counts, length: all.length };
}

/** Dice's coefficient of two sets, each member of which weighs 1 by default; 0 for two without weight. */
export function dice(
  one: ReadonlySet<string>,
  other: ReadonlySet<string>,
  weigh: (member: string) => number = () => 1,
): number {
  const sum = (members: Iterable<string>) => [...members].reduce((total, member) => total + weigh(member), 0);
  const both = sum(one) + sum(other);
  return both > 0 ? Math.min(1, (2 * sum([...one].filter((member) => other.has(member)))) / both) : 0;
}
