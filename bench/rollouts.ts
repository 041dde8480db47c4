/**
 * Episodes of a policy as 1, 8 and 16 sequences: what is generated per second, and episodes per minute, in one run. An episode asks for several
 * texts at once (one for each message, one for each question); what is limited is how many texts are generated at the same time.
 *   node bench/rollouts.ts [--model smollm2-135m] [--repeats 3] [--tasks 2] [--write explicit] [--set '{"format": "json"}']
 * Every round plays the same tasks from a decoder without cached prompts. A table goes to stderr, one JSON document to stdout.
 */
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import type { Engine } from '../src/engine/types.ts';
import { withMethods } from '../src/engine/with-methods.ts';
import { syntheticEnvironment } from '../src/policy/environments/synthetic.ts';
import { completionLength } from '../src/policy/gradient.ts';
import { rollOutGroups } from '../src/policy/rollout.ts';
import { trainSettings } from '../src/policy/settings.ts';
import { positive } from './support/options.ts';
import { ratios, setting, showSpread, spread, table } from './support/report.ts';
import { SMALL_MODEL } from './support/small-model.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    repeats: { type: 'string', default: '3' },
    tasks: { type: 'string', default: '2' },
    write: { type: 'string', default: 'explicit' },
    set: { type: 'string', default: '{}' },
  },
});
const COUNTS = [1, 8, 16];
const GROUP = 8;
const repeats = positive(options, 'repeats');
const engine = await LlamaEngine.open({ modelPath: (await resolveModel(options.model)).path });
const environment = syntheticEnvironment();
const { rollout } = trainSettings('laptop', {
  rollout: {
    ...{ ...SMALL_MODEL, write: options.write as 'explicit', maxTokens: 48 },
    ...JSON.parse(options.set),
  },
});
const tasks = await Promise.all(
  Array.from({ length: positive(options, 'tasks') }, (_, seed) => environment.episode(seed, 'train')),
);

/** The engine, of which `n` texts are generated at the same time at the most. */
function atMost(n: number): Engine {
  const limit = pLimit(n);
  return withMethods(engine, {
    async *generate(request) {
      const done = Promise.withResolvers<void>();
      await new Promise<void>((begin) => {
        void limit(() => {
          begin();
          return done.promise;
        });
      });
      try {
        yield* engine.generate(request);
      } finally {
        done.resolve();
      }
    },
  });
}

async function measure(sequences: number) {
  await engine.setPolicy(null); // begins with an empty cache
  const start = performance.now();
  const settings = { ...rollout, parallel: tasks.length * GROUP };
  const groups = await rollOutGroups(atMost(sequences), tasks, GROUP, settings, { seed: 1, deltas: new Map() });
  const seconds = (performance.now() - start) / 1000;
  const rollouts = groups.flat();
  const tokens = rollouts.reduce((sum, episode) => sum + completionLength(episode), 0);
  return { tokensPerSecond: tokens / seconds, episodesPerMinute: (60 * rollouts.length) / seconds };
}

const found = new Map(COUNTS.map((n) => [n, [] as Awaited<ReturnType<typeof measure>>[]]));
for (let repeat = 0; repeat < repeats; repeat++) {
  for (const n of COUNTS) {
    const one = await measure(n);
    found.get(n)!.push(one);
    console.error(`${repeat + 1}/${repeats}, ${n} sequences: ${one.tokensPerSecond.toFixed(1)} tokens/s`);
  }
}
await engine.close();
const ofAll = (n: number, name: 'tokensPerSecond' | 'episodesPerMinute') => found.get(n)!.map((one) => one[name]);
const results = COUNTS.map((n) => ({
  sequences: n,
  tokensPerSecond: spread(ofAll(n, 'tokensPerSecond')),
  episodesPerMinute: spread(ofAll(n, 'episodesPerMinute')),
  overOne: ratios(ofAll(n, 'tokensPerSecond'), ofAll(1, 'tokensPerSecond')),
}));
console.error(
  table([
    ['sequences', 'tokens/s', 'episodes/min', 'over one'],
    ...results.map((r) => [
      ...[String(r.sequences), showSpread(r.tokensPerSecond, 1)],
      ...[showSpread(r.episodesPerMinute, 1), showSpread(r.overOne, 2)],
    ]),
  ]),
);
console.log(JSON.stringify({ bench: 'rollouts', ...setting(), model: engine.model.name, rollout, results }, null, 1));
