/** One generation by node-llama-cpp: the peer's side of `bench/generate.ts`. Prints a `GenerateRun`. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { CONTEXT, type GenerateJob, type GenerateRun, WARM_UP } from './generate-ours.ts';

interface PeerJob extends GenerateJob {
  /** Folder whose node_modules holds node-llama-cpp. */
  readonly peer: string;
  readonly promptTokens: readonly number[];
}

/** The part of node-llama-cpp that is used; it is not installed where types are checked. */
interface Peer {
  getLlama(options: { gpu: false; build: 'never'; progressLogs: false }): Promise<{
    loadModel(options: { modelPath: string }): Promise<PeerModel>;
    dispose(): Promise<void>;
  }>;
}
interface PeerModel {
  createContext(options: { contextSize: number; threads: number }): Promise<{ getSequence(): PeerSequence }>;
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[], special: boolean, last: readonly number[]): string;
  isEogToken(token: number): boolean;
}
interface PeerSequence {
  evaluate(tokens: readonly number[], options: { temperature: number }): AsyncGenerator<number>;
  clearHistory(): Promise<void>;
}

const { model: modelPath, tokens, threads, peer, promptTokens } = JSON.parse(process.argv[2]!) as PeerJob;
const entry = path.join(peer, 'node_modules/node-llama-cpp/dist/index.js');
if (!existsSync(entry)) throw new Error(`node-llama-cpp is not installed in ${peer}; see bench/generate.ts`);
const { getLlama } = (await import(pathToFileURL(entry).href)) as Peer;
const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false });
const model = await llama.loadModel({ modelPath });
const sequence = (await model.createContext({ contextSize: CONTEXT, threads })).getSequence();

/** Greedy tokens after a prompt, made text one by one. */
async function generate(prompt: readonly number[], count: number): Promise<Omit<GenerateRun, 'promptTokens'>> {
  const start = performance.now();
  let first = 0;
  let text = '';
  const output: number[] = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0 })) {
    if (model.isEogToken(token)) break;
    text += model.detokenize([token], false, [...prompt.slice(-4), ...output.slice(-4)]);
    output.push(token);
    first ||= performance.now();
    if (output.length >= count) break;
  }
  const seconds = (performance.now() - first) / 1000;
  return { outputTokens: output.length, firstMs: first - start, tokensPerSecond: (output.length - 1) / seconds, text };
}

await generate(model.tokenize(WARM_UP.prompt), WARM_UP.tokens);
await sequence.clearHistory();
console.log(JSON.stringify({ promptTokens, ...(await generate(promptTokens, tokens)) } satisfies GenerateRun));
await llama.dispose();
