/** Days and times in words. */

/** An ISO time: the day, and the clock if it has one. */
export const ISO_TIME = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}))?/;

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/**
 * An ISO time as words with the day of the week ("Saturday 14 March 2026, 09:30"), which a model needs to resolve
 * "last Monday". The clock is the one it was written with. Anything else stays as it is.
 */
export function spellTime(time: string): string {
  const [, date, clock] = ISO_TIME.exec(time) ?? [];
  const [year, month, day] = date?.split('-').map(Number) ?? [];
  const name = MONTHS[month! - 1];
  if (!date || !name) return time;
  const weekday = DAYS[new Date(Date.UTC(year!, month! - 1, day)).getUTCDay()];
  return `${weekday} ${day} ${name} ${date.slice(0, 4)}${clock ? `, ${clock}` : ''}`;
}

/** The same without the clock. */
export const spellDay = (time: string): string => spellTime(time).replace(/, \d{2}:\d{2}$/, '');
