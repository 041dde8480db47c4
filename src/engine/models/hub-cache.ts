/**
 * The cache of the Hugging Face tools, shared with them:
 * `models--user--repo/{blobs/<hash>, refs/main, snapshots/<commit>/<file> -> ../../blobs/<hash>}`.
 */
import { copyFile, link, mkdir, readdir, readFile, realpath, rm, stat, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { writeError, writeFileAtomic } from '../files.ts';
import type { Environment } from './context.ts';

export const SHA256 = /^[0-9a-f]{64}$/;

export function hubCacheFolder(env: Environment): string {
  const named = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  if (named) return resolve(named);
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  return resolve(home, 'hub');
}

export class HubRepoCache {
  readonly #cache: string;
  readonly #folder: string;
  readonly #name: string;

  /** @param repo `user/name` */
  constructor(env: Environment, repo: string) {
    this.#cache = hubCacheFolder(env);
    this.#name = `models--${repo.replace('/', '--')}`;
    this.#folder = join(this.#cache, this.#name);
  }

  blob(sha256: string): string {
    return join(this.#folder, 'blobs', sha256);
  }

  /** Beside the locks of the Hugging Face tools; theirs are of another kind, so the name differs. */
  lock(sha256: string): string {
    return join(this.#cache, '.locks', this.#name, `${sha256}.tmem.lock`);
  }

  /** The GGUF files of the newest snapshot known here, by their names in the repository. */
  async files(): Promise<{ file: string; path: string }[]> {
    const commit = await readFile(join(this.#folder, 'refs', 'main'), 'utf8').catch(() => null);
    if (commit === null) return [];
    const snapshot = join(this.#folder, 'snapshots', commit.trim());
    const names = await readdir(snapshot, { recursive: true }).catch(() => []);
    const found = names
      .filter((name) => name.toLowerCase().endsWith('.gguf'))
      .map((name) => ({ file: name.split(sep).join('/'), path: join(snapshot, name) }));
    const whole = await Promise.all(
      found.map(({ path }) =>
        stat(path).then(
          (entry) => entry.isFile(),
          () => false,
        ),
      ),
    );
    return found.filter((_, i) => whole[i]);
  }

  /**
   * Makes a blob visible under its name, and the commit the newest.
   * @returns the path in the snapshot
   */
  async publish(sha256: string, commit: string, file: string): Promise<string> {
    const pointer = join(this.#folder, 'snapshots', commit, ...file.split('/'));
    const blob = this.blob(sha256);
    try {
      await mkdir(dirname(pointer), { recursive: true });
      await rm(pointer, { force: true });
      // Systems without symbolic links (Windows by default) get a hard link, and where that fails too a copy.
      await symlink(relative(dirname(pointer), blob), pointer)
        .catch(() => link(blob, pointer))
        .catch(() => copyFile(blob, pointer));
    } catch (error) {
      throw writeError(pointer, error);
    }
    await writeFileAtomic(join(this.#folder, 'refs', 'main'), (write) => write(Buffer.from(commit)));
    return pointer;
  }
}

/** The hash that a cached file must have, as its blob's name tells; null where links are impossible. */
export async function announcedHash(path: string): Promise<string | null> {
  const name = basename(await realpath(path));
  return SHA256.test(name) ? name : null;
}

/** Repositories (`user/name`) that the cache holds anything of. */
export async function cachedRepos(env: Environment): Promise<string[]> {
  const names = await readdir(hubCacheFolder(env)).catch(() => []);
  return names.flatMap((name) => {
    const [, user, repo] = /^models--(.+?)--(.+)$/.exec(name) ?? [];
    return user && repo ? [`${user}/${repo}`] : [];
  });
}
