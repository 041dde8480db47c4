/**
 * A process that trains a policy on a tiny model until it is done or killed, and goes on from the folder's checkpoint if there is one:
 * `node policy-child.ts MODEL FOLDER STEPS`. Prints a line at every metric.
 */
import { writeSync } from 'node:fs';
import process from 'node:process';
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { hasCheckpoint } from '../../src/policy/checkpoint.ts';
import type { Environment } from '../../src/policy/environment.ts';
import { trainPolicy } from '../../src/policy/train.ts';
import { quickSettings } from './policy.ts';
import { said } from './scripted.ts';

const [, , modelPath, folder, steps] = process.argv;

/** Answers are noise on a random model: those with many vowels are better. */
const vowels: Environment = {
  name: 'vowels',
  episode: (seed, split) => ({
    id: `${split}-${seed}`,
    turns: [said(`The seed is ${seed}.`)],
    questions: [{ text: 'Well?', gold: 'aeiou' }],
    reward: ([answer = '']) => (answer.match(/[aeiou]/g) ?? []).length / Math.max(1, answer.length),
  }),
};

const engine = await LlamaEngine.open({ modelPath: modelPath!, contextSize: 4096, threads: 1 });
const settings = quickSettings({
  ...{ steps: Number(steps), lr: 0.01, rank: 2, evalTasks: 2 },
  rollout: { grammar: false, note: false, examples: 0, maxTokens: 8, answerTokens: 8 },
});
await trainPolicy(engine, vowels, settings, {
  ...{ folder: folder!, resume: hasCheckpoint(folder!) },
  onEvent: (event) => {
    if (event.type === 'metrics') writeSync(1, `${event.metrics.step}\n`);
  },
});
await engine.close();
