/** The routes of the server, from its OpenAPI document. */
import { openApiDocument } from '../serve/openapi.ts';
import { code, escaped, heading, slug, table } from './html.ts';

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
}

interface Operation {
  readonly summary: string;
  readonly security?: readonly unknown[];
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly description?: string }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

/** Every route as `[method, path, operation]`. */
export function routes(version: string): [string, string, Operation][] {
  const { paths } = openApiDocument(version);
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
      method.toUpperCase(),
      path,
      operation as Operation,
    ]),
  );
}

export function routeList(version: string): string {
  return routes(version)
    .map(([method, path, { summary, security, parameters, requestBody }]) => {
      const schema = requestBody?.content['application/json']?.schema;
      const asked = parameters
        .filter((parameter) => parameter.in === 'query')
        .map(({ name, description = '' }) => [code(`?${name}=`), '', escaped(description)]);
      const fields = [...asked, ...(schema ? fieldsOf(schema, '') : [])];
      return [
        heading(3, slug(`${method} ${path}`), `<span class="method">${method}</span> ${escaped(path)}`),
        `<p>${escaped(summary)}.${security?.length === 0 ? ' No key is needed.' : ''}</p>`,
        ...(fields.length > 0 ? [table(['field', 'type', 'what it is'], fields)] : []),
      ].join('\n');
    })
    .join('\n');
}

/** Rows of the fields of an object, those of objects in it below them. */
function fieldsOf(schema: Schema, before: string): string[][] {
  const { properties = {}, required = [] } = schema;
  return Object.entries(properties).flatMap(([name, field]) => {
    const path = `${before}${name}`;
    const one = present(field);
    const must = required.includes(name) ? '' : ' (optional)';
    const row = [code(path), escaped(typeOf(one)) + must, escaped(field.description ?? one.description ?? '')];
    const inner = one.items ? present(one.items) : one;
    const kinds = (inner.oneOf ?? inner.anyOf ?? []).filter((kind) => kind.properties);
    const prefix = one.items ? `${path}[].` : `${path}.`;
    if (kinds.length === 0) return [row, ...fieldsOf(inner, prefix)];
    return [row, ...kinds.flatMap((kind) => fieldsOf(kind, prefix)).filter(firstOfItsName)];
  });
}

/** Kinds of one object share fields. */
const firstOfItsName = ([name]: string[], index: number, rows: string[][]) =>
  rows.findIndex(([other]) => other === name) === index;

/** The schema without its "or null": a field that may be null may be left out, too. */
function present(schema: Schema): Schema {
  const kinds = schema.anyOf?.filter(({ type }) => type !== 'null');
  return kinds?.length === 1 ? { description: schema.description, ...kinds[0]! } : schema;
}

function typeOf(schema: Schema): string {
  const { type, items, minimum, maximum } = schema;
  const kinds = (schema.anyOf ?? schema.oneOf)?.filter((kind) => kind.type !== 'null');
  if (kinds) return [...new Set(kinds.map(typeOf))].join(' or ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  if (items) return `list of ${typeOf(present(items))}`;
  const names = (typeof type === 'string' ? [type] : (type ?? [])).filter((name) => name !== 'null');
  const shown = names.map((name) => (name === 'boolean' ? 'true or false' : name)).join(' or ');
  // Bounds that are the type's own say nothing.
  const bounds = [minimum, maximum].filter((bound) => bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER);
  if (bounds.length === 2) return `${shown}, ${minimum} to ${maximum}`;
  return minimum !== undefined && bounds.length === 1 && bounds[0] === minimum
    ? `${shown}, at least ${minimum}`
    : shown;
}
