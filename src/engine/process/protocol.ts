/** What crosses the pipe between the client and the engine's process. Structured clones: typed arrays and undefined survive. */
import { type ErrorCode, TmemError } from '../errors.ts';
import type { LlamaEmbedderOptions } from '../llama/embedder.ts';
import type { Embedder, Engine, GenerateEvent, ModelInfo, TrainEvent } from '../types.ts';

/** How an engine is opened; what an engine module's `open` receives. */
export interface OpenOptions {
  /** Path of the GGUF. */
  readonly modelPath: string;
  /** Tokens of the context, over all sequences. */
  readonly contextSize?: number;
  readonly threads?: number;
}

/** The calls that answer once. `generate` streams and has its own message. */
export type Method = Exclude<keyof Engine | keyof Embedder, 'model' | 'generate' | 'close'>;

export type ToHost =
  /** `engineModule`: URL of a module exporting `open(options): Promise<Engine>`; the llama.cpp engine without it. */
  | {
      readonly type: 'open';
      readonly options: OpenOptions;
      readonly engineModule?: string | undefined;
      /** At the lowest priority. */
      readonly background?: boolean | undefined;
    }
  | { readonly type: 'openEmbedder'; readonly options: LlamaEmbedderOptions }
  /** `signal: true` asks the host to give the call an AbortSignal in its last argument. */
  | {
      readonly type: 'call';
      readonly id: number;
      readonly method: Method | 'generate';
      readonly args: readonly unknown[];
      readonly signal: boolean;
    }
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'close' };

export type ToClient =
  | { readonly type: 'opened'; readonly model: ModelInfo | Embedder['model'] }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'event'; readonly id: number; readonly event: GenerateEvent | TrainEvent }
  /** Without an id: the engine could not be opened. */
  | { readonly type: 'error'; readonly id?: number; readonly error: WireError };

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly stack?: string;
}

export function toWire(error: unknown): WireError {
  if (error instanceof TmemError) return { code: error.code, message: error.message, stack: error.stack };
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { code: 'failed', message, stack };
}

/** The error as thrown on the other side; its stack there is the cause. */
export function fromWire(error: WireError): TmemError {
  return new TmemError(error.code, error.message, { cause: error.stack });
}
