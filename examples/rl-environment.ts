/**
 * Reinforcement learning in an environment of your own: node examples/rl-environment.ts FOLDER
 * A task tells where things are put and asks for one of them; only the outcome is rewarded. The model is TMEM_MODEL, or smollm2-135m.
 */
// From 'tmem' in a program of your own.
import { type Environment, openEngine, resolveModel, trainPolicy, trainSettings } from '../src/index.ts';

const THINGS = ['key', 'lamp', 'map', 'coin'];
const PLACES = ['drawer', 'garage', 'kitchen', 'attic', 'cellar', 'garden'];

/** The same seed gives the same task; seeds of held-out tasks are told apart by the split. */
const lostProperty: Environment = {
  name: 'lost-property',
  episode(seed, split) {
    const at = (i: number) => PLACES[(seed * 7 + i * 5 + (split === 'train' ? 0 : 3)) % PLACES.length]!;
    const thing = seed % THINGS.length;
    return {
      id: `${split}-${seed}`,
      turns: THINGS.map((name, i) => ({ role: 'user', content: `The ${name} is in the ${at(i)}.` })),
      questions: [{ text: `Where is the ${THINGS[thing]}?`, gold: at(thing) }],
      reward: ([answer = '']) => (answer.toLowerCase().includes(at(thing)) ? 1 : 0),
    };
  },
};

const { path: modelPath } = await resolveModel(process.env.TMEM_MODEL || 'smollm2-135m');
const engine = await openEngine({ modelPath });
try {
  const settings = trainSettings('laptop', {
    ...{ steps: 3, batch: 2, group: 4, evalEvery: 3, evalTasks: 8 },
    rollout: { write: 'explicit', note: false, examples: 3, maxTokens: 96, answerTokens: 16, budget: 512 },
  });
  await trainPolicy(engine, lostProperty, settings, {
    folder: process.argv[2] ?? 'lost-property',
    onEvent: (event) => {
      if (event.type === 'metrics') console.log(JSON.stringify(event.metrics));
    },
  });
} finally {
  await engine.close();
}
