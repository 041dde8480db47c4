/** Errors as OpenAI's API has them: `{ "error": { "message", "type", "param", "code" } }`. */
import { type ErrorCode, TmemError } from '../engine/errors.ts';

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export type ErrorStatus = 400 | 401 | 403 | 404 | 408 | 409 | 413 | 429 | 499 | 500 | 503;

interface ApiErrorDetails {
  /** The field of the request that is wrong, e.g. `messages[0].content`. */
  readonly param?: string | undefined;
  readonly code?: string | undefined;
  /** Seconds after which trying again makes sense. */
  readonly retryAfter?: number | undefined;
}

const TYPES: Partial<Record<ErrorStatus, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  408: 'timeout_error',
  429: 'rate_limit_error',
  500: 'server_error',
  503: 'server_error',
};

/** 499 is nginx's: the client has gone away, so that nobody reads it. */
const STATUS_OF: Record<ErrorCode, ErrorStatus> = { usage: 400, missing: 404, refused: 409, aborted: 499, failed: 500 };

/** An error with the HTTP status that it is answered with. */
export class ApiError extends Error {
  readonly status: ErrorStatus;
  readonly details: ApiErrorDetails;

  constructor(status: ErrorStatus, message: string, details: ApiErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ApiError';
    this.status = status;
    this.details = details;
  }

  get body(): ErrorBody {
    const { param = null, code = null } = this.details;
    const type = TYPES[this.status] ?? 'invalid_request_error';
    return { error: { message: this.message, type, param, code } };
  }

  get headers(): Record<string, string> {
    const { retryAfter } = this.details;
    return {
      ...(retryAfter !== undefined && { 'Retry-After': String(retryAfter) }),
      // OpenAI's clients send a request again by themselves after these; what took too long, or was refused, will be so again.
      ...((this.status === 408 || this.status === 409) && { 'X-Should-Retry': 'false' }),
    };
  }
}

/** What went wrong, for the client; what it cannot mend is not told in detail. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TmemError)
    return new ApiError(STATUS_OF[error.code], error.message, { code: error.code }, { cause: error });
  return new ApiError(500, 'The server failed; its log says more.', { code: 'failed' }, { cause: error });
}

/** The same, after `onError` was told of a failure that is the server's own. */
export function answerable(error: unknown, onError: (error: unknown) => void): ApiError {
  const answer = asApiError(error);
  if (answer.status === 500) onError(error);
  return answer;
}
