/** Every command of `tmem`, in the order of its help. */
import type { Engine } from '../engine/types.ts';
import { register as ask } from './commands/ask.ts';
import { register as bench } from './commands/bench.ts';
import { register as chat } from './commands/chat.ts';
import { register as completion } from './commands/completion.ts';
import { register as config } from './commands/config.ts';
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
import type { Register } from './program.ts';

// The ordinary text that A from whitened keys keeps away from belongs to the memory, which `sft` knows nothing of.
const sftWithAnchors: Register = (program, io) => sft(program, io, { ordinary: ordinarySamples });

export const registers: readonly Register[] = [
  ...[demo, run, chat, ask, memory, serve, keys, bench, sftWithAnchors, policy],
  ...[pull, models, doctor, config, completion],
];

async function ordinarySamples(engine: Engine) {
  const ordinary = await import('../memory/ordinary.ts');
  return ordinary.ordinarySamples(engine);
}
