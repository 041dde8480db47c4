/**
 * The guarded write: train fast weights on pairs, quiz them, then commit or go back to the weights before. The paper trains B on the
 * newest pairs alone; what is added here, and why, is in `recipe.ts` and LOG.md (replay and anchors against forgetting, A from
 * whitened keys against spill, a gate against everything else).
 */
import { randomUUID } from 'node:crypto';
import { TmemError } from '../engine/errors.ts';
import { complete, type Engine, type FastWeights, type Sample } from '../engine/types.ts';
import { asSamples, GATE, ORDINARY, type OwnAnswer, ownAnswers } from './anchors.ts';
import { stack } from './fast-weights.ts';
import { holds } from './recall.ts';
import type { Recipe } from './recipe.ts';
import type { MemoryState, Pair, WriteEvent, WriteRecord } from './types.ts';

/** Share of the gate's prompts that must keep their answers. */
const GATE_KEPT = 0.9;
/** A gate prompt keeps its answer while the base model's own words lose at most this many nats a token. */
const GATE_NATS = 0.5;
/** A write that leaves fewer of its own pairs recalled has taught nothing. */
const LEAST_RECALL = 0.25;

export interface WriteOptions {
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: WriteEvent) => void;
}

/**
 * One write on top of `state`. Afterwards the engine has the returned state's weights in force; when it throws, those of `state`.
 * @throws TmemError `aborted` when the signal fires.
 */
export async function writePairs(
  engine: Engine,
  state: MemoryState,
  pairs: Pair[],
  recipe: Recipe,
  options: WriteOptions = {},
): Promise<{ state: MemoryState; record: WriteRecord }> {
  const start = performance.now();
  const { signal, onEvent = () => {} } = options;
  const loss: number[] = [];
  const finish = (weights: FastWeights | null, verdict: WriteRecord['verdict'], recalled: number, reason?: string) => {
    const record: WriteRecord = {
      id: randomUUID(),
      time: new Date().toISOString(),
      pairs,
      recipe: recipe.name,
      verdict,
      ...(reason === undefined ? {} : { reason }),
      loss,
      recalled,
      ms: Math.round(performance.now() - start),
    };
    onEvent({ type: 'verdict', record });
    return { state: { ...state, weights, writes: [...state.writes, record] }, record };
  };
  if (pairs.length === 0) return finish(state.weights, 'empty', 0);

  const earlier = state.writes.filter((w) => w.verdict === 'committed').flatMap((w) => w.pairs);
  const replayed = pickReplay(earlier, recipe.replay, state.writes.length);
  const ordinary = recipe.anchors > 0 || recipe.init === 'keys' ? await ownAnswers(engine, ORDINARY, signal) : [];
  const anchors = rotate(ordinary, recipe.anchors, state.writes.length);
  onEvent({ type: 'write-start', pairs: pairs.length, replayed: replayed.length, anchors: anchors.length });
  try {
    let weights: FastWeights;
    try {
      weights = await trainWrite(engine, state, pairs, { earlier, replayed, ordinary, anchors }, recipe, options, loss);
    } catch (error) {
      if (!(error instanceof TmemError) || error.code !== 'failed') throw error;
      await engine.setFastWeights(state.weights);
      return finish(state.weights, 'refused', 0, error.message);
    }
    await engine.setFastWeights(weights);
    const recalled = await quiz(engine, pairs, options);
    const reason = recipe.gate ? await refusal(engine, pairs.length, recalled, options) : undefined;
    if (reason === undefined) return finish(weights, 'committed', recalled);
    await engine.setFastWeights(state.weights);
    return finish(state.weights, 'refused', recalled, reason);
  } catch (error) {
    await engine.setFastWeights(state.weights);
    throw error;
  }
}

interface Material {
  readonly earlier: readonly Pair[];
  readonly replayed: readonly Pair[];
  readonly ordinary: readonly OwnAnswer[];
  readonly anchors: readonly OwnAnswer[];
}

async function trainWrite(
  engine: Engine,
  state: MemoryState,
  pairs: readonly Pair[],
  material: Material,
  recipe: Recipe,
  options: WriteOptions,
  loss: number[],
): Promise<FastWeights> {
  const { signal, onEvent = () => {} } = options;
  const { rank, layers } = recipe;
  const render = (list: readonly Pair[]) => Promise.all(list.map((p) => engine.renderSample(p.instruction, p.output)));
  const fresh = await render(pairs);
  const samples: Sample[] = [
    ...fresh,
    ...(await render(material.replayed)),
    ...(await asSamples(engine, material.anchors)),
  ];
  let weights: FastWeights;
  let frozen: FastWeights | undefined;
  if (recipe.mode === 'continue' && state.weights) {
    weights = state.weights;
  } else {
    frozen = state.weights ?? undefined;
    const init =
      recipe.init === 'keys'
        ? {
            kind: 'keys' as const,
            samples: fresh,
            ordinary: [...(await asSamples(engine, material.ordinary)), ...(await render(material.earlier))],
            scale: recipe.scale,
            ridge: recipe.ridge,
          }
        : { kind: recipe.init };
    weights = await engine.initialise({ init, rank, layers, seed: state.writes.length, frozen, signal });
  }
  const totalSteps = recipe.epochs * Math.ceil(samples.length / recipe.batch);
  const result = await engine.train(
    {
      samples,
      weights,
      frozen,
      optimizer: recipe.optimizer,
      epochs: recipe.epochs,
      batch: recipe.batch,
      stop: { samples: pairs.length, loss: recipe.stopLoss },
      signal,
    },
    (event) => {
      if (event.type === 'step') loss.push(event.loss);
      onEvent({ type: 'train', event, totalSteps });
    },
  );
  return stack(frozen ?? null, result.weights);
}

/** Asks each pair with an empty context. @returns how many answers hold the pair's output. */
async function quiz(
  engine: Engine,
  pairs: readonly Pair[],
  { signal, onEvent = () => {} }: WriteOptions,
): Promise<number> {
  const results = await Promise.all(
    pairs.map(async ({ instruction, output }) => {
      const maxTokens = (await engine.tokenize(output)).length + 12;
      const { text } = await complete(engine, { prompt: [{ role: 'user', content: instruction }], maxTokens, signal });
      const ok = holds(text, output);
      onEvent({ type: 'quiz', kind: 'pair', question: instruction, answer: text.trim(), ok });
      return ok;
    }),
  );
  return results.filter(Boolean).length;
}

/** Why the write must be undone, or undefined. */
async function refusal(
  engine: Engine,
  pairs: number,
  recalled: number,
  { signal, onEvent = () => {} }: WriteOptions,
): Promise<string | undefined> {
  if (recalled < pairs * LEAST_RECALL) return `only ${recalled} of ${pairs} pairs were recalled`;
  const gate = (await ownAnswers(engine, GATE, signal)).filter((a) => a.output !== '');
  const kept = await Promise.all(
    gate.map(async ({ instruction, output }) => {
      const score = (fastWeights: boolean) =>
        engine.score({ prompt: [{ role: 'user', content: instruction }], answer: output, fastWeights, signal });
      const mean = (x: Float64Array) => x.reduce((a, b) => a + b, 0) / x.length;
      const lost = mean((await score(false)).logProbs) - mean((await score(true)).logProbs);
      const ok = lost <= GATE_NATS;
      onEvent({ type: 'quiz', kind: 'anchor', question: instruction, answer: `${lost.toFixed(2)} nats a token`, ok });
      return ok;
    }),
  );
  const n = kept.filter(Boolean).length;
  return n < gate.length * GATE_KEPT ? `${gate.length - n} of ${gate.length} ordinary answers changed` : undefined;
}

/** n earlier pairs, evenly spread over the ledger and moving on with every write. */
function pickReplay(earlier: readonly Pair[], n: number, turn: number): Pair[] {
  if (earlier.length <= n) return [...earlier];
  const step = earlier.length / n;
  return Array.from(
    { length: n },
    (_, i) => earlier[Math.floor(i * step + ((turn * 0.618) % 1) * step) % earlier.length]!,
  );
}

function rotate<T>(items: readonly T[], n: number, turn: number): T[] {
  if (items.length === 0) return [];
  return Array.from({ length: Math.min(n, items.length) }, (_, i) => items[(turn * n + i) % items.length]!);
}
