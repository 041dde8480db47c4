/** What the training graph asks of a device. */
import { type Device, type Native, type Tensor, TYPE } from '../native/library.ts';
import { type Linear, Tape } from './tape.ts';

const SIZE = 32;
const HEADS = 2;

/** Names of the operations of a training step that a device cannot compute; they go to the CPU. */
export function missingOperations(native: Native, device: Device): string[] {
  const tape = new Tape(native);
  try {
    buildStep(tape);
    const missing = new Set<string>();
    for (let i = 0; i < native.graphNodes(tape.graph); i++) {
      const node = native.graphNode(tape.graph, i);
      if (!native.supports(device, node)) missing.add(native.operation(node));
    }
    return [...missing];
  } finally {
    tape.free();
  }
}

/** One layer forward and backward and both optimisers, on a few values. */
function buildStep(tape: Tape): void {
  const { f, c, graph } = tape;
  const matrix = (n0 = SIZE, n1 = SIZE): Tensor => f.new2(c, TYPE.F32, n0, n1);
  const vector = (type: number = TYPE.F32, n = SIZE): Tensor => f.new1(c, type, n);
  const linear = (): Linear => ({
    weight: f.new2(c, TYPE.F16, SIZE, SIZE),
    transposed: f.new2(c, TYPE.F16, SIZE, SIZE),
  });
  const lora = { a: matrix(SIZE, 8), aT: matrix(8, SIZE), b: matrix(8, SIZE), trained: true };
  const heads = (x: Tensor) => tape.splitHeads(x, SIZE / HEADS, HEADS, SIZE);
  const rope = (x: Tensor) => tape.rope(x, vector(TYPE.I32), null, [SIZE / HEADS, 2, 512, 10000, 1, 0, 1, 32, 1]);

  const x = tape.watch(matrix());
  const h = tape.rmsNorm(tape.addLora(tape.linear(x, linear()), tape.loraInput(x, lora), lora), vector(), 1e-6);
  const q = tape.bias(tape.slice(tape.linear(h, linear()), SIZE, 0, SIZE), vector());
  const size = { C: SIZE / HEADS, H: HEADS, G: HEADS, Q: SIZE, T: SIZE };
  const half = SIZE / 2;
  const blocks = [0, half].map((from) => ({
    ...{ queries: { from, n: half }, shared: from && 1, keys: { from, n: half } },
    mask: matrix(half + (from && 1), half),
  }));
  const mixed = tape.attention(rope(heads(q)), rope(heads(h)), heads(h), blocks, size);
  const y = tape.add(tape.swiglu(h, mixed), tape.geglu(h, mixed));
  const rows = tape.weighRows(tape.rows(y, vector(TYPE.I32)), matrix(1, SIZE), SIZE, SIZE);
  const logits = tape.linear(tape.scale(rows, 1), linear());
  const { probabilities, logProbs, gradient } = tape.crossEntropy(
    logits,
    vector(TYPE.I32),
    matrix(1, SIZE),
    SIZE,
    SIZE,
  );
  f.expand(graph, tape.entropy(probabilities, SIZE, SIZE));
  f.expand(graph, logProbs);
  tape.backward(logits, gradient);
  const found = tape.gradients.get(lora.b)!;
  f.expand(graph, f.sum(c, f.sqr(c, found)));
  f.setParam(lora.b);
  f.expand(graph, f.stepSgd(c, lora.b, found, vector(TYPE.F32, 2)));
  f.expand(graph, f.stepAdamW(c, lora.b, found, matrix(8, SIZE), matrix(8, SIZE), vector(TYPE.F32, 7)));
  f.expand(graph, tape.gradientOf(x)!);
}
