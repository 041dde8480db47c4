/** The parts of `tmem memory` that ask the model or make its weights again. */
import { TmemError } from '../engine/errors.ts';
import { committed } from '../memory/ledger.ts';
import type { Maintained } from '../memory/maintain.ts';
import type { prove } from '../memory/prove.ts';
import type { Pair, WriteRecord } from '../memory/types.ts';
import type { WriteOptions } from '../memory/write.ts';
import type { CliIo } from './io.ts';
import { liveView } from './live.ts';
import { shorten, table } from './table.ts';

export interface ModelOption {
  readonly model?: string;
}

export interface ForgetOptions extends ModelOption {
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly prove: boolean;
  readonly force: boolean;
}

/** How a command of a session is told the model. */
export const MODEL_OPTION = [
  '--model <model>',
  'catalogue name, hf: URI or path of the GGUF that the session belongs to',
] as const;

/** Characters of an id that are shown. */
export const SHOWN_ID = 8;

export const pairLine = (p: Pair) => `${p.id.slice(0, SHOWN_ID)}  ${p.instruction}  ->  ${p.output}`;

/** Writes from one on that are made again, and how long they took. */
export function costFrom(records: readonly WriteRecord[], from: number): { writes: number; seconds: number } {
  const again = committed(records.slice(from));
  return { writes: again.length, seconds: Math.round(again.reduce((n, write) => n + write.ms, 0) / 1000) };
}

/** What the model answers to each pair's question with an empty context. */
export async function recallNow(io: CliIo, session: string, pairs: readonly Pair[], model: string | undefined) {
  const { askPair } = await import('../memory/quiz.ts');
  const ask = async ({ engine, keeper }: Opened) => {
    await engine.setFastWeights(keeper.snapshot.state.weights);
    const progress = io.progress('recall');
    let done = 0;
    const answers = await Promise.all(
      pairs.map(async (pair) => {
        const { answer, ok: recalled } = await askPair(engine, pair, io.signal);
        progress.update(++done / pairs.length, `${done} of ${pairs.length} pairs asked`);
        return { answer, recalled };
      }),
    );
    progress.done();
    return answers;
  };
  return withSession(io, session, model, ask, { trains: false });
}

/** Recall against the number of pairs, and what to do when it falls. */
export async function capacity(io: CliIo, session: string, { model }: ModelOption): Promise<void> {
  const { peekSession, recordsOf } = await import('../memory/session.ts');
  const { standingPairs } = await import('../memory/ledger.ts');
  const { advise } = await import('../memory/capacity.ts');
  const records = recordsOf(await peekSession(session));
  const pairs = standingPairs(records);
  if (pairs.length === 0) throw new TmemError('usage', `Session ${session} has nothing in its weights yet.`);
  const answers = await recallNow(io, session, pairs, model);
  const recalled = new Map(pairs.map((pair, i) => [pair.id, answers[i]!.recalled]));
  const { writes, advice, share } = advise(records, recalled);
  const right = [...recalled.values()].filter(Boolean).length;
  io.result({ session, pairs: pairs.length, recalled: right, share, writes, advice }, () =>
    [
      table(
        [
          ['WRITE', 'PAIRS', 'RECALLED', 'ALL SO FAR', 'RECALLED'],
          ...writes.map((w) => [w.write, w.pairs, w.recalled, w.pairsSoFar, w.recalledSoFar].map(String)),
        ],
        [0, 1, 2, 3, 4],
      ),
      advice,
    ].join('\n'),
  );
}

export async function forget(io: CliIo, session: string, query: string, options: ForgetOptions): Promise<void> {
  const { findPairs } = await import('../memory/forget.ts');
  const { checkUnchanged, forgetPairs } = await import('../memory/maintain.ts');
  const { peekSession, recordsOf } = await import('../memory/session.ts');
  const records = recordsOf(await peekSession(session));
  const found = findPairs(records, query);
  if (found.length === 0)
    throw new TmemError(
      'usage',
      `No pair of session ${session} has the id or holds the words "${query}"; \`tmem memory show ${session}\` lists them.`,
    );
  const from = Math.min(...found.map((f) => f.write));
  const again = costFrom(records, from);
  const plan = {
    session,
    pairs: found.map(({ pair, write }) => ({ ...pair, write: write + 1 })),
    writesAgain: again.writes,
    seconds: again.seconds,
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
  const { kept, proof } = await withSession(io, session, options.model, async (opened) => {
    checkUnchanged(opened.keeper, records);
    const { writes, proof } = await forgetPairs(opened, found, options);
    return { kept: committed(writes), proof };
  });
  const [pairsLeft, recalled] = [
    kept.reduce((n, w) => n + w.pairs.length, 0),
    kept.reduce((n, w) => n + w.recalled, 0),
  ];
  io.result(
    {
      ...plan,
      ...{ dryRun: false, removed: plan.pairs, pairsLeft, recalled },
      ...{ verified: proof?.same ?? null, ...(proof && { proof }) },
    },
    () =>
      [
        `Forgotten:\n${listed}\n${pairsLeft} pairs are left; ${recalled} were recalled when they were written.`,
        ...(proof ? [describeProof(proof)] : []),
      ].join('\n'),
  );
}

function describeProof({ same, deviation, proofs }: Awaited<ReturnType<typeof prove>>): string {
  const nats = (x: number) => x.toFixed(2);
  const rows = proofs.map((p) => [shorten(p.pair.output, 50), ...[p.before, p.after, p.never, p.base].map(nats)]);
  return [
    'Log-probability of the answers, a token:',
    table([['', 'BEFORE', 'NOW', 'NEVER SEEN', 'BASE MODEL'], ...rows], [1, 2, 3, 4]),
    same
      ? 'The weights are to the bit those of a model that never saw them.'
      : `B differs by ${(100 * deviation).toFixed(2)} % from a model that never saw them.`,
  ].join('\n');
}

export async function verify(io: CliIo, session: string, { model }: ModelOption): Promise<void> {
  const { verifyWrites } = await import('../memory/maintain.ts');
  const writes = await withSession(io, session, model, verifyWrites);
  const isSame = writes.every((w) => w.same);
  io.result({ session, ok: isSame, writes }, () =>
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

/** With what a write is shown with, and ended by. */
export type Opened = Required<Maintained>;

/** A session with the engine of its model, closed at the end. It must be there already unless it `begins`. */
export async function withSession<T>(
  io: CliIo,
  name: string,
  model: string | undefined,
  use: (opened: Opened) => Promise<T>,
  { trains = true, begins = false } = {},
): Promise<T> {
  const { peekSession, Session } = await import('../memory/session.ts');
  const { trainingOf } = await import('../memory/recipe.ts');
  if (!begins) await peekSession(name);
  const training = trains ? trainingOf('default') : undefined;
  const engine = await io.openEngine({ model, training });
  const keeper = await Session.open(name, engine.model);
  const view = liveView(io);
  const watched: WriteOptions = { signal: io.signal, onEvent: (event) => view({ type: 'write', event }) };
  try {
    return await use({ engine, keeper, watched });
  } finally {
    await keeper.close();
  }
}
