import { TmemError } from '../errors.ts';
import { forward } from '../training/forward.ts';
import { PackedBatch } from '../training/packed-batch.ts';
import type { TopLayers } from '../training/top-layers.ts';
import type { LlamaModel } from './model.ts';
import type { PrefixPass } from './prefix.ts';

const PROMPT = 'The quick brown fox jumps over the lazy dog. 1 2 3 4';
/**
 * Largest deviation of the training graph's logits from llama.cpp's, relative to their spread (root mean square). Both round activations
 * to 8 bits at quantised products and llama.cpp keeps K and V in F16, so they agree to about 1 %; a wrong norm, RoPE or bias gives over 20 %.
 */
const TOLERANCE = 0.08;

/**
 * Compares the training graph's logits with llama.cpp's on a fixed prompt, at B = 0.
 * @throws TmemError `missing` when they differ: the model is then never trained, rather than trained wrongly.
 */
export function verifyTrainingGraph(top: TopLayers, prefix: PrefixPass, model: LlamaModel): void {
  const deviation = graphDeviation(top, prefix, model);
  if (!(deviation <= TOLERANCE)) {
    throw new TmemError(
      'missing',
      `This model cannot be trained: its training graph differs from llama.cpp's by ${(deviation * 100).toFixed(0)} % (it uses something that tmem does not know); it can still be run without memory.`,
    );
  }
}

/** Root mean square of the difference of the last token's logits over their standard deviation. */
export function graphDeviation(top: TopLayers, prefix: PrefixPass, model: LlamaModel): number {
  const tokens = Int32Array.from(model.tokenize(PROMPT));
  const { hidden, logits: expected } = prefix.reference(tokens);
  const f = top.native;
  const batch = new PackedBatch(top, [{ tokens, promptLength: tokens.length, hidden, weight: 1 }], 'all');
  const runner = top.backends.newRunner();
  const { V } = top.shape;
  const actual = new Float32Array(V);
  try {
    const tape = top.newTape();
    const { rows } = forward(tape, top, {}, batch);
    const logits = tape.linear(rows, batch.head.linear);
    f.setOutput(logits);
    f.expand(tape.graph, logits);
    runner.run(tape, { after: () => f.tensorGet(logits, actual, (batch.A - 1) * V * 4, V * 4) });
  } finally {
    runner.free();
    batch.free();
  }
  const mean = expected.reduce((s, x) => s + x, 0) / V;
  let error = 0;
  let spread = 0;
  for (let i = 0; i < V; i++) {
    error += (actual[i]! - expected[i]!) ** 2;
    spread += (expected[i]! - mean) ** 2;
  }
  return Math.sqrt(error / spread);
}
