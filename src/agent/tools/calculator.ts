/** Arithmetic by recursive descent: + - * / % ^, brackets, a few functions and constants. Nothing is evaluated as code. */
import { z } from 'zod';
import { defineTool } from '../tools.ts';

export const calculator = defineTool({
  name: 'calculator',
  description: 'Computes an arithmetic expression, such as (17.5 + 4) * 3 / 2^4 or sqrt(2).',
  parameters: z.strictObject({ expression: z.string().min(1).max(500) }),
  run: ({ expression }) => String(Number(calculate(expression).toPrecision(15))),
});

const FUNCTIONS: ReadonlyMap<string, (x: number) => number> = new Map(
  Object.entries({
    ...{ sqrt: Math.sqrt, abs: Math.abs, round: Math.round, floor: Math.floor, ceil: Math.ceil },
    ...{ exp: Math.exp, ln: Math.log, log: Math.log10, sin: Math.sin, cos: Math.cos, tan: Math.tan },
  }),
);
const CONSTANTS: ReadonlyMap<string, number> = new Map([
  ['pi', Math.PI],
  ['e', Math.E],
]);
const MAX_DEPTH = 100;

/** @throws Error with a sentence for the model when the text is no expression or has no finite value. */
export function calculate(expression: string): number {
  const text = expression.replaceAll('×', '*').replaceAll('÷', '/').replaceAll('−', '-').replaceAll('**', '^');
  const tokens = text.match(/\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+|[A-Za-z]+|\S/g) ?? [];
  let at = 0;
  let depth = 0;
  const take = (token: string): boolean => tokens[at] === token && ++at > 0;
  const fail = (): never => {
    throw new Error(at < tokens.length ? `"${tokens[at]}" is not understood here` : 'the expression ends too early');
  };

  function sum(): number {
    let value = product();
    for (;;) {
      if (take('+')) value += product();
      else if (take('-')) value -= product();
      else return value;
    }
  }
  function product(): number {
    let value = signed();
    for (;;) {
      if (take('*')) value *= signed();
      else if (take('/')) value /= signed();
      else if (take('%')) value %= signed();
      else return value;
    }
  }
  function signed(): number {
    if (++depth > MAX_DEPTH) throw new Error('the expression is nested too deeply');
    const value = take('-') ? -signed() : take('+') ? signed() : power();
    depth--;
    return value;
  }
  function power(): number {
    const base = atom();
    return take('^') ? base ** signed() : base;
  }
  function atom(): number {
    const token = tokens[at] ?? fail();
    if (/^[\d.]/.test(token) && token !== '.') {
      at++;
      return Number(token);
    }
    if (take('(')) return closed();
    const name = token.toLowerCase();
    const constant = CONSTANTS.get(name);
    const apply = FUNCTIONS.get(name);
    if (constant === undefined && !apply) return fail();
    at++;
    if (constant !== undefined) return constant;
    return take('(') ? apply!(closed()) : fail();
  }
  function closed(): number {
    const value = sum();
    return take(')') ? value : fail();
  }

  const value = sum();
  if (at < tokens.length) fail();
  if (!Number.isFinite(value)) throw new Error('the result is not a finite number');
  return value;
}
