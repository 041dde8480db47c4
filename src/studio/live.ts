/** A write as it happens: what the events of a session amount to so far. */
import type { Pair, QuizLine, SessionEvent, SessionState, TraceEvent, WriteEvent, WriteRecord } from './types.ts';

export type Stage = 'reading' | 'training' | 'asking' | 'done';

export interface LiveWrite {
  readonly stage: Stage;
  /** Turns that are read; 0 when the pairs were given. */
  readonly turns: number;
  readonly read: number;
  readonly parts: number;
  /** While reading all that were found, afterwards those that are trained on. */
  readonly pairs: readonly Pick<Pair, 'instruction' | 'output' | 'source'>[];
  readonly dropped: Readonly<Record<string, number>>;
  /** Earlier pairs that are trained again beside the new ones. */
  readonly replayed: number;
  /** Before each step. */
  readonly loss: readonly number[];
  readonly totalSteps: number | null;
  readonly quiz: readonly QuizLine[];
  readonly record: WriteRecord | null;
}

export interface Live {
  readonly tokens: number;
  readonly budget: number;
  readonly write: LiveWrite | null;
}

export const IDLE: Live = { tokens: 0, budget: 0, write: null };

const BEGUN: LiveWrite = {
  ...{ stage: 'reading', turns: 0, read: 0, parts: 0, pairs: [], dropped: {}, replayed: 0 },
  ...{ loss: [], totalSteps: null, quiz: [], record: null },
};

export function follow(live: Live, { event }: Pick<SessionEvent, 'event'>): Live {
  switch (event.type) {
    case 'observe':
    case 'cleared':
      return { ...live, tokens: event.tokens };
    case 'trigger':
      return { tokens: event.tokens, budget: event.budget, write: { ...BEGUN, turns: event.turns } };
    case 'extract':
      return { ...live, write: reading(running(live), event) };
    case 'extraction':
      return { ...live, write: { ...running(live), pairs: event.pairs, dropped: event.dropped, stage: 'training' } };
    case 'write':
      return { ...live, write: writing(live, event.event) };
    default:
      return live;
  }
}

/**
 * What the server says of the session ends what only looked as if it were going on.
 * @param overtaken events have come since the server was asked: they know better
 */
export function settle(live: Live, { contextTokens, budget, busy }: SessionState, overtaken: boolean): Live {
  if (overtaken) return { ...live, budget };
  const broken = live.write !== null && live.write.stage !== 'done' && !busy;
  return { tokens: contextTokens, budget, write: broken ? null : live.write };
}

/** The write that is going on, or a new one. */
function running({ write }: Live): LiveWrite {
  return write && write.stage !== 'done' ? write : BEGUN;
}

function reading(write: LiveWrite, event: Extract<TraceEvent, { type: 'extract' }>): LiveWrite {
  const found = (event.pairs ?? []).filter(
    ({ instruction }) => !write.pairs.some((pair) => pair.instruction === instruction),
  );
  const pairs = [...write.pairs, ...found];
  return event.about ? { ...write, pairs } : { ...write, pairs, read: write.read + 1, parts: event.parts };
}

function writing(live: Live, event: WriteEvent): LiveWrite {
  const write = running(live);
  switch (event.type) {
    case 'write-start':
      return { ...write, stage: 'training', loss: [], totalSteps: null, quiz: [] };
    case 'replay':
      return { ...write, stage: 'training', replayed: event.pairs };
    case 'train': {
      const { type, step, loss } = event.event;
      if (type !== 'step' || step === undefined) return write;
      // Training that diverges is begun again from an earlier step.
      const losses = [...write.loss.slice(0, step - 1), loss ?? Number.NaN];
      return { ...write, stage: 'training', loss: losses, totalSteps: event.totalSteps ?? null };
    }
    case 'quiz': {
      const { kind, question, answer, ok } = event;
      // A write that harms is quizzed again with less of its Delta.
      const again = write.quiz.some((line) => line.kind === kind && line.question === question);
      return { ...write, stage: 'asking', quiz: [...(again ? [] : write.quiz), { kind, question, answer, ok }] };
    }
    case 'verdict':
      return { ...write, stage: 'done', record: event.record };
  }
}
