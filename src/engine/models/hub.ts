/** Models from a Hugging Face hub: which file is meant, where it is, and fetching it with resume. */
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TmemError } from '../errors.ts';
import { writeError } from '../files.ts';
import { checkInterrupted, Meter, type PullContext, SourceError } from './context.ts';
import { HubRepoCache, SHA256 } from './hub-cache.ts';
import { withLock } from './lock.ts';
import { receive } from './receive.ts';
import { hashFile } from './verify.ts';

/** What a URI names. With neither file nor quant: the repository's Q4_K_M, or its only GGUF. */
export interface HubReference {
  /** `user/name` */
  readonly repo: string;
  readonly file?: string;
  readonly quant?: string;
}

export interface FetchedFile {
  readonly path: string;
  readonly sha256: string;
  /** Its name in the repository. */
  readonly file: string;
}

const DEFAULT_QUANT = 'Q4_K_M';
const FIRST_ANSWER_MS = 5000;
/** Attempts in a row that bring no byte. */
const MAX_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;

/**
 * `hf:user/repo`, `hf:user/repo:QUANT`, `hf:user/repo/path/file.gguf`.
 * @throws TmemError `usage`
 */
export function parseHubUri(uri: string): HubReference {
  const [, repo, quant, file] = /^hf:([\w][\w.-]*\/[\w][\w.-]*)(?::([\w.-]+)|\/([\w. /-]+\.gguf))?$/.exec(uri) ?? [];
  if (repo === undefined || file?.split('/').some((name) => name === '' || name === '.' || name === '..'))
    throw new TmemError(
      'usage',
      `'${uri}' is no hub address; write hf:user/repo, hf:user/repo:QUANT or hf:user/repo/file.gguf.`,
    );
  return { repo, quant, file };
}

/**
 * Which of a repository's files is meant.
 * @throws SourceError naming what there is to choose from
 */
export function chooseFile(reference: HubReference, files: readonly string[]): string {
  const models = files.filter((file) => /\.gguf$/i.test(file) && !/mmproj/i.test(file));
  if (reference.file !== undefined) {
    if (files.includes(reference.file)) return reference.file;
    throw new SourceError(`has no file ${reference.file}${among(models)}`);
  }
  const byQuant = (quant: string) =>
    models.filter((file) => new RegExp(`(^|[-._/])${quant.replace(/\W/g, '\\$&')}\\.gguf$`, 'i').test(file));
  const wanted = reference.quant ?? DEFAULT_QUANT;
  const [match] = byQuant(wanted);
  if (match !== undefined) return match;
  if (models.some((file) => file.toLowerCase().includes(wanted.toLowerCase()) && isShard(file)))
    throw new SourceError(`has ${wanted} only in several pieces, which are not supported`);
  if (reference.quant === undefined && models.length === 1 && !isShard(models[0]!)) return models[0]!;
  throw new SourceError(`has no ${wanted} GGUF${among(models)}`);
}

function isShard(file: string): boolean {
  return /-\d{5}-of-\d{5}\.gguf$/i.test(file);
}

function among(files: readonly string[]): string {
  return files.length === 0 ? '' : ` (it has ${files.slice(0, 12).join(', ')})`;
}

/**
 * The file in the shared cache, without asking the hub. An address that leaves the choice to the hub is answered by the
 * default quant only, or with `lenient` by whatever single file is there.
 */
export async function findCached(
  reference: HubReference,
  { env }: PullContext,
  lenient = false,
): Promise<{ file: string; path: string } | null> {
  const files = await new HubRepoCache(env, reference.repo).files();
  const names = files.map(({ file }) => file);
  try {
    const name = chooseFile(lenient ? reference : { ...reference, quant: reference.quant ?? DEFAULT_QUANT }, names);
    return files.find(({ file }) => file === name) ?? null;
  } catch {
    return null;
  }
}

/**
 * Fetches a file into the shared cache, or goes on with a partial download.
 * @throws SourceError when the hub cannot deliver; TmemError `aborted`, or `failed` when the disk is full.
 */
export async function fetchFromHub(reference: HubReference, context: PullContext): Promise<FetchedFile> {
  const hub = new Hub(context);
  const file = reference.file ?? chooseFile(reference, await hub.list(reference.repo));
  const { url, commit, sha256, bytes } = await hub.locate(reference.repo, file);
  const cache = new HubRepoCache(context.env, reference.repo);
  const blob = cache.blob(sha256);
  await withLock(cache.lock(sha256), context, async () => {
    if (await stat(blob).catch(() => null)) {
      // Another pull was faster, or another tool, whose checks are not known.
      if ((await hashFile(blob, context)) === sha256) return;
      await rm(blob, { force: true });
    }
    const partial = `${blob}.incomplete`;
    await mkdir(dirname(blob), { recursive: true }).catch((error) => {
      throw writeError(blob, error);
    });
    await hub.download(url, partial, bytes, { source: `hf:${reference.repo}`, file });
    if ((await hashFile(partial, context)) !== sha256) {
      await rm(partial, { force: true });
      throw new SourceError('sent bytes that do not match the announced sha256; they were thrown away');
    }
    await rename(partial, blob).catch((error) => {
      throw writeError(blob, error);
    });
  });
  return { path: await cache.publish(sha256, commit, file), sha256, file };
}

const Listing = z.object({ siblings: z.array(z.object({ rfilename: z.string() })) });

/** The wire: nothing here knows of caches. */
class Hub {
  readonly #context: PullContext;
  readonly #endpoint: string;
  readonly #patience: number;

  constructor(context: PullContext) {
    const { env } = context;
    if (env.HF_HUB_OFFLINE && env.HF_HUB_OFFLINE !== '0')
      throw new SourceError('is not asked as HF_HUB_OFFLINE is set');
    this.#context = context;
    this.#patience = context.patience ?? 1;
    this.#endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
    if (!URL.canParse(this.#endpoint)) throw new SourceError(`cannot be asked as HF_ENDPOINT is '${this.#endpoint}'`);
  }

  async list(repo: string): Promise<string[]> {
    const response = await this.#ask(`${this.#endpoint}/api/models/${repo}`, { method: 'GET' });
    if (!response.ok) {
      await response.body?.cancel();
      throw refusal(response.status);
    }
    const body = Listing.safeParse(await response.json().catch(() => null));
    if (!body.success) throw new SourceError('answered with something that is no list of files');
    return body.data.siblings.map(({ rfilename }) => rfilename);
  }

  /** The commit, hash and size that the hub announces before it redirects to where the bytes are. */
  async locate(repo: string, file: string): Promise<{ url: string; commit: string; sha256: string; bytes: number }> {
    let url = `${this.#endpoint}/${repo}/resolve/main/${file.split('/').map(encodeURIComponent).join('/')}`;
    let response = await this.#ask(url, { method: 'HEAD', redirect: 'manual' });
    // A repository that was renamed answers with a redirect within the hub; another host is where the bytes are.
    for (let hops = 0; hops < 5 && response.status >= 300 && response.status < 400; hops++) {
      const target = new URL(response.headers.get('location') ?? '', url);
      if (response.headers.has('x-linked-etag') || target.origin !== new URL(url).origin) break;
      url = target.href;
      response = await this.#ask(url, { method: 'HEAD', redirect: 'manual' });
    }
    if (response.status >= 400) throw refusal(response.status);
    const { headers } = response;
    const sha256 = (headers.get('x-linked-etag') ?? headers.get('etag') ?? '').replace(/^W\/|"/g, '');
    const bytes = Number(headers.get('x-linked-size') ?? headers.get('content-length'));
    const commit = headers.get('x-repo-commit') ?? '';
    if (!SHA256.test(sha256) || !(bytes > 0) || !/^[\w-]+$/.test(commit))
      throw new SourceError(`announces no sha256 for ${file}`);
    return { url, commit, sha256, bytes };
  }

  /** Appends to `partial` until it has `bytes`; a dropped connection is taken up again. */
  async download(url: string, partial: string, bytes: number, what: { source: string; file: string }): Promise<void> {
    const meter = new Meter(this.#context, { ...what, phase: 'download', total: bytes });
    const file = await open(partial, 'a').catch((error) => {
      throw writeError(partial, error);
    });
    try {
      let failures = 0;
      for (;;) {
        const before = (await file.stat()).size;
        if (before > bytes) await file.truncate(0);
        if (before === bytes) return await file.sync();
        try {
          await receive({
            ...{ url, headers: this.#headers(), file, partial, bytes, signal: this.#context.signal },
            check: ({ ok, status }) => {
              if (!ok) throw refusal(status);
            },
            onBytes: (size) => meter.update(size),
          });
        } catch (error) {
          checkInterrupted(this.#context);
          if (error instanceof TmemError || error instanceof SourceError) throw error;
          failures = (await file.stat()).size > before ? 1 : failures + 1;
          if (failures >= MAX_ATTEMPTS)
            throw new SourceError(`broke off (${why(error)}); the part that came is kept for the next pull`);
          await sleep(this.#patience * FIRST_PAUSE_MS * 2 ** (failures - 1), undefined, {
            signal: this.#context.signal,
          }).catch(() => {});
          checkInterrupted(this.#context);
        }
      }
    } finally {
      await file.close();
    }
  }

  async #ask(url: string, init: RequestInit): Promise<Response> {
    const limit = Math.ceil(this.#patience * FIRST_ANSWER_MS);
    const timeout = AbortSignal.timeout(limit);
    const signal = this.#context.signal ? AbortSignal.any([timeout, this.#context.signal]) : timeout;
    try {
      return await fetch(url, { ...init, headers: this.#headers(), signal });
    } catch (error) {
      checkInterrupted(this.#context);
      if (timeout.aborted) throw new SourceError(`did not answer within ${limit / 1000} s`);
      throw new SourceError(`cannot be reached (${why(error)})`);
    }
  }

  /** fetch drops the authorization when it is redirected to another origin. */
  #headers(): Record<string, string> {
    const token = this.#context.env.HF_TOKEN;
    return { 'accept-encoding': 'identity', ...(token ? { authorization: `Bearer ${token}` } : {}) };
  }
}

function refusal(status: number): SourceError {
  if (status === 401 || status === 403)
    return new SourceError(
      `refuses access (${status}): it does not exist, or HF_TOKEN must hold a token whose user accepted its terms`,
    );
  if (status === 404) return new SourceError('has no such repository or file (404)');
  return new SourceError(`answered with status ${status}`);
}

/** The most telling word of a network error. */
function why(error: unknown): string {
  const { cause, message } = error as Error;
  const { code, message: inner } = (cause ?? {}) as NodeJS.ErrnoException;
  return code ?? inner ?? message;
}
