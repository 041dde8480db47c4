/**
 * Porter's stemmer with the changes that NLTK makes to it by default: LoCoMo's F1 is that of these stems.
 * Sources of the rules: Porter, An algorithm for suffix stripping (1980); nltk.stem.porter, mode NLTK_EXTENSIONS. The
 * package `stemmer` is Porter's own version, which takes "on" and "one", "us" and "use" for the same word, and "tried"
 * and "trying", "enjoy" and "enjoyment" for different ones; NLTK's does not.
 */

const IRREGULAR: ReadonlyMap<string, string> = new Map([
  ['skies', 'sky'],
  ['sky', 'sky'],
  ['dying', 'die'],
  ['lying', 'lie'],
  ['tying', 'tie'],
  ['news', 'news'],
  ['innings', 'inning'],
  ['inning', 'inning'],
  ['outings', 'outing'],
  ['outing', 'outing'],
  ['cannings', 'canning'],
  ['canning', 'canning'],
  ['howe', 'howe'],
  ['proceed', 'proceed'],
  ['exceed', 'exceed'],
  ['succeed', 'succeed'],
]);

/** Endings, as regular expressions, and what takes their place; longer ones before those that they end in. */
type Rules = readonly (readonly [ending: RegExp, replacement: string])[];

const rules = (table: Record<string, string>): Rules =>
  Object.entries(table).map(([ending, replacement]) => [new RegExp(`${ending}$`), replacement]);

const STEP_2 = rules({
  ...{ ational: 'ate', tional: 'tion', enci: 'ence', anci: 'ance', izer: 'ize', bli: 'ble', alli: 'al', entli: 'ent' },
  ...{ eli: 'e', ousli: 'ous', ization: 'ize', ation: 'ate', ator: 'ate', alism: 'al', iveness: 'ive', fulness: 'ful' },
  ...{ ousness: 'ous', aliti: 'al', iviti: 'ive', biliti: 'ble', fulli: 'ful', '(?<=l)ogi': 'og' },
});
const STEP_3 = rules({ icate: 'ic', ative: '', alize: 'al', iciti: 'ic', ical: 'ic', ful: '', ness: '' });
const STEP_4 = rules({
  ...{ al: '', ance: '', ence: '', er: '', ic: '', able: '', ible: '', ant: '', ement: '', ment: '', ent: '' },
  ...{ '(?<=[st])ion': '', ou: '', ism: '', ate: '', iti: '', ous: '', ive: '', ize: '' },
});

/** c for every consonant and v for every vowel, as which a y counts behind a consonant. */
function shape(text: string): string {
  let letters = '';
  for (const letter of text) {
    letters += 'aeiou'.includes(letter) || (letter === 'y' && letters.endsWith('c')) ? 'v' : 'c';
  }
  return letters;
}

/** Porter's m: how often a vowel is followed by a consonant. */
const measure = (text: string) => shape(text).split('vc').length - 1;

/** Porter's *o (consonant, vowel, consonant other than w, x, y), or a vowel and a consonant alone. */
const endsShort = (text: string) => /^vc$/.test(shape(text)) || (/cvc$/.test(shape(text)) && !/[wxy]$/.test(text));

/** The first ending that the word has is replaced if what is left has a measure of `least`. */
function replaceEnding(word: string, table: Rules, least: number): string {
  for (const [ending, replacement] of table) {
    const at = word.search(ending);
    if (at >= 0) return measure(word.slice(0, at)) >= least ? word.slice(0, at) + replacement : word;
  }
  return word;
}

function plural(word: string): string {
  if (word.endsWith('ies')) return word.slice(0, word.length === 4 ? -1 : -2);
  if (word.endsWith('sses')) return word.slice(0, -2);
  return /(?<!s)s$/.test(word) ? word.slice(0, -1) : word;
}

function past(word: string): string {
  if (word.endsWith('ied')) return word.slice(0, word.length === 4 ? -1 : -2);
  if (word.endsWith('eed')) return measure(word.slice(0, -3)) > 0 ? word.slice(0, -1) : word;
  const stem = word.replace(/(ed|ing)$/, '');
  if (stem === word || !shape(stem).includes('v')) return word;
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (/(.)\1$/.test(stem) && shape(stem).endsWith('c')) return /[lsz]$/.test(stem) ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsShort(stem) ? `${stem}e` : stem;
}

const finalY = (word: string) => (/..y$/.test(word) && shape(word).endsWith('cv') ? `${word.slice(0, -1)}i` : word);

function derived(word: string): string {
  if (word.endsWith('alli') && measure(word.slice(0, -4)) > 0) return derived(word.slice(0, -2));
  return replaceEnding(word, STEP_2, 1);
}

function finalE(word: string): string {
  if (!word.endsWith('e')) return word;
  const stem = word.slice(0, -1);
  return measure(stem) > 1 || (measure(stem) === 1 && !endsShort(stem)) ? stem : word;
}

const doubleL = (word: string) => (word.endsWith('ll') && measure(word.slice(0, -1)) > 1 ? word.slice(0, -1) : word);

/** The stem of a word in lower case, as NLTK's `PorterStemmer().stem` gives it. */
export function stem(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if ([...word].length <= 2) return word;
  const inflected = finalY(past(plural(word)));
  return doubleL(finalE(replaceEnding(replaceEnding(derived(inflected), STEP_3, 1), STEP_4, 2)));
}
