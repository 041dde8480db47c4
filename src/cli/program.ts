/** The frame around the commands: parsing, errors, exit codes, interruption. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { TmemError } from '../engine/errors.ts';
import { type CliIo, createIo, EXIT_CODES, type TextSink } from './io.ts';

/** Adds one command (or several) to the program. Heavy modules are imported inside its action. */
export type Register = (program: Command, io: CliIo) => void;

export interface ProgramOptions {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly signal: AbortSignal;
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** The program with what all of its commands share. */
export function createProgram(): Command {
  return new Command('tmem')
    .description('A memory in the weights for local LLM agents.')
    .version(version(), '-V, --version', 'print the version')
    .option('--json', 'print one JSON document on stdout and nothing else')
    .option('--verbose', 'print stack traces and the messages of the native libraries')
    .configureHelp({ showGlobalOptions: true });
}

/**
 * Runs one command line and prints its outcome.
 * @param argv arguments after `node main.ts`
 * @returns the exit code; never throws
 */
export async function runProgram(
  registers: readonly Register[],
  argv: readonly string[],
  { stdout, stderr, signal }: ProgramOptions,
): Promise<number> {
  const program = createProgram();
  const io = createIo({ stdout, stderr, signal, flags: () => program.opts() });
  let usage = '';
  program
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      // Commander's own complaints are printed in our style below; what is left is the help of a bare `tmem`.
      writeErr: (text) => {
        usage += text;
      },
      outputError: () => {},
    })
    .exitOverride();
  for (const register of registers) register(program, io);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (error instanceof CommanderError && error.code === 'commander.help') {
      stderr.write(usage);
      return EXIT_CODES.usage;
    }
    const failure = asTmemError(error, signal);
    // Parsing may have failed before --json was read.
    if (io.json || argv.includes('--json')) {
      const { code, message } = failure;
      stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
    } else stderr.write(`tmem: ${failure.message}\n`);
    if (io.verbose || argv.includes('--verbose')) stderr.write(`${trace(failure)}\n`);
    return EXIT_CODES[failure.code];
  } finally {
    await io.close();
  }
}

function asTmemError(error: unknown, signal: AbortSignal): TmemError {
  if (error instanceof TmemError) return error;
  if (error instanceof CommanderError) {
    const reason = error.message
      .replace(/^error: /, '')
      .replaceAll('\n', ' ')
      .replace(/\.$/, '');
    return new TmemError('usage', `${reason}; see the same command with --help.`, { cause: error });
  }
  if (signal.aborted) return new TmemError('aborted', 'Interrupted.', { cause: error });
  const { message } = error instanceof Error ? error : new Error(String(error));
  return new TmemError('failed', message.split('\n')[0] || 'Something failed; run it again with --verbose.', {
    cause: error,
  });
}

/** The stack of an error and of what caused it. */
function trace(error: Error): string {
  const { cause } = error;
  const rest = cause === undefined ? '' : `\ncaused by: ${cause instanceof Error ? trace(cause) : String(cause)}`;
  return `${error.stack ?? error.message}${rest}`;
}
