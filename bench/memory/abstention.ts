/**
 * Does the confidence in an answer tell what was written from what was not? One or more writes of made-up facts; then these are asked
 * in their own words, in others, and without the name of the attribute, beside facts of the same form that were never written (about
 * people of whom nothing or something else was) and general questions. With `--retrieve N` those in other words and
 * those never written are asked again with N pairs shown; with `--tries N` all are asked again with as many tries.
 *   node bench/memory/abstention.ts [--model qwen2.5-coder-1.5b] [--seed 1] [--writes 1] [--facts 16] [--retrieve 0] [--tries 1] [--general held] [--threads N] > a.json
 *   node bench/memory/abstention.ts --evaluate a.json,b.json      the same figures again, with the coefficients in the code
 *   node bench/memory/abstention.ts --fit a.json,b.json           the coefficients that fit these answers best
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { answerQuestion } from '../../src/agent/answer.ts';
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { resolveModel } from '../../src/engine/models/store.ts';
import type { Engine } from '../../src/engine/types.ts';
import { knownFeatures, weigh, writtenFeatures } from '../../src/memory/confidence.ts';
import { standingPairs } from '../../src/memory/ledger.ts';
import { nearestPairs } from '../../src/memory/nearest.ts';
import { accepts } from '../../src/memory/recall.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, type Fact, makeFacts, neverWritten } from '../facts.ts';
import { fitLogistic } from '../support/logistic.ts';
import { positive } from '../support/options.ts';
import { setting } from '../support/report.ts';
import { figures, type Observation, type Question, tables } from './figures.ts';
import { GENERAL_FIT, GENERAL_HELD } from './general.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen2.5-coder-1.5b' },
    seed: { type: 'string', default: '1' },
    writes: { type: 'string', default: '1' },
    facts: { type: 'string', default: '16' },
    retrieve: { type: 'string', default: '0' },
    tries: { type: 'string', default: '1' },
    general: { type: 'string', default: 'held' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    evaluate: { type: 'string' },
    fit: { type: 'string' },
  },
});

interface Run {
  readonly model: string;
  readonly seed: number;
  readonly observations: readonly Observation[];
}

/** The forms that a fact is asked in: 0 as it was written, 1 in other words, 2 without the attribute's name. */
function form(fact: Fact, i: number): string {
  return i % 3 === 0 ? fact.instruction : i % 3 === 1 ? fact.reworded[i % 2]! : fact.paraphrase;
}

function questions(facts: readonly Fact[], seed: number): Question[] {
  const { strangers, others } = neverWritten(facts, facts.length, seed);
  const general = options.general === 'fit' ? GENERAL_FIT : GENERAL_HELD;
  return [
    ...facts.map((f): Question => ({ kind: 'written', question: f.instruction, answer: f.value })),
    ...facts.map((f, i): Question => ({ kind: 'reworded', question: f.reworded[i % 2]!, answer: f.value })),
    ...facts.map((f): Question => ({ kind: 'paraphrase', question: f.paraphrase, answer: f.value })),
    ...strangers.map((f, i): Question => ({ kind: 'stranger', question: form(f, i) })),
    ...others.map((f, i): Question => ({ kind: 'other', question: form(f, i) })),
    ...general.map((g): Question => ({ kind: 'general', ...g })),
  ];
}

/** A fact is told in fewer. */
const MOST_TOKENS = 48;
/** Questions that are decoded together. */
const AT_ONCE = 16;

async function observe(
  engine: Engine,
  state: MemoryState,
  asked: readonly Question[],
  retrieve: number,
  tries: number,
) {
  const seen: Observation[] = [];
  const pairs = standingPairs(state.writes);
  for (let at = 0; at < asked.length; at += AT_ONCE) {
    seen.push(
      ...(await Promise.all(
        asked.slice(at, at + AT_ONCE).map(async (question): Promise<Observation> => {
          const asking = { retrieve, tries, maxTokens: MOST_TOKENS };
          const { answer: said } = await answerQuestion(engine, state, question.question, asking);
          const evidence = await weigh(
            engine,
            question.question,
            said,
            nearestPairs(pairs, question.question, pairs.length),
          );
          const { answer, accept } = question;
          const right = answer !== undefined && accepts(said, { answer, accept });
          return { ...question, said, right, evidence: evidence!, retrieve, tries };
        }),
      )),
    );
    console.error(`${seen.length} of ${asked.length} asked with ${retrieve} pairs shown, ${tries} tries`);
  }
  return seen;
}

async function measure(): Promise<Run & Record<string, unknown>> {
  const [seed, tries, retrieve] = [positive(options, 'seed'), positive(options, 'tries'), Number(options.retrieve)];
  const { path: modelPath } = await resolveModel(options.model);
  const engine = await LlamaEngine.open({ modelPath, threads: positive(options, 'threads') });
  const lists = makeFacts(positive(options, 'writes'), positive(options, 'facts'), seed);
  let state = emptyMemory(engine.model.fingerprint);
  const writes = [];
  for (const [i, list] of lists.entries()) {
    const written = await writePairs(engine, state, asPairs(list, i), getRecipe('default'));
    state = written.state;
    const { verdict, recalled, ms, pairs } = written.record;
    writes.push({ verdict, recalled, pairs: pairs.length, ms });
    console.error(`write ${i + 1}: ${verdict}, ${recalled} of ${list.length} recalled, ${(ms / 1000).toFixed(0)} s`);
  }
  const asked = questions(lists.flat(), seed);
  const observations = await observe(engine, state, asked, 0, 1);
  // What is known in its own words needs no help, nor does what is not in the memory's line.
  const helped = asked.filter((q) => q.kind !== 'written' && q.kind !== 'general');
  if (retrieve > 0) observations.push(...(await observe(engine, state, helped, retrieve, 1)));
  if (tries > 1) observations.push(...(await observe(engine, state, asked, 0, tries)));
  await engine.close();
  return { model: engine.model.name, seed, general: options.general, writes, observations };
}

function load(files: string): Run[] {
  return files.split(',').map((file) => JSON.parse(readFileSync(path.resolve(file), 'utf8')) as Run);
}

if (options.fit) {
  const runs = load(options.fit);
  const seen = runs.flatMap((run) => run.observations.filter((o) => o.retrieve === 0 && (o.tries ?? 1) === 1));
  const isGeneral = (o: Observation) => o.kind === 'general';
  const fitted = {
    written: fitLogistic(seen.map((o) => ({ features: writtenFeatures(o.evidence), label: o.right && !isGeneral(o) }))),
    known: fitLogistic(seen.map((o) => ({ features: knownFeatures(o.evidence), label: o.right && isGeneral(o) }))),
  };
  console.error(tables(figures(seen, fitted)));
  console.log(JSON.stringify({ bench: 'abstention-fit', ...setting(), answers: seen.length, fitted }, null, 1));
} else {
  const runs = options.evaluate ? load(options.evaluate) : [await measure()];
  if (!options.evaluate) console.log(JSON.stringify({ bench: 'abstention', ...setting(), ...runs[0] }, null, 1));
  for (const run of runs) {
    for (const [how, seen] of Map.groupBy(
      run.observations,
      ({ retrieve, tries = 1 }) => `${retrieve} pairs shown, ${tries} tries`,
    )) {
      console.error(`${run.model}, seed ${run.seed}, ${how}`);
      console.error(tables(figures(seen)));
    }
  }
}
