/** Main of the engine's process: opens an engine or an embedding model and serves the calls that arrive over the pipe. */
import os from 'node:os';
import { TmemError } from '../errors.ts';
import type { Embedder, Engine, GenerateRequest, TrainEvent } from '../types.ts';
import { type OpenOptions, type ToClient, type ToHost, toWire } from './protocol.ts';

// Ctrl-C reaches the whole process group; the parent decides what is stopped.
process.on('SIGINT', () => {});
// The parent is gone: nobody can use this engine any more.
process.on('disconnect', () => process.exit(0));

let engine: Engine | Embedder | undefined;
const running = new Map<number, AbortController>();

function send(message: ToClient): void {
  if (process.connected) process.send!(message);
}

async function open(options: OpenOptions, engineModule?: string): Promise<Engine> {
  if (engineModule) {
    const module = (await import(engineModule)) as { open(options: OpenOptions): Promise<Engine> };
    return module.open(options);
  }
  const { LlamaEngine } = await import('../llama/engine.ts');
  return LlamaEngine.open(options);
}

async function call(message: Extract<ToHost, { type: 'call' }>): Promise<unknown> {
  if (!engine) throw new TmemError('failed', 'The engine is not open.');
  const { id, method } = message;
  const args = [...message.args];
  if (message.signal) args.push({ ...(args.pop() as object), signal: running.get(id)!.signal });
  if (method === 'generate') {
    for await (const event of (engine as Engine).generate(args[0] as GenerateRequest))
      send({ type: 'event', id, event });
    return undefined;
  }
  if (method === 'train') args[1] = (event: TrainEvent) => send({ type: 'event', id, event });
  const target = (engine as Engine & Embedder)[method] as (...values: unknown[]) => Promise<unknown>;
  return target.apply(engine, args);
}

async function handle(message: ToHost): Promise<void> {
  switch (message.type) {
    case 'open':
      // Threads take it over from the one that starts them, so before any of them is.
      if (message.background) os.setPriority(os.constants.priority.PRIORITY_LOW);
      engine = await open(message.options, message.engineModule);
      send({ type: 'opened', model: engine.model });
      return;
    case 'openEmbedder': {
      const { LlamaEmbedder } = await import('../llama/embedder.ts');
      engine = await LlamaEmbedder.open(message.options);
      send({ type: 'opened', model: engine.model });
      return;
    }
    case 'call': {
      const { id } = message;
      running.set(id, new AbortController());
      try {
        send({ type: 'result', id, value: await call(message) });
      } catch (error) {
        send({ type: 'error', id, error: toWire(error) });
      } finally {
        running.delete(id);
      }
      return;
    }
    case 'abort':
      running.get(message.id)?.abort();
      return;
    case 'close':
      await engine?.close();
      process.exit(0);
  }
}

process.on('message', (message: ToHost) => {
  handle(message).catch((error) => send({ type: 'error', error: toWire(error) }));
});
