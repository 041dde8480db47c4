/** What every view is given: the server, the session that is looked at, and how to say what happened. */
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { Api, Step } from './api.ts';
import type { Live } from './live.ts';
import type { SessionState } from './types.ts';

/** Something long that is being done to the memory; one at a time. */
export interface Operation {
  readonly label: string;
  readonly message: string;
  stop(): void;
}

export interface Studio {
  readonly api: Api;
  readonly session: string;
  readonly sessions: readonly string[];
  /** null: it is not known yet, or the session has not begun. */
  readonly state: SessionState | null;
  readonly live: Live;
  /** A write is going on, or an operation is. */
  readonly busy: boolean;
  readonly operation: Operation | null;
  /** Does something, shown with its progress; the session is read again after it. @returns undefined when it failed, which is told. */
  operate<T>(label: string, run: (step: Step) => Promise<T>): Promise<T | undefined>;
  /** Says in a live region what came of something. */
  tell(message: string): void;
  /** Says what went wrong. Something that was stopped is passed over. */
  fail(error: unknown): void;
  choose(session: string): void;
  /** Goes to another session, as this one is no more; the conversation on the screen goes with it. */
  leave(session: string): void;
  refresh(): Promise<void>;
}

export const StudioContext = createContext<Studio | null>(null);

export function useStudio(): Studio {
  const studio = useContext(StudioContext);
  if (!studio) throw new Error('a view is outside of the studio');
  return studio;
}
