import { candidatePackages, installedLibraries, LLAMA_RELEASE, requireLibraries } from './native/platform.ts';

/** The llama.cpp libraries of this machine: which are installed, which release loads. What is wrong is added to `problems`. */
export async function nativeLibraries(problems: string[]) {
  const attempt = async (action: () => unknown) => {
    try {
      return await action();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const installed = installedLibraries();
  await attempt(requireLibraries);
  const release = await attempt(async () => {
    if (installed.length === 0) return undefined;
    const { loadNative } = await import('./native/library.ts');
    return loadNative().version();
  });
  return {
    needed: LLAMA_RELEASE,
    found: release ?? null,
    installed: installed.map(({ packageName, backend }) => ({ package: packageName, backend })),
    /** GPU variants that could be installed beside it. */
    available: candidatePackages()
      .filter(
        (candidate) => candidate.backend !== 'cpu' && !installed.some((lib) => lib.packageName === candidate.name),
      )
      .map((candidate) => candidate.name),
  };
}
