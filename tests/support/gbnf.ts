/** A small reader, matcher and writer of GBNF grammars, to test grammars without llama.cpp. */

type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'class'; readonly negated: boolean; readonly ranges: readonly (readonly [number, number])[] }
  | { readonly kind: 'rule'; readonly name: string }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'either'; readonly parts: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly min: number; readonly max: number };

export interface Gbnf {
  accepts(text: string): boolean;
  /** A random text of the language. */
  write(seed: number): string;
}

/** @throws Error for a grammar that is not GBNF or uses an undefined rule */
export function parseGbnf(source: string): Gbnf {
  const rules = new Map<string, Node>();
  const used = new Set<string>();
  for (const line of source.split('\n')) {
    const found = /^([a-zA-Z0-9-]+) ::= (.*)$/.exec(line);
    if (!found) throw new Error(`not a rule: ${line}`);
    if (rules.has(found[1]!)) throw new Error(`defined twice: ${found[1]}`);
    rules.set(found[1]!, new Parser(found[2]!, used).rule());
  }
  for (const name of [...used, 'root']) if (!rules.has(name)) throw new Error(`undefined: ${name}`);
  return { accepts: (text) => accepts(rules, [...text]), write: (seed) => write(rules, seed) };
}

class Parser {
  #at = 0;
  readonly #source: string;
  readonly #used: Set<string>;

  constructor(source: string, used: Set<string>) {
    this.#source = source;
    this.#used = used;
  }

  rule(): Node {
    const node = this.#either();
    if (this.#at < this.#source.length) throw new Error(`trailing text: ${this.#source.slice(this.#at)}`);
    return node;
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#source);
    if (found) this.#at = sticky.lastIndex;
    return found ?? undefined;
  }

  #either(): Node {
    const parts = [this.#sequence()];
    while (this.#take(/\s*\|\s*/)) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: 'either', parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (;;) {
      this.#take(/\s+/);
      const part = this.#symbol();
      if (!part) return { kind: 'sequence', parts };
      parts.push(this.#repeated(part));
    }
  }

  #symbol(): Node | undefined {
    const literal = this.#take(/"((?:[^"\\]|\\.)*)"/);
    if (literal) return { kind: 'text', text: unescaped(literal[1]!).join('') };
    const name = this.#take(/[a-zA-Z0-9-]+/);
    if (name) {
      this.#used.add(name[0]);
      return { kind: 'rule', name: name[0] };
    }
    if (this.#take(/\(/)) {
      const inner = this.#either();
      if (!this.#take(/\s*\)/)) throw new Error(`no ) at ${this.#source.slice(this.#at)}`);
      return inner;
    }
    const set = this.#take(/\[(\^?)((?:[^\]\\]|\\.)*)\]/);
    if (!set) return undefined;
    const items = unescaped(set[2]!);
    const ranges: [number, number][] = [];
    for (let i = 0; i < items.length; i++) {
      const first = items[i]!.codePointAt(0)!;
      const isRange = items[i + 1] === '-' && i + 2 < items.length;
      ranges.push([first, isRange ? items[i + 2]!.codePointAt(0)! : first]);
      if (isRange) i += 2;
    }
    return { kind: 'class', negated: set[1] === '^', ranges };
  }

  #repeated(part: Node): Node {
    const sign = this.#take(/[*+?]/)?.[0];
    if (sign)
      return { kind: 'repeat', part, min: sign === '+' ? 1 : 0, max: sign === '?' ? 1 : Number.POSITIVE_INFINITY };
    const counts = this.#take(/\{(\d+),(\d*)\}/);
    if (!counts) return part;
    return {
      kind: 'repeat',
      part,
      min: Number(counts[1]),
      max: counts[2] ? Number(counts[2]) : Number.POSITIVE_INFINITY,
    };
  }
}

/** Characters of a literal or a class; `\xHH`, `\n`, `\r`, `\t` and escaped punctuation. */
function unescaped(text: string): string[] {
  const result: string[] = [];
  for (const [, hex, escaped, plain] of text.matchAll(/\\x([0-9A-Fa-f]{2})|\\([nrt\\"[\]-])|([^\\])/gu)) {
    if (hex) result.push(String.fromCharCode(Number.parseInt(hex, 16)));
    else if (escaped) result.push({ n: '\n', r: '\r', t: '\t' }[escaped] ?? escaped);
    else result.push(plain!);
  }
  return result;
}

function inClass(node: Extract<Node, { kind: 'class' }>, char: string): boolean {
  const code = char.codePointAt(0)!;
  return node.negated !== node.ranges.some(([low, high]) => code >= low && code <= high);
}

function accepts(rules: ReadonlyMap<string, Node>, text: readonly string[]): boolean {
  const memo = new Map<string, ReadonlySet<number>>();
  const many = (node: Node, starts: Iterable<number>) => {
    const ends = new Set<number>();
    for (const start of starts) for (const end of match(node, start)) ends.add(end);
    return ends;
  };
  /** Every position at which a match that begins at `start` may end. */
  function match(node: Node, start: number): ReadonlySet<number> {
    switch (node.kind) {
      case 'text': {
        const chars = [...node.text];
        return new Set(chars.every((char, i) => text[start + i] === char) ? [start + chars.length] : []);
      }
      case 'class':
        return new Set(start < text.length && inClass(node, text[start]!) ? [start + 1] : []);
      case 'rule': {
        const key = `${node.name} ${start}`;
        let ends = memo.get(key);
        if (!ends) {
          ends = match(rules.get(node.name)!, start);
          memo.set(key, ends);
        }
        return ends;
      }
      case 'sequence':
        return node.parts.reduce<ReadonlySet<number>>((starts, part) => many(part, starts), new Set([start]));
      case 'either':
        return new Set(node.parts.flatMap((part) => [...match(part, start)]));
      case 'repeat': {
        const ends = new Set<number>(node.min === 0 ? [start] : []);
        let current: ReadonlySet<number> = new Set([start]);
        for (let n = 1; n <= node.max && current.size > 0 && n <= text.length + node.min + 1; n++) {
          current = many(node.part, current);
          if (n >= node.min) for (const end of current) ends.add(end);
        }
        return ends;
      }
    }
  }
  return match(rules.get('root')!, 0).has(text.length);
}

function write(rules: ReadonlyMap<string, Node>, seed: number): string {
  let state = seed | 0 || 1;
  const pick = (n: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.abs(state) % n;
  };
  function produce(node: Node): string {
    switch (node.kind) {
      case 'text':
        return node.text;
      case 'class': {
        if (!node.negated) {
          const [low, high] = node.ranges[pick(node.ranges.length)]!;
          return String.fromCodePoint(low + pick(high - low + 1));
        }
        const candidates = [...'ab1 {}[],:é🙂\n"\\\x00\x1f'].filter((char) => inClass(node, char));
        return candidates[pick(candidates.length)]!;
      }
      case 'rule':
        return produce(rules.get(node.name)!);
      case 'sequence':
        return node.parts.map(produce).join('');
      case 'either':
        return produce(node.parts[pick(node.parts.length)]!);
      case 'repeat': {
        const times = node.min + pick(Math.min(node.max - node.min, 3) + 1);
        return Array.from({ length: times }, () => produce(node.part)).join('');
      }
    }
  }
  return produce(rules.get('root')!);
}
