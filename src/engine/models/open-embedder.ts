import { openEmbedder } from '../process/client.ts';
import type { Embedder } from '../types.ts';
import { catalogueEntry } from './catalogue.ts';
import { resolveModel } from './store.ts';

/**
 * Finds an embedding model by name, `hf:` URI or path, fetching it when it is not here, and opens it with the prefixes that it was made for.
 * @throws TmemError as `resolveModel` and `openEmbedder` do
 */
export async function openEmbeddingModel(
  model: string,
  options: { readonly signal?: AbortSignal; readonly verbose?: boolean; readonly onNote?: (text: string) => void } = {},
): Promise<Embedder> {
  const { signal, verbose, onNote } = options;
  const { path: modelPath } = await resolveModel(model, { ...(signal && { signal }), ...(onNote && { onNote }) });
  return openEmbedder({
    ...{ modelPath, prefixes: catalogueEntry(model)?.embedding },
    ...(signal && { signal }),
    ...(verbose !== undefined && { verbose }),
  });
}
