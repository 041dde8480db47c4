import type { Tensor } from '../native/library.ts';
import type { PackedBatch, RowPart } from './packed-batch.ts';
import type { Tape } from './tape.ts';

/** The loss of some of a batch's rows. */
export interface RowLosses {
  readonly part: RowPart;
  /** [V, rows] */
  readonly logits: Tensor;
  /** Their softmax [V, rows]; the gradient is computed in its place, so what else is made of it goes into the graph before. */
  readonly probabilities: Tensor;
  /** [1, targets] */
  readonly logProbs: Tensor;
}

/**
 * Cross entropy of the head's input rows [D, A], part by part so that what is held does not grow with A times the vocabulary.
 * `onPart` gets each part before the next one's nodes are made.
 */
export function crossEntropy(
  tape: Tape,
  batch: PackedBatch,
  rows: Tensor,
  onPart: (part: RowLosses, gradient: Tensor) => void,
): void {
  const { V, linear } = batch.head;
  for (const part of batch.parts) {
    const { from, n, flatTargets, probabilities } = part;
    const logits = tape.multiply(linear.weight, tape.run(rows, from, n), linear.dense ?? false);
    const { gradient, ...found } = tape.crossEntropy(logits, flatTargets, probabilities, V, n);
    onPart({ part, logits, ...found }, gradient);
  }
}

/** The same with the gradient [D, A] to the rows; `onPart` gets each part before its gradient is in the graph. */
export function crossEntropyGradient(
  tape: Tape,
  batch: PackedBatch,
  rows: Tensor,
  onPart: (part: RowLosses) => void = () => {},
): { parts: RowLosses[]; gradient: Tensor } {
  const { f, c, graph } = tape;
  const parts: RowLosses[] = [];
  let all: Tensor | undefined;
  crossEntropy(tape, batch, rows, (part, gradient) => {
    onPart(part);
    const d = tape.linearBack(batch.head.linear, gradient);
    for (const t of [part.logProbs, d]) f.expand(graph, t);
    parts.push(part);
    all = all ? f.concat(c, all, d, 1) : d;
  });
  return { parts, gradient: all! };
}
