/** The OpenAPI 3.1 document of all routes, with the very schemas that they parse requests with. */
import { z } from 'zod';
import { chatSchema } from './chat-request.ts';
import { embeddingsSchema } from './embeddings.ts';
import { OPERATIONS } from './memory.ts';
import { responsesSchema } from './responses-request.ts';

interface Described {
  readonly summary: string;
  /** Body of the request. */
  readonly body?: z.ZodType;
  readonly query?: Readonly<Record<string, { readonly description: string; readonly required?: boolean }>>;
  /** Media type of what is answered. Default `application/json`. */
  readonly type?: string;
  /** Answered without a key, too. */
  readonly open?: boolean;
  readonly status?: number;
}

const SESSIONS = '/v1/memory/sessions';
const SUMMARIES: Readonly<Record<string, string>> = {
  ask: 'Ask one question with an empty context',
  write: 'Write what was said since the last write into the weights',
  undo: 'Take back the last write',
  branch: 'Begin another session that remembers the same',
  forget: 'Make the weights again without some facts, and remove these',
  verify: 'Make the weights again from the ledger and compare them',
  consolidate: 'Train all standing facts anew on fresh weights',
  recall: 'Ask the model the questions of some facts now',
  edit: 'Write another answer for a fact',
  why: 'Which facts an answer rests on',
  import: 'Write facts that were not said in a conversation',
};

const ROUTES: Readonly<Record<string, Described>> = {
  'POST /v1/chat/completions': { summary: 'Answer a conversation', body: chatSchema },
  'POST /v1/responses': { summary: 'Answer a conversation (responses API)', body: responsesSchema },
  'POST /v1/embeddings': { summary: 'Vectors of texts', body: embeddingsSchema },
  'GET /v1/models': { summary: 'The model' },
  'GET /v1/models/{id}': { summary: 'The model, by its name' },
  'GET /health': { summary: 'Whether the server answers', open: true },
  'GET /metrics': { summary: 'Metrics for Prometheus', type: 'text/plain' },
  'GET /openapi.json': { summary: 'This document', open: true },
  [`GET ${SESSIONS}`]: { summary: 'Names of the sessions' },
  [`GET ${SESSIONS}/{session}`]: { summary: 'What a session knows' },
  [`DELETE ${SESSIONS}/{session}`]: { summary: 'Remove a session', status: 204 },
  [`GET ${SESSIONS}/{session}/events`]: { summary: 'What happens in a session', type: 'text/event-stream' },
  [`GET ${SESSIONS}/{session}/diff`]: {
    summary: 'What one session knows and another one does not',
    query: { other: { description: 'Name of the other session.', required: true } },
  },
  [`GET ${SESSIONS}/{session}/export`]: {
    summary: 'The weights as a GGUF LoRA, or the facts as JSON lines',
    query: { format: { description: '`gguf` (default) or `jsonl`.' } },
    type: 'application/octet-stream',
  },
  ...Object.fromEntries(
    Object.entries(OPERATIONS).map(([name, { schema }]) => [
      `POST ${SESSIONS}/{session}/${name}`,
      { summary: SUMMARIES[name]!, body: schema },
    ]),
  ),
};

const ERROR = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

export function openApiDocument(version: string) {
  const paths: Record<string, Record<string, object>> = {};
  for (const [key, described] of Object.entries(ROUTES)) {
    const [method, path] = key.split(' ') as [string, string];
    paths[path] ??= {};
    paths[path][method.toLowerCase()] = operation(path, described);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'tmem',
      version,
      description: 'An OpenAI-compatible server whose models remember in their weights.',
    },
    security: [{}, { key: [] }],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
      schemas: { Error: jsonSchema(ERROR) },
    },
  };
}

function operation(
  path: string,
  { summary, body, query = {}, type = 'application/json', open, status = 200 }: Described,
) {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    ...{ name: name!, in: 'path', required: true, schema: { type: 'string' } },
  }));
  const inQuery = Object.entries(query).map(([name, { description, required = false }]) => ({
    ...{ name, in: 'query', required, description, schema: { type: 'string' } },
  }));
  const error = { content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } } };
  return {
    summary,
    ...(open && { security: [] }),
    parameters: [...inPath, ...inQuery],
    ...(body && { requestBody: { required: true, content: { 'application/json': { schema: jsonSchema(body) } } } }),
    responses: {
      [status]: { description: 'Done.', ...(status !== 204 && { content: { [type]: {} } }) },
      default: { description: 'What went wrong.', ...error },
    },
  };
}

function jsonSchema(schema: z.ZodType) {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return rest;
}
