/** Which of a folder's ggml backends are loaded. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';

/**
 * ggml's build for processors with AMX. It rounds otherwise than the others do, and its product with Q8_0 is wrong where a row is a single
 * block of 32 (LOG.md).
 */
const AMX = 'ggml-cpu-sapphirerapids';

/**
 * The files to load where ggml itself would load its build for AMX, which is not wanted (default: `TMEM_AMX` is `off`): the next best one for
 * the CPU, and all that are not for the CPU. Undefined where ggml can choose by itself.
 */
export function withoutAmx(folder: string, wanted = process.env.TMEM_AMX !== 'off'): string[] | undefined {
  if (wanted) return undefined;
  const backends = readdirSync(folder).filter((file) => /^(lib)?ggml-(?!base)/.test(file));
  const builds = backends.filter((file) => file.includes('ggml-cpu'));
  const amx = builds.find((file) => file.includes(AMX));
  if (!amx || fitness(path.join(folder, amx)) === 0) return undefined;
  const [best] = builds
    .filter((file) => file !== amx)
    .map((file) => ({ file, fits: fitness(path.join(folder, file)) }))
    .sort((a, b) => b.fits - a.fits);
  const others = backends.filter((file) => !builds.includes(file));
  return [...others, ...(best ? [best.file] : [])].map((file) => path.join(folder, file));
}

/** How well a build for the CPU suits this processor, by its own count; 0 when it does not run here. */
function fitness(file: string): number {
  return koffi.load(file).func('int ggml_backend_score()')() as number;
}
