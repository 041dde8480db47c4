/**
 * MEM1 (arXiv 2506.15841; MIT-MI/MEM1, Mem1/inference/data_pipelines.py): at every step the model sees the task, its last internal state
 * and one observation, and writes one new state in which memory and reasoning are one; everything else is dropped. As in the repository,
 * state and observation stand in the assistant's own turn, the state in <think> (<IS> in the paper).
 *
 * What differs, and why:
 * - The base model of the comparison, not one that was trained for it by reinforcement learning: it is the memory that is compared.
 * - There is no action: a stream of turns is read, nothing can be searched for. So a step has no <search> or <answer>, and no hint of how
 *   many steps are left. An observation is what of the stream comes next, at most 512 tokens of it, about as much as the three passages
 *   that a search returns in the paper. The opening tag is written for the model, and its text ends at the closing one; the repository gives
 *   up on an answer without tags.
 * - A state is bounded by an eighth of the budget, the same for all memories that are one text; the repository's bound of an output is
 *   1024 tokens.
 * - Plain `mem1` is given a general task in the place of the question, which comes later; `mem1-aware` is given the question, as published.
 * - The answer is given from the last state in the form that all methods share, without <answer>.
 * - The words of the prompt are our own. It is written greedily (the repository samples at 0.01).
 */
import { fill, MEM1 } from './prompts.ts';
import { type Rewriting, runningMethod } from './running.ts';

const OBSERVATION_TOKENS = 512;
const SOURCE = 'arXiv 2506.15841';

const rewriting = (task: string): Rewriting => ({
  sectionTokens: OBSERVATION_TOKENS,
  ask(state, section) {
    const last = state && `${MEM1.open}${state}${MEM1.close}\n`;
    return {
      prompt: [{ role: 'user', content: fill(MEM1.user, { task }) }],
      prefill: `${last}${fill(MEM1.observation, { section })}\n${MEM1.open}`,
      stop: [MEM1.close],
    };
  },
});

const description = 'MEM1: one internal state, memory and reasoning in one, rewritten at every step.';
export const mem1 = runningMethod({ name: 'mem1', description, source: SOURCE, aware: false }, rewriting);

const asPublished = 'MEM1 as published: it reads for the question.';
export const mem1Aware = runningMethod(
  { name: 'mem1-aware', description: asPublished, source: SOURCE, aware: true },
  rewriting,
);
