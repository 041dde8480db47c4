/** The published data of the benchmarks, fetched from where its authors keep it. Nothing of it comes with tmem. */
import { mkdir, open, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TmemError } from '../engine/errors.ts';
import { writeError } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import { checkInterrupted, type Environment, Meter, type PullContext, SourceError } from '../engine/models/context.ts';
import { withLock } from '../engine/models/lock.ts';
import { receive } from '../engine/models/receive.ts';
import { verify } from '../engine/models/verify.ts';

interface DataSource {
  /** Repository of data on the hub and path in it, or a whole address. */
  readonly from: { readonly repo: string; readonly file: string } | string;
  /** Its name here. */
  readonly file: string;
  readonly licence: string;
}

/** By the name of the benchmark. Other files of the same kind, such as LongMemEval's `_m`, are given as `--data`. */
const SOURCES: Readonly<Record<string, DataSource>> = {
  locomo: {
    from: 'https://raw.githubusercontent.com/snap-research/locomo/main/data/locomo10.json',
    file: 'locomo10.json',
    licence: 'CC BY-NC 4.0',
  },
  longmemeval: {
    from: { repo: 'xiaowu0162/longmemeval-cleaned', file: 'longmemeval_s_cleaned.json' },
    file: 'longmemeval_s_cleaned.json',
    licence: 'MIT',
  },
  search: {
    from: { repo: 'RUC-NLPIR/FlashRAG_datasets', file: 'hotpotqa/dev.jsonl' },
    file: 'hotpotqa-dev.jsonl',
    licence: 'CC BY-SA 4.0',
  },
  clbench: {
    from: { repo: 'tencent/CL-bench', file: 'CL-bench.jsonl' },
    file: 'CL-bench.jsonl',
    licence: 'for evaluation only, not for training',
  },
};

/** Requests for one file, each going on from where the last one broke off. */
const ATTEMPTS = 3;

/**
 * The file of a benchmark in the `data` folder of tmem's home, fetched when it is not there yet. Neither its size nor
 * its hash was published: what came is told apart by `hashOfFile`.
 * @throws TmemError `missing` when it cannot be fetched, saying what to give instead; `aborted`, `failed` when the disk
 * is full.
 */
export async function fetchData(name: string, given: Partial<PullContext> = {}): Promise<string> {
  const source = SOURCES[name];
  if (!source) throw new TmemError('missing', `No data is known for ${name}; give its file by --data.`);
  const context: PullContext = { env: process.env, ...given };
  const path = join(tmemHome(context.env), 'data', source.file);
  const { url, token } = addressOf(source, context.env);
  const { HF_HUB_OFFLINE: offline } = context.env;
  try {
    await withLock(`${path}.lock`, context, async () => {
      if (await stat(path).catch(() => null)) return;
      if (typeof source.from !== 'string' && offline && offline !== '0')
        throw new SourceError('is not asked as HF_HUB_OFFLINE is set');
      context.onNote?.(`Fetching ${url} (licence: ${source.licence}).`);
      await download(url, path, context, token);
    });
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    const problem = `Could not fetch the data of ${name}: ${url} ${error.message}`;
    throw new TmemError('missing', `${problem}; try again, or give a copy of ${source.file} by --data.`, {
      cause: error,
    });
  }
  return path;
}

/** SHA-256 (hex) of a file; it is read only if it changed since the last time. @throws TmemError `missing` */
export async function hashOfFile(path: string, given: Partial<PullContext> = {}): Promise<string> {
  const context: PullContext = { env: process.env, ...given };
  return (await verify(path, 'local', context)).sha256;
}

/** The user's token is for the hub alone. */
function addressOf({ from }: DataSource, env: Environment): { url: string; token?: string | undefined } {
  if (typeof from === 'string') return { url: from };
  const endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  return { url: `${endpoint}/datasets/${from.repo}/resolve/main/${from.file}`, token: env.HF_TOKEN };
}

/**
 * Fetches a file whose size is not known before, or goes on with a partial download; it appears under its name when it
 * is whole.
 * @param token sent as a bearer token if there is one
 * @throws SourceError when it cannot be had; TmemError `aborted`, or `failed` when the disk is full.
 */
export async function download(url: string, path: string, context: PullContext, token?: string): Promise<void> {
  const partial = `${path}.incomplete`;
  const headers = { 'accept-encoding': 'identity', ...(token && { authorization: `Bearer ${token}` }) };
  const what = { source: new URL(url).host, file: url.split('/').at(-1)!, phase: 'download' } as const;
  const guard = <T>(action: Promise<T>) =>
    action.catch((error) => {
      throw writeError(partial, error);
    });
  await guard(mkdir(dirname(path), { recursive: true }));
  const file = await guard(open(partial, 'a'));
  try {
    for (let attempt = 1; ; attempt++) {
      checkInterrupted(context);
      try {
        let meter: Meter | undefined;
        await receive({
          ...{ url, headers, file, partial, signal: context.signal },
          check: ({ ok, status, headers }) => {
            if (!ok) throw new SourceError(`answered with status ${status}`);
            if (headers.get('content-type')?.includes('text/html')) throw new SourceError('answered with a web page');
          },
          onBytes: (size, total) => {
            meter ??= new Meter(context, { ...what, total });
            meter.update(size);
          },
        });
        break;
      } catch (error) {
        checkInterrupted(context);
        if (error instanceof TmemError || error instanceof SourceError) throw error;
        const { cause, message } = error as Error;
        const why = (cause as NodeJS.ErrnoException | undefined)?.code ?? message;
        if (attempt === ATTEMPTS) throw new SourceError(`cannot be had (${why}); what came of it is kept`);
      }
    }
    await guard(file.sync());
  } finally {
    await file.close();
  }
  await guard(rename(partial, path));
}
