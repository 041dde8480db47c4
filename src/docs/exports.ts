/**
 * What a module exports, read from its source: declarations with their doc comments and without bodies. It reads what the formatter writes: a
 * declaration begins at the margin, and its last line is the first one at the margin that closes it.
 */
import { readFileSync } from 'node:fs';

export interface Declaration {
  readonly name: string;
  readonly kind: 'function' | 'class' | 'interface' | 'type' | 'const';
  /** Its module. */
  readonly file: URL;
  /** Text of the doc comment; empty when there is none. */
  readonly doc: string;
  /** TypeScript without bodies. */
  readonly code: string;
}

/** Every export of a module, in order, those of the modules that it names included. @throws Error for one that is not found. */
export function exportsOf(file: URL): Declaration[] {
  const text = readFileSync(file, 'utf8');
  const named = [...text.matchAll(/^export (?:type )?(\*|\{[^}]*\}) from '([^']+)';/gm)].flatMap(([, what, from]) => {
    const all = exportsOf(new URL(from!, file));
    if (what === '*') return all;
    const names = what!.slice(1, -1).split(',');
    return names.flatMap((name) => {
      const [inner, outer = inner] = name
        .replace(/\btype\s/, '')
        .trim()
        .split(' as ');
      if (!inner) return [];
      const found = all.find((declaration) => declaration.name === inner);
      if (!found) throw new Error(`${file.pathname} exports ${inner}, which is not found in ${from}.`);
      return [{ ...found, name: outer! }];
    });
  });
  return [...named, ...declarationsIn(text, file)];
}

const DECLARATION = /^export (?:abstract )?(?:async )?(function\*?|class|interface|type|const) (\w+)/;

function declarationsIn(text: string, file: URL): Declaration[] {
  const lines = text.split('\n');
  return lines.flatMap((line, at) => {
    const [, keyword, name] = DECLARATION.exec(line) ?? [];
    if (!keyword || !name) return [];
    const kind = keyword.replace('*', '') as Declaration['kind'];
    const whole = statementAt(lines, at);
    const schema = /= z\.infer<typeof (\w+)>;$/.exec(whole.at(-1)!)?.[1];
    const code = [...(schema ? schemaLines(lines, schema) : []), ...shownOf(kind, whole)];
    return [{ name, kind, file, doc: docAbove(lines, at).text, code: code.join('\n').replaceAll(/^export /gm, '') }];
  });
}

/** The declaration as readers need it. */
function shownOf(kind: Declaration['kind'], whole: readonly string[]): readonly string[] {
  if (kind === 'function') return signature(whole);
  if (kind === 'class') return [whole[0]!, ...membersOf(whole.slice(1, -1)), '}'];
  if (kind !== 'const' || whole.length <= LONGEST_VALUE) return whole;
  return /=>\s*\{?$/.test(whole[0]!)
    ? [whole[0]!.replace(/ =>\s*\{?$/, ' => …;')]
    : [whole[0]!.replace(/ = .*$/, ' = …;')];
}

/** Lines of a constant's value that are shown. */
const LONGEST_VALUE = 8;

/** What a type that is inferred from a schema has been inferred from. */
function schemaLines(lines: readonly string[], name: string): string[] {
  const at = lines.findIndex((line) => new RegExp(`^(?:export )?const ${name}\\b`).test(line));
  return at < 0 ? [] : statementAt(lines, at);
}

/** From the first line to the one at the same margin that closes what is open. */
function statementAt(lines: readonly string[], at: number): string[] {
  const statement: string[] = [];
  let depth = 0;
  for (const line of lines.slice(at)) {
    statement.push(line);
    depth += depthOf(line);
    if (depth === 0 && /[;}]$/.test(line)) break;
  }
  return statement;
}

/** Brackets that a line opens more than it closes, those in texts and comments aside. */
function depthOf(line: string): number {
  const bare = line
    .replace(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|\/\*.*?\*\/|\/\/.*$/g, '')
    .replace(/^ *(?:\/\*)?\*.*$/, '');
  return [...bare].reduce((depth, c) => depth + (('([{'.includes(c) ? 1 : 0) - (')]}'.includes(c) ? 1 : 0)), 0);
}

/** The lines before a body. */
function signature(lines: readonly string[]): string[] {
  let depth = 0;
  for (const [at, line] of lines.entries()) {
    depth += depthOf(line);
    if (depth === 1 && line.endsWith(' {')) return [...lines.slice(0, at), line.replace(/ \{$/, ';')];
    if (depth === 0 && /[;}]$/.test(line)) return [...lines.slice(0, at), line.replace(/ \{.*\}$/, ';')];
  }
  return [...lines];
}

/** The first line of a member that is not private. */
const MEMBER = /^ {2}(?!private\b|(?:(?:static|readonly|async|get|set) )*#)\w/;

/** Public members of a class, each with its comment. */
function membersOf(lines: readonly string[]): string[] {
  return lines.flatMap((line, at) => {
    if (!MEMBER.test(line)) return [];
    return [...docAbove(lines, at).lines, ...signature(statementAt(lines, at))];
  });
}

/** The doc comment that ends just above a line. */
function docAbove(lines: readonly string[], at: number): { readonly text: string; readonly lines: readonly string[] } {
  if (!lines[at - 1]?.trimEnd().endsWith('*/')) return { text: '', lines: [] };
  const from = lines.slice(0, at).findLastIndex((line) => line.trimStart().startsWith('/**'));
  const comment = from < 0 ? [] : lines.slice(from, at);
  const text = comment
    .map((line) => line.trim().replace(/^\/?\*+\/? ?|\s*\*\/$/g, ''))
    .join('\n')
    .trim();
  return { text, lines: comment };
}
