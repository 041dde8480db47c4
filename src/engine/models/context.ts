/** What all sources of models share: where things are kept, how they report, how they fail. */
import { TmemError } from '../errors.ts';

export interface PullProgress {
  /** Where the bytes come from: `hf:user/repo`, `pip` or `disk`. */
  readonly source: string;
  readonly file: string;
  readonly phase: 'download' | 'verify' | 'join';
  readonly received: number;
  /** Bytes in all; 0 when not known. */
  readonly total: number;
  /** Bytes a second over the last seconds. */
  readonly rate: number;
  /** null while it cannot be told. */
  readonly etaSeconds: number | null;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface PullContext {
  readonly env: Environment;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: PullProgress) => void;
  /** One line for the user, such as a source that is given up. */
  readonly onNote?: (text: string) => void;
  /** Multiplies the time that a hub is given to answer and the pauses between attempts. Default 1. */
  readonly patience?: number;
}

/** A source could not deliver; the next one is tried. The message is a clause that follows the source's name. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
}

/** @throws TmemError `aborted` when the signal has fired; what was fetched so far stays for the next pull. */
export function checkInterrupted({ signal }: Pick<PullContext, 'signal'>): void {
  if (signal?.aborted)
    throw new TmemError('aborted', 'Interrupted; the same command goes on from where it stopped.', {
      cause: signal.reason,
    });
}

const WINDOW_MS = 5000;
const REPORT_MS = 100;

/** Turns byte counts into progress events, at most ten a second. */
export class Meter {
  readonly #context: PullContext;
  readonly #what: Pick<PullProgress, 'source' | 'file' | 'phase' | 'total'>;
  #samples: { at: number; received: number }[] = [];
  #reported = Number.NEGATIVE_INFINITY;

  constructor(context: PullContext, what: Pick<PullProgress, 'source' | 'file' | 'phase' | 'total'>) {
    this.#context = context;
    this.#what = what;
  }

  update(received: number): void {
    const at = performance.now();
    const complete = received === this.#what.total;
    if (at - this.#reported < REPORT_MS && !complete) return;
    this.#reported = at;
    this.#samples = [...this.#samples.filter((sample) => at - sample.at < WINDOW_MS), { at, received }];
    const first = this.#samples[0]!;
    const seconds = (at - first.at) / 1000;
    const rate = seconds > 0 ? Math.max(0, received - first.received) / seconds : 0;
    const left = this.#what.total - received;
    const etaSeconds = rate > 0 && left >= 0 ? left / rate : null;
    this.#context.onProgress?.({ ...this.#what, received, rate, etaSeconds });
  }
}

/** `412.0 of 1117.3 MB, 12.3 MB/s, 0:57 left`. */
export function describeProgress({ phase, received, total, rate, etaSeconds }: PullProgress): string {
  const amount = total > 0 ? `${megabytes(received)} of ${megabytes(total)} MB` : `${megabytes(received)} MB`;
  const verb = phase === 'download' ? '' : `${phase} `;
  const speed = rate > 0 ? `, ${megabytes(rate)} MB/s` : '';
  return `${verb}${amount}${speed}${etaSeconds === null ? '' : `, ${clock(etaSeconds)} left`}`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const minutes = Math.floor(whole / 60);
  const tail = String(whole % 60).padStart(2, '0');
  if (minutes < 60) return `${minutes}:${tail}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}:${tail}`;
}
