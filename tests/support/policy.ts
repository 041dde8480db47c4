/** What tests of the policy need: actions made by hand, and a scripted engine whose policy is a number that training moves. */
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Engine, FastWeights, Token } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import type { Environment } from '../../src/policy/environment.ts';
import type { Action } from '../../src/policy/recorder.ts';
import { type TrainSettings, type TrainSettingsInput, trainSettings } from '../../src/policy/settings.ts';
import { said, scriptedPolicy } from './scripted.ts';

export const tokens = (...ids: number[]) => ids as Token[];

export function action(answer: readonly number[], logProbs: readonly number[], delta: string | null = null): Action {
  return {
    ...{ kind: 'ordinary', context: [], prompt: tokens(1), answer: tokens(...answer) },
    ...{ logProbs: Float64Array.from(logProbs), text: '', finish: 'end', delta },
  };
}

/** A policy of one product [1, 1]. */
export function onePolicy(a: number, b: number): FastWeights {
  const tensor = { name: 'blk.0.ffn_up.weight', inputs: 1, outputs: 1 };
  return { rank: 1, alpha: 1, tensors: [{ ...tensor, a: Float32Array.of(a), b: Float32Array.of(b) }] };
}

/**
 * Answers rightly with the probability sigmoid(b), b the first number of the policy's B, as the seed of the request has it, and always
 * extracts all facts. Its gradient is that of an answer's log-probability.
 */
export function learningEngine(): { readonly engine: Engine; readonly scripted: ScriptedEngine } {
  const sigmoid = (policy: FastWeights | null) => 1 / (1 + Math.exp(-(policy?.tensors[0]?.b[0] ?? 0)));
  const right = 'blue';
  const wrong = 'unknown';
  const scripted = scriptedPolicy((request) =>
    (request.seed ?? 0) / 2 ** 32 < sigmoid(scripted.policy) ? right : wrong,
  );
  const engine = withMethods(scripted, {
    async policyGradient({ policy, samples, gradient = true }) {
      const [isRight] = await scripted.tokenize(right);
      const [isWrong] = await scripted.tokenize(wrong);
      const p = sigmoid(policy);
      const logProb = (token: Token) => (token === isRight ? Math.log(p) : token === isWrong ? Math.log(1 - p) : -1);
      const slope = (token: Token) => (token === isRight ? 1 - p : token === isWrong ? -p : 0);
      const rise = samples.reduce((sum, { answer, weights }) => sum + slope(answer[0]!) * weights[0]!, 0);
      const tensors = policy.tensors.map(({ name, a, b }) => {
        return { name, a: a.map(() => 0), b: b.map((_, i) => (i === 0 ? -rise : 0)) };
      });
      return {
        logProbs: samples.map(({ answer }) => Float64Array.from(answer, logProb)),
        entropies: samples.map(({ answer }) => new Float64Array(answer.length).fill(0.5)),
        tensors: gradient ? tensors : [],
      };
    },
  });
  return { scripted, engine };
}

/** Two turns, one question: the sky is blue. */
export const skyEnvironment: Environment = {
  name: 'sky',
  episode: (seed, split) => ({
    id: `${split}-${seed}`,
    turns: [said('The sky is blue.'), said(`The seed is ${seed}.`)],
    questions: [{ text: 'What is the sky?', gold: 'blue' }],
    reward: ([answer]) => (answer === 'blue' ? 1 : 0),
  }),
};

/** Small and quick; with the schemas by which the scripted policy knows what it is asked. */
export function quickSettings(own: TrainSettingsInput = {}): TrainSettings {
  const { rollout, ...rest } = own;
  return trainSettings('laptop', {
    ...{ steps: 4, batch: 2, group: 4, rank: 1, layers: 1, lr: 0.3, evalEvery: 2, evalTasks: 4, ...rest },
    rollout: { write: 'explicit', grammar: true, temperature: 1, ...rollout },
  });
}
