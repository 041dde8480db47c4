/** What the benches of memory ask. */
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { resolveModel } from '../../src/engine/models/store.ts';
import { complete, type Engine } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { likelyAlong, meanDivergence, meanLogProb } from '../../src/memory/gate.ts';
import { accepts, holds } from '../../src/memory/recall.ts';
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { CONTROLS, type Fact, HELD_OUT } from '../facts.ts';
import { setting } from '../support/report.ts';
import { GENERAL, type GeneralQuestion } from './general.ts';

/** The options that all of them take, and a bench's own with their defaults. */
export function readOptions<O extends Record<string, string>>(own: O) {
  const all = { model: 'qwen2.5-coder-1.5b', seed: '1', recipe: 'default', set: '{}', ...own };
  const options = Object.fromEntries(
    Object.entries(all).map(([name, value]) => [name, { type: 'string' as const, default: value }]),
  );
  return parseArgs({ options }).values as Record<keyof typeof all, string>;
}

/** The engine of a model, and the recipe with what `--set` changes of it. */
export async function openBench({ model, recipe, set }: Record<'model' | 'recipe' | 'set', string>) {
  const engine = await LlamaEngine.open({ modelPath: (await resolveModel(model)).path });
  return { engine, recipe: { ...getRecipe(recipe), ...JSON.parse(set) } as Recipe };
}

/** Like `openBench`, where writes are made again: a ledger names its recipe and holds no settings. */
export function openForRebuild(options: Record<'model' | 'recipe' | 'set', string>) {
  if (options.set !== '{}')
    throw new Error('A write is made again by the name of its recipe: use --recipe without --set.');
  return openBench(options);
}

/**
 * The engine for one write that passes over about so many samples, whatever is trained beside its pairs. What its first training leaves of
 * them, as it ended early, is its second one's.
 */
export function atEqualCost(engine: Engine, passes: number): Engine {
  let left = passes;
  return withMethods(engine, {
    train: async (request, onEvent) => {
      const samples = request.samples.length + (request.replay?.length ?? 0);
      const epochs = Math.max(1, Math.round(left / samples));
      const result = await engine.train({ ...request, epochs }, onEvent);
      left -= result.epochs.length * samples;
      return result;
    },
  });
}

/** One JSON document: where, on what, and what was found. */
export function report(bench: string, engine: Engine, options: object, figures: object): void {
  console.log(JSON.stringify({ bench, ...setting(), ...options, model: engine.model.name, ...figures }, null, 1));
}

export async function ask(engine: Engine, question: string): Promise<string> {
  return (await complete(engine, { prompt: [{ role: 'user', content: question }], maxTokens: 24 })).text.trim();
}

/** Share of facts whose value the answer holds. */
export async function recall(
  engine: Engine,
  facts: readonly Fact[],
  questions: (fact: Fact) => readonly string[] = (fact) => [fact.instruction],
): Promise<number> {
  const asked = facts.flatMap((f) => questions(f).map((question) => ({ question, value: f.value })));
  const right = await Promise.all(asked.map(async ({ question, value }) => holds(await ask(engine, question), value)));
  return right.filter(Boolean).length / asked.length;
}

export async function controls(engine: Engine): Promise<{ right: number; wrong: string[] }> {
  const answers = await Promise.all(CONTROLS.map(async (c) => ({ ...c, given: await ask(engine, c.question) })));
  const wrong = answers.filter((a) => !accepts(a.given, a));
  return { right: answers.length - wrong.length, wrong: wrong.map((a) => `${a.question} ${a.given}`) };
}

/** The general questions, of all or of some, that the weights in force answer rightly. */
export async function generalRight(
  engine: Engine,
  questions: readonly GeneralQuestion[] = GENERAL,
): Promise<GeneralQuestion[]> {
  const given = await Promise.all(questions.map(({ question }) => ask(engine, question)));
  return questions.filter((question, i) => accepts(given[i]!, question));
}

/** Nats a token that the base model's own answers to prompts never trained on lose, and the divergence of the next-token distributions. */
export async function spill(engine: Engine): Promise<() => Promise<{ nats: number; kl: number }>> {
  const words = await Promise.all(
    HELD_OUT.map(async (question) => {
      const prompt = [{ role: 'user' as const, content: question }];
      const answer = (await complete(engine, { prompt, maxTokens: 24, fastWeights: false })).text.trim();
      const likely = await likelyAlong(engine, question, answer);
      return { question, answer, likely, base: await meanLogProb(engine, question, answer, false) };
    }),
  );
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return async () => {
    const found = await Promise.all(
      words.map(async ({ question, answer, likely, base }) => ({
        nats: base - (await meanLogProb(engine, question, answer, true)),
        kl: await meanDivergence(engine, question, answer, likely),
      })),
    );
    return { nats: mean(found.map((x) => x.nats)), kl: mean(found.map((x) => x.kl)) };
  };
}

/** Writes one after the other on top of a memory. */
export async function writeMany(
  engine: Engine,
  writes: readonly Pair[][],
  recipe: Recipe,
  state: MemoryState = emptyMemory(engine.model.fingerprint),
): Promise<MemoryState[]> {
  const states = [state];
  for (const [i, pairs] of writes.entries()) {
    const start = performance.now();
    const { state: next, record } = await writePairs(engine, states.at(-1)!, pairs, recipe);
    states.push(next);
    const seconds = ((performance.now() - start) / 1000).toFixed(0);
    console.error(
      `write ${i + 1} of ${writes.length}: ${record.verdict}, ${record.recalled} of ${pairs.length}, ${seconds} s${record.reason ? ` (${record.reason})` : ''}`,
    );
  }
  return states;
}

/** Log-probabilities of answers, bit by bit what the weights in force say: one by one, as sums depend on what is computed beside them. */
export async function fingerprintOf(engine: Engine, questions: readonly { question: string; answer: string }[]) {
  const all: number[] = [];
  for (const { question, answer } of questions) {
    const { logProbs } = await engine.score({ prompt: [{ role: 'user', content: question }], answer });
    all.push(...logProbs);
  }
  return all;
}
