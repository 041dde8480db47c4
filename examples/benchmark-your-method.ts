/**
 * A memory of your own beside others on a benchmark: node examples/benchmark-your-method.ts [FOLDER]
 * The data are the few made-up conversations that come with tmem. The model is TMEM_MODEL, or qwen2.5-coder-1.5b.
 */
import { fileURLToPath } from 'node:url';
// From 'tmem' in a program of your own.
import {
  answerFrom,
  fitsAnswer,
  getBenchmark,
  getMethod,
  type MethodSpec,
  openEngine,
  resolveModel,
  runBench,
} from '../src/index.ts';

/** Keeps the last turns word for word: as many as there is room for beside the question. */
const lastTurns: MethodSpec = {
  name: 'last-turns',
  description: 'The last turns, word for word.',
  source: 'this example',
  aware: false,
  async open(options) {
    const lines: string[] = [];
    return {
      async observe({ speaker, role, content }) {
        lines.push(`${speaker ?? role}: ${content}`);
      },
      async settle() {},
      async answer(question) {
        let from = 0;
        while (!(await fitsAnswer(options, lines.slice(from).join('\n'), question)) && from < lines.length) from++;
        return answerFrom(options, lines.slice(from).join('\n'), question);
      },
      kept: async () => ({ text: lines.join('\n'), items: lines.length, weights: 0 }),
    };
  },
};

const benchmark = getBenchmark('locomo');
const data = fileURLToPath(new URL('../assets/benchmarks/locomo.json', import.meta.url));
const { path: modelPath } = await resolveModel(process.env.TMEM_MODEL || 'qwen2.5-coder-1.5b');
const engine = await openEngine({ modelPath });
try {
  const { summary, report } = await runBench({
    ...{ benchmark, data, samples: await benchmark.read(data, { samples: 1 }), out: process.argv[2] },
    ...{ engine, methods: [lastTurns, getMethod('none')], budget: 512, runs: 1, seed: 1, temperature: 0, parallel: 4 },
    onEvent: (event) => {
      if (event.type === 'answered') console.log(`${event.method}: ${event.done} of ${event.of} answered`);
    },
  });
  for (const { method, n, scores, ci } of summary.rows) {
    const score = (x: number) => (100 * x).toFixed(1);
    const interval = `${score(ci.low)} to ${score(ci.high)}`;
    console.log(
      `${method.padEnd(12)} ${summary.metric} ${score(scores[summary.metric]!)} (${interval}), ${n} questions`,
    );
  }
  console.log(report);
} finally {
  await engine.close();
}
