import { readSync } from 'node:fs';
import { TmemError } from '../errors.ts';

const FIRST_READ = 1 << 20;
/** The largest header we are willing to hold; those of real models are below 40 MB. */
const MAX_HEADER = 256 << 20;

/**
 * Reads the header of a GGUF from its beginning, growing its buffer as it goes. Every read is checked against the size
 * of the file before anything is allocated.
 */
export class HeaderCursor {
  readonly #path: string;
  readonly #fd: number;
  readonly #fileBytes: number;
  #buffer: Buffer = Buffer.alloc(0);
  #offset = 0;

  constructor(path: string, fd: number, fileBytes: number) {
    this.#path = path;
    this.#fd = fd;
    this.#fileBytes = fileBytes;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#fileBytes - this.#offset;
  }

  damaged(what: string, cause?: unknown): TmemError {
    return new TmemError('missing', `${this.#path} is not a usable GGUF file: ${what}; pull it again.`, { cause });
  }

  u8(what: string): number {
    const at = this.#take(1, what);
    return this.#buffer.readUInt8(at);
  }

  u32(what: string): number {
    const at = this.#take(4, what);
    return this.#buffer.readUInt32LE(at);
  }

  u64(what: string): bigint {
    const at = this.#take(8, what);
    return this.#buffer.readBigUInt64LE(at);
  }

  /** A 64-bit count of things that take `itemBytes` bytes each at least, so the file bounds it. */
  count(itemBytes: number, what: string): number {
    const value = this.u64(what);
    if (value * BigInt(itemBytes) > BigInt(this.remaining))
      throw this.damaged(`${what} (${value}) goes beyond the end of the file`);
    return Number(value);
  }

  string(what: string): string {
    const length = this.count(1, what);
    const start = this.#take(length, what);
    return this.#buffer.toString('utf8', start, start + length);
  }

  /** A copy of `length` bytes, in memory of its own. */
  bytes(length: number, what: string): ArrayBuffer {
    const start = this.#take(length, what);
    const copy = new ArrayBuffer(length);
    new Uint8Array(copy).set(this.#buffer.subarray(start, start + length));
    return copy;
  }

  /** All bytes from the beginning of the file to `end`. */
  until(end: number): Uint8Array {
    this.#fill(end, 'the header');
    return this.#buffer.subarray(0, end);
  }

  /** Moves on by `length` bytes and returns where they begin; the buffer may be another one afterwards. */
  #take(length: number, what: string): number {
    const start = this.#offset;
    const end = start + length;
    if (end > this.#buffer.length) this.#fill(end, what);
    this.#offset = end;
    return start;
  }

  #fill(end: number, what: string): void {
    if (end > this.#fileBytes) throw this.damaged(`the file ends within ${what}`);
    if (end > MAX_HEADER) throw this.damaged(`its header is larger than ${MAX_HEADER >> 20} MiB`);
    if (end <= this.#buffer.length) return;
    const wanted = Math.min(this.#fileBytes, Math.max(end, FIRST_READ, this.#buffer.length * 2));
    const grown = Buffer.allocUnsafe(wanted);
    this.#buffer.copy(grown);
    let filled = this.#buffer.length;
    while (filled < wanted) {
      const read = readSync(this.#fd, grown, filled, wanted - filled, filled);
      if (read === 0) throw this.damaged(`the file ends within ${what}`);
      filled += read;
    }
    this.#buffer = grown;
  }
}
