import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { TmemError } from '../../src/engine/errors.ts';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import type { JsonSchema } from '../../src/engine/types.ts';
import { parseGbnf } from '../support/gbnf.ts';

interface Case {
  readonly schema: JsonSchema;
  readonly value: fc.Arbitrary<unknown>;
}

/** Strings that JSON.stringify writes without DEL, which the grammar keeps out. */
const text = (min: number, max: number) =>
  fc.string({ minLength: min, maxLength: max, unit: 'grapheme-ascii' }).filter((s) => !s.includes('\x7f'));

/** JSON without DEL, and without numbers whose exponent the grammar keeps out. */
const isPlain = (value: unknown) => !/\x7f|e[-+]\d{3}/.test(JSON.stringify(value));

const leaf: fc.Arbitrary<Case> = fc.oneof(
  fc.constant<Case>({
    schema: { type: 'string' },
    value: fc.string({ unit: 'binary' }).filter((s) => !s.includes('\x7f')),
  }),
  fc.tuple(fc.nat(4), fc.nat(4)).map(
    ([min, more]): Case => ({
      schema: { type: 'string', minLength: min, maxLength: min + more, description: 'some text' },
      value: text(min, min + more),
    }),
  ),
  fc.constant<Case>({ schema: { type: 'integer' }, value: fc.integer() }),
  fc.constant<Case>({ schema: { type: 'integer', minimum: 0 }, value: fc.nat() }),
  fc.constant<Case>({
    schema: { type: 'number' },
    value: fc
      .double({ noNaN: true, noDefaultInfinity: true, min: -1e90, max: 1e90 })
      .filter((x) => x === 0 || Math.abs(x) > 1e-90),
  }),
  fc.constant<Case>({ schema: { type: 'boolean' }, value: fc.boolean() }),
  fc.constant<Case>({
    schema: { type: 'object', additionalProperties: true },
    value: fc.dictionary(text(0, 5), fc.jsonValue({ maxDepth: 2 }).filter(isPlain)),
  }),
  fc.constant<Case>({ schema: { type: ['null', 'integer'] }, value: fc.option(fc.integer()) }),
  fc
    .array(fc.jsonValue({ maxDepth: 0 }), { minLength: 1, maxLength: 3 })
    .map((values): Case => ({ schema: { enum: values }, value: fc.constantFrom(...values) })),
  fc.string({ unit: 'binary' }).map((value): Case => ({ schema: { const: value }, value: fc.constant(value) })),
);

const cases: fc.Arbitrary<Case> = fc.letrec<{ any: Case }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc.tuple(tie('any'), fc.nat(2), fc.nat(2), fc.boolean()).map(
      ([item, min, more, open]): Case => ({
        schema: { type: 'array', items: item.schema, minItems: min, ...(open ? {} : { maxItems: min + more }) },
        value: fc.array(item.value, { minLength: min, maxLength: min + more }),
      }),
    ),
    fc
      .uniqueArray(fc.tuple(fc.string({ minLength: 1, maxLength: 5 }), tie('any'), fc.boolean()), {
        maxLength: 4,
        selector: ([name]) => name,
      })
      // Integer-like keys would be moved to the front by the object itself.
      .filter((members) => members.every(([name]) => !/^\d+$/.test(name) && name !== '__proto__'))
      .map(
        (members): Case => ({
          schema: {
            type: 'object',
            properties: Object.fromEntries(members.map(([name, { schema }]) => [name, schema])),
            required: members.filter(([, , needed]) => needed).map(([name]) => name),
            additionalProperties: false,
          },
          value: fc
            .tuple(
              ...members.map(([name, { value }, needed]) =>
                fc.tuple(fc.constant(name), value, needed ? fc.constant(true) : fc.boolean()),
              ),
            )
            .map((entries) =>
              Object.fromEntries(entries.filter(([, , kept]) => kept).map(([name, value]) => [name, value])),
            ),
        }),
      ),
    tie('any').map(
      ({ schema, value }): Case => ({
        schema: { type: 'object', additionalProperties: schema },
        value: fc.dictionary(text(0, 5), value, { maxKeys: 3 }),
      }),
    ),
    fc.tuple(tie('any'), tie('any')).map(
      ([one, two]): Case => ({
        schema: { anyOf: [one.schema, two.schema] },
        value: fc.oneof(one.value, two.value),
      }),
    ),
  ),
})).any;

const withValue = cases.chain(({ schema, value }) => value.map((v) => ({ schema, value: v })));

describe('schemaToGrammar', () => {
  it('accepts every value of the schema, compact or indented', () => {
    fc.assert(
      fc.property(withValue, ({ schema, value }) => {
        const grammar = parseGbnf(schemaToGrammar(schema));
        const json = JSON.stringify(value);
        assert.ok(grammar.accepts(json), `${json} for ${JSON.stringify(schema)}`);
        // The constants of a schema are written without blanks.
        if (!/"(enum|const)"/.test(JSON.stringify(schema))) assert.ok(grammar.accepts(JSON.stringify(value, null, 2)));
      }),
      { numRuns: 150 },
    );
  });

  it('writes nothing that the schema does not allow', () => {
    fc.assert(
      fc.property(cases, fc.integer(), ({ schema }, seed) => {
        const written = parseGbnf(schemaToGrammar(schema)).write(seed);
        // zod is the judge; it knows nothing of the grammar.
        const judged = z.fromJSONSchema(schema as never).safeParse(JSON.parse(written));
        assert.ok(judged.success, `${written} for ${JSON.stringify(schema)}`);
      }),
      { numRuns: 150 },
    );
  });

  it('keeps order, required members and bounds', () => {
    const grammar = parseGbnf(
      schemaToGrammar({
        type: 'object',
        properties: {
          memory: { type: 'string', maxLength: 5 },
          pairs: { type: 'array', maxItems: 2, items: { type: 'integer' } },
          note: { type: 'string', minLength: 1 },
        },
        required: ['pairs'],
      }),
    );
    for (const good of ['{"pairs":[]}', '{"memory":"abcde","pairs":[1,2]}', '{ "pairs": [1], "note": "x" }']) {
      assert.ok(grammar.accepts(good), good);
    }
    for (const bad of [
      '{}',
      '{"memory":"a"}',
      '{"memory":"abcdef","pairs":[]}',
      '{"pairs":[],"memory":"a"}',
      '{"pairs":[1,2,3]}',
      '{"pairs":[],"note":""}',
      '{"pairs":[],"other":1}',
      '{"pairs":[],}',
      '{"memory":"a\nb","pairs":[]}',
      '{"memory":"a\u0001","pairs":[]}',
      '{"pairs":[01]}',
      `{"pairs":[]${' '.repeat(3)}}`,
      `{"pairs":[]\n${' '.repeat(40)}}`,
      '{"pairs":[]} ',
    ]) {
      assert.ok(!grammar.accepts(bad), bad);
    }
  });

  it('follows $ref, recursively too', () => {
    const grammar = parseGbnf(
      schemaToGrammar({
        $ref: '#/$defs/tree',
        $defs: {
          tree: {
            type: 'object',
            properties: { name: { type: 'string' }, children: { type: 'array', items: { $ref: '#/$defs/tree' } } },
            required: ['name'],
          },
        },
      }),
    );
    assert.ok(grammar.accepts('{"name":"a","children":[{"name":"b","children":[]},{"name":"c"}]}'));
    assert.ok(!grammar.accepts('{"name":"a","children":[{"children":[]}]}'));
  });

  it("takes zod's own schemas", () => {
    const schema = z.object({
      tool: z.literal('add'),
      arguments: z.strictObject({ a: z.int(), b: z.number().optional() }),
    });
    const grammar = parseGbnf(schemaToGrammar(z.toJSONSchema(schema) as JsonSchema));
    assert.ok(grammar.accepts('{"tool":"add","arguments":{"a":3,"b":0.5}}'));
    assert.ok(!grammar.accepts('{"tool":"add","arguments":{"a":0.5}}'));
  });

  const refused: [string, JsonSchema, RegExp][] = [
    [
      'an unknown keyword',
      { type: 'object', properties: { a: { type: 'string', pattern: 'x' } } },
      /pattern at #\/properties\/a/,
    ],
    ['a keyword of another type', { type: 'string', minItems: 1 }, /minItems at #/],
    ['an undeclared member beside others', { type: 'object', additionalProperties: { type: 'date' } }, /"date"/],
    ['an array without items', { type: 'array' }, /needs items/],
    ['no type', { type: 'array', items: {} }, /#\/items needs a type/],
    ['an unknown type', { type: 'date' }, /"date"/],
    ['an undeclared required member', { type: 'object', properties: {}, required: ['a'] }, /"a"/],
    ['a $ref to nothing', { $ref: '#/$defs/x' }, /\$ref/],
    ['a $ref to itself', { $ref: '#/$defs/x', $defs: { x: { anyOf: [{ $ref: '#/$defs/x' }] } } }, /refers to itself/],
    ['a minimum', { type: 'integer', minimum: 5 }, /minimum at #/],
    ['bounds in the wrong order', { type: 'string', minLength: 3, maxLength: 2 }, /above/],
    ['a repetition that llama.cpp refuses', { type: 'string', maxLength: 2000 }, /maxLength/],
    ['an empty enum', { enum: [] }, /#\/enum/],
  ];
  for (const [what, schema, message] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => schemaToGrammar(schema),
        (error: TmemError) => error instanceof TmemError && error.code === 'usage' && message.test(error.message),
      );
    });
  }
});
