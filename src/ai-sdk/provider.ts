/**
 * tmem for the AI SDK (`ai` 7, provider specification V4): language models with a memory, embedding models. A session's memory answers and
 * learns where `providerOptions.tmem.session` names it; what that did to it is in `providerMetadata.tmem`.
 */
import { type EmbeddingModelV4, type LanguageModelV4, NoSuchModelError, type ProviderV4 } from '@ai-sdk/provider';
import type { Runtime } from '../serve/types.ts';
import { embeddingModel } from './embedding-model.ts';
import { httpTransport } from './http.ts';
import { inProcessTransport } from './in-process.ts';
import { languageModel } from './language-model.ts';
import type { Transport } from './transport.ts';

export interface TmemSettings {
  /** Of the server, with `/v1`. Default: the environment's TMEM_BASE_URL, or http://127.0.0.1:8484/v1. */
  readonly baseURL?: string | undefined;
  /** Default: the environment's TMEM_API_KEY, if there is one. */
  readonly apiKey?: string | undefined;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
  /**
   * Answers in this process instead of a server: a runtime, which stays the caller's to close, or a function that opens one when it is
   * first needed. It holds one model, whatever the id that a model is asked for by.
   */
  readonly runtime?: Runtime | (() => Runtime | Promise<Runtime>) | undefined;
  /** Opens this model (catalogue name, `hf:` URI or path of a GGUF) in this process when it is first needed, instead of a server. */
  readonly model?: string | undefined;
  /** With `model`: tokens of a session's working context before it is written. Default 2048. */
  readonly budget?: number | undefined;
  /** Whose memory answers and learns in calls that name none. Default: none, the base model. */
  readonly session?: string | undefined;
}

export interface TmemProvider extends ProviderV4 {
  /** Without an id: the model of `createTmem`, or the server's. */
  (modelId?: string): LanguageModelV4;
  languageModel(modelId?: string): LanguageModelV4;
  /** Ends what was opened in this process. */
  close(): Promise<void>;
}

const DEFAULT_URL = 'http://127.0.0.1:8484/v1';
const PROVIDER = 'tmem';
const EMBEDDER = 'all-minilm-l6-v2';
const BUDGET = 2048;

export function createTmem(settings: TmemSettings = {}): TmemProvider {
  const transport = transportOf(settings);
  const language = (modelId: string = settings.model ?? PROVIDER) =>
    languageModel({ provider: `${PROVIDER}.chat`, modelId, transport, session: settings.session });
  const embedding = (modelId: string): EmbeddingModelV4 =>
    embeddingModel({ provider: `${PROVIDER}.embedding`, modelId, transport });
  const none =
    (modelType: 'imageModel' | 'transcriptionModel' | 'speechModel' | 'rerankingModel') => (modelId: string) => {
      throw new NoSuchModelError({ modelId, modelType });
    };
  return Object.assign((modelId?: string) => language(modelId), {
    specificationVersion: 'v4' as const,
    languageModel: language,
    embeddingModel: embedding,
    imageModel: none('imageModel'),
    transcriptionModel: none('transcriptionModel'),
    speechModel: none('speechModel'),
    rerankingModel: none('rerankingModel'),
    close: () => transport.close(),
  });
}

/** The provider with its default settings. */
export const tmem: TmemProvider = createTmem();

function transportOf({ baseURL, apiKey, headers, fetch, runtime, model, budget = BUDGET }: TmemSettings): Transport {
  if (typeof runtime === 'function') return inProcessTransport(runtime, true);
  if (runtime) return inProcessTransport(() => runtime, false);
  if (model !== undefined) return inProcessTransport(() => openModel(model, budget), true);
  const { TMEM_BASE_URL, TMEM_API_KEY } = process.env;
  const key = apiKey ?? TMEM_API_KEY;
  return httpTransport({
    baseURL: baseURL ?? (TMEM_BASE_URL || DEFAULT_URL),
    headers: { ...(key && { Authorization: `Bearer ${key}` }), ...headers },
    fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
  });
}

/** The engines of `tmem serve`, in processes of their own. */
async function openModel(model: string, budget: number): Promise<Runtime> {
  const { contextFor } = await import('../agent/context-size.ts');
  const { openEmbeddingModel } = await import('../engine/models/open-embedder.ts');
  const { resolveModel } = await import('../engine/models/store.ts');
  const { openEngine } = await import('../engine/process/client.ts');
  const { openRuntime } = await import('../serve/runtime/runtime.ts');
  const { path: modelPath } = await resolveModel(model);
  return openRuntime({
    budget,
    openEngine: ({ background }) => openEngine({ modelPath, contextSize: contextFor(budget), background }),
    openEmbedder: () => openEmbeddingModel(EMBEDDER),
  });
}
