/**
 * The seam inside the server: the HTTP layer speaks to a `Runtime`, which holds the model and the sessions. The AI SDK provider speaks to the
 * same in its own process.
 */
import type { AnswerOptions } from '../agent/answer.ts';
import type { TraceEvent } from '../agent/trace.ts';
import type { JsonSchema, ModelInfo, SamplingOptions } from '../engine/types.ts';
import type { MemoryState, WriteRecord } from '../memory/types.ts';

/** A tool as the client describes it; `parameters` is a JSON schema. */
export interface ClientTool {
  readonly name: string;
  readonly description?: string | undefined;
  readonly parameters?: JsonSchema | undefined;
}

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON text, as OpenAI has it. */
  readonly arguments: string;
}

/** A message of a conversation as clients send them, in order: all of it every time. */
export type ConversationMessage =
  | { readonly role: 'system'; readonly content: string }
  | { readonly role: 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string; readonly toolCalls?: readonly ToolCall[] | undefined }
  | { readonly role: 'tool'; readonly content: string; readonly callId: string; readonly name?: string | undefined };

export interface CompletionRequest extends SamplingOptions {
  /** Whose memory answers and learns; null: none, the base model. */
  readonly session: string | null;
  /** Whether the conversation may be learned. False for requests about a conversation (its title, its tags). Default true. */
  readonly teach?: boolean;
  readonly messages: readonly ConversationMessage[];
  readonly tools?: readonly ClientTool[] | undefined;
  /** `required`: one of the tools must be called; a name: that one. Default `auto`. */
  readonly toolChoice?: 'auto' | 'none' | 'required' | { readonly name: string } | undefined;
  readonly maxTokens?: number | undefined;
  readonly stop?: readonly string[] | undefined;
  /** JSON schema of the answer. */
  readonly schema?: JsonSchema | undefined;
  /** Also tell log-probabilities, and of this many other likely tokens. undefined: none. */
  readonly logProbs?: number | undefined;
  /** Standing pairs that are shown beside the conversation, the nearest to its last message. Default 0. */
  readonly retrieve?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TokenLogProb {
  readonly text: string;
  /** UTF-8. */
  readonly bytes: readonly number[];
  /** Natural logarithm. */
  readonly logProb: number;
}

export type CompletionEvent =
  /** The request waits for the session, or for a place. */
  | { readonly type: 'waiting' }
  /** What the memory does: budget reached, pairs found, losses, quiz, verdict, context cleared. */
  | { readonly type: 'memory'; readonly event: TraceEvent }
  | {
      readonly type: 'text';
      readonly text: string;
      /** Of the tokens since the last text, if asked for. */
      readonly logProbs?: readonly (TokenLogProb & { readonly top: readonly TokenLogProb[] })[] | undefined;
    }
  | { readonly type: 'tool-call'; readonly call: ToolCall }
  /** Always the last one. */
  | {
      readonly type: 'done';
      readonly finish: 'stop' | 'length' | 'tool-calls';
      readonly usage: CompletionUsage;
      /** null without a session. */
      readonly memory: CompletionMemory | null;
    };

export interface CompletionUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

/** What a completion has done to the session's memory. */
export interface CompletionMemory {
  readonly session: string;
  /** The writes that it has caused, before or after the answer. */
  readonly writes: readonly WriteRecord[];
  /** Length of the working context after it, and of the budget that it is written at. */
  readonly contextTokens: number;
  readonly budget: number;
}

/** What goes on in the sessions: for listeners that look on. */
export interface SessionEvent {
  readonly session: string;
  /** ISO time. */
  readonly time: string;
  readonly event: TraceEvent;
}

export interface SessionInfo {
  readonly session: string;
  readonly state: MemoryState;
  /** Turns that no write has taken in yet. */
  readonly working: readonly {
    readonly turn: { readonly role: string; readonly content: string };
    readonly index: number;
  }[];
  readonly contextTokens: number;
  readonly budget: number;
  /** A write or another change of the memory is going on. */
  readonly busy: boolean;
}

/** Progress of an operation on a session's memory, as lines of text. */
export type Progress = (message: string) => void;

export interface Step {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/**
 * Holds the model and the sessions. Everything that changes a session waits for what went before it in that session; other sessions go on
 * meanwhile. Session names are those of the store, already bound to an owner by the caller.
 */
export interface Runtime {
  readonly model: ModelInfo;
  /** Seconds since 1970 at which the runtime began. */
  readonly created: number;
  /**
   * Streams an answer. A session that does not exist begins.
   * @throws TmemError `usage` for a request that cannot be answered, `aborted` when the signal fires or nobody listens any more.
   */
  complete(request: CompletionRequest): AsyncIterable<CompletionEvent>;
  /** Vectors of length 1. @throws TmemError `missing` when there is no embedding model. */
  embed(texts: readonly string[], step?: Step): Promise<{ model: string; vectors: Float32Array[]; tokens: number }>;

  /** Names of the sessions in the store, in order. */
  sessions(): Promise<string[]>;
  /** @throws TmemError `missing` for an unknown one. */
  info(session: string): Promise<SessionInfo>;
  /** One question with an empty context, with the memory or (`memory: false`) without, and how sure the answer is. */
  ask(
    session: string,
    question: string,
    options?: Step & { readonly memory?: boolean } & Pick<AnswerOptions, 'retrieve' | 'abstain' | 'tries'>,
  ): Promise<AskResult>;
  /** Writes what was said since the last write. null: there was nothing. */
  write(session: string, step?: Step): Promise<WriteRecord | null>;
  /** Asks the model the questions of these pairs now. */
  recall(
    session: string,
    pairs: readonly string[],
    step?: Step,
  ): Promise<{ pair: string; answer: string; ok: boolean }[]>;
  /** Writes a pair with another answer, which supersedes it. */
  edit(session: string, pair: string, output: string, step?: Step): Promise<WriteRecord>;
  undo(session: string): Promise<WriteRecord | null>;
  branch(session: string, to: string): Promise<void>;
  /** @param dryRun only says what would be forgotten */
  forget(
    session: string,
    query: string,
    options?: Step & { readonly dryRun?: boolean },
  ): Promise<{ removed: { id: string; instruction: string; output: string }[]; verified: boolean }>;
  verify(session: string, step?: Step): Promise<{ ok: boolean }>;
  consolidate(session: string, step?: Step): Promise<WriteRecord>;
  why(
    session: string,
    question: string,
    step?: Step,
  ): Promise<{
    answer: string;
    pairs: { id: string; instruction: string; output: string; similarity: number; drop: number | null }[];
  }>;
  /** A GGUF LoRA (bytes) or the ledger as JSONL. */
  export(session: string, format: 'gguf' | 'jsonl'): Promise<Buffer>;
  import(
    session: string,
    pairs: readonly { instruction: string; output: string }[],
    step?: Step,
  ): Promise<WriteRecord[]>;
  /** Removes a session and all that only it needs. */
  remove(session: string): Promise<void>;

  /** Calls the listener with everything that happens in a session; the function returned ends that. */
  watch(session: string, listener: (event: SessionEvent) => void): () => void;
  /** For metrics and health. */
  status(): RuntimeStatus;
  /** Takes no more requests; running writes are finished or rolled back. */
  close(): Promise<void>;
}

export interface AskResult {
  readonly answer: string;
  readonly confidence: number;
  readonly abstained: boolean;
  readonly nearest: readonly {
    readonly id: string;
    readonly instruction: string;
    readonly output: string;
    readonly similarity: number;
  }[];
}

export interface RuntimeStatus {
  /** Completions that generate, and that wait. */
  readonly running: number;
  readonly waiting: number;
  /** Sessions that are open, and writes that are going on. */
  readonly open: number;
  readonly writing: number;
  /** Bytes of resident memory of this process and of the engines'. */
  readonly memory: number;
}
