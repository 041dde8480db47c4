/**
 * A subset of JSON schema as a GBNF grammar, llama.cpp's format (grammars/README.md there).
 *
 * Everything the grammar accepts satisfies the schema. What it does not accept although the schema would: properties in
 * another order than declared, more than one blank or line break in a place, integers of more than 15 digits, exponents of
 * more than two digits. `oneOf` is read as `anyOf`.
 */
import { TmemError } from './errors.ts';
import type { JsonSchema } from './types.ts';

/** llama.cpp refuses a repetition of 2000 and more. */
const MAX_REPEAT = 1999;
/** Words about a value that do not restrict it. */
const ANNOTATIONS = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
]);

/** Rules that a grammar holds when it needs them. Blanks are bounded, so that a model cannot go on with them for ever. */
const SHARED: Readonly<Record<string, string>> = {
  ws: String.raw`| " " | "\n" " "{0,16}`,
  char: String.raw`[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex)`,
  hex: '[0-9a-fA-F]',
  integer: '"-"? natural',
  natural: '"0" | [1-9] [0-9]{0,14}',
  number: '"-"? ("0" | [1-9] [0-9]{0,20}) ("." [0-9]{1,24})? ([eE] [-+]? [0-9]{1,2})?',
  boolean: '"true" | "false"',
  null: '"null"',
  string: String.raw`"\"" char* "\""`,
  /** Any JSON value, and any object. */
  any: 'anyobject | anyarray | string | number | boolean | null',
  anyobject: '"{" ws (string ":" ws any ws ("," ws string ":" ws any ws)*)? "}"',
  anyarray: '"[" ws (any ws ("," ws any ws)*)? "]"',
};
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  char: ['hex'],
  integer: ['natural'],
  string: ['char'],
  any: ['anyobject', 'anyarray', 'string', 'number', 'boolean', 'null'],
  anyobject: ['any', 'ws'],
  anyarray: ['any', 'ws'],
};

/**
 * @returns the grammar; its start is `root`
 * @throws TmemError `usage` naming a keyword that cannot be turned into a grammar, and where it is
 */
export function schemaToGrammar(schema: JsonSchema): string {
  return new Compiler(schema).grammar();
}

type Fields = Readonly<Record<string, unknown>>;
/** `$ref`s passed since the last character: meeting one again would recurse without reading anything. */
type Heads = ReadonlySet<string>;
const NO_HEADS: Heads = new Set();

class Compiler {
  readonly #root: JsonSchema;
  readonly #rules = new Map<string, string>();
  readonly #references = new Map<string, string>();
  #count = 0;

  constructor(schema: JsonSchema) {
    this.#root = schema;
  }

  grammar(): string {
    const root = this.#value(this.#root, '#', new Set(['#']));
    return [`root ::= ${root}`, ...[...this.#rules].map(([name, body]) => `${name} ::= ${body}`)].join('\n');
  }

  #shared(name: string): string {
    if (!this.#rules.has(name)) {
      this.#rules.set(name, SHARED[name]!);
      for (const other of NEEDS[name] ?? []) this.#shared(other);
    }
    return name;
  }

  #rule(body: string, name = `r${this.#count++}`): string {
    this.#rules.set(name, body);
    return name;
  }

  /** A symbol, literal or group for one value. */
  #value(given: unknown, path: string, heads: Heads): string {
    const schema = fields(given, path);
    if ('$ref' in schema) {
      only(schema, path, ['$ref']);
      return this.#reference(schema.$ref, path, heads);
    }
    if ('const' in schema) {
      only(schema, path, ['const', 'type']);
      return literal(schema.const);
    }
    if ('enum' in schema) {
      only(schema, path, ['enum', 'type']);
      return alternatives(list(schema.enum, `${path}/enum`).map(literal));
    }
    for (const keyword of ['anyOf', 'oneOf']) {
      if (!(keyword in schema)) continue;
      only(schema, path, [keyword]);
      const at = `${path}/${keyword}`;
      return alternatives(list(schema[keyword], at).map((part, i) => this.#value(part, `${at}/${i}`, heads)));
    }
    const { type } = schema;
    if (Array.isArray(type)) {
      // A keyword counts for the types that it is about: each alternative takes those that it knows.
      const known = new Set(type.flatMap((t) => TYPE_KEYWORDS[String(t)] ?? []));
      only(schema, path, ['type', ...known]);
      return alternatives(list(type, `${path}/type`).map((t) => this.#typed(t, schema, path)));
    }
    only(schema, path, ['type', ...(TYPE_KEYWORDS[String(type)] ?? [])]);
    return this.#typed(type, schema, path);
  }

  #typed(type: unknown, schema: Fields, path: string): string {
    switch (type) {
      case 'object':
        return this.#object(schema, path);
      case 'array':
        return this.#array(schema, path);
      case 'string': {
        const [min, max] = bounds(schema, 'minLength', 'maxLength', path);
        return this.#rule(String.raw`"\"" ${repeat(this.#shared('char'), min, max)} "\""`);
      }
      case 'integer':
        return this.#shared(isNatural(schema, path) ? 'natural' : 'integer');
      case 'number':
      case 'boolean':
      case 'null':
        return this.#shared(type);
      case undefined:
        throw new TmemError('usage', `The JSON schema at ${path} needs a type, enum, const, anyOf or $ref.`);
      default:
        throw unsupported(`type ${JSON.stringify(type)}`, path);
    }
  }

  #reference(ref: unknown, path: string, heads: Heads): string {
    if (typeof ref !== 'string') throw unsupported('$ref', path);
    if (heads.has(ref)) throw new TmemError('usage', `The $ref at ${path} of the JSON schema refers to itself.`);
    if (ref === '#') return 'root';
    const known = this.#references.get(ref);
    if (known) return known;
    const found = /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(ref);
    const target = found && (this.#root[found[1]!] as Fields | undefined)?.[found[2]!];
    if (target === undefined || target === null) throw unsupported(`$ref ${JSON.stringify(ref)}`, path);
    // The name is taken before the body is built: the body may contain itself.
    const name = `r${this.#count++}`;
    this.#references.set(ref, name);
    return this.#rule(this.#value(target, ref, new Set([...heads, ref])), name);
  }

  #object(schema: Fields, path: string): string {
    const properties = fields(schema.properties ?? {}, `${path}/properties`);
    const { additionalProperties: others = false } = schema;
    // Beside declared properties others are allowed and never written.
    if (others !== false && Object.keys(properties).length === 0 && schema.required === undefined)
      return this.#map(
        others === true ? this.#shared('any') : this.#value(others, `${path}/additionalProperties`, NO_HEADS),
      );
    const required = new Set(schema.required === undefined ? [] : (schema.required as unknown[]));
    for (const name of required) {
      if (typeof name !== 'string' || !Object.hasOwn(properties, name)) {
        throw new TmemError(
          'usage',
          `The JSON schema at ${path} requires ${JSON.stringify(name)}, which it does not declare.`,
        );
      }
    }
    const ws = this.#shared('ws');
    const members = Object.entries(properties).map(([name, value]) => ({
      needed: required.has(name),
      rule: this.#rule(`${literal(name)} ":" ws ${this.#value(value, `${path}/properties/${name}`, NO_HEADS)}`),
    }));
    /** What may follow once a member has been written. */
    const after = (from: number) =>
      members.slice(from).map(({ needed, rule }) => (needed ? ` "," ws ${rule} ws` : ` ("," ws ${rule} ws)?`));
    // One alternative for each member that may come first.
    const starts: string[] = [];
    for (const [i, { needed, rule }] of members.entries()) {
      starts.push(`${rule} ws${after(i + 1).join('')}`);
      if (needed) break;
    }
    if (required.size === 0) starts.push('');
    return this.#rule(`"{" ${ws} (${starts.join(' | ')}) "}"`);
  }

  /** An object of any names. */
  #map(value: string): string {
    const [ws, char] = [this.#shared('ws'), this.#shared('char')];
    const member = this.#rule(`"\\"" ${char}* "\\":" ${ws} ${value} ${ws}`);
    return this.#rule(`"{" ${ws} (${member} ("," ${ws} ${member})*)? "}"`);
  }

  #array(schema: Fields, path: string): string {
    if (schema.items === undefined)
      throw new TmemError('usage', `The array at ${path} of the JSON schema needs items.`);
    const [min, max] = bounds(schema, 'minItems', 'maxItems', path);
    const ws = this.#shared('ws');
    if (max === 0) return this.#rule(`"[" ${ws} "]"`);
    const item = this.#value(schema.items, `${path}/items`, NO_HEADS);
    // A rule of its own: llama.cpp counts the symbols inside a repeated group against its limit.
    const next = this.#rule(`"," ws ${item} ws`);
    const filled = `${item} ws ${repeat(next, Math.max(0, min - 1), max - 1)}`;
    return this.#rule(min > 0 ? `"[" ws ${filled} "]"` : `"[" ws (${filled})? "]"`);
  }
}

/** Restricting keywords that each type understands. */
const TYPE_KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength'],
  integer: ['minimum', 'maximum'],
};

function unsupported(what: string, path: string): TmemError {
  return new TmemError(
    'usage',
    `The JSON schema uses ${what} at ${path}, which cannot constrain a generation; remove it.`,
  );
}

function fields(value: unknown, path: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new TmemError('usage', `The JSON schema at ${path} must be an object.`);
}

function only(schema: Fields, path: string, allowed: readonly string[]): void {
  for (const keyword of Object.keys(schema)) {
    if (!allowed.includes(keyword) && !ANNOTATIONS.has(keyword)) throw unsupported(keyword, path);
  }
}

function list(value: unknown, path: string): unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  throw new TmemError('usage', `The JSON schema at ${path} must be a list that is not empty.`);
}

/** The JSON text of a value as a GBNF literal. */
function literal(value: unknown): string {
  const json = JSON.stringify(value);
  if (json === undefined) throw new TmemError('usage', 'The JSON schema holds a value that is not JSON.');
  // JSON text has no control characters, so backslash and quote are all there is to escape.
  return `"${json.replace(/[\\"]/g, '\\$&')}"`;
}

function alternatives(parts: readonly string[]): string {
  return parts.length === 1 ? parts[0]! : `(${parts.join(' | ')})`;
}

/** `max` may be Infinity. */
function repeat(symbol: string, min: number, max: number): string {
  if (max === 0) return '';
  if (min === 0 && max === Number.POSITIVE_INFINITY) return `${symbol}*`;
  return `${symbol}{${min},${max === Number.POSITIVE_INFINITY ? '' : max}}`;
}

function bounds(schema: Fields, low: string, high: string, path: string): [number, number] {
  const read = (keyword: string, otherwise: number) => {
    const value = schema[keyword];
    if (value === undefined) return otherwise;
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_REPEAT) return value as number;
    throw new TmemError(
      'usage',
      `${keyword} at ${path} of the JSON schema must be a whole number up to ${MAX_REPEAT}.`,
    );
  };
  const [min, max] = [read(low, 0), read(high, Number.POSITIVE_INFINITY)];
  if (min > max) throw new TmemError('usage', `${low} is above ${high} at ${path} of the JSON schema.`);
  return [min, max];
}

/** Bounds that the digits allowed (15) keep anyway are fine, and a minimum of 0; a grammar cannot compare numbers. */
function isNatural({ minimum, maximum }: Fields, path: string): boolean {
  const beyond = 10 ** 15 - 1;
  if (maximum !== undefined && !(Number(maximum) >= beyond)) throw unsupported('maximum', path);
  if (minimum === undefined || Number(minimum) <= -beyond) return false;
  if (minimum !== 0) throw unsupported('minimum', path);
  return true;
}
