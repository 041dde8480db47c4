/**
 * How near the hardware's limit a training step is: the time that the products of one epoch would take as plain F32 GEMMs of the same shapes
 * by the best library on the machine, over the time of the epoch. One run without a BLAS in the step, one with it where there is one.
 *   node bench/share.ts [--model qwen2.5-coder-1.5b] [--pairs 16] [--layers 4]
 */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import { findBlas } from '../src/engine/native/blas.ts';
import { type Native, type Raw, sizesOf } from '../src/engine/native/library.ts';
import { TopLayers } from '../src/engine/training/top-layers.ts';
import { asPairs, makeFacts } from './facts.ts';
import { positive } from './support/options.ts';
import { setting, table } from './support/report.ts';
import { runJson } from './support/run-json.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    pairs: { type: 'string', default: '16' },
    layers: { type: 'string', default: '4' },
    inside: { type: 'boolean', default: false },
  },
});
const pairs = positive({ pairs: options.pairs }, 'pairs');
const layers = positive({ layers: options.layers }, 'layers');
const EPOCHS = 5;
const REPEATS = 3;
const threads = os.availableParallelism();

interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly count: number;
}

interface Inside {
  readonly blas: string | null;
  readonly gemm: string;
  readonly epochMs: number;
  readonly gflop: number;
  readonly gemmMs: number;
  /** The largest ones. */
  readonly products: readonly (Product & { readonly gflops: number })[];
}

/** Every product that goes into a graph from now on; forgotten when it is emptied. */
function recordProducts(): Map<string, Product> {
  const found = new Map<string, Product>();
  const note = (M: number, N: number, K: number, batch: number) => {
    const key = `${M} ${N} ${K}`;
    found.set(key, { M, N, K, count: (found.get(key)?.count ?? 0) + batch });
  };
  const { newTape } = TopLayers.prototype;
  TopLayers.prototype.newTape = function (this: TopLayers) {
    const tape = newTape.call(this);
    const native = tape.f;
    const f: Native = Object.create(native);
    f.mulMat = (c, a, b) => {
      const [[K, N], [, M, ...batch]] = [sizesOf(a), sizesOf(b)] as [number[], number[]];
      note(
        M!,
        N!,
        K!,
        batch.reduce((n, x) => n * x, 1),
      );
      return native.mulMat(c, a, b);
    };
    f.outProd = (c, a, b) => {
      const [[N, K], [M]] = [sizesOf(a), sizesOf(b)] as [number[], number[]];
      note(M!, N!, K!, 1);
      return native.outProd(c, a, b);
    };
    Object.assign(tape, { f });
    return tape;
  };
  return found;
}

async function inside(): Promise<Inside> {
  const engine = await LlamaEngine.open({ modelPath: (await resolveModel(options.model)).path, threads });
  const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 6, layers });
  const facts = asPairs(makeFacts(1, pairs, 1)[0]!, 0);
  const samples = await Promise.all(facts.map((p) => engine.renderSample(p.instruction, p.output)));
  const request = { samples, weights, optimizer: { kind: 'sgd', lr: 5e-4 }, batch: pairs } as const;
  const { epochs } = await engine.train({ ...request, epochs: EPOCHS });
  const epochMs = Math.min(...epochs.slice(1).map(({ ms }) => ms));
  const found = recordProducts();
  // Of the second epoch, without what is done once a write.
  await engine.train({ ...request, epochs: 2 }, (event) => {
    if (event.type === 'step' && event.step === 1) found.clear();
  });
  await engine.close();
  const products = [...found.values()];
  const best = findBlas('auto');
  if (!best) throw new Error('No BLAS is on this machine to compare with; install OpenBLAS or MKL.');
  best.setThreads(threads);
  const timed = products.map((product) => {
    const ms = gemmMs(product, (...args) => best.multiply(...args));
    return { ...product, ms, gflops: (2 * product.M * product.N * product.K) / ms / 1e6 };
  });
  return {
    blas: process.env.TMEM_BLAS === 'off' ? null : best.name,
    gemm: best.library,
    epochMs,
    gflop: products.reduce((n, { M, N, K, count }) => n + (2 * M * N * K * count) / 1e9, 0),
    gemmMs: timed.reduce((n, { ms, count }) => n + ms * count, 0),
    products: timed
      .sort((a, b) => b.ms * b.count - a.ms * a.count)
      .slice(0, 8)
      .map(({ ms: _, ...rest }) => rest),
  };
}

type Multiply = NonNullable<ReturnType<typeof findBlas>>['multiply'];

/** The best of some. */
function gemmMs({ M, N, K }: Product, multiply: Multiply): number {
  const [a, b, c] = [M * K, K * N, M * N].map((n) => new Float32Array(n).fill(0.5)) as unknown as [Raw, Raw, Raw];
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i <= REPEATS; i++) {
    const start = performance.now();
    multiply({ transposeA: false, transposeB: true, M, N, K }, a, b, c);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

if (options.inside) console.log(JSON.stringify(await inside()));
else {
  const args = ['--inside', '--model', options.model, '--pairs', options.pairs, '--layers', options.layers];
  const one = (environment: Record<string, string>) =>
    runJson<Inside>(process.execPath, [import.meta.filename, ...args], environment);
  const results = [await one({ TMEM_BLAS: 'off' }), await one({})].map((r) => ({ ...r, share: r.gemmMs / r.epochMs }));
  console.error(
    table([
      ['in the step', 'epoch ms', 'GFLOP', 'GFLOP/s', 'plain GEMMs ms', 'share'],
      ...results.map((r) => [
        r.blas ?? 'ggml alone',
        ...[r.epochMs, r.gflop, (1e3 * r.gflop) / r.epochMs, r.gemmMs].map((x) => x.toFixed(0)),
        `${(100 * r.share).toFixed(0)} %`,
      ]),
    ]),
  );
  console.log(JSON.stringify({ bench: 'share', ...setting(), model: options.model, pairs, layers, results }, null, 1));
}
