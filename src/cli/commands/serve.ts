/** `tmem serve`: the OpenAI-compatible server, with sessions that remember. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { z } from 'zod';
import { contextFor } from '../../agent/context-size.ts';
import { TmemError } from '../../engine/errors.ts';
import type { Embedder } from '../../engine/types.ts';
import { trainingOf } from '../../memory/recipe.ts';
import type { Origin } from '../../memory/types.ts';
import type { Runtime } from '../../serve/types.ts';
import { type CliIo, numberOption } from '../io.ts';

export interface ServeCommandOptions {
  readonly host: string;
  readonly port: number;
  readonly model?: string;
  readonly embedder: string;
  readonly budget: number;
  readonly context?: number;
  readonly recipe: string;
  readonly layers?: number;
  readonly trust: readonly Origin[];
  readonly keys?: string;
  readonly cors: readonly string[];
  readonly insecure: boolean;
  readonly maxTokens?: number;
  readonly maxQueue: number;
  readonly maxRequests: number;
  readonly timeout: number;
}

const PORTS = 65_536;
const whole = (name: string, min = 1) => numberOption(name, { integer: true, min });

export function register(
  program: Command,
  io: CliIo,
  deps: { readonly open: (io: CliIo, options: ServeCommandOptions) => Promise<Runtime> } = { open: openRuntimeFor },
): void {
  program
    .command('serve')
    .description('Serve the model with its sessions over an OpenAI-compatible API, with a web studio.')
    .option('--host <address>', 'where to listen; other machines need keys or --insecure', '127.0.0.1')
    .option('--port <n>', 'port; 0 for any that is free', whole('--port', 0), 8484)
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--embedder <model>', 'model of /v1/embeddings, pulled at its first use', 'all-minilm-l6-v2')
    .option('--budget <tokens>', 'length of a working context before it is written', whole('--budget', 0), 2048)
    .option('--context <tokens>', 'room of the model for all that it answers at once', whole('--context'))
    .option('--recipe <recipe>', 'default or paper', 'default')
    .option('--layers <n>', 'number of last layers to train', whole('--layers'))
    .option(
      '--trust <origins>',
      'also train on what others than the user say: assistant, tool, document',
      parseTrust,
      [],
    )
    .option('--keys <file>', 'API keys, made with `tmem keys` (default: keys.json in TMEM_HOME if there are any)')
    .option(
      '--cors <origin>',
      'let pages of this origin use the server (may be repeated; * for all)',
      (origin: string, all: readonly string[]) => [...all, origin],
      [],
    )
    .option('--insecure', 'listen to other machines without keys', false)
    .option('--max-tokens <n>', 'most tokens that an answer may ask for (default: the context)', whole('--max-tokens'))
    .option('--max-queue <n>', 'requests that may wait for the model', whole('--max-queue', 0), 64)
    .option('--max-requests <n>', 'requests that one key may have running at once', whole('--max-requests'), 32)
    .option('--timeout <seconds>', 'most that a request may take', numberOption('--timeout', { above: true }), 600)
    .action((options: ServeCommandOptions) => run(io, options, deps.open));
}

/** @throws TmemError `usage` for anything but origins that are not trusted anyway. */
function parseTrust(text: string): Origin[] {
  const parsed = z
    .array(z.enum(['assistant', 'tool', 'document']))
    .safeParse(text.split(',').map((name) => name.trim()));
  if (parsed.success) return parsed.data;
  throw new TmemError('usage', `--trust takes assistant, tool and document, with commas between, but it is '${text}'.`);
}

async function run(
  io: CliIo,
  options: ServeCommandOptions,
  open: (io: CliIo, options: ServeCommandOptions) => Promise<Runtime>,
): Promise<void> {
  const { checkReachable, serve } = await import('../../serve/server.ts');
  const { host, port, cors, insecure, maxTokens, maxQueue: queue, maxRequests: perKey, timeout } = options;
  if (port >= PORTS) throw new TmemError('usage', `--port must be below ${PORTS}, but it is ${port}.`);
  const keys = await keysFor(options);
  // Before a model is loaded, which takes a while.
  checkReachable({ host, keys, insecure });
  const runtime = await open(io, options);
  const limits = { queue, perKey, timeoutMs: timeout * 1000, ...(maxTokens !== undefined && { maxTokens }) };
  const onError = (error: unknown) => io.note(`A request failed: ${io.verbose ? traceOf(error) : String(error)}`);
  let serving: Awaited<ReturnType<typeof serve>>;
  try {
    serving = await serve(runtime, { host, port, cors, insecure, keys, limits, onError });
  } catch (error) {
    await runtime.close();
    throw error;
  }
  const { url } = serving;
  io.result({ url }, () => `tmem is at ${url}`);
  if (!io.signal.aborted) await once(io.signal, 'abort');
  io.note('Closing: requests that run may end.');
  await serving.close();
}

const traceOf = (error: unknown) => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** undefined: the server is open. @throws TmemError `usage` when a file was named and has no keys. */
async function keysFor({ keys: path }: ServeCommandOptions) {
  const { KeyFile, keysPath, readKeys } = await import('../../serve/keys.ts');
  const file = path ?? keysPath();
  if ((await readKeys(file)).length > 0) return new KeyFile(file);
  if (path === undefined) return undefined;
  throw new TmemError('usage', `There are no keys in ${path}; make one with \`tmem keys create NAME --keys ${path}\`.`);
}

async function openRuntimeFor(io: CliIo, options: ServeCommandOptions): Promise<Runtime> {
  const { openRuntime } = await import('../../serve/runtime/runtime.ts');
  const { openEngine } = await import('../../engine/process/client.ts');
  const { model, budget, context, recipe, layers, trust, embedder } = options;
  const contextSize = context ?? contextFor(budget);
  const training = trainingOf(recipe, { layers });
  const engine = await io.openEngine({ model, contextSize, training });
  const { path: modelPath } = engine.model;
  const { signal, verbose } = io;
  return openRuntime({
    ...{ budget, recipe, layers, trusted: ['user', ...trust] },
    openEngine: async ({ background }) =>
      background ? openEngine({ modelPath, contextSize, background, verbose, signal }) : engine,
    openEmbedder: () => openEmbedder(io, embedder),
  });
}

async function openEmbedder({ signal, verbose, note: onNote }: CliIo, model: string): Promise<Embedder> {
  const { openEmbeddingModel } = await import('../../engine/models/open-embedder.ts');
  return openEmbeddingModel(model, { signal, verbose, onNote });
}
