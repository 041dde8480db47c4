/** The parts of `tmem memory` that ask the model or make its weights again. */
import { TmemError } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import type { RebuildOptions } from '../memory/rebuild.ts';
import type { Session } from '../memory/session.ts';
import type { MemoryState, Pair, WriteRecord } from '../memory/types.ts';
import type { CliIo } from './io.ts';
import { liveView } from './live.ts';

export interface ModelOption {
  readonly model?: string;
}

export interface ForgetOptions extends ModelOption {
  readonly dryRun: boolean;
  readonly yes: boolean;
}

/** Characters of an id that are shown. */
export const SHOWN_ID = 8;

export const pairLine = (p: Pair) => `${p.id.slice(0, SHOWN_ID)}  ${p.instruction}  ->  ${p.output}`;
export const committed = (writes: readonly WriteRecord[]) => writes.filter((w) => w.verdict === 'committed');

/** What the model answers to each pair's question with an empty context. */
export async function recallNow(io: CliIo, session: string, pairs: readonly Pair[], model: string | undefined) {
  const { complete } = await import('../engine/types.ts');
  const { recalls } = await import('../memory/recall.ts');
  const ask = async ({ engine, keeper }: Opened) => {
    await engine.setFastWeights(keeper.snapshot.state.weights);
    const progress = io.progress('recall');
    let done = 0;
    const answers = await Promise.all(
      pairs.map(async (pair) => {
        const prompt = [{ role: 'user' as const, content: pair.instruction }];
        const answer = (await complete(engine, { prompt, maxTokens: 64, signal: io.signal })).text.trim();
        progress.update(++done / pairs.length, `${done} of ${pairs.length} pairs asked`);
        return { answer, recalled: recalls(answer, pair) };
      }),
    );
    progress.done();
    return answers;
  };
  return withSession(io, session, model, ask, { trains: false });
}

export async function forget(io: CliIo, session: string, query: string, options: ForgetOptions): Promise<void> {
  const { findPairs, withoutPairs } = await import('../memory/forget.ts');
  const { peekSession } = await import('../memory/session.ts');
  const records = (await peekSession(session)).writes.map((w) => w.record);
  const found = findPairs(records, query);
  if (found.length === 0)
    throw new TmemError(
      'usage',
      `No pair of session ${session} has the id or holds the words "${query}"; \`tmem memory show ${session}\` lists them.`,
    );
  const from = Math.min(...found.map((f) => f.write));
  const again = committed(records.slice(from));
  const plan = {
    session,
    pairs: found.map(({ pair, write }) => ({ ...pair, write: write + 1 })),
    writesAgain: again.length,
    seconds: Math.round(again.reduce((n, r) => n + r.ms, 0) / 1000),
  };
  const listed = [
    ...plan.pairs.map((p) => `  ${pairLine(p)}`),
    `${plan.writesAgain} of ${committed(records).length} writes are made again; they took ${plan.seconds} s.`,
  ].join('\n');
  if (options.dryRun) return io.result({ ...plan, dryRun: true }, () => `Would be forgotten:\n${listed}`);
  if (found.length > 1 && !options.yes)
    throw new TmemError(
      'usage',
      `"${query}" names ${found.length} pairs; give the id of one, or --yes to forget all:\n${listed}`,
    );
  const ids = new Set(found.map(({ pair }) => pair.id));
  const forgotten = found.map(({ pair }) => pair);
  const scrub = (text: string) => withoutPairs(text, forgotten);
  const kept = await withSession(io, session, options.model, async ({ keeper, again: writeAgain }) => {
    const { writes } = keeper.snapshot.state;
    if (writes.length !== records.length || writes.some((w, i) => w.id !== records[i]!.id))
      throw new TmemError('failed', `Session ${session} was changed by another process meanwhile; try again.`);
    const states = await writeAgain({ from, keeps: (pair) => !ids.has(pair.id), scrub });
    const working = keeper.snapshot.working
      .map(({ turn, index }) => ({ index, turn: { ...turn, content: scrub(turn.content) } }))
      .filter(({ turn }) => turn.content !== '');
    await keeper.rewrite(states, working);
    return committed(states.at(-1)!.writes);
  });
  const [pairsLeft, recalled] = [
    kept.reduce((n, w) => n + w.pairs.length, 0),
    kept.reduce((n, w) => n + w.recalled, 0),
  ];
  io.result(
    { ...plan, dryRun: false, pairsLeft, recalled },
    () => `Forgotten:\n${listed}\n${pairsLeft} pairs are left; ${recalled} were recalled when they were written.`,
  );
}

export async function verify(io: CliIo, session: string, { model }: ModelOption): Promise<void> {
  const { compareWeights } = await import('../memory/fast-weights.ts');
  const writes = await withSession(io, session, model, async ({ keeper, again }) => {
    const history = await keeper.history();
    const states = await again();
    return states.slice(1).map((state, i) => ({
      write: i + 1,
      verdict: state.writes[i]!.verdict,
      ...compareWeights(history[i + 1]!.weights, state.weights),
    }));
  });
  const isSame = writes.every((w) => w.same);
  io.result({ session, same: isSame, writes }, () =>
    [
      ...writes.map(
        (w) =>
          `${String(w.write).padStart(3)}  ${w.verdict}  ${w.same ? 'the same bits' : `B differs by ${(100 * w.deviation).toFixed(2)} %`}`,
      ),
      isSame
        ? 'The weights are what the ledger says.'
        : 'The weights are not exactly what the ledger gives on this machine now.',
    ].join('\n'),
  );
  if (!isSame) throw new TmemError('failed', `The weights of session ${session} were not made again bit by bit.`);
}

interface Opened {
  readonly engine: Engine;
  readonly keeper: Session;
  /** As in memory/rebuild.ts, shown while it runs. */
  readonly again: (options?: RebuildOptions) => Promise<MemoryState[]>;
}

/** A session with the engine of its model, closed at the end. */
async function withSession<T>(
  io: CliIo,
  name: string,
  model: string | undefined,
  use: (opened: Opened) => Promise<T>,
  { trains = true } = {},
): Promise<T> {
  const { peekSession, Session } = await import('../memory/session.ts');
  const { rebuild } = await import('../memory/rebuild.ts');
  const { trainingOf } = await import('../memory/recipe.ts');
  await peekSession(name);
  const training = trains ? trainingOf('default') : undefined;
  const engine = await io.openEngine({ model, training });
  const keeper = await Session.open(name, engine.model);
  const view = liveView(io);
  const again = async (options: RebuildOptions = {}) =>
    rebuild(engine, await keeper.history(), {
      ...options,
      signal: io.signal,
      onEvent: (event) => view({ type: 'write', event }),
    });
  try {
    return await use({ engine, keeper, again });
  } finally {
    await keeper.close();
  }
}
