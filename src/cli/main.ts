#!/usr/bin/env node
/** `tmem`: the command line. */
import process from 'node:process';
import type { Engine } from '../engine/types.ts';
import { register as ask } from './commands/ask.ts';
import { register as bench } from './commands/bench.ts';
import { register as chat } from './commands/chat.ts';
import { register as demo } from './commands/demo.ts';
import { register as doctor } from './commands/doctor.ts';
import { register as keys } from './commands/keys.ts';
import { register as memory } from './commands/memory.ts';
import { register as models } from './commands/models.ts';
import { register as policy } from './commands/policy.ts';
import { register as pull } from './commands/pull.ts';
import { register as run } from './commands/run.ts';
import { register as serve } from './commands/serve.ts';
import { register as sft } from './commands/sft.ts';
import { EXIT_CODES } from './io.ts';
import { runProgram } from './program.ts';

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

// The ordinary text that A from whitened keys keeps away from belongs to the memory, which `sft` knows nothing of.
const sftWithAnchors: typeof sft = (program, io) => sft(program, io, { ordinary: ordinarySamples });

process.exitCode = await runProgram(
  [demo, run, chat, ask, memory, serve, keys, bench, sftWithAnchors, policy, pull, models, doctor],
  process.argv.slice(2),
  {
    stdout: process.stdout,
    stderr: process.stderr,
    signal: interruption.signal,
  },
);

async function ordinarySamples(engine: Engine) {
  const ordinary = await import('../memory/ordinary.ts');
  return ordinary.ordinarySamples(engine);
}
