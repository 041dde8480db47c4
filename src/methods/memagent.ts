/**
 * MemAgent (arXiv 2507.02259; BytedTsinghua-SIA/MemAgent, recurrent/impls/memory.py): the text is read section by section, and a memory
 * of fixed length is overwritten after each: problem, previous memory and section go in, the new memory comes out.
 *
 * What differs, and why:
 * - The base model of the comparison reads, not one that was trained for it by reinforcement learning: it is the memory that is compared.
 * - Memory and section are an eighth and the rest of the budget; the paper has 1024 and 5000 of 8192 tokens, the others being for problem
 *   and output. A section is cut between turns, within one only when it is longer than a section; the paper cuts anywhere.
 * - Plain `memagent` is given a general task in the place of the problem, as the question comes later; `memagent-aware` is given the
 *   question, as published.
 * - The answer is given from the memory in the form that all methods share, without \boxed.
 * - It is written greedily (the repository samples at 0.7), and the words of the prompt are our own, in the same order and tags.
 */
import { fill, MEMAGENT } from './prompts.ts';
import { type Rewriting, runningMethod } from './running.ts';

const SOURCE = 'arXiv 2507.02259';

const rewriting = (task: string): Rewriting => ({
  ask: (memory, section) => ({
    prompt: [{ role: 'user', content: fill(MEMAGENT.user, { task, memory: memory || MEMAGENT.none, section }) }],
  }),
});

const description = 'MemAgent: a memory of fixed length, overwritten after every section.';
export const memagent = runningMethod({ name: 'memagent', description, source: SOURCE, aware: false }, rewriting);

const asPublished = 'MemAgent as published: it reads for the question.';
export const memagentAware = runningMethod(
  { name: 'memagent-aware', description: asPublished, source: SOURCE, aware: true },
  rewriting,
);
