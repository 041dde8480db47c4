/**
 * Dates of what is said relative to the day on which it is said, as an editor would add them: "yesterday [7 May 2023]". A memory outlives
 * the day, and a small model that is asked for the date does not reckon it. English; found by chrono-node.
 */
import type { ParsedResult } from 'chrono-node';
import * as en from 'chrono-node/en';

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
  const [, day, clock = '12:00'] = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}))?/.exec(time ?? '') ?? [];
  const said = new Date(`${day}T${clock}Z`);
  if (Number.isNaN(said.getTime())) return text;
  let dated = '';
  let from = 0;
  for (const result of en.casual.parse(text, { instant: said, timezone: 0 })) {
    const date = spell(result, said);
    const end = result.index + result.text.replace(/[\s,.;:]+$/, '').length;
    if (date === undefined || text.slice(end).startsWith(' [')) continue;
    dated += `${text.slice(from, end)} [${date}]`;
    from = end;
  }
  return dated + text.slice(from);
}

/** The text without what `withDates` added to it. */
export const withoutDates = (text: string): string => text.replace(ADDED, '');

/** As exactly as it was said. undefined: not relative, or to nothing that can be named. */
function spell({ text, start, end }: ParsedResult, said: Date): string | undefined {
  if (end || !RELATIVE.test(text) || VAGUE.test(text)) return undefined;
  const date = start.date();
  const [, which, span] = /\b(last|past|previous|next|coming|this) (week(?:end)?)\b/i.exec(text) ?? [];
  if (which && span) {
    const when = /this/i.test(which) ? 'of' : /next|coming/i.test(which) ? 'after' : 'before';
    return `the ${span.toLowerCase()} ${when} ${format(said, 'day')}`;
  }
  if (/\bweeks?\b/i.test(text)) return `around ${format(date, 'day')}`;
  if (start.isCertain('day')) return format(date, 'day');
  if (start.isCertain('weekday')) return format(date, 'weekday');
  if (start.isCertain('month')) return format(date, 'month');
  return start.isCertain('year') ? format(date, 'year') : undefined;
}

const FORMATS = {
  weekday: { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' },
  day: { day: 'numeric', month: 'long', year: 'numeric' },
  month: { month: 'long', year: 'numeric' },
  year: { year: 'numeric' },
} as const;

/** "Friday 14 July 2023", "14 July 2023", "July 2023", "2023". */
function format(date: Date, exactness: keyof typeof FORMATS): string {
  return date.toLocaleDateString('en-GB', { ...FORMATS[exactness], timeZone: 'UTC' }).replace(',', '');
}
