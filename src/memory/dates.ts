/**
 * Dates of what is said relative to the day on which it is said, as an editor would add them: "yesterday [7 May 2023]". A memory outlives
 * the day, and a small model that is asked for the date does not reckon it. English; found by chrono-node.
 */
import type { ParsedResult } from 'chrono-node';
import * as en from 'chrono-node/en';
import { ISO_TIME, spellTime } from './spell-time.ts';
import type { Turn } from './types.ts';

/** Said of the day on which it is said, and not of no day in particular ("on Fridays", "a few years ago", "for two weeks"). */
const RELATIVE =
  /\b(?:yesterday|today|tonight|tomorrow|last|next|this|past|previous|coming|ago|in (?:an?|one|two|three|\d+) \w+)\b/i;
const VAGUE = /^for\b|\b(?:few|couple|several|some|many|hours?|minutes?|seconds?|moments?)\b/i;
/** Behind what is said, a blank before it. */
const ADDED = / \[[^[\]]*\d{4}\]/g;

/**
 * The text with the dates of what it says relative to `time`, in brackets behind it.
 * @param time ISO, on the clock of who speaks; without one, and with another kind of text in its place, nothing is added
 */
export function withDates(text: string, time: string | undefined): string {
  return replaced(text, time, ({ said, date, bracketed }) => (bracketed ? undefined : `${said} [${date}]`));
}

/** The turn with the dates of what it says relative to its day, where that is known. */
export const withDatesOf = (turn: Turn): Turn => ({ ...turn, content: withDates(turn.content, turn.time) });

/** The text with dates in the place of what it says relative to `time`: "on 7 May 2023" for "yesterday" or "yesterday [7 May 2023]". */
export function datesInstead(text: string, time: string | undefined): string {
  return replaced(text, time, ({ date, preposition, before, after }) => {
    if (after.startsWith("'s") || after.startsWith('’s')) return undefined;
    const led = /\b(?:on|in|by|until|till|since|from|before|after|during|of|the|for|at|to)\s+$/i.test(before);
    const bare = /\bthe\s+$/i.test(before) ? date.replace(/^the /, '') : date;
    const phrase = led || !preposition ? bare : `${preposition} ${date}`;
    return before.trim() === '' ? phrase[0]!.toUpperCase() + phrase.slice(1) : phrase;
  });
}

/** The text without what `withDates` added to it. */
export const withoutDates = (text: string): string => text.replace(ADDED, '');

interface Found extends Spelled {
  readonly said: string;
  /** Its date stands behind it already. */
  readonly bracketed: boolean;
  readonly before: string;
  readonly after: string;
}

/** @param replace undefined: it stays as it is */
function replaced(text: string, time: string | undefined, replace: (found: Found) => string | undefined): string {
  const [, day, clock = '12:00'] = ISO_TIME.exec(time ?? '') ?? [];
  const now = new Date(`${day}T${clock}Z`);
  if (Number.isNaN(now.getTime())) return text;
  let done = '';
  let from = 0;
  for (const result of en.casual.parse(text, { instant: now, timezone: 0 })) {
    const spelled = spell(result, now);
    const said = result.text.replace(/[\s,.;:]+$/, '');
    let end = result.index + said.length;
    if (!spelled || result.index < from) continue;
    const [bracket = ''] = /^ \[[^[\]]*\]/.exec(text.slice(end)) ?? [];
    const found = { ...spelled, said, bracketed: bracket !== '', before: text.slice(0, result.index) };
    const instead = replace({ ...found, after: text.slice(end + bracket.length) });
    if (instead === undefined) continue;
    end += bracket.length;
    done += text.slice(from, result.index) + instead;
    from = end;
  }
  return done + text.slice(from);
}

interface Spelled {
  readonly date: string;
  /** What a sentence says before it. */
  readonly preposition: 'on' | 'in' | '';
}

/** As exactly as it was said. undefined: not relative, or to nothing that can be named. */
function spell({ text, start, end }: ParsedResult, now: Date): Spelled | undefined {
  if (end || !RELATIVE.test(text) || VAGUE.test(text)) return undefined;
  const date = start.date();
  const [, which, span] = /\b(last|past|previous|next|coming|this) (week(?:end)?)\b/i.exec(text) ?? [];
  if (which && span) {
    const when = /this/i.test(which) ? 'of' : /next|coming/i.test(which) ? 'after' : 'before';
    const name = span.toLowerCase();
    return { date: `the ${name} ${when} ${format(now, 'day')}`, preposition: name === 'week' ? 'in' : 'on' };
  }
  if (/\bweeks?\b/i.test(text)) return { date: `around ${format(date, 'day')}`, preposition: '' };
  if (start.isCertain('day')) return { date: format(date, 'day'), preposition: 'on' };
  if (start.isCertain('weekday')) return { date: format(date, 'weekday'), preposition: 'on' };
  if (start.isCertain('month')) return { date: format(date, 'month'), preposition: 'in' };
  return start.isCertain('year') ? { date: format(date, 'year'), preposition: 'in' } : undefined;
}

const WORDS = { weekday: 4, day: 3, month: 2, year: 1 } as const;

/** "Friday 14 July 2023", "14 July 2023", "July 2023", "2023". */
function format(date: Date, exactness: keyof typeof WORDS): string {
  const words = spellTime(date.toISOString().slice(0, 10)).split(' ');
  return words.slice(-WORDS[exactness]).join(' ');
}
