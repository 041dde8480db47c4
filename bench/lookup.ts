/**
 * Extraction with and without prompt lookup, alternating in one run: the demo's conversation, its parts at once as tmem extracts them,
 * and one after another.
 *   node bench/lookup.ts [--model qwen2.5-coder-1.5b] [--repeats 3] [--threads N]
 * What is compared is the time of the whole extraction and, one after another, that of decoding alone (from the first text of each answer
 * to its end). A table goes to stderr, one JSON document to stdout.
 */
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { extract } from '../src/agent/extract.ts';
import { readJsonl } from '../src/agent/jsonl.ts';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import type { GenerateEvent, GenerateRequest } from '../src/engine/types.ts';
import { withMethods } from '../src/engine/with-methods.ts';
import { turnSchema } from '../src/memory/types.ts';
import { positive } from './support/options.ts';
import { ratios, setting, showSpread, spread, table } from './support/report.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    repeats: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
  },
});
const repeats = positive(options, 'repeats');
const threads = positive(options, 'threads');
const { path: model } = await resolveModel(options.model);
const turns = await readJsonl(path.join(import.meta.dirname, '../assets/demo/conversation.jsonl'), turnSchema, 'turns');
const session = turns.map((turn, index) => ({ turn, index }));

interface Run {
  readonly seconds: number;
  readonly decodingSeconds: number;
  readonly tokens: number;
  readonly answers: readonly string[];
}

/** The whole extraction on a fresh engine, whose KV cache holds nothing of an earlier run. */
async function run(lookup: boolean, inTurn: boolean): Promise<Run> {
  const engine = await LlamaEngine.open({ modelPath: model, threads });
  const answers: string[] = [];
  let tokens = 0;
  let decodingMs = 0;
  let last: Promise<unknown> = Promise.resolve();
  async function* generate(request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    const before = last;
    let end = () => {};
    last = new Promise<void>((resolve) => {
      end = resolve;
    });
    if (inTurn) await before;
    let first = 0;
    try {
      for await (const event of engine.generate({ ...request, lookup })) {
        if (event.type === 'text') first ||= performance.now();
        else {
          decodingMs += performance.now() - first;
          tokens += event.outputTokens - 1;
          answers.push(event.text);
        }
        yield event;
      }
    } finally {
      end();
    }
  }
  const start = performance.now();
  await extract(withMethods(engine, { generate }), session);
  const seconds = (performance.now() - start) / 1000;
  await engine.close();
  return { seconds, decodingSeconds: decodingMs / 1000, tokens, answers: answers.toSorted() };
}

const runs: Record<string, { plain: Run[]; lookup: Run[] }> = {};
for (const [name, inTurn] of [
  ['at once', false],
  ['in turn', true],
] as const) {
  const plain: Run[] = [];
  const lookup: Run[] = [];
  runs[name] = { plain, lookup };
  for (let repeat = 0; repeat < repeats; repeat++) {
    plain.push(await run(false, inTurn));
    lookup.push(await run(true, inTurn));
    const [p, l] = [plain.at(-1)!, lookup.at(-1)!];
    console.error(
      `${repeat + 1}/${repeats} ${name}: ${p.seconds.toFixed(1)} s plain, ${l.seconds.toFixed(1)} s with lookup`,
    );
  }
}

const seconds = (list: readonly Run[]) => list.map((r) => r.seconds);
const decoding = (list: readonly Run[]) => list.map((r) => r.decodingSeconds);
const results = Object.entries(runs).map(([name, { plain, lookup }]) => ({
  parts: name,
  plainSeconds: spread(seconds(plain)),
  lookupSeconds: spread(seconds(lookup)),
  ratio: ratios(seconds(plain), seconds(lookup)),
  decodingRatio: name === 'in turn' ? ratios(decoding(plain), decoding(lookup)) : null,
  tokens: plain[0]!.tokens,
  sameText: plain.every((p, i) => JSON.stringify(p.answers) === JSON.stringify(lookup[i]!.answers)),
}));
console.error(
  table([
    ['parts', 'plain s', 'lookup s', 'ratio', 'of decoding', 'same text'],
    ...results.map((r) => [
      r.parts,
      showSpread(r.plainSeconds, 1),
      showSpread(r.lookupSeconds, 1),
      showSpread(r.ratio, 2),
      r.decodingRatio ? showSpread(r.decodingRatio, 2) : '',
      String(r.sameText),
    ]),
  ]),
);
console.log(JSON.stringify({ bench: 'lookup', ...setting(), model: path.basename(model), threads, results }, null, 1));
