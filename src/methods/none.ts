/** No memory: the bare question to the bare model. The floor of every comparison, and what the model knows anyway. */
import { throwIfAborted } from '../engine/errors.ts';
import { answerFrom } from './common.ts';
import type { MethodSpec } from './types.ts';

export const none: MethodSpec = {
  name: 'none',
  description: 'No memory: the question alone.',
  source: 'baseline',
  aware: false,
  async open(options) {
    return {
      observe: async () => throwIfAborted(options.signal),
      settle: async () => throwIfAborted(options.signal),
      answer: (question) => answerFrom(options, '', question),
      kept: async () => ({ text: '', items: 0, weights: 0 }),
    };
  },
};
