/**
 * The system's BLAS, where there is one: F32 products through its C interface (CBLAS with 32-bit integers). ggml's F32 kernels reach a third of
 * its speed on processors with AVX-512 (LOG.md).
 */
import os from 'node:os';
import koffi from 'koffi';
import { TmemError } from '../errors.ts';
import type { Raw } from './library.ts';
import { processorFlags } from './processor.ts';

/** C [M, N] = op(A) op(B) of matrices by rows without gaps; op is the matrix itself or its transpose. */
export interface MatrixProduct {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface Blas {
  readonly name: string;
  /** What it was loaded by: a file name that the system's loader finds, or a path. */
  readonly library: string;
  /** Asked for by name, so that it is used whether it is faster or not. */
  readonly wanted: boolean;
  setThreads(threads: number): void;
  multiply(product: MatrixProduct, a: Raw, b: Raw, c: Raw): void;
}

interface Kind {
  readonly name: string;
  /** File names by which loaders know it, the preferred first. */
  readonly files: Partial<Record<NodeJS.Platform, readonly string[]>>;
  /** Sets its number of threads. */
  readonly threads?: string;
  /** What must be set before it is loaded. Its threads must not spin when they wait: ggml's need the processors between two products. */
  readonly environment?: () => Readonly<Record<string, string>>;
}

const KINDS: readonly Kind[] = [
  {
    name: 'Accelerate',
    files: { darwin: ['/System/Library/Frameworks/Accelerate.framework/Accelerate'] },
  },
  {
    name: 'OpenBLAS',
    files: {
      linux: ['libopenblas.so.0', 'libopenblas.so'],
      darwin: ['libopenblas.dylib', '/opt/homebrew/opt/openblas/lib/libopenblas.dylib'],
      win32: ['libopenblas.dll', 'openblas.dll'],
    },
    threads: 'void openblas_set_num_threads(int)',
    environment: () => ({
      OPENBLAS_THREAD_TIMEOUT: '4',
      // Releases that are older than the processor take it for one without AVX.
      ...(processorFlags().has('avx512f') && { OPENBLAS_CORETYPE: 'SkylakeX' }),
    }),
  },
  {
    name: 'MKL',
    files: { linux: ['libmkl_rt.so.3', 'libmkl_rt.so.2', 'libmkl_rt.so'], win32: ['mkl_rt.3.dll', 'mkl_rt.2.dll'] },
    threads: 'void MKL_Set_Num_Threads(int)',
    environment: () => ({
      KMP_BLOCKTIME: '0',
      OMP_WAIT_POLICY: 'passive',
      MKL_CBWR: 'AUTO',
      // It ends the process when the threads that it is set to are not there.
      MKL_THREADING_LAYER: loads('libiomp5.so') ? 'INTEL' : loads('libgomp.so.1') ? 'GNU' : 'SEQUENTIAL',
    }),
  },
  {
    name: 'BLIS',
    files: { linux: ['libblis.so.4', 'libblis.so.3', 'libblis.so'] },
    threads: 'void bli_thread_set_num_threads(int64)',
  },
];

const ROW_MAJOR = 101;
const [PLAIN, TRANSPOSED] = [111, 112];

/**
 * The first BLAS that the system's loader finds. `wanted` (default `TMEM_BLAS`) is `off`, a name (`openblas`), or a library's path.
 * @throws TmemError `missing` when the wanted one cannot be loaded
 */
export function findBlas(wanted: string = process.env.TMEM_BLAS || 'auto'): Blas | undefined {
  if (wanted === 'off') return undefined;
  const isAuto = wanted === 'auto';
  const named = isAuto ? KINDS : KINDS.filter(({ name }) => name.toLowerCase() === wanted.toLowerCase());
  const found =
    named.length > 0
      ? firstOf(named.flatMap((kind) => (kind.files[os.platform()] ?? []).map((file) => ({ kind, file }))))
      : firstOf([{ kind: kindOf(wanted), file: wanted }]);
  if (!found && !isAuto)
    throw new TmemError(
      'missing',
      `TMEM_BLAS=${wanted} cannot be loaded; name ${KINDS.map((k) => k.name.toLowerCase()).join(', ')} or the path of a library with cblas_sgemm, or set it to off.`,
    );
  return found && { ...found, wanted: !isAuto };
}

function kindOf(file: string): Kind {
  const isOf = ({ name }: Kind) => file.toLowerCase().includes(name.toLowerCase());
  return KINDS.find(isOf) ?? { name: 'BLAS', files: {} };
}

function firstOf(candidates: readonly { kind: Kind; file: string }[]): Omit<Blas, 'wanted'> | undefined {
  for (const { kind, file } of candidates) {
    const blas = load(kind, file);
    if (blas) return blas;
  }
  return undefined;
}

function loads(file: string): boolean {
  try {
    koffi.load(file);
    return true;
  } catch {
    return false;
  }
}

function load(kind: Kind, file: string): Omit<Blas, 'wanted'> | undefined {
  for (const [key, value] of Object.entries(kind.environment?.() ?? {})) process.env[key] ??= value;
  try {
    const library = koffi.load(file);
    const sgemm = library.func(
      'void cblas_sgemm(int, int, int, int, int, int, float, void *, int, void *, int, float, void *, int)',
    );
    const setThreads = kind.threads ? library.func(kind.threads) : () => {};
    return {
      name: kind.name,
      library: file,
      setThreads,
      multiply: ({ transposeA, transposeB, M, N, K }, a, b, c) => {
        const [opA, strideA] = transposeA ? [TRANSPOSED, M] : [PLAIN, K];
        const [opB, strideB] = transposeB ? [TRANSPOSED, K] : [PLAIN, N];
        sgemm(ROW_MAJOR, opA, opB, M, N, K, 1, a, strideA, b, strideB, 0, c, N);
      },
    };
  } catch {
    return undefined;
  }
}
