/**
 * API keys: a JSON file with the SHA-256 of each, so that the file gives none away. A key is 32 random bytes, which is why a plain hash is
 * enough.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';

const keySchema = z.strictObject({
  name: z.string().min(1),
  /** SHA-256 of the key, in hexadecimal digits. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** ISO time. */
  created: z.string(),
});
export type ApiKey = z.infer<typeof keySchema>;

export const keysPath = (): string => join(tmemHome(), 'keys.json');

const hashOf = (key: string) => createHash('sha256').update(key).digest('hex');

/** The keys in a file; none when there is no such file. @throws TmemError `missing` for a file that is not one of keys. */
export async function readKeys(path: string = keysPath()): Promise<ApiKey[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unreadable(path, cause);
  }
  try {
    return z.array(keySchema).parse(JSON.parse(text));
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

const unreadable = (path: string, cause: unknown) =>
  new TmemError(
    'missing',
    `${path} is not a readable file of API keys; move it away and make keys with \`tmem keys\`.`,
    {
      cause,
    },
  );

/** @returns the key, which is kept nowhere. @throws TmemError `usage` when the name is taken. */
export async function createKey(name: string, path: string = keysPath()): Promise<{ key: string; entry: ApiKey }> {
  const keys = await readKeys(path);
  if (name.trim() === '') throw new TmemError('usage', 'A key needs a name; say who it is for.');
  if (keys.some((key) => key.name === name))
    throw new TmemError('usage', `There is a key ${name} already; revoke it or take another name.`);
  const key = `tmem-${randomBytes(32).toString('base64url')}`;
  const entry = { name, hash: hashOf(key), created: new Date().toISOString() };
  await writeKeys(path, [...keys, entry]);
  return { key, entry };
}

/** @throws TmemError `missing` when there is no key of this name. */
export async function revokeKey(name: string, path: string = keysPath()): Promise<void> {
  const keys = await readKeys(path);
  const kept = keys.filter((key) => key.name !== name);
  if (kept.length === keys.length)
    throw new TmemError('missing', `There is no key ${name}; \`tmem keys list\` names those there are.`);
  await writeKeys(path, kept);
}

const writeKeys = (path: string, keys: readonly ApiKey[]) =>
  writeFileAtomic(path, (write) => write(Buffer.from(`${JSON.stringify(keys, null, 1)}\n`)));

/** The key's entry. Takes the same time for every key, known or not. */
export function findKey(keys: readonly ApiKey[], key: string): ApiKey | undefined {
  const hash = Buffer.from(hashOf(key), 'hex');
  let found: ApiKey | undefined;
  for (const entry of keys) if (timingSafeEqual(hash, Buffer.from(entry.hash, 'hex'))) found = entry;
  return found;
}

/** The keys of a file that may change while the server runs: a key that is revoked there no longer opens anything. */
export class KeyFile {
  readonly #path: string;
  #keys: Promise<ApiKey[]> = Promise.resolve([]);
  #read = '';

  constructor(path: string) {
    this.#path = path;
  }

  async find(key: string): Promise<ApiKey | undefined> {
    return findKey(await this.#current(), key);
  }

  async #current(): Promise<ApiKey[]> {
    const seen = await stat(this.#path).then(
      ({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`,
      () => 'gone',
    );
    if (seen !== this.#read) {
      this.#read = seen;
      this.#keys = readKeys(this.#path);
      // Read again at the next request, which will tell of the same if it lasts.
      this.#keys.catch(() => {
        this.#read = '';
      });
    }
    return this.#keys;
  }
}
