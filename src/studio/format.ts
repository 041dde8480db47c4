/** Figures and outcomes in words. */
import type { QuizKind, WriteRecord } from './types.ts';

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

/** "840 ms", "12.4 s", "2 min 32 s", "1 h 5 min". */
export function duration(ms: number): string {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** An ISO time as the reader's language has it; anything else as it stands. */
export function when(time: string, now = new Date()): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime()) || !/^\d{4}-\d\d-\d\d/.test(time)) return time;
  const sameYear = date.getFullYear() === now.getFullYear();
  return date.toLocaleString(undefined, {
    ...{ day: 'numeric', month: 'short', year: sameYear ? undefined : 'numeric' },
    ...(time.length > 10 && { hour: '2-digit', minute: '2-digit' }),
  });
}

/** How a write ended, in a sentence or two. */
export function verdictInWords({ verdict, reason, pairs, consolidated, recalled }: VerdictParts): string {
  if (verdict === 'empty') return 'Nothing here was worth writing down.';
  if (verdict === 'refused')
    return `Refused${reason ? `: ${reason}` : ''}. The weights are as they were, and the facts are kept as notes.`;
  const trained = consolidated?.pairs.length ?? pairs.length;
  return `Committed. With an empty context the model recalls ${recalled} of ${count(trained, 'fact')}.`;
}

type VerdictParts = Pick<WriteRecord, 'verdict' | 'reason' | 'recalled'> & {
  readonly pairs: { readonly length: number };
  readonly consolidated?: { readonly pairs: { readonly length: number } };
};

/** Why pairs were left out of a write, as `DropCounts` of the extraction names it. */
const DROPPED: Readonly<Record<string, string>> = {
  empty: 'empty',
  'too-long': 'too long',
  'not-quoted': 'not in the conversation',
  unsupported: 'not said by their quote',
  vague: 'not clear on their own',
  'small-talk': 'small talk',
  untrusted: 'from a source that is not trusted',
  duplicate: 'said already',
  contradiction: 'overtaken by a later answer',
};

/** "3 said already, 1 too long", or an empty text. */
export function droppedInWords(dropped: Readonly<Record<string, number>>): string {
  return Object.entries(dropped)
    .filter(([, n]) => n > 0)
    .map(([reason, n]) => `${n} ${DROPPED[reason] ?? reason}`)
    .join(', ');
}

export const QUIZ_KINDS: Readonly<Record<QuizKind, string>> = {
  pair: 'New facts',
  paraphrase: 'In other words',
  earlier: 'Earlier facts',
  anchor: 'Ordinary answers',
};

/** "0.9 nats" and the like are for experts; this says how much an answer leans on a pair. */
export function leaning(drop: number | null): string {
  if (drop === null) return 'not tried without it';
  if (drop > 1) return 'rests on it';
  if (drop > 0.2) return 'leans on it';
  return 'does without it';
}

/** A session's name as the server takes it, or why it does not. */
export function sessionNameFault(name: string, taken: readonly string[] = []): string | null {
  if (name === '') return 'Give it a name.';
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) || name.endsWith('.'))
    return 'Use up to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit.';
  return taken.includes(name) ? `There is a session ${name} already.` : null;
}

/** Pairs to import: JSON lines, or a JSON array, of {instruction, output}. @throws Error with the line that cannot be read. */
export function parsePairs(text: string): { instruction: string; output: string }[] {
  const trimmed = text.trim();
  const lines = trimmed.startsWith('[') ? null : trimmed.split('\n').filter((line) => line.trim() !== '');
  const read = (json: string, place: string): unknown => {
    try {
      return JSON.parse(json);
    } catch {
      throw new Error(`${place} is not JSON.`);
    }
  };
  const values = lines ? lines.map((line, i) => read(line, `Line ${i + 1}`)) : read(trimmed, 'The text');
  return (values as unknown[]).map((value, i) => {
    const { instruction, output } = (value ?? {}) as Record<string, unknown>;
    if (typeof instruction !== 'string' || typeof output !== 'string' || !instruction.trim() || !output.trim())
      throw new Error(`Entry ${i + 1} has no instruction and output.`);
    return { instruction, output };
  });
}
