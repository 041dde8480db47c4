/** `POST /v1/embeddings` (platform.openai.com/docs/api-reference/embeddings). */
import { z } from 'zod';
import { parseBody } from './body.ts';
import type { Ctx, Services } from './services.ts';

const textSchema = z.string().min(1, 'A text to embed is empty.');

export const embeddingsSchema = z.object({
  input: z.union(
    [textSchema, z.array(textSchema).min(1, 'There is no text to embed.').max(2048)],
    'The input is a text or a list of up to 2048; tokens cannot be embedded.',
  ),
  model: z.string().nullish(),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.null('The vectors have as many dimensions as the model gives them.').optional(),
});

export async function embeddings(c: Ctx, { runtime, limits, admission, metrics }: Services): Promise<Response> {
  const { input, encoding_format: format } = await parseBody(c, embeddingsSchema, limits.bodyBytes);
  const { signal, end } = admission.admit(c.get('owner').id, { client: c.req.raw.signal });
  try {
    const { model, vectors, tokens } = await runtime.embed(typeof input === 'string' ? [input] : input, { signal });
    metrics.tokens({ promptTokens: tokens, cachedTokens: 0, outputTokens: 0 });
    const data = vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: format === 'base64' ? base64(vector) : [...vector],
    }));
    return c.json({ object: 'list', data, model, usage: { prompt_tokens: tokens, total_tokens: tokens } });
  } finally {
    end();
  }
}

/** Little-endian, as the clients read it. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, i) => {
    bytes.writeFloatLE(value, i * 4);
  });
  return bytes.toString('base64');
}
