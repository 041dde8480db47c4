/** An engine module for the engine's process: a scripted engine that ends its process on request. */

import { TmemError } from '../../src/engine/errors.ts';
import type { OpenOptions } from '../../src/engine/process/protocol.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Engine } from '../../src/engine/types.ts';

/** `modelPath` 'missing' cannot be opened, 'hang' never opens; a prompt of 'abort' ends the process as a failed assertion does. */
export async function open({ modelPath, contextSize }: OpenOptions): Promise<Engine> {
  if (modelPath === 'missing') throw new TmemError('missing', 'There is no such model; pull it.');
  if (modelPath === 'hang') await new Promise(() => setInterval(() => {}, 1000));
  process.stdout.write('native chatter\n');
  return new ScriptedEngine({
    model: { path: modelPath, contextSize: contextSize ?? 4096 },
    reply: (request, weights) => {
      const prompt = request.prompt as string;
      if (prompt === 'abort') {
        process.stderr.write('GGML_ASSERT(x) failed\n');
        process.abort();
      }
      if (prompt === 'throw') throw new Error('a plain error');
      if (prompt === 'weights') return weights ? `sum ${weights.tensors[0]!.b.reduce((s, x) => s + x, 0)}` : 'none';
      if (prompt === 'long') return 'word '.repeat(100_000);
      if (prompt === 'env') return `${process.env.GGML_NO_BACKTRACE} ${process.execArgv.length} ${process.pid}`;
      return `you said ${prompt}`;
    },
  });
}
