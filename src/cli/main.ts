#!/usr/bin/env node
/** `tmem`: the command line. */
import process from 'node:process';
import { EXIT_CODES } from './io.ts';
import { runProgram } from './program.ts';
import { registers } from './registers.ts';

/** npm and others pass one Ctrl-C on to us again; signals so close together count as one. */
const SAME_CTRL_C_MS = 300;
const interruption = new AbortController();
let interruptedAt = 0;
// The first Ctrl-C lets the command clean up, the second one does not wait for it.
process.on('SIGINT', () => {
  if (!interruption.signal.aborted) {
    interruptedAt = Date.now();
    interruption.abort();
  } else if (Date.now() - interruptedAt > SAME_CTRL_C_MS) process.exit(EXIT_CODES.aborted);
});
process.on('SIGTERM', () => interruption.abort());
// The reader of a pipe has seen enough (`tmem models | head`): that is not an error.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

process.exitCode = await runProgram(registers, process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interruption.signal,
});
