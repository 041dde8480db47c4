import os from 'node:os';
import type { Native } from './native/library.ts';

export { processorFlags } from './native/processor.ts';

import { candidatePackages, installedLibraries, LLAMA_RELEASE, requireLibraries } from './native/platform.ts';

/** The llama.cpp libraries of this machine: which are installed, which release loads. What is wrong is added to `problems`. */
export async function nativeLibraries(problems: string[]) {
  const attempt = async <T>(action: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await action();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const installed = installedLibraries();
  await attempt(requireLibraries);
  const native = await attempt(async () => {
    if (installed.length === 0) return undefined;
    const { loadNative } = await import('./native/library.ts');
    return loadNative();
  });
  return {
    needed: LLAMA_RELEASE,
    found: native?.version() ?? null,
    gpus: native ? await gpus(native) : [],
    blas: native ? ((await attempt(() => blasOf(native))) ?? null) : null,
    installed: installed.map(({ packageName, backend }) => ({ package: packageName, backend })),
    /** GPU variants that could be installed beside it. */
    available: candidatePackages()
      .filter(
        (candidate) => candidate.backend !== 'cpu' && !installed.some((lib) => lib.packageName === candidate.name),
      )
      .map((candidate) => candidate.name),
  };
}

/** The system's BLAS, and how many times faster than ggml it multiplies with weights of the most common type. */
async function blasOf(
  native: Native,
): Promise<{ name: string; library: string; gain: number; used: boolean } | undefined> {
  const { Backends } = await import('./training/backends.ts');
  const { Layouts } = await import('./training/layouts.ts');
  const { WORTH } = await import('./training/kernels.ts');
  const { TYPE } = await import('./native/library.ts');
  const backends = Backends.open(native, { threads: os.availableParallelism() });
  try {
    const { blas } = backends;
    if (!blas) return undefined;
    const gain = new Layouts(native, backends).gain(TYPE.Q4_K);
    return { name: blas.name, library: blas.library, gain, used: blas.wanted || gain >= WORTH };
  } finally {
    backends.free();
  }
}

/** GPUs that the libraries find, with the operations of a training step that go to the CPU. */
async function gpus(native: Native): Promise<{ name: string; lacks: string[] }[]> {
  const { DEVICE } = await import('./native/library.ts');
  const { missingOperations } = await import('./training/operations.ts');
  return [DEVICE.GPU, DEVICE.IGPU].flatMap((kind) => {
    const device = native.deviceByType(kind);
    return device ? [{ name: native.deviceDescription(device), lacks: missingOperations(native, device) }] : [];
  });
}
