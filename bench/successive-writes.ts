/**
 * Successive writes: does memory survive memory? N writes of M made-up facts each; after every write recall of its own and of the
 * first facts, and general questions that are never trained on; after every fifth (`--every`) also recall of all facts so far and of its
 * own asked in other words, and the nats a token that the base model's own answers to other prompts have lost.
 *   node bench/successive-writes.ts [--model qwen2.5-coder-1.5b] [--writes 20] [--facts 8] [--recipe default] [--set '{"rank":8}'] [--seed 1]
 */
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import { complete, type Engine } from '../src/engine/types.ts';
import { meanLogProb } from '../src/memory/gate.ts';
import { accepts, holds } from '../src/memory/recall.ts';
import { getRecipe } from '../src/memory/recipe.ts';
import { emptyMemory } from '../src/memory/types.ts';
import { writePairs } from '../src/memory/write.ts';
import { asPairs, CONTROLS, type Fact, HELD_OUT, makeFacts } from './facts.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    writes: { type: 'string', default: '20' },
    facts: { type: 'string', default: '8' },
    recipe: { type: 'string', default: 'default' },
    set: { type: 'string', default: '{}' },
    seed: { type: 'string', default: '1' },
    every: { type: 'string', default: '5' },
  },
});

async function ask(engine: Engine, question: string): Promise<string> {
  return (await complete(engine, { prompt: [{ role: 'user', content: question }], maxTokens: 24 })).text.trim();
}

async function recall(
  engine: Engine,
  facts: readonly Fact[],
  questions: (fact: Fact) => readonly string[] = (fact) => [fact.instruction],
): Promise<number> {
  const asked = facts.flatMap((f) => questions(f).map((question) => ({ question, value: f.value })));
  const right = await Promise.all(asked.map(async ({ question, value }) => holds(await ask(engine, question), value)));
  return right.filter(Boolean).length / asked.length;
}

async function controls(engine: Engine): Promise<{ right: number; wrong: string[] }> {
  const answers = await Promise.all(CONTROLS.map(async (c) => ({ ...c, given: await ask(engine, c.question) })));
  const wrong = answers.filter((a) => !accepts(a.given, a));
  return { right: answers.length - wrong.length, wrong: wrong.map((a) => `${a.question} ${a.given}`) };
}

interface OwnWords {
  readonly question: string;
  readonly answer: string;
  /** Mean log-probability of a token. */
  readonly base: number;
}

function ownWords(engine: Engine): Promise<OwnWords[]> {
  return Promise.all(
    HELD_OUT.map(async (question) => {
      const answer = await ask(engine, question);
      return { question, answer, base: await meanLogProb(engine, question, answer, false) };
    }),
  );
}

async function natsLost(engine: Engine, words: readonly OwnWords[]): Promise<number> {
  const lost = await Promise.all(
    words.map(async (w) => w.base - (await meanLogProb(engine, w.question, w.answer, true))),
  );
  return lost.reduce((a, b) => a + b, 0) / lost.length;
}

const engine = await LlamaEngine.open({ modelPath: (await resolveModel(values.model)).path });
const recipe = { ...getRecipe(values.recipe), ...JSON.parse(values.set) };
const facts = makeFacts(Number(values.writes), Number(values.facts), Number(values.seed));
console.log(JSON.stringify({ model: engine.model.name, recipe, seed: values.seed }));
console.log(
  JSON.stringify({ write: 0, controls: (await controls(engine)).right, first: await recall(engine, facts[0]!) }),
);
const words = await ownWords(engine);
let state = emptyMemory(engine.model.fingerprint);
for (const [w, list] of facts.entries()) {
  const start = performance.now();
  const pairs = asPairs(list, w);
  const written = await writePairs(engine, state, pairs, recipe);
  state = written.state;
  const { loss, verdict, recalled, reason } = written.record;
  const line: Record<string, unknown> = {
    write: w + 1,
    verdict,
    reason,
    steps: loss.length,
    loss: [loss[0], loss.at(-1)].map((x) => Number(x?.toFixed(3))),
    own: recalled / list.length,
    s: Math.round((performance.now() - start) / 1000),
  };
  const full = (w + 1) % Number(values.every) === 0 || w === facts.length - 1;
  line.first = await recall(engine, facts[0]!);
  if (full) {
    line.all = Number((await recall(engine, facts.slice(0, w + 1).flat())).toFixed(3));
    line.last = await recall(engine, list);
    line.reworded = await recall(engine, list, (fact) => fact.reworded);
    line.nats = Number((await natsLost(engine, words)).toFixed(3));
  }
  const c = await controls(engine);
  line.controls = c.right;
  line.wrong = c.wrong;
  console.log(JSON.stringify(line));
}
await engine.close();
