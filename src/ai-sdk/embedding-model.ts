/** The AI SDK's EmbeddingModelV4 on either transport. */
import type { EmbeddingModelV4, SharedV4Warning } from '@ai-sdk/provider';
import type { Transport } from './transport.ts';

export interface EmbeddingModelOptions {
  readonly provider: string;
  readonly modelId: string;
  readonly transport: Transport;
}

export function embeddingModel({ provider, modelId, transport }: EmbeddingModelOptions): EmbeddingModelV4 {
  return {
    specificationVersion: 'v4',
    provider,
    modelId,
    maxEmbeddingsPerCall: 256,
    // One engine computes them: more calls at once are not faster.
    supportsParallelCalls: false,
    async doEmbed({ values, dimensions, headers, abortSignal: signal }) {
      const warnings: SharedV4Warning[] =
        dimensions === undefined ? [] : [{ type: 'unsupported', feature: 'dimensions' }];
      const { vectors, tokens, response } = await transport.embed({ model: modelId, texts: values, headers, signal });
      return {
        embeddings: vectors,
        ...(tokens !== undefined && { usage: { tokens } }),
        ...(response && { response }),
        warnings,
      };
    },
  };
}
