/** Language models that judge answers: any server with OpenAI's chat completions, or the model that is tested itself. */
import { z } from 'zod';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { complete, type Engine } from '../engine/types.ts';
import type { Judge } from '../tasks/types.ts';

const ATTEMPTS = 3;

/** The base model without fast weights: at hand everywhere, and a weak judge. */
export function localJudge(engine: Engine): Judge {
  return {
    name: `local ${engine.model.name}`,
    async ask(prompt, maxTokens, signal) {
      const request = { prompt: [{ role: 'user' as const, content: prompt }], maxTokens };
      return (await complete(engine, { ...request, fastWeights: false, ...(signal && { signal }) })).text.trim();
    },
  };
}

const completionSchema = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })).min(1),
});

/**
 * @param url of the API, such as `http://localhost:8080/v1`
 * @param key sent as a bearer token if there is one
 */
export function remoteJudge(url: string, model: string, key?: string): Judge {
  const endpoint = `${url.replace(/\/+$/, '')}/chat/completions`;
  const body = (content: string, max_tokens: number) =>
    JSON.stringify({ model, messages: [{ role: 'user', content }], temperature: 0, max_tokens });
  const headers = { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) };
  return {
    name: `${model} at ${new URL(url).host}`,
    async ask(prompt, maxTokens, signal) {
      let last = '';
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        try {
          const response = await fetch(endpoint, {
            method: 'POST',
            headers,
            body: body(prompt, maxTokens),
            signal: signal ?? null,
          });
          const text = await response.text();
          if (response.ok) return completionSchema.parse(JSON.parse(text)).choices[0]!.message.content.trim();
          last = `it answered ${response.status}`;
          // Anything else of the 400s will be the same next time.
          if (response.status < 500 && response.status !== 429) break;
        } catch (error) {
          throwIfAborted(signal);
          last =
            error instanceof z.ZodError || error instanceof SyntaxError
              ? 'it sent no chat completion'
              : 'it cannot be reached';
        }
        await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
      }
      throw new TmemError(
        'failed',
        `The judge ${endpoint} did not answer: ${last}. Check --judge, --judge-model and TMEM_JUDGE_KEY.`,
      );
    },
  };
}
