import { gemma3 } from './gemma3.ts';
import { llama } from './llama.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';
import type { Architecture } from './types.ts';

const ARCHITECTURES: readonly Architecture[] = [llama, qwen2, qwen3, gemma3, phi3];

export function findArchitecture(name: string): Architecture | undefined {
  return ARCHITECTURES.find((a) => a.name === name);
}

/** Whether the trained layers are computed from the first one's input, rather than from behind its attention. */
export function startsAtInput({ residual }: Architecture, attention = false): boolean {
  return attention || !residual.behindAttention;
}

export const trainableArchitectures = ARCHITECTURES.map((a) => a.name);
