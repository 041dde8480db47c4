import { TmemError } from '../engine/errors.ts';
import type { TrainingSettings } from '../engine/footprint.ts';
import type { Optimizer } from '../engine/types.ts';
import type { Form } from './expand.ts';

/** How a write is trained and judged. */
export interface Recipe {
  readonly name: string;
  readonly rank: number;
  /** Rows of A for each pair of a write when that makes more than `rank`: many facts need many directions. */
  readonly rankPerPair: number;
  /** Last layers that are adapted. */
  readonly layers: number;
  /**
   * `shard`: every write trains a LoRA of its own on top of the frozen earlier ones. `continue`: one LoRA, whose B goes on from where
   * it was (the paper's).
   */
  readonly mode: 'shard' | 'continue';
  readonly init: 'keys' | 'null-space' | 'svd' | 'random';
  /** A is trained beside B, which is not possible with `still`. */
  readonly trainsA: boolean;
  readonly optimizer: Optimizer;
  readonly epochs: number;
  readonly batch: number;
  /** Training ends early once no answer token of a new pair has this loss or more (ln 2 = 0.69: each is the most probable). 0: never. */
  readonly stopLoss: number;
  /** The share of the new pairs of which that must be true: a pair that contradicts others would hold it up for all. */
  readonly stopShare: number;
  /** It also ends after this many epochs in which no more pairs were learned. 0: it does not. */
  readonly patience: number;
  /** Most probable tokens of each answer token that the softmax is over, which saves time. 0: the whole vocabulary. */
  readonly candidates: number;
  /** Earlier pairs trained beside the new ones: those that are remembered worst. */
  readonly replay: number;
  /** As many more of those that are forgotten: an answer token has `stopLoss` or more. */
  readonly replayForgotten: number;
  /**
   * Epochs that training goes on for at most when earlier pairs are forgotten after it, with those replayed, too, until all are learned.
   * 0: it does not, and they are not looked at again.
   */
  readonly extraEpochs: number;
  /** How strongly a write is kept from acting on the inputs of all earlier pairs (`TrainRequest.still`). 0: not at all. */
  readonly still: number;
  /** Ordinary prompts with the model's own answers trained beside the pairs. */
  readonly anchors: number;
  /** Whether anchors are trained to keep the model's next-token distributions (a KL term) instead of its words. */
  readonly distributions: boolean;
  /** Other ways of saying a pair that are trained beside it. */
  readonly expand: readonly Form[];
  /** Whether pairs are trained on the distributions that the model gives with their source in the context, instead of their words. */
  readonly distil: boolean;
  /** Whether a write that harms the model, or teaches nothing, is rolled back. */
  readonly gate: boolean;
  /** How many of the pairs are also asked in two other ways, which the model writes: it takes some seconds a pair. */
  readonly paraphrased: number;
  /** `keys` only: root mean square of A's strongest row times x on the pairs, and the relative ridge. */
  readonly scale?: number;
  readonly ridge?: number;
}

const RECIPES: readonly Recipe[] = [
  {
    name: 'default',
    rank: 6,
    rankPerPair: 0.75,
    layers: 4,
    mode: 'shard',
    init: 'keys',
    trainsA: false,
    // A large eps keeps AdamW from moving what hardly matters: the same recall with a smaller B and half the spill (LOG.md).
    optimizer: { kind: 'adamw', lr: 7e-4, eps: 3e-3, beta1: 0.5 },
    epochs: 24,
    batch: 128,
    stopLoss: 0.4,
    stopShare: 0.9,
    patience: 8,
    candidates: 64,
    replay: 16,
    replayForgotten: 32,
    extraEpochs: 12,
    still: 1e-3,
    anchors: 2,
    distributions: false,
    expand: ['paraphrase'],
    distil: false,
    gate: true,
    paraphrased: 4,
    scale: 50,
    ridge: 0.02,
  },
  {
    name: 'paper',
    rank: 6,
    rankPerPair: 0,
    layers: 4,
    mode: 'continue',
    init: 'svd',
    trainsA: false,
    optimizer: { kind: 'sgd', lr: 5e-4 },
    epochs: 5,
    batch: 16,
    stopLoss: 0,
    stopShare: 1,
    patience: 0,
    candidates: 0,
    replay: 0,
    replayForgotten: 0,
    extraEpochs: 0,
    still: 0,
    anchors: 0,
    distributions: false,
    expand: [],
    distil: false,
    gate: false,
    paraphrased: 0,
  },
];

export const recipeNames = RECIPES.map((r) => r.name);

/** What a user may set of a recipe without making another one. */
export type RecipeSettings = Partial<Pick<Recipe, 'layers'>>;

/** @throws TmemError `usage` for an unknown name. */
export function getRecipe(name: string, { layers }: RecipeSettings = {}): Recipe {
  const recipe = RECIPES.find((r) => r.name === name);
  if (!recipe) throw new TmemError('usage', `There is no recipe "${name}"; use one of ${recipeNames.join(', ')}.`);
  return { ...recipe, layers: layers ?? recipe.layers };
}

/** What a recipe's training takes memory for. @throws TmemError `usage` for an unknown name. */
export function trainingOf(name: string, settings: RecipeSettings = {}): TrainingSettings {
  const { layers, init, candidates } = getRecipe(name, settings);
  return { layers, keys: init === 'keys' || init === 'null-space', likelyTokens: candidates > 0 };
}
