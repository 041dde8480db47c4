/** What a command may use of the outside world: output, progress, interruption and engines. */
import type { ErrorCode } from '../engine/errors.ts';
import { TmemError } from '../engine/errors.ts';
import type { TrainingSettings } from '../engine/footprint.ts';
import { DEFAULT_MODEL } from '../engine/models/catalogue.ts';
import type { Engine } from '../engine/types.ts';

export interface Progress {
  /** `fraction` 0..1, or null when the end is not known. */
  update(fraction: number | null, text: string): void;
  /** Ends the line; `text` replaces what it said last. */
  done(text?: string): void;
}

export interface OpenEngineOptions {
  /** Catalogue name, `hf:` URI or path of a GGUF. Default: `DEFAULT_MODEL`. */
  readonly model?: string;
  readonly threads?: number;
  /** Tokens of the context over all sequences. */
  readonly contextSize?: number;
  /** What will be trained: a model that does not fit then is refused before it is loaded. */
  readonly training?: TrainingSettings | undefined;
}

export interface CliIo {
  readonly json: boolean;
  readonly verbose: boolean;
  /** A line on stdout. With --json only `result` writes there: use `note` for anything that is not the result. */
  out(text: string): void;
  /** A line on stderr. */
  note(text: string): void;
  /** Prints the value as the one JSON document with --json, `human()` otherwise. */
  result(value: unknown, human: () => string): void;
  /** Progress on stderr. */
  progress(label: string): Progress;
  /** Fires at the first Ctrl-C. */
  readonly signal: AbortSignal;
  /** Finds (and pulls when needed) the model and opens it in a child process; closed when the command ends. */
  openEngine(options?: OpenEngineOptions): Promise<Engine>;
}

/** A stream that text can be written to; `process.stdout`, or a test's. */
export interface TextSink {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface IoOptions {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly signal: AbortSignal;
  /** Read when something is printed: the options are known only after parsing. */
  readonly flags: () => { json?: boolean; verbose?: boolean };
}

/** Exit codes of every command. */
export const EXIT_CODES: Record<ErrorCode, number> = { failed: 1, usage: 2, missing: 3, refused: 4, aborted: 130 };

/** Milliseconds between two drawings of a progress line on a terminal, and between two lines elsewhere. */
const REDRAW_MS = 80;
const SPARSE_MS = 5000;

/** The io of one command, and `close`, which ends the engines it opened. */
export function createIo({ stdout, stderr, signal, flags }: IoOptions): CliIo & { close(): Promise<void> } {
  const engines: Engine[] = [];
  const line = (sink: TextSink, text: string) => void sink.write(`${text}\n`);
  const io: CliIo = {
    get json() {
      return flags().json ?? false;
    },
    get verbose() {
      return flags().verbose ?? false;
    },
    signal,
    out: (text) => line(io.json ? stderr : stdout, text),
    note: (text) => line(stderr, text),
    result: (value, human) => line(stdout, io.json ? JSON.stringify(value, null, 1) : human()),
    progress: (label) => createProgress(stderr, label),
    async openEngine({ model = process.env.TMEM_MODEL || DEFAULT_MODEL, threads, contextSize, training } = {}) {
      const { describeProgress, resolveModel } = await import('../engine/models/store.ts');
      const { openEngine } = await import('../engine/process/client.ts');
      const progress = createProgress(stderr, model);
      try {
        const found = await resolveModel(model, {
          signal,
          onNote: io.note,
          onProgress: (event) =>
            progress.update(event.total > 0 ? event.received / event.total : null, describeProgress(event)),
        });
        if (training) await checkMemory(found.path, contextSize, training);
        progress.update(null, 'loading');
        const engine = await openEngine({ modelPath: found.path, threads, contextSize, verbose: io.verbose, signal });
        engines.push(engine);
        progress.done(`${engine.model.name} on ${engine.model.device}`);
        return engine;
      } catch (error) {
        progress.done('not loaded');
        throw error;
      }
    },
  };
  return Object.assign(io, {
    async close() {
      await Promise.all(engines.map((engine) => engine.close()));
    },
  });
}

async function checkMemory(model: string, contextSize: number | undefined, training: TrainingSettings): Promise<void> {
  const { checkFootprint, defaultContext } = await import('../engine/footprint.ts');
  const { readGguf } = await import('../engine/gguf/reader.ts');
  const gguf = readGguf(model);
  checkFootprint(gguf, contextSize ?? defaultContext(gguf), training);
}

/** One rewritten line on a terminal; elsewhere a line every few seconds, so that logs stay short. */
export function createProgress(sink: TextSink, label: string, now: () => number = Date.now): Progress {
  const tty = sink.isTTY === true;
  // The first line elsewhere is written only when the work turns out to be long.
  let last = tty ? Number.NEGATIVE_INFINITY : now();
  let latest = '';
  let drawn = '';
  let ended = false;
  const draw = () => {
    drawn = latest;
    if (!tty) return void sink.write(`${latest}\n`);
    sink.write(`\r\x1b[2K${latest.slice(0, Math.max(1, (sink.columns ?? 80) - 1))}`);
  };
  return {
    update(fraction, text) {
      if (ended) return;
      const share = fraction === null ? '' : ` ${Math.floor(Math.min(1, Math.max(0, fraction)) * 100)}%`;
      latest = `${label}:${share} ${text}`;
      if (now() - last < (tty ? REDRAW_MS : SPARSE_MS)) return;
      last = now();
      draw();
    },
    done(text) {
      if (ended) return;
      ended = true;
      if (text !== undefined) latest = `${label}: ${text}`;
      if (latest === '') return;
      if (tty || latest !== drawn) draw();
      if (tty) sink.write('\n');
    },
  };
}

/** A number option's parser for commander. @throws TmemError `usage` naming the option. */
export function numberOption(
  name: string,
  { integer = false, min = 0, max = Number.POSITIVE_INFINITY, above = false } = {},
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    const fits = text.trim() !== '' && Number.isFinite(value) && (above ? value > min : value >= min) && value <= max;
    if (fits && (!integer || Number.isSafeInteger(value))) return value;
    const kind = integer ? 'a whole number' : 'a number';
    const range =
      max < Number.POSITIVE_INFINITY ? `from ${min} to ${max}` : `${above ? 'above' : 'of at least'} ${min}`;
    throw new TmemError('usage', `${name} must be ${kind} ${range}, but it is '${text}'.`);
  };
}
