/**
 * A user who gives no name is "the user" in what the model writes down, but asks with "I" and "my" and is answered with "you" and "your". What
 * is trained has to be what is asked. English; what has no "the user" in it stays as it is.
 */
import type { Wording } from '../memory/types.ts';

/** As the user would ask it, and as it would be answered. */
export function asTheUserAsks<P extends Wording>(pair: P): P {
  const isOwn = SOMEBODY.test(pair.output) || SOMEBODY.test(pair.instruction);
  if (!isOwn) return pair;
  return { ...pair, instruction: capital(firstPerson(pair.instruction)), output: capital(secondPerson(pair.output)) };
}

const SOMEBODY = /\bthe user\b/i;
/** Behind these, the user is an object. */
const BEFORE_OBJECT =
  'about|after|against|at|before|behind|beside|by|for|from|in|like|near|of|on|over|to|towards|under|with|without|tell|told|give|gave|gives|help|helps|helped|ask|asked|asks|call|calls|called|visit|visited|meet|met|invited|offered';
/** Words that end in s and are no verbs of the third person. */
const NO_VERBS = new Set('always as does is has was this plus perhaps sometimes yes'.split(' '));
const IRREGULAR: Readonly<Record<string, string>> = { is: 'are', was: 'were', has: 'have', does: 'do', goes: 'go' };

function firstPerson(text: string): string {
  return own(text, 'my')
    .replace(/\bis the user\b/gi, 'am I')
    .replace(/\bhas the user\b/gi, 'have I')
    .replace(/\bdoes the user\b/gi, 'do I')
    .replace(new RegExp(`\\b(${BEFORE_OBJECT}) the user\\b`, 'gi'), '$1 me')
    .replace(
      /\bthe user (\p{L}+)/giu,
      (_, verb: string) => `I ${verb === 'is' ? 'am' : verb === 'was' ? verb : plain(verb)}`,
    )
    .replace(/\bthe user\b/gi, 'I');
}

function secondPerson(text: string): string {
  return own(text, 'your')
    .replace(/\bthe user (\p{L}+)/giu, (_, verb: string) => `you ${plain(verb)}`)
    .replace(/\bthe user\b/gi, 'you');
}

/** "the user's", and "their" where nobody else is named. */
function own(text: string, mine: string): string {
  const names = /(?<=\S\s+["'(]*)\p{Lu}/u.test(text);
  const said = text.replace(/\bthe user['’]s\b/gi, mine);
  return names ? said : said.replace(/\btheir\b/g, mine);
}

/** The verb as it stands behind "you". */
function plain(verb: string): string {
  if (IRREGULAR[verb]) return IRREGULAR[verb];
  if (NO_VERBS.has(verb) || !/[^s]s$/.test(verb)) return verb;
  if (/[^aeiou]ies$/.test(verb)) return `${verb.slice(0, -3)}y`;
  return /(ch|sh|ss|x|zz|o)es$/.test(verb) ? verb.slice(0, -2) : verb.slice(0, -1);
}

const capital = (text: string) => text.replace(/^\p{Ll}/u, (letter) => letter.toUpperCase());
