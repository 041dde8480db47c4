/** `tmem ask`: one question to a session, with an empty context. */
import process from 'node:process';
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { TmemError } from '../../engine/errors.ts';
import type { MemoryState } from '../../memory/types.ts';
import { type CliIo, numberOption } from '../io.ts';
import { MODEL_OPTION, pairLine } from '../memory-again.ts';
import { openPage } from './chat.ts';

interface AskOptions {
  readonly session?: string;
  readonly memory: boolean;
  readonly retrieve: number;
  readonly abstain?: number;
  readonly tries: number;
  readonly model?: string;
}

export function register(
  program: Command,
  io: CliIo,
  deps: { readonly output: Writable } = { output: process.stdout },
): void {
  program
    .command('ask')
    .argument('<question>')
    .description('Ask a session one question with an empty context; nothing is remembered of it.')
    .option('--session <name>', 'the session whose weights answer (default: the one switched to)')
    .option('--no-memory', 'ask the base model, without weights and notes')
    .option(
      '--retrieve <n>',
      'show it this many of the nearest pairs beside the question',
      numberOption('--retrieve', { integer: true }),
      0,
    )
    .option(
      '--abstain <p>',
      'withhold an answer of a lower confidence than this',
      numberOption('--abstain', { max: 1 }),
    )
    .option(
      '--tries <n>',
      'answer up to so many times when it is not sure, and give the surest answer',
      numberOption('--tries', { integer: true, min: 1, max: 64 }),
      1,
    )
    .option(...MODEL_OPTION)
    .action((question: string, options: AskOptions) => ask(io, question, options, deps.output));
}

async function ask(io: CliIo, question: string, options: AskOptions, output: Writable): Promise<void> {
  const { memory, retrieve, abstain, tries, model } = options;
  const { currentSession } = await import('../../memory/current.ts');
  const { answerQuestion } = await import('../../agent/answer.ts');
  const { peekSession, Session } = await import('../../memory/session.ts');
  const { emptyMemory } = await import('../../memory/types.ts');
  const session = options.session ?? (await currentSession());
  if (question.trim() === '') throw new TmemError('usage', 'The question is empty; give one in quotation marks.');
  if (memory && session === undefined)
    throw new TmemError('usage', 'No session is named; add --session NAME, or --no-memory to ask the base model.');
  if (memory) await peekSession(session!);
  const engine = await io.openEngine({ model });
  let state: MemoryState = emptyMemory(engine.model.fingerprint);
  if (memory) {
    const keeper = await Session.open(session!, engine.model);
    ({ state } = keeper.snapshot);
    await keeper.close();
  }
  await engine.setFastWeights(state.weights);
  const page = openPage(io, output);
  const { signal } = io;
  const given = await answerQuestion(engine, state, question, {
    ...{ retrieve, abstain, tries, assess: true, signal },
    onText: page.write,
  }).finally(() => page.end());
  const { confidence, written, known } = given.confidence!;
  if (io.json) {
    const { answer, abstained, withheld, tokens } = given;
    const nearest = given.nearest.map(({ pair, similarity }) => ({ ...pair, similarity }));
    const retrieved = given.retrieved.map((pair) => pair.id);
    const settings = { question, session: memory ? session : null, model: engine.model.name };
    const said = { answer, confidence, written, known, abstained, withheld };
    return io.result({ ...settings, ...said, nearest, retrieved, tokens }, () => '');
  }
  io.note(
    `Confidence ${confidence.toFixed(2)}: ${written.toFixed(2)} that it was written, ${known.toFixed(2)} that the model knows it anyway.`,
  );
  for (const { pair, similarity } of given.nearest) io.note(`  ${similarity.toFixed(2)}  ${pairLine(pair)}`);
}
