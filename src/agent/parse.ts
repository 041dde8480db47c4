/**
 * Reads what models write when they are asked for JSON: fenced, with prose around it, with trailing commas, raw newlines
 * in strings, or cut off in the middle. What is complete is kept, what is cut off is dropped; nothing here throws.
 */

const MAX_DEPTH = 64;
const MAX_STARTS = 32;
/** A value that the text ends in the middle of. */
const CUT = Symbol('cut');
const LITERALS = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['null', null],
]);

/** The first object or array in the text that `accept` takes; undefined when there is none. */
export function parseLenient(text: string, accept: (value: unknown) => boolean = () => true): unknown {
  let starts = 0;
  for (let at = text.search(/[{[]/); at >= 0 && starts < MAX_STARTS; starts++) {
    const value = new Reader(text, at).value(0);
    if (value !== CUT && accept(value)) return value;
    const next = text.slice(at + 1).search(/[{[]/);
    at = next < 0 ? -1 : at + 1 + next;
  }
  return undefined;
}

class Reader {
  readonly #text: string;
  #at: number;
  /** Set at the first thing that is not JSON: from there on nothing is read. */
  #broken = false;

  constructor(text: string, at: number) {
    this.#text = text;
    this.#at = at;
  }

  value(depth: number): unknown {
    this.#blanks();
    const c = this.#text[this.#at];
    if (c === '{' && depth < MAX_DEPTH) return this.#object(depth);
    if (c === '[' && depth < MAX_DEPTH) return this.#array(depth);
    if (c === '"') return this.#string();
    const word = /(?:true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=[\s,\]}])/y;
    word.lastIndex = this.#at;
    const match = word.exec(this.#text);
    if (!match) return this.#fail();
    this.#at += match[0].length;
    return LITERALS.has(match[0]) ? LITERALS.get(match[0]) : Number(match[0]);
  }

  #object(depth: number): unknown {
    const object: Record<string, unknown> = Object.create(null);
    this.#at++;
    while (!this.#ends('}')) {
      const key = this.#text[this.#at] === '"' ? this.#string() : this.#fail();
      if (key === CUT || !this.#skip(':')) break;
      const value = this.value(depth + 1);
      if (value !== CUT) object[key as string] = value;
      if (!this.#broken && !this.#skip(',') && this.#peek() !== '}') this.#fail();
    }
    return object;
  }

  #array(depth: number): unknown {
    const array: unknown[] = [];
    this.#at++;
    while (!this.#ends(']')) {
      const value = this.value(depth + 1);
      if (value !== CUT) array.push(value);
      if (!this.#broken && !this.#skip(',') && this.#peek() !== ']') this.#fail();
    }
    return array;
  }

  #string(): string | typeof CUT {
    const from = ++this.#at;
    for (; this.#at < this.#text.length; this.#at++) {
      if (this.#text[this.#at] === '\\') this.#at++;
      else if (this.#text[this.#at] === '"') {
        const raw = this.#text.slice(from, this.#at++);
        return unescaped(raw);
      }
    }
    return this.#fail();
  }

  /** True behind the closing bracket, at the end of the text, and after anything that is not JSON. */
  #ends(bracket: string): boolean {
    return this.#broken || this.#skip(bracket) || (this.#at >= this.#text.length && this.#fail() === CUT);
  }

  #skip(c: string): boolean {
    if (this.#peek() !== c) return false;
    this.#at++;
    this.#blanks();
    return true;
  }

  #peek(): string | undefined {
    this.#blanks();
    return this.#text[this.#at];
  }

  #blanks(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #fail(): typeof CUT {
    this.#broken = true;
    return CUT;
  }
}

/** A JSON string's body as text; escapes that JSON does not know are left as they stand. */
function unescaped(raw: string): string {
  const names: Record<string, string> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\', '/': '/' };
  return raw.replace(/\\(?:u([0-9a-fA-F]{4})|([\s\S]))/g, (all, hex: string | undefined, c: string | undefined) =>
    hex ? String.fromCharCode(Number.parseInt(hex, 16)) : (names[c as string] ?? all),
  );
}

/** A pair as the model wrote it, before anything is checked. */
export interface RawPair {
  readonly instruction: string;
  readonly output: string;
  readonly source: string;
}

export interface RawExtraction {
  readonly memory: string;
  readonly pairs: readonly RawPair[];
}

/** The extraction in a model's text; null when there is none. Pairs that lack a field have it empty. */
export function parseExtraction(text: string): RawExtraction | null {
  const answer = text.slice(text.lastIndexOf('</think>') + 1); // -1 + 1: the whole text when there was no thinking
  const value = parseLenient(answer, isExtraction);
  if (value === undefined) return null;
  const object = Array.isArray(value) ? { pairs: value } : (value as Record<string, unknown>);
  const items: unknown[] = Array.isArray(object.pairs) ? object.pairs : [];
  const pairs = items.filter(isObject).map((item) => ({
    instruction: field(item, 'instruction', 'question'),
    output: field(item, 'output', 'answer'),
    source: field(item, 'source', 'quote'),
  }));
  return { memory: field(object, 'memory'), pairs };
}

function isExtraction(value: unknown): boolean {
  if (Array.isArray(value))
    return value.some((item) => isObject(item) && ('instruction' in item || 'question' in item));
  return isObject(value) && (Array.isArray(value.pairs) || typeof value.memory === 'string');
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function field(object: Record<string, unknown>, ...names: string[]): string {
  const value = names.map((name) => object[name]).find((v) => typeof v === 'string' || typeof v === 'number');
  return value === undefined ? '' : String(value).trim();
}
