/** What went wrong, as far as a caller can react to it. The CLI maps each to an exit code. */
export type ErrorCode =
  /** Wrong usage or bad input: the caller can fix it. */
  | 'usage'
  /** A model, adapter or data file is missing, damaged or does not fit. */
  | 'missing'
  /** A write was refused by the gate. */
  | 'refused'
  /** Interrupted by the caller (AbortSignal, Ctrl-C). */
  | 'aborted'
  /** Anything else: the operation failed. */
  | 'failed';

/** An error whose message is one sentence for the user: what is wrong and what to do. */
export class TmemError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TmemError';
    this.code = code;
  }
}

/** Throws `TmemError('aborted')` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TmemError('aborted', 'Interrupted.');
}
