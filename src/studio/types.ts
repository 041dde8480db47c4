/** What the server says, as far as the studio reads it. The studio speaks HTTP only, so the shapes are stated here again. */

export interface Pair {
  readonly id: string;
  readonly instruction: string;
  readonly output: string;
  /** Verbatim quote. */
  readonly source: string;
  readonly turn: number;
  readonly time?: string;
  readonly origin: string;
}

/** A pair with its place in the memory. */
export interface KnownPair extends Pair {
  /** Counted from 1. */
  readonly write: number;
  /** False when another answer has taken its place. */
  readonly standing: boolean;
  /** `by` is the id of the pair that took its place. */
  readonly ended: { readonly time: string; readonly by: string } | null;
}

export type QuizKind = 'pair' | 'paraphrase' | 'earlier' | 'anchor';

export interface QuizLine {
  readonly kind: QuizKind;
  readonly question: string;
  readonly answer: string;
  readonly ok: boolean;
}

export interface WriteRecord {
  readonly id: string;
  readonly time: string;
  readonly pairs: readonly Pair[];
  readonly recipe: string;
  readonly verdict: 'committed' | 'refused' | 'empty';
  readonly reason?: string;
  readonly superseded?: readonly { readonly pair: string; readonly by: string }[];
  readonly consolidated?: { readonly rank: number; readonly pairs: readonly string[] };
  readonly quiz?: readonly QuizLine[];
  /** Before each step; null where it was not finite. */
  readonly loss: readonly (number | null)[];
  readonly recalled: number;
  readonly ms: number;
}

/** Size of one adapted product of a layer: the Frobenius norm of B A. */
export interface DeltaNorm {
  readonly layer: number;
  readonly product: string;
  readonly norm: number;
}

export interface SessionState {
  readonly session: string;
  readonly model: string;
  readonly contextTokens: number;
  readonly budget: number;
  /** A write or another change of the memory is going on. */
  readonly busy: boolean;
  readonly notes: string;
  /** Turns that no write has taken in yet. */
  readonly working: readonly { readonly index: number; readonly role: string; readonly content: string }[];
  readonly writes: readonly WriteRecord[];
  readonly pairs: readonly KnownPair[];
  readonly delta: readonly DeltaNorm[];
}

type Quote = Pick<Pair, 'instruction' | 'output' | 'source'>;

export type WriteEvent =
  | { readonly type: 'write-start'; readonly pairs: number; readonly anchors: number }
  | { readonly type: 'replay'; readonly pairs: number }
  | {
      readonly type: 'train';
      /** `step` is counted from 1; `loss` is null where it was not finite. */
      readonly event: { readonly type: string; readonly step?: number; readonly loss?: number | null };
      readonly totalSteps?: number;
    }
  | ({ readonly type: 'quiz' } & QuizLine)
  | { readonly type: 'verdict'; readonly record: WriteRecord };

/** Events of other types are passed over. */
export type TraceEvent =
  | { readonly type: 'observe'; readonly tokens: number }
  | { readonly type: 'trigger'; readonly tokens: number; readonly budget: number; readonly turns: number }
  | {
      readonly type: 'extract';
      readonly part: number;
      readonly parts: number;
      /** Asked for once more, a sentence at a time. */
      readonly about?: readonly string[];
      /** null: the answer could not be read. */
      readonly pairs: readonly Quote[] | null;
    }
  | {
      readonly type: 'extraction';
      readonly pairs: readonly Pair[];
      readonly dropped: Readonly<Record<string, number>>;
    }
  | { readonly type: 'write'; readonly event: WriteEvent }
  | { readonly type: 'cleared'; readonly tokens: number }
  | { readonly type: 'episode' | 'swap' | 'tool' | 'answer' };

export interface SessionEvent {
  readonly session: string;
  readonly time: string;
  readonly event: TraceEvent;
}

/** What a chat completion has done to the memory. */
export interface CompletionMemory {
  readonly contextTokens: number;
  readonly budget: number;
  readonly writes: readonly {
    readonly id: string;
    readonly verdict: WriteRecord['verdict'];
    readonly reason?: string;
    readonly pairs: number;
    readonly recalled: number;
    readonly ms: number;
  }[];
}

export interface AskResult {
  readonly answer: string;
  readonly confidence: number;
  readonly abstained: boolean;
}

export interface WhyResult {
  readonly answer: string;
  readonly pairs: readonly {
    readonly id: string;
    readonly instruction: string;
    readonly output: string;
    /** 0 nothing shared with the question, 1 the same words. */
    readonly similarity: number;
    /** Log-probability a token that the answer loses without the pair; null: not tried. */
    readonly drop: number | null;
  }[];
}

export interface RecallResult {
  readonly pair: string;
  readonly answer: string;
  readonly ok: boolean;
}

export interface ForgetResult {
  readonly removed: readonly Pick<Pair, 'id' | 'instruction' | 'output'>[];
  readonly verified: boolean;
}

export interface DiffResult {
  readonly only: readonly Pair[];
  readonly other: readonly Pair[];
  readonly same: number;
}
