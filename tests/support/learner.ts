/** An engine that answers what it was trained on, and facts to train it on. */
import assert from 'node:assert/strict';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { GenerateRequest, Sample, TrainRequest } from '../../src/engine/types.ts';
import { GATE, GATE_TALK } from '../../src/memory/anchors.ts';
import { getRecipe, type Recipe } from '../../src/memory/recipe.ts';
import { emptyMemory, type MemoryState, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { lastMessage } from './scripted.ts';

const ASKED_BY_THE_GATE: readonly string[] = [...GATE, ...GATE_TALK.map((messages) => messages.at(-1)!.content)];

/** As the default: shards, keys, a gate. */
export const RECIPE: Recipe = {
  name: 'test',
  rank: 3,
  rankPerPair: 0,
  layers: 2,
  mode: 'shard',
  init: 'keys',
  trainsA: false,
  optimizer: { kind: 'adamw', lr: 1e-3 },
  epochs: 5,
  batch: 64,
  candidates: 0,
  still: 0,
  stopLoss: 0.1,
  stopShare: 0.75,
  patience: 2,
  replay: 8,
  replayForgotten: 0,
  extraEpochs: 0,
  anchors: 6,
  gate: true,
  paraphrased: 0,
  distributions: false,
  expand: [],
  distil: false,
  scale: 40,
  ridge: 0.03,
};
export const PAPER = getRecipe('paper');

export function fact(name: string, value = `${name}ish`): Pair {
  const text = `The ${name} is ${value}.`;
  return {
    id: name + value,
    instruction: `What is the ${name}?`,
    output: value,
    source: text,
    turn: 0,
    origin: 'user',
  };
}
export const facts = (prefix: string, n: number) => Array.from({ length: n }, (_, i) => fact(`${prefix}${i}`));

export interface Habits {
  /** Recalled of the pairs that it was trained on, the first so many. Default all. */
  readonly recalls?: number;
  /** Prompts of the gate that it answers otherwise with fast weights. Default none. */
  readonly spoilt?: number;
  /** It does so only when a number of B is larger than this. Default 0. */
  readonly spoiltAbove?: number;
  /** Called before every answer. */
  readonly onReply?: (request: GenerateRequest) => void;
}

/** With fast weights it answers what it was trained on, without them it answers everything in its own words. */
export function learner({
  recalls = Number.POSITIVE_INFINITY,
  spoilt = 0,
  spoiltAbove = 0,
  onReply,
}: Habits = {}): ScriptedEngine {
  const engine: ScriptedEngine = new ScriptedEngine({
    reply: (request, weights) => {
      onReply?.(request);
      const question = lastMessage(request);
      const own = `on: ${question}`;
      if (!weights) return own;
      const size = Math.max(...weights.tensors[0]!.b);
      if (size > spoiltAbove && ASKED_BY_THE_GATE.slice(0, spoilt).includes(question)) return 'spoilt';
      const samples = trainings(engine).flatMap(({ samples, stop }) =>
        samples.slice(0, Math.min(stop!.samples, recalls)),
      );
      const trained = samples.findLast(({ prompt }) => prompt.includes(` ${question} `));
      return trained ? trained.answer.replace(/ <\|end\|>$/, '') : own;
    },
  });
  return engine;
}

export const trainings = (engine: ScriptedEngine): TrainRequest[] =>
  engine.calls.flatMap((call) => (call.type === 'train' ? [call.request] : []));
export const initialisations = (engine: ScriptedEngine) =>
  engine.calls.flatMap((call) => (call.type === 'initialise' ? [call.request] : []));
export const render = (engine: ScriptedEngine, pairs: readonly Pair[]): Promise<Sample[]> =>
  Promise.all(pairs.map((pair) => engine.renderSample(pair.instruction, pair.output)));
export const fresh = (engine: ScriptedEngine) => emptyMemory(engine.model.fingerprint);

/** A state with one write of three facts in it, in force. */
export async function begun(engine: ScriptedEngine, recipe: Recipe = RECIPE): Promise<MemoryState> {
  const { state, record } = await writePairs(engine, fresh(engine), facts('first', 3), recipe);
  assert.equal(record.verdict, 'committed');
  return state;
}

/** Whatever is done, the weights in force and the given state are afterwards the same numbers as before. */
export async function leavesAsWas(engine: ScriptedEngine, state: MemoryState, act: () => Promise<void>): Promise<void> {
  const before = structuredClone(state);
  await act();
  assert.equal(engine.weights, state.weights);
  assert.deepEqual(state, before);
}
