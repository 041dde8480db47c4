/** Checks that fast weights pass before they are written, or given to native code. */
import { TmemError } from '../errors.ts';
import type { FastWeights, LoraTensor } from '../types.ts';

/** What an adapter has to fit: the base model. */
export interface BaseModel {
  /** `general.architecture` of the GGUF. */
  readonly architecture: string;
  readonly fingerprint: string;
  /** Shape in ggml order ([in, out]) of a tensor of the model; undefined when it has none of that name. */
  shape(name: string): readonly number[] | undefined;
}

/**
 * Ranks, lengths and values of fast weights, and with `base` whether every tensor fits the model.
 * @param source names them in an error: a path, or "The fast weights"
 * @throws TmemError `missing`
 */
export function checkFastWeights(weights: FastWeights, source: string, base?: Pick<BaseModel, 'shape'>): void {
  const refuse = (what: string) => new TmemError('missing', `${source} cannot be used: ${what}.`);
  const { rank, alpha, tensors } = weights;
  if (!Number.isSafeInteger(rank) || rank < 1) throw refuse(`rank ${rank} is not a whole number of at least 1`);
  if (!Number.isFinite(alpha) || alpha <= 0) throw refuse(`alpha ${alpha} is not a number above 0`);
  if (tensors.length === 0) throw refuse('it holds no tensors');
  const names = new Set<string>();
  for (const tensor of tensors) {
    const { name, a, b, inputs, outputs } = tensor;
    if (names.has(name)) throw refuse(`${name} occurs twice`);
    names.add(name);
    if (a.length !== rank * inputs || b.length !== outputs * rank) {
      throw refuse(`${name} does not have rank ${rank} and shape ${inputs} x ${outputs}`);
    }
    if (!a.every(Number.isFinite) || !b.every(Number.isFinite))
      throw refuse(`${name} holds a value that is not finite`);
    if (base) checkShape(tensor, base.shape(name), refuse);
  }
}

function checkShape(
  { name, inputs, outputs }: LoraTensor,
  shape: readonly number[] | undefined,
  refuse: (what: string) => Error,
) {
  if (!shape) throw refuse(`the model has no tensor ${name} (is it for another model?)`);
  if (shape.length !== 2 || shape[0] !== inputs || shape[1] !== outputs) {
    throw refuse(`${name} is ${inputs} x ${outputs} but ${shape.join(' x ')} in the model (is it for another model?)`);
  }
}

export function anotherModel(source: string): TmemError {
  return new TmemError('missing', `${source} was made for another model; open the model it was trained on.`);
}
