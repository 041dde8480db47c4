/** What the provider's models speak to: a server by URL (http.ts), or a `Runtime` in this process (in-process.ts). */
import type { JSONObject } from '@ai-sdk/provider';
import type { CompletionRequest, CompletionUsage, ToolCall } from '../serve/types.ts';

export type Headers = Readonly<Record<string, string | undefined>>;

export interface CompletionCall {
  readonly model: string;
  readonly request: CompletionRequest;
  /** Of this call alone; there are none in one's own process. */
  readonly headers?: Headers | undefined;
}

export type ReplyEvent =
  | { readonly type: 'response'; readonly id?: string | undefined; readonly modelId: string; readonly timestamp: Date }
  /** Nothing new, but the answer is being worked on. */
  | { readonly type: 'waiting' }
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'tool-call'; readonly call: ToolCall }
  /** What the transport was told, in its own form. */
  | { readonly type: 'raw'; readonly value: unknown }
  | {
      readonly type: 'done';
      /** In the transport's own words; undefined: it broke off. */
      readonly finish: string | undefined;
      readonly usage: (CompletionUsage & { readonly raw: JSONObject }) | undefined;
      /** `{ session, contextTokens, budget, writes }`; null without a session. */
      readonly memory: JSONObject | null;
    };

/** An answer that has begun. */
export interface Reply {
  readonly events: AsyncIterable<ReplyEvent>;
  readonly request?: { readonly url: string; readonly body: unknown };
  readonly response?: { readonly headers: Record<string, string> };
}

export interface EmbeddingCall {
  readonly model: string;
  readonly texts: readonly string[];
  readonly headers?: Headers | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Embeddings {
  readonly vectors: number[][];
  /** undefined: not told. */
  readonly tokens: number | undefined;
  readonly response?: { readonly headers: Record<string, string>; readonly body: unknown };
}

/** When a call's signal fires, its reason is thrown, as `fetch` does. */
export interface Transport {
  /** Resolves when the answer begins; what goes wrong before that rejects. */
  complete(call: CompletionCall): Promise<Reply>;
  embed(call: EmbeddingCall): Promise<Embeddings>;
  close(): Promise<void>;
}
