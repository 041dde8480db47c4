/** A scripted policy that extracts and answers, and a write without a gate, for tests of the agent. */
import { NOTE_SCHEMA, PAIRS_SCHEMA } from '../../src/agent/extract.ts';
import { EXTRACTION } from '../../src/agent/prompts.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { FastWeights, GenerateRequest, ModelInfo } from '../../src/engine/types.ts';
import type { Turn, Writer } from '../../src/memory/types.ts';

/** The text of the last message of a request. */
export function lastMessage(request: GenerateRequest): string {
  return typeof request.prompt === 'string' ? request.prompt : request.prompt.at(-1)!.content;
}

export const isPart = (request: GenerateRequest): boolean => request.schema === PAIRS_SCHEMA;
export const isNote = (request: GenerateRequest): boolean => request.schema === NOTE_SCHEMA;

/** The lines `Name: text` of the part that an extraction is asked about, without what was said before and without the task. */
export function partOf(request: GenerateRequest): string {
  const [aware] = EXTRACTION.aware.split('{task}');
  const asked = lastMessage(request);
  return asked.slice(asked.indexOf(`${EXTRACTION.part}\n`) + EXTRACTION.part.length + 1).split(`\n${aware}`)[0]!;
}

const factsIn = (text: string) => [...text.matchAll(/The (\w+) is (\w+)\./g)];

/** Makes a pair of every "The <subject> is <value>." that it reads. */
export function extractFacts(request: GenerateRequest): string {
  const pairs = factsIn(partOf(request)).map(([, subject, output]) => ({
    output,
    instruction: `What is the ${subject}?`,
  }));
  return JSON.stringify({ pairs });
}

/** Repeats the facts that it is shown; of a session, which it is shown when there are none, it says just that. */
export function writeNote(request: GenerateRequest): string {
  const lines = lastMessage(request).split('\n');
  const session = lines.some((line) => line.includes(': '));
  return JSON.stringify({ memory: ['Talk', ...(session ? [] : lines)].join(' ') });
}

/** Extracts facts, notes what they are about, condenses to one line, and answers everything else with `reply`. */
export function scriptedPolicy(
  reply: (request: GenerateRequest, weights: FastWeights | null) => string = () => 'fine',
  model?: Partial<ModelInfo>,
): ScriptedEngine {
  return new ScriptedEngine({
    model,
    reply: (request, weights) => {
      if (isPart(request)) return extractFacts(request);
      if (isNote(request)) return writeNote(request);
      if (/^Rewrite these notes/m.test(lastMessage(request))) return 'short notes';
      return reply(request, weights);
    },
  });
}

/** Trains on the pairs and commits; no quiz, no replay. */
export function plainWriter(engine: ScriptedEngine): Writer {
  return async (state, pairs, { signal, onEvent }) => {
    const start = performance.now();
    onEvent?.({ type: 'write-start', pairs: pairs.length, anchors: 0 });
    const base = { id: `w${state.writes.length + 1}`, time: new Date(0).toISOString(), pairs, recipe: 'plain' };
    let { weights } = state;
    let loss: number[] = [];
    if (pairs.length > 0) {
      weights ??= await engine.initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
      const samples = await Promise.all(pairs.map((pair) => engine.renderSample(pair.instruction, pair.output)));
      const request = { samples, weights, optimizer: { kind: 'sgd' as const, lr: 1 }, epochs: 3, signal };
      const result = await engine.train(request, (event) => onEvent?.({ type: 'train', event }));
      weights = result.weights;
      loss = result.steps.map((step) => step.loss);
    }
    const verdict = pairs.length > 0 ? ('committed' as const) : ('empty' as const);
    const record = { ...base, verdict, loss, recalled: pairs.length, ms: performance.now() - start };
    onEvent?.({ type: 'verdict', record });
    return { state: { ...state, weights, writes: [...state.writes, record] }, record };
  };
}

export function said(content: string, more: Partial<Turn> = {}): Turn {
  return { role: 'user', content, ...more };
}
