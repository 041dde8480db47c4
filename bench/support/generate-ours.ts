/** One generation by tmem's engine behind its child process: our side of `bench/generate.ts`. Prints a `GenerateRun`. */
import { openEngine } from '../../src/engine/process/client.ts';
import { complete } from '../../src/engine/types.ts';

export interface GenerateJob {
  /** Path of the GGUF. */
  readonly model: string;
  readonly question: string;
  readonly tokens: number;
  readonly threads: number;
}

export interface GenerateRun {
  readonly promptTokens: readonly number[];
  readonly outputTokens: number;
  /** From the request to the first text. */
  readonly firstMs: number;
  /** Of the tokens after the first. */
  readonly tokensPerSecond: number;
  readonly text: string;
}

export const CONTEXT = 2048;
export const WARM_UP = { prompt: 'Count to ten.', tokens: 8 };

if (import.meta.main) {
  const { model, question, tokens, threads } = JSON.parse(process.argv[2]!) as GenerateJob;
  const engine = await openEngine({ modelPath: model, threads, contextSize: CONTEXT });
  const prompt = await engine.renderChat([{ role: 'user', content: question }]);
  const promptTokens = await engine.tokenize(prompt);
  await complete(engine, { prompt: WARM_UP.prompt, maxTokens: WARM_UP.tokens });

  const start = performance.now();
  let first = 0;
  for await (const event of engine.generate({ prompt, maxTokens: tokens })) {
    if (event.type === 'text') first ||= performance.now();
    else {
      const seconds = (performance.now() - first) / 1000;
      const { outputTokens, text } = event;
      if (event.promptTokens !== promptTokens.length)
        throw new Error(`the prompt has ${event.promptTokens} tokens, not ${promptTokens.length}`);
      const tokensPerSecond = (outputTokens - 1) / seconds;
      const run: GenerateRun = { promptTokens, outputTokens, firstMs: first - start, tokensPerSecond, text };
      console.log(JSON.stringify(run));
    }
  }
  await engine.close();
}
