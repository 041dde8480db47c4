/** The training of one write: what is trained beside its pairs, from which weights, and when it goes on. */
import { stack } from '../engine/adapter/fast-weights.ts';
import { TmemError } from '../engine/errors.ts';
import type { Engine, FastWeights, Sample, TrainEvent, TrainRequest } from '../engine/types.ts';
import type { OwnAnswer } from './anchors.ts';
import { keyOfTraining } from './checkpoints.ts';
import { ordinarySamples } from './ordinary.ts';
import type { Recipe } from './recipe.ts';
import { forgottenPairs, replayedPairs } from './replay.ts';
import { anchorSamples, distilledSamples, pairSamples } from './samples.ts';
import type { MemoryState, Pair } from './types.ts';
import type { WriteOptions } from './write.ts';

/** What the learning rate is multiplied with when training diverges, once. */
const SLOWER = 0.3;
const MOST_RANK = 64;

export interface Material {
  readonly pairs: readonly Pair[];
  /** Pairs of earlier writes that still hold. */
  readonly earlier: readonly Pair[];
  readonly anchors: readonly OwnAnswer[];
}

export interface Trained {
  readonly weights: FastWeights;
  /** What they were trained on top of. */
  readonly frozen: FastWeights | null;
}

/**
 * @param loss is filled with the loss before each step.
 * @throws TmemError `failed` when training diverges, with the recipe's gate at the lower rate, too; `aborted` when the signal fires.
 */
export async function trainWrite(
  engine: Engine,
  state: MemoryState,
  { pairs, earlier, anchors }: Material,
  recipe: Recipe,
  { signal, onEvent = () => {}, checkpoints }: WriteOptions,
  loss: number[],
): Promise<Trained> {
  const { layers } = recipe;
  const looking = { turn: state.writes.length, layers, signal };
  const forgotten = { count: recipe.replayForgotten, loss: recipe.stopLoss };
  const chosen = { count: recipe.replay, forgotten, ...looking };
  const replayed = state.weights ? await replayedPairs(engine, earlier, state.weights, chosen) : [];
  onEvent({ type: 'replay', pairs: replayed.length });

  const own = recipe.distil
    ? await distilledSamples(engine, pairs, { layers, signal })
    : await pairSamples(engine, pairs);
  const others = pairs.flatMap(({ also = [] }) => also);
  const fresh = [...own, ...(await pairSamples(engine, others))];
  const by = recipe.distributions ? ({ distributions: true, layers, signal } as const) : 'words';
  const samples = [...fresh, ...(await anchorSamples(engine, anchors, by))];
  const { weights, frozen } = await startOf(engine, state, fresh, pairs.length, recipe, signal);
  const request: TrainRequest = {
    ...{ samples, weights, frozen, optimizer: recipe.optimizer, epochs: recipe.epochs, batch: recipe.batch },
    stop: {
      samples: pairs.length,
      loss: recipe.stopLoss,
      share: recipe.stopShare,
      patience: recipe.patience || undefined,
    },
    ...(recipe.trainsA && { trainsA: true }),
    candidates: recipe.candidates,
    replay: await pairSamples(engine, replayed),
    still: recipe.still > 0 ? { samples: await pairSamples(engine, earlier), strength: recipe.still } : undefined,
    signal,
  };

  const train = async (request: TrainRequest): Promise<FastWeights> => {
    const before = loss.length;
    const length = request.samples.length + (request.replay?.length ?? 0);
    const totalSteps = before + request.epochs * Math.ceil(length / recipe.batch);
    const onTrain = (event: TrainEvent) => {
      if (event.type === 'step') loss.push(event.loss);
      onEvent({ type: 'train', event: event.type === 'step' ? { ...event, step: loss.length } : event, totalSteps });
    };
    const at = async (lr: number) => {
      loss.length = before;
      const slower = { ...request, optimizer: { ...request.optimizer, lr } };
      if (!checkpoints) return engine.train(slower, onTrain);
      const key = keyOfTraining(engine.model.fingerprint, slower);
      const from = checkpoints.load(key);
      if (from) loss.push(...from.steps.map((step) => step.loss));
      return engine.train({ ...slower, checkpoints: { from } }, (event) => {
        if (event.type === 'checkpoint') checkpoints.save(key, event.checkpoint);
        else onTrain(event);
      });
    };
    const { lr } = recipe.optimizer;
    const result = await at(lr).catch((error: unknown) => {
      if (!recipe.gate || !(error instanceof TmemError) || error.code !== 'failed') throw error;
      return at(lr * SLOWER);
    });
    return result.weights;
  };

  const trained = await train(request);
  const result = { weights: trained, frozen: frozen ?? null };
  if (recipe.extraEpochs === 0 || earlier.length === 0) return result;
  const now = stack(result.frozen, trained);
  const lost = await forgottenPairs(engine, earlier, now, { ...looking, ...forgotten });
  if (lost.length === 0) return result;
  const again = [...new Set([...lost, ...replayed])];
  onEvent({ type: 'replay', pairs: again.length });
  const extra: TrainRequest = {
    ...request,
    ...{ weights: trained, epochs: recipe.extraEpochs, replay: await pairSamples(engine, again) },
    stop: { ...request.stop!, share: 1 },
  };
  return { ...result, weights: await train(extra) };
}

/** The weights that a write begins with, and what they are on top of. */
async function startOf(
  engine: Engine,
  { weights, writes }: MemoryState,
  samples: readonly Sample[],
  pairs: number,
  recipe: Recipe,
  signal: AbortSignal | undefined,
): Promise<{ weights: FastWeights; frozen?: FastWeights }> {
  if (recipe.mode === 'continue' && weights) return { weights };
  const frozen = weights ?? undefined;
  const init =
    recipe.init === 'keys' || recipe.init === 'null-space'
      ? {
          kind: 'keys' as const,
          samples,
          ordinary: await ordinarySamples(engine),
          scale: recipe.scale,
          ridge: recipe.ridge,
          directions: recipe.init === 'keys' ? ('samples' as const) : ('any' as const),
        }
      : { kind: recipe.init };
  const rank = Math.max(recipe.rank, Math.min(MOST_RANK, Math.ceil(pairs * recipe.rankPerPair)));
  const start = await engine.initialise({ init, rank, layers: recipe.layers, seed: writes.length, frozen, signal });
  return { weights: start, ...(frozen && { frozen }) };
}
