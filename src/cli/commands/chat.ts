/** `tmem chat`: talk with a model that remembers. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Command } from 'commander';
import { localTime } from '../../agent/context.ts';
import { answerTokens, contextFor } from '../../agent/context-size.ts';
import type { Episode, Method } from '../../agent/episode.ts';
import { bindRecipe } from '../../agent/recipes.ts';
import { TmemError, throwIfAborted } from '../../engine/errors.ts';
import { committed, noteOf } from '../../memory/ledger.ts';
import { trainingOf } from '../../memory/recipe.ts';
import type { Keeper } from '../../memory/session.ts';
import { type CliIo, numberOption } from '../io.ts';
import { parseMethod } from './run.ts';

interface ChatOptions {
  readonly session?: string;
  readonly model?: string;
  readonly method: Method;
  readonly budget: number;
  readonly recipe: string;
  readonly layers?: number;
  readonly files?: string;
  readonly trace?: string;
}

export interface ChatDeps {
  readonly bindRecipe: typeof bindRecipe;
  readonly input: Readable & { readonly isTTY?: boolean };
  readonly output: Writable;
}

const HELP = `/memory  what is remembered
/write   write this conversation into memory now
/undo    take back the last write
/quit    leave (also Ctrl-D; Ctrl-C stops an answer)`;

export function register(
  program: Command,
  io: CliIo,
  deps: ChatDeps = { bindRecipe, input: process.stdin, output: process.stdout },
): void {
  program
    .command('chat')
    .description('Talk with a model that writes what it learns into its weights.')
    .option('--session <name>', 'keep the memory under this name (default: the one switched to, or none)')
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--method <method>', 'tmem (fast weights) or explicit (the same without training)', parseMethod, 'tmem')
    .option('--budget <tokens>', 'length of the working context', numberOption('--budget', { integer: true }), 2048)
    .option('--recipe <recipe>', 'default or paper', 'default')
    .option('--layers <n>', 'number of last layers to train', numberOption('--layers', { integer: true, min: 1 }))
    .option('--files <folder>', 'let the model search the text files of a folder and use a calculator')
    .option('--trace <file>', 'write every event to this JSONL file')
    .action((options: ChatOptions) => chat(io, options, deps));
}

async function chat(io: CliIo, options: ChatOptions, deps: ChatDeps): Promise<void> {
  const { Episode } = await import('../../agent/episode.ts');
  const { openTrace } = await import('../../agent/trace.ts');
  const { Session, checkSessionName, openVolatile } = await import('../../memory/session.ts');
  const { liveView } = await import('../live.ts');

  const { currentSession } = await import('../../memory/current.ts');
  const { method, budget } = options;
  const session = options.session ?? (await currentSession());
  if (session !== undefined) checkSessionName(session);
  const tools = options.files === undefined ? [] : await folderTools(options.files);
  const { recipe, layers } = options;
  const writer = await deps.bindRecipe(recipe, { layers });
  const training = method === 'tmem' ? trainingOf(recipe, { layers }) : undefined;
  const file = options.trace ? openTrace(options.trace) : null;
  let keeper: Keeper | null = null;
  try {
    const engine = await io.openEngine({ model: options.model, contextSize: contextFor(budget), training });
    const { fingerprint } = engine.model;
    const place = session === undefined ? openVolatile(fingerprint) : await Session.open(session, engine.model);
    keeper = place;
    const view = liveView(io);
    const page = openPage(io, deps.output);
    const episode = await Episode.open({
      engine,
      write: writer(engine),
      method,
      budget,
      turn: { tools, maxTokens: answerTokens(budget) },
      // What the model says may repeat what a tool has told it, and a small one says wrong things of the user.
      extract: { rules: { trusted: ['user'] } },
      from: place.snapshot,
      onChange: (next) => place.commit(next),
      trace: (event) => {
        file?.write(event);
        page.end();
        view(event);
      },
    });
    await talk(io, { episode, keeper: place, page, budget }, deps);
  } finally {
    await keeper?.close();
    file?.close();
  }
}

async function folderTools(folder: string) {
  const { calculator } = await import('../../agent/tools/calculator.ts');
  const { searchFiles } = await import('../../agent/tools/search-files.ts');
  return [await searchFiles(folder), calculator];
}

interface Conversation {
  readonly episode: Episode;
  readonly keeper: Keeper;
  readonly page: Page;
  readonly budget: number;
}

/** Reads lines until the end of the input; what fails in a turn is said and does not end the conversation. */
async function talk(io: CliIo, conversation: Conversation, { input, output }: ChatDeps): Promise<void> {
  const { episode, page } = conversation;
  const terminal = input.isTTY === true && !io.json;
  const lines = createInterface({ input, output: terminal ? output : undefined, terminal, prompt: '> ' });
  const said: { user: string; assistant: string }[] = [];
  const before = episode.snapshot.state.writes.length;
  let running: AbortController | null = null;

  const leave = () => lines.close();
  lines.on('SIGINT', () => {
    if (running === null || running.signal.aborted) leave();
    running?.abort();
  });
  io.signal.addEventListener('abort', leave, { once: true });
  try {
    if (terminal) io.note('/help lists the commands.');
    if (terminal) lines.prompt();
    for await (const line of lines) {
      throwIfAborted(io.signal);
      const text = line.trim();
      if (text === '/quit') break;
      running = new AbortController();
      const signal = AbortSignal.any([io.signal, running.signal]);
      try {
        if (text.startsWith('/')) await command(io, text, conversation, signal);
        else if (text !== '') {
          const turn = { role: 'user' as const, content: text, time: localTime(new Date()) };
          said.push({ user: text, assistant: await episode.reply(turn, { signal, onText: page.write }) });
        }
      } catch (error) {
        page.end();
        throwIfAborted(io.signal);
        if (!(error instanceof TmemError)) throw error;
        io.note(error.code === 'aborted' ? 'Stopped.' : error.message);
      } finally {
        running = null;
        page.end();
      }
      if (terminal) lines.prompt();
    }
    throwIfAborted(io.signal);
  } finally {
    io.signal.removeEventListener('abort', leave);
    lines.close();
  }
  const writes = episode.snapshot.state.writes.slice(before);
  if (io.json) io.result({ turns: said, writes }, () => '');
}

/** Text as it streams in; `end` breaks the line, so that what is noted in between does not stick to it. */
export interface Page {
  write(piece: string): void;
  end(): void;
}

export function openPage(io: CliIo, output: Writable): Page {
  let open = false;
  const write = (piece: string): void => {
    if (io.json || piece === '') return;
    output.write(piece);
    open = !piece.endsWith('\n');
  };
  return { write, end: () => open && write('\n') };
}

async function command(
  io: CliIo,
  text: string,
  { episode, keeper, budget }: Conversation,
  signal: AbortSignal,
): Promise<void> {
  if (text === '/help') io.note(HELP);
  else if (text === '/memory') io.note(await describeMemory(episode, budget));
  else if (text === '/write') {
    const turns = episode.snapshot.working.length;
    await episode.write({ signal });
    if (turns === 0) io.note('Nothing has been said since the last write.');
  } else if (text === '/undo') {
    const record = await keeper.undo();
    if (record) await episode.restore(keeper.snapshot);
    io.note(
      record
        ? `Taken back: the write of ${record.pairs.length} pairs at ${record.time}.`
        : 'There is no write to take back.',
    );
  } else io.note(`There is no command ${text.split(/\s/)[0]}.\n${HELP}`);
}

async function describeMemory(episode: Episode, budget: number): Promise<string> {
  const { state } = episode.snapshot;
  const writes = committed(state.writes);
  const pairs = writes.flatMap((write) => write.pairs);
  return [
    `Working context: ${await episode.contextTokens()} of ${budget} tokens.`,
    `In the weights: ${pairs.length} pairs from ${writes.length} writes.`,
    ...pairs.map((pair) => `  ${noteOf(pair)}`),
    state.explicit ? `Notes:\n${state.explicit.replace(/^/gm, '  ')}` : 'No notes.',
  ].join('\n');
}
