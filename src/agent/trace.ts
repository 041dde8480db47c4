/** What an agent did, event by event: to a listener while it happens, and to a JSONL file. */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { TmemError } from '../engine/errors.ts';
import type { Pair, Turn, WriteEvent } from '../memory/types.ts';
import type { ExtractEvent } from './extract.ts';
import type { DropCounts } from './pairs.ts';

export type TraceEvent =
  | {
      readonly type: 'episode';
      readonly model: string;
      readonly method: string;
      readonly budget: number;
      readonly tokens: number;
    }
  /** A turn, or a piece of one, has come into the working context, which is now `tokens` long. */
  | { readonly type: 'observe'; readonly turn: Turn; readonly index: number; readonly tokens: number }
  /** A write begins, because the budget is reached or because it was asked for. */
  | { readonly type: 'trigger'; readonly tokens: number; readonly budget: number; readonly turns: number }
  | ExtractEvent
  | {
      readonly type: 'extraction';
      readonly parts: number;
      readonly unreadable: number;
      readonly pairs: readonly Pair[];
      readonly dropped: DropCounts;
      readonly memory: string;
      readonly ms: number;
    }
  | { readonly type: 'write'; readonly event: WriteEvent }
  /** Fast weights were put in force. */
  | { readonly type: 'swap'; readonly weights: boolean }
  /** The working context is (q, m) again. */
  | { readonly type: 'cleared'; readonly tokens: number }
  | {
      readonly type: 'tool';
      readonly name: string;
      readonly arguments: unknown;
      readonly ok: boolean;
      readonly result: string;
    }
  | {
      readonly type: 'answer';
      readonly question: string;
      readonly answer: string;
      readonly tokens: number;
      readonly ms: number;
      /** Told when the answer might have been withheld, as what would have been said is when it was. */
      readonly confidence?: number;
      readonly withheld?: string | undefined;
    };

export type TraceListener = (event: TraceEvent) => void;

export interface TraceFile {
  readonly write: TraceListener;
  close(): void;
}

/**
 * A JSONL file of events, each with the time at which it happened; each line is on disk when `write` returns to its caller.
 * @throws TmemError `usage` when the file cannot be made.
 */
export function openTrace(path: string): TraceFile {
  let file: number;
  try {
    mkdirSync(dirname(path), { recursive: true });
    file = openSync(path, 'w');
  } catch (cause) {
    throw new TmemError('usage', `The trace ${path} cannot be written (${(cause as Error).message}).`, { cause });
  }
  return {
    write: (event) => void writeSync(file, `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`),
    close: () => closeSync(file),
  };
}
