/** The parts of `tmem memory` that bring pairs together: consolidate, merge, import, migrate. */
import type { Command } from 'commander';
import { TmemError } from '../engine/errors.ts';
import { committed, trainedIds } from '../memory/ledger.ts';
import type { Pair, WriteRecord } from '../memory/types.ts';
import { type CliIo, numberOption } from './io.ts';
import { count } from './live.ts';
import { MODEL_OPTION, type ModelOption, type Opened, withSession } from './memory-again.ts';

interface WriteSettings extends ModelOption {
  readonly recipe: string;
}
interface ConsolidateOptions extends WriteSettings {
  readonly rank?: number;
}
interface MigrateOptions {
  readonly to: string;
  readonly as?: string;
}

export function registerTransfers(memory: Command, io: CliIo): void {
  const recipe = ['--recipe <recipe>', 'how it is trained: default or paper', 'default'] as const;
  memory
    .command('consolidate')
    .argument('<session>')
    .description('train all that holds anew, together, on fresh weights of one size')
    .option('--rank <r>', 'rank of the new weights', numberOption('--rank', { integer: true, min: 1 }))
    .option(...recipe)
    .option(...MODEL_OPTION)
    .action((session: string, options: ConsolidateOptions) => consolidate(io, session, options));
  memory
    .command('merge')
    .argument('<session>', 'the session that learns')
    .argument('<others...>', 'the sessions that it learns from')
    .description('write what other sessions hold into this one; of two answers the later one wins')
    .option(...recipe)
    .option(...MODEL_OPTION)
    .action((session: string, others: string[], options: WriteSettings) => merge(io, session, others, options));
  memory
    .command('import')
    .argument('<session>', 'a session, or the name of a new one')
    .argument('<file>', 'JSONL of pairs, as `tmem memory export` writes it, or of {instruction, output}')
    .description('write the pairs of a file into a session')
    .option(...recipe)
    .option(...MODEL_OPTION)
    .action((session: string, file: string, options: WriteSettings) => importFile(io, session, file, options));
  memory
    .command('migrate')
    .argument('<session>')
    .requiredOption('--to <model>', 'the base model to learn everything again')
    .option('--as <name>', 'name of the new session (default: the session and the model)')
    .description('write all that a session holds again, on another base model, as a new session')
    .action((session: string, options: MigrateOptions) => migrate(io, session, options));
}

async function consolidate(io: CliIo, name: string, { model, recipe, rank }: ConsolidateOptions): Promise<void> {
  const { consolidateSession } = await import('../memory/maintain.ts');
  const { getRecipe } = await import('../memory/recipe.ts');
  const settings = getRecipe(recipe);
  const result = await withSession(io, name, model, async (opened) => {
    const rankNow = () => opened.keeper.snapshot.state.weights?.rank ?? 0;
    const before = rankNow();
    const record = await consolidateSession(opened, settings, rank);
    return { record, before, after: rankNow() };
  });
  const { record, before, after } = result;
  const asked = trainedIds(record).length;
  io.result(
    { session: name, pairs: asked, recalled: record.recalled, rankBefore: before, rankAfter: after, ms: record.ms },
    () => `${count(asked, 'pair')} in weights of rank ${after} instead of ${before}: ${record.recalled} recalled.`,
  );
}

async function merge(io: CliIo, name: string, others: readonly string[], options: WriteSettings): Promise<void> {
  const { peekSession, recordsOf } = await import('../memory/session.ts');
  const { newTo } = await import('../memory/transfer.ts');
  let writes = recordsOf(await peekSession(name));
  const pairs: Pair[] = [];
  for (const other of others) {
    const theirs = recordsOf(await peekSession(other));
    pairs.push(...newTo(writes, theirs));
    // What one of them brings is known when the next one is looked at.
    writes = [...writes, ...theirs];
  }
  if (pairs.length === 0)
    return io.result({ session: name, written: 0, recalled: 0 }, () => `Session ${name} holds all of that already.`);
  const records = await withSession(io, name, options.model, (opened) => writeInto(opened, pairs, options.recipe));
  report(io, name, records);
}

async function importFile(io: CliIo, name: string, file: string, options: WriteSettings): Promise<void> {
  const { readJsonl } = await import('../agent/jsonl.ts');
  const { ledgerLineSchema, pairOf } = await import('../memory/transfer.ts');
  const { checkSessionName } = await import('../memory/session.ts');
  checkSessionName(name);
  const pairs = (await readJsonl(file, ledgerLineSchema, 'pairs')).map(pairOf);
  const write = (opened: Opened) => writeInto(opened, pairs, options.recipe);
  report(io, name, await withSession(io, name, options.model, write, { begins: true }));
}

async function migrate(io: CliIo, name: string, { to, as }: MigrateOptions): Promise<void> {
  const { peekSession, recordsOf, sessionNames } = await import('../memory/session.ts');
  const { standingPairs } = await import('../memory/ledger.ts');
  const stored = await peekSession(name);
  const target = as ?? `${name}-${to.replace(/^.*[/:]/, '').replace(/[^A-Za-z0-9._-]/g, '-')}`.slice(0, 64);
  if ((await sessionNames()).includes(target))
    throw new TmemError('usage', `There is a session ${target} already; give another name with --as.`);
  const pairs = standingPairs(recordsOf(stored));
  const records = await withSession(
    io,
    target,
    to,
    async (opened) => {
      const { keeper } = opened;
      const { state } = keeper.snapshot;
      await keeper.commit({
        state: { ...state, explicit: stored.explicit },
        working: stored.working,
        turns: stored.turns,
      });
      return writeInto(opened, pairs, 'default');
    },
    { begins: true },
  );
  report(io, target, records);
}

async function writeInto(opened: Opened, pairs: readonly Pair[], recipe: string): Promise<WriteRecord[]> {
  const { writeInto } = await import('../memory/maintain.ts');
  const { getRecipe } = await import('../memory/recipe.ts');
  return writeInto(opened, pairs, getRecipe(recipe));
}

function report(io: CliIo, session: string, records: readonly WriteRecord[]): void {
  const done = committed(records);
  const [written, recalled] = [done.flatMap((w) => w.pairs).length, done.reduce((n, w) => n + w.recalled, 0)];
  const refused = records.filter((w) => w.verdict === 'refused');
  io.result({ session, written, recalled, writes: records }, () =>
    [
      `Session ${session}: ${count(written, 'pair')} written in ${count(done.length, 'write')}, ${recalled} recalled.`,
      ...refused.map((w) => `${count(w.pairs.length, 'pair')} refused: ${w.reason}.`),
    ].join('\n'),
  );
}
