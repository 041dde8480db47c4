/** A scripted model whose Delta decides what it knows, and sessions of its writes, for tests of what answers rest on. */
import { Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { Command } from 'commander';
import type { CliIo } from '../../src/cli/io.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { Session } from '../../src/memory/session.ts';
import type { Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { recordingIo, temporaryHome } from './home.ts';
import { lastMessage } from './scripted.ts';

export function pairOf(instruction: string, output: string, time?: string): Pair {
  const id = `id-${instruction}`;
  return { id, instruction, output, source: output, turn: 1, origin: 'user', ...(time === undefined ? {} : { time }) };
}

export const BOAT = pairOf("What is the name of Theo's boat?", "Theo's boat is called Pelican.", '2025-03-08');
export const JOB = pairOf("What is Nadia's job?", 'Nadia is a beekeeper.');
export const DOG = pairOf("What is the name of Nadia's dog?", "Nadia's dog is called Biscuit.");
export const WRITES = [[BOAT, JOB], [DOG]];

/**
 * It answers the questions of pairs that the weights in force were trained on; B holds which, as bits. `asks` names other questions
 * by the pair that they mean. Whatever else is asked it answers alike with and without a Delta.
 */
export function knowing(asks: Record<string, Pair> = {}, pairs = WRITES.flat()): ScriptedEngine {
  const engine = new ScriptedEngine({
    reply: (request, weights) => {
      const question = lastMessage(request);
      const pair = asks[question] ?? pairs.find((p) => p.instruction === question);
      const bit = 1 << (pair ? pairs.indexOf(pair) : 30);
      const isKnown = weights?.tensors.some((t) => t.b.some((mark) => Math.round(mark) & bit));
      return isKnown ? pair!.output : `on: ${question}`;
    },
  });
  const { train } = engine;
  engine.train = async (request, onEvent) => {
    const result = await train.call(engine, request, onEvent);
    const held = pairs.map((p, i) =>
      request.samples.some((s) => s.prompt.includes(` ${p.instruction} `)) ? 1 << i : 0,
    );
    const mark = held.reduce((a, b) => a | b, 0);
    const tensors = result.weights.tensors.map((w) => ({ ...w, b: w.b.map(() => mark) }));
    return { ...result, weights: { ...result.weights, tensors } };
  };
  return engine;
}

/** A home with a session `s` of the writes, and a command line on it. */
export async function openHome(
  t: TestContext,
  register: (program: Command, io: CliIo, deps: { output: Writable }) => void,
  { engine = knowing(), json = true, explicit = 'Nadia keeps bees.' } = {},
) {
  temporaryHome(t);
  const session = await Session.open('s', engine.model);
  for (const pairs of WRITES) {
    const { state } = await writePairs(engine, session.snapshot.state, pairs, getRecipe('default', { layers: 1 }));
    await session.commit({ state: { ...state, explicit }, working: [], turns: 2 });
  }
  await session.close();
  await engine.setFastWeights(null);
  engine.calls.length = 0;
  let printed = '';
  const interruption = new AbortController();
  const { io, results, notes } = recordingIo<Record<string, unknown>>(engine, { json, signal: interruption.signal });
  const output = new Writable({
    write(chunk, _encoding, done) {
      printed += chunk;
      done();
    },
  });
  const run = async (...args: string[]) => {
    const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
    register(program, io, { output });
    await program.parseAsync(args, { from: 'user' });
    return results.at(-1)!;
  };
  const stored = async () => {
    const again = await Session.open('s', engine.model);
    const { snapshot } = again;
    await again.close();
    return snapshot;
  };
  return { engine, run, stored, notes, interruption, printed: () => printed };
}
