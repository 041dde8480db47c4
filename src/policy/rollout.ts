/**
 * Whole episodes of TMEM, many at once: each observes its turns, extracts, writes and answers as `Episode` does, on an engine that records
 * every action. All episodes of a group play the same task, so that their first prompts are shared.
 */
import pLimit from 'p-limit';
import { answerQuestion } from '../agent/answer.ts';
import { Episode } from '../agent/episode.ts';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { getRecipe, type Recipe } from '../memory/recipe.ts';
import type { Writer } from '../memory/types.ts';
import { writePairs } from '../memory/write.ts';
import { playTurns, type Task } from './environment.ts';
import { type Action, type Deltas, Recorder, type RecorderSettings } from './recorder.ts';
import { seedOf } from './seeds.ts';

export interface RolloutSettings extends RecorderSettings {
  /**
   * `weights`: pairs are trained into Delta, as TMEM does. `explicit`: Delta stays 0 and the pairs are kept as text, which is read back from
   * the context. Then no episode trains anything, which makes it many times cheaper, and what is learned is still to write down what will be
   * asked and to answer from it; whether a pair is good to train on is not.
   */
  readonly write: 'weights' | 'explicit';
  /** Name of the recipe of writes. What only guards a user's memory is left out of it: the outcome says whether a write was good. */
  readonly recipe: string;
  /** L_max in tokens. */
  readonly budget: number;
  /** Extractions are sampled under theta0 + Delta_t, as in the paper; false: under theta0 alone. */
  readonly extractUnderDelta: boolean;
  /** Turns that one extraction is shown, those before it that it is shown too, and whether overlooked names are asked for again. */
  readonly chunkTurns: number;
  readonly earlierTurns: number;
  readonly secondLook: boolean;
  /** Tokens of an answer when the question names none. */
  readonly answerTokens: number;
  /** Episodes that run at once. */
  readonly parallel: number;
}

export interface Rollout {
  readonly task: Task;
  readonly actions: readonly Action[];
  readonly answers: readonly string[];
  /** From 0 to 1. */
  readonly reward: number;
  /** It was cut off by a limit. */
  readonly truncated: boolean;
}

/** The recipe without gate, paraphrases and anchors. @throws TmemError `usage` for an unknown name. */
export function rolloutRecipe(name: string): Recipe {
  return { ...getRecipe(name), gate: false, paraphrased: 0, expand: [], anchors: 0 };
}

/**
 * @param deltas is filled with every Delta that an action was sampled under
 * @throws TmemError as the engine does; `failed` for a reward that is not from 0 to 1
 */
export async function rollOut(
  engine: Engine,
  task: Task,
  settings: RolloutSettings,
  { name, seed, deltas, signal }: { name: string; seed: number; deltas: Deltas; signal?: AbortSignal | undefined },
): Promise<Rollout> {
  throwIfAborted(signal);
  const { budget, chunkTurns, earlierTurns, secondLook, extractUnderDelta, answerTokens } = settings;
  const recorder = new Recorder(engine, name, seed, deltas, settings);
  const recipe = rolloutRecipe(settings.recipe);
  const write: Writer = (state, pairs, step) => writePairs(recorder.writer, state, pairs, recipe, step);
  try {
    const episode = await Episode.open({
      ...{ engine: recorder.engine, write, budget, method: settings.write === 'weights' ? 'tmem' : 'explicit' },
      ...(task.task !== undefined && { task: task.task, questionAware: true }),
      extract: { chunkTurns, earlierTurns, secondLook, fastWeights: extractUnderDelta },
    });
    const agent = {
      observe: (turn: Parameters<Episode['observe']>[0]) => episode.observe(turn, { signal }),
      settle: async () => void (await episode.write({ signal })),
      async answer({ text, maxTokens = answerTokens }: { readonly text: string; readonly maxTokens?: number }) {
        const { state } = episode.snapshot;
        const given = await answerQuestion(recorder.engine, state, text, { maxTokens, signal });
        return { text: given.answer, contextTokens: given.tokens };
      },
    };
    const answers = await (task.play ? task.play(agent, signal) : playTurns(task, agent));
    const reward = await task.reward(answers);
    if (!(reward >= 0 && reward <= 1))
      throw new TmemError('failed', `The reward of task ${task.id} is ${reward}; it must be from 0 to 1.`);
    return { task, actions: recorder.actions, answers, reward, truncated: recorder.truncated };
  } finally {
    await recorder.close();
  }
}

/**
 * `size` episodes of every task, under the policy in force.
 * @param seed the episodes of a task differ by it and by their place in the group
 * @param onEpisode told of every episode that has ended
 */
export async function rollOutGroups(
  engine: Engine,
  tasks: readonly Task[],
  size: number,
  settings: RolloutSettings,
  options: {
    readonly seed: number;
    readonly deltas: Deltas;
    readonly signal?: AbortSignal | undefined;
    readonly onEpisode?: ((rollout: Rollout) => void) | undefined;
  },
): Promise<Rollout[][]> {
  const { seed, deltas, signal, onEpisode } = options;
  const limit = pLimit(settings.parallel);
  const failed = new AbortController();
  const stop = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const play = async (task: Task, t: number, i: number) => {
    const where = { name: `episode-${t}-${i}`, seed: seedOf(seed, t, i), deltas, signal: stop };
    const rollout = await rollOut(engine, task, settings, where);
    onEpisode?.(rollout);
    return rollout;
  };
  const episodes = tasks.map((task, t) => Array.from({ length: size }, (_, i) => limit(play, task, t, i)));
  try {
    return await Promise.all(episodes.map((group) => Promise.all(group)));
  } catch (error) {
    failed.abort(); // the others are of no use any more, and none may still run when the policy is changed
    await Promise.allSettled(episodes.flat());
    throw error;
  }
}
