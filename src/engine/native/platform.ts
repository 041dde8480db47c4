import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { TmemError } from '../errors.ts';

/** The llama.cpp release whose struct layouts `library.ts` declares, as `llama_version()` names it. */
export const LLAMA_RELEASE = '0.4.0';
/** The npm packages of that release. */
export const PACKAGE_VERSION = '3.21.1';

export type Backend = 'cpu' | 'cuda' | 'vulkan' | 'metal';

/** Where one variant of the shared libraries lies. */
export interface NativeLibraries {
  readonly packageName: string;
  readonly backend: Backend;
  readonly folder: string;
  readonly ggmlBase: string;
  readonly ggml: string;
  readonly llama: string;
}

/** npm package suffixes per platform, best first. GPU variants are opt-in installs, so most are absent. */
export function candidatePackages(
  platform: NodeJS.Platform = os.platform(),
  arch: string = os.arch(),
): { name: string; backend: Backend }[] {
  const key = `${platform}-${arch}`;
  const named = (suffix: string, backend: Backend) => ({ name: `@node-llama-cpp/${suffix}`, backend });
  switch (key) {
    case 'linux-x64':
      return [named('linux-x64-cuda', 'cuda'), named('linux-x64-vulkan', 'vulkan'), named('linux-x64', 'cpu')];
    case 'linux-arm64':
      return [named('linux-arm64', 'cpu')];
    case 'linux-arm':
      return [named('linux-armv7l', 'cpu')];
    case 'darwin-arm64':
      return [named('mac-arm64-metal', 'metal')];
    case 'darwin-x64':
      return [named('mac-x64', 'cpu')];
    case 'win32-x64':
      return [named('win-x64-cuda', 'cuda'), named('win-x64-vulkan', 'vulkan'), named('win-x64', 'cpu')];
    case 'win32-arm64':
      return [named('win-arm64', 'cpu')];
    default:
      return [];
  }
}

/** Library file names carry version and variant (`libllama.cuda.v0.4.0.so`), so they are searched for. */
function findLibrary(folder: string, stem: string): string | undefined {
  const pattern = new RegExp(`^(lib)?${stem}(\\.[a-z]+)?(\\.v[\\d.]+)?\\.(so|dylib|dll)$`);
  const file = readdirSync(folder).find((name) => pattern.test(name));
  return file && path.join(folder, file);
}

function librariesIn(name: string, backend: Backend): NativeLibraries | undefined {
  const require = createRequire(import.meta.url);
  for (const root of require.resolve.paths(name) ?? []) {
    const bins = path.join(root, name, 'bins');
    if (!existsSync(bins)) continue;
    for (const variant of readdirSync(bins)) {
      const folder = path.join(bins, variant);
      const ggmlBase = findLibrary(folder, 'ggml-base');
      const ggml = findLibrary(folder, 'ggml');
      const llama = findLibrary(folder, 'llama');
      if (ggmlBase && ggml && llama) return { packageName: name, backend, folder, ggmlBase, ggml, llama };
    }
  }
  return undefined;
}

/** Every installed variant for this machine, best first. `TMEM_BACKEND` (cpu, cuda, vulkan, metal) narrows the choice. */
export function installedLibraries(wanted: string | undefined = process.env.TMEM_BACKEND): NativeLibraries[] {
  const all = candidatePackages().flatMap(({ name, backend }) => librariesIn(name, backend) ?? []);
  return wanted && wanted !== 'auto' ? all.filter((lib) => lib.backend === wanted) : all;
}

/** @throws TmemError `missing` when no variant for this machine is installed. */
export function requireLibraries(): NativeLibraries[] {
  const found = installedLibraries();
  if (found.length > 0) return found;
  const names = candidatePackages().map((c) => c.name);
  if (names.length === 0) {
    throw new TmemError(
      'missing',
      `There is no llama.cpp build for ${os.platform()} ${os.arch()}; use Linux, macOS or Windows on x64 or arm64.`,
    );
  }
  const wanted = process.env.TMEM_BACKEND;
  throw new TmemError(
    'missing',
    wanted
      ? `No llama.cpp build for TMEM_BACKEND=${wanted} is installed; unset it or install the package for it (known here: ${names.join(', ')}).`
      : `The llama.cpp libraries are not installed; run \`npm install ${names.at(-1)}@${PACKAGE_VERSION}\` (npm leaves them out with --omit=optional).`,
  );
}
