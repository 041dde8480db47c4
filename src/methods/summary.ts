/**
 * Recursive summarisation (Wang et al., arXiv 2308.15022): the summary is made of the last summary and of what has come since.
 *
 * What differs, and why:
 * - It is rewritten when the working context reaches the budget, not after every session: a stream of turns has no sessions. A turn
 *   that is longer than a section is cut.
 * - It is bounded by an eighth of the budget, the same for all memories that are one text, and the model is told how many words that is,
 *   at three quarters of a word a token. The paper has no budget.
 * - It is of any conversation or text, where the paper has dialogues of two; the words of the prompt are our own.
 * - The answer is given from the summary alone, in the form that all methods share. The paper shows the session that goes on, too:
 *   here everything is in the summary before a question is asked.
 * - It is written greedily.
 */
import { SUMMARY, summaryDirective } from './prompts.ts';
import { openRunning } from './running.ts';
import type { MethodSpec } from './types.ts';

export const summary: MethodSpec = {
  name: 'summary',
  description: 'A running summary, written anew whenever the working context is full.',
  source: 'arXiv 2308.15022',
  aware: false,
  open: (options) =>
    openRunning(options, {
      ask(memory, section, limit) {
        const content = [
          SUMMARY.previous,
          memory || SUMMARY.none,
          '',
          SUMMARY.section,
          section,
          '',
          summaryDirective(limit),
        ];
        return {
          prompt: [
            { role: 'system', content: SUMMARY.system },
            { role: 'user', content: content.join('\n') },
          ],
        };
      },
    }),
};
