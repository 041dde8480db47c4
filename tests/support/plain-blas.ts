/** A BLAS of loops, so that the graph's division at dense products is tested where the system has none. */
import type { Blas } from '../../src/engine/native/blas.ts';
import { type Native, type Raw, view } from '../../src/engine/native/library.ts';
import { Backends } from '../../src/engine/training/backends.ts';

export interface CountingBlas extends Blas {
  readonly calls: () => number;
}

export function plainBlas(): CountingBlas {
  let calls = 0;
  const matrix = (at: Raw, n: number) => new Float32Array(view(at, n * 4));
  return {
    name: 'loops',
    library: 'none',
    wanted: true,
    calls: () => calls,
    setThreads: () => {},
    multiply: ({ transposeA, transposeB, M, N, K }, a, b, c) => {
      calls++;
      const [A, B, C] = [matrix(a, M * K), matrix(b, K * N), matrix(c, M * N)];
      for (let m = 0; m < M; m++) {
        for (let n = 0; n < N; n++) {
          let sum = 0;
          for (let k = 0; k < K; k++)
            sum += A[transposeA ? k * M + m : m * K + k]! * B[transposeB ? n * K + k : k * N + n]!;
          C[m * N + n] = sum;
        }
      }
    },
  };
}

/** The CPU with a BLAS for dense products. */
export function withBlas(native: Native, blas: Blas): Backends {
  const { device, main, cpu, threads } = Backends.open(native, { threads: 1 });
  return new Backends(native, device, main, cpu, { threads, blas });
}
