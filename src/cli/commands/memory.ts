/** `tmem memory`: what sessions remember, what was written, and how it is taken back. */
import type { Command } from 'commander';
import { TmemError } from '../../engine/errors.ts';
import { DEFAULT_MODEL } from '../../engine/models/catalogue.ts';
import { committed, trainedIds } from '../../memory/ledger.ts';
import type { Pair } from '../../memory/types.ts';
import type { CliIo } from '../io.ts';
import { count } from '../live.ts';
import {
  capacity,
  type ForgetOptions,
  forget,
  MODEL_OPTION,
  type ModelOption,
  pairLine,
  recallNow,
  SHOWN_ID,
  verify,
} from '../memory-again.ts';
import { registerTransfers } from '../memory-transfer.ts';
import { registerWhy } from '../memory-why.ts';
import { shorten, table } from '../table.ts';

export function register(program: Command, io: CliIo): void {
  const memory = program
    .command('memory')
    .description('see, undo, forget, explain, check and export what sessions remember');
  memory
    .command('list')
    .description('the sessions in the store')
    .action(() => list(io));
  memory
    .command('log')
    .argument('<session>')
    .description('its writes, oldest first')
    .action((session: string) => log(io, session));
  memory
    .command('show')
    .argument('<session>')
    .description('what it has learned, with the source of each pair, and its notes')
    .option('--recall', 'ask the model each question now', false)
    .option(...MODEL_OPTION)
    .action((session: string, options: ShowOptions) => show(io, session, options));
  memory
    .command('undo')
    .argument('<session>')
    .description('take back the last write')
    .action((session: string) => undo(io, session));
  memory
    .command('branch')
    .argument('<session>')
    .argument('<name>')
    .description('begin another session that remembers the same')
    .action((session: string, name: string) => branch(io, session, name));
  memory
    .command('switch')
    .argument('[session]')
    .description('the session that chat and ask go on with when they are given none')
    .option('--none', 'none: they leave nothing behind', false)
    .action((session: string | undefined, options: { none: boolean }) => switchTo(io, session, options.none));
  memory
    .command('diff')
    .argument('<session>')
    .argument('<other>')
    .description('what one session holds and the other does not')
    .action((session: string, other: string) => diff(io, session, other));
  memory
    .command('forget')
    .argument('<session>')
    .argument('<query>', 'id of a pair, or words that it holds')
    .description('make the weights again without some pairs, and remove these from the ledger and the notes')
    .option('--dry-run', 'only say what would be forgotten', false)
    .option('--force', 'also when the gate then refuses a write: its other facts become notes', false)
    .option('--prove', 'also make the weights of a model that never saw them, and compare', false)
    .option('--yes', 'forget several pairs without being asked again', false)
    .option(...MODEL_OPTION)
    .action((session: string, query: string, options: ForgetOptions) => forget(io, session, query, options));
  memory
    .command('verify')
    .argument('<session>')
    .description('make the weights again from the ledger and compare them with the stored ones')
    .option(...MODEL_OPTION)
    .action((session: string, options: ModelOption) => verify(io, session, options));
  registerWhy(memory, io);
  memory
    .command('capacity')
    .argument('<session>')
    .description('how many pairs are recalled now, write by write, and what to do about it')
    .option(...MODEL_OPTION)
    .action((session: string, options: ModelOption) => capacity(io, session, options));
  registerTransfers(memory, io);
  memory
    .command('move')
    .argument('[session...]', 'all of them by default')
    .description('copy sessions with their weights into another store, and check the copies; the originals stay')
    .option('--to <url>', 'sqlite:PATH or postgres://USER@HOST/DATABASE; TMEM_STORE by default')
    .option('--from <url>', 'the same')
    .action((sessions: string[], options: MoveOptions) => move(io, sessions, options));
  memory
    .command('export')
    .argument('<session>')
    .description('write the memory as a GGUF LoRA, a PEFT folder and a JSONL ledger')
    .requiredOption('--out <dir>', 'folder for adapter.gguf, peft and ledger.jsonl')
    .option(...MODEL_OPTION)
    .action((session: string, options: ExportOptions) => exportSession(io, session, options));
}

interface ShowOptions extends ModelOption {
  readonly recall: boolean;
}
interface MoveOptions {
  readonly to?: string;
  readonly from?: string;
}
interface ExportOptions extends ModelOption {
  readonly out: string;
}

async function list(io: CliIo): Promise<void> {
  const { peekSession, recordsOf, sessionNames } = await import('../../memory/session.ts');
  const sessions = await Promise.all(
    (await sessionNames()).map(async (name) => {
      const stored = await peekSession(name);
      const { model, working } = stored;
      const done = committed(recordsOf(stored));
      return {
        name,
        model: model.name,
        writes: done.length,
        pairs: done.reduce((n, w) => n + w.pairs.length, 0),
        unwrittenTurns: working.length,
        lastWrite: done.at(-1)?.time ?? null,
      };
    }),
  );
  io.result({ sessions }, () =>
    sessions.length === 0
      ? 'No session is in the store; `tmem chat --session NAME` begins one.'
      : table(
          [
            ['SESSION', 'MODEL', 'WRITES', 'PAIRS', 'LAST WRITE'],
            ...sessions.map((s) => [s.name, s.model, String(s.writes), String(s.pairs), s.lastWrite ?? '']),
          ],
          [2, 3],
        ),
  );
}

async function log(io: CliIo, session: string): Promise<void> {
  const { peekSession, recordsOf } = await import('../../memory/session.ts');
  const records = recordsOf(await peekSession(session));
  io.result({ session, writes: records }, () =>
    records.length === 0
      ? `Session ${session} has no writes yet.`
      : table(
          [
            ['', 'TIME', 'VERDICT', 'PAIRS', 'RECALLED', 'LOSS', 'SECONDS', 'RECIPE', ''],
            ...records.map((r, i) => [
              String(i + 1),
              r.time.slice(0, 19).replace('T', ' '),
              r.verdict,
              String(trainedIds(r).length),
              String(r.recalled),
              r.loss.length > 0 ? `${r.loss[0]!.toFixed(2)} to ${r.loss.at(-1)!.toFixed(2)}` : '',
              (r.ms / 1000).toFixed(0),
              r.recipe,
              r.reason ?? (r.consolidated ? 'consolidated' : ''),
            ]),
          ],
          [0, 3, 4, 6],
        ),
  );
}

async function show(io: CliIo, session: string, { recall, model }: ShowOptions): Promise<void> {
  const { peekSession, recordsOf } = await import('../../memory/session.ts');
  const { writtenPairs } = await import('../../memory/ledger.ts');
  const stored = await peekSession(session);
  const pairs = writtenPairs(recordsOf(stored));
  const answers = recall ? await recallNow(io, session, pairs, model) : undefined;
  const shown = pairs.map((pair, i) => ({ ...pair, ...answers?.[i] }));
  const { explicit, working } = stored;
  io.result({ session, model: stored.model.name, pairs: shown, explicit, working }, () => {
    const lines = shown.map((p) => {
      const mark = p.recalled === undefined ? '' : p.recalled ? '+ ' : '- ';
      const state = p.ended
        ? ` (until ${p.ended.time.slice(0, 10)}, then ${p.ended.by.slice(0, SHOWN_ID)})`
        : p.standing
          ? ''
          : ' (said again since)';
      const given = p.answer === undefined || p.recalled ? '' : `\n    now: ${shorten(p.answer, 100)}`;
      const also = (p.also ?? []).map(({ instruction }) => `\n    also: ${shorten(instruction, 100)}`).join('');
      return `${mark}${pairLine(p)}${state}${also}\n    turn ${p.turn}${p.time ? `, ${p.time}` : ''}: "${shorten(p.source, 100)}"${given}`;
    });
    const right = shown.filter((p) => p.recalled).length;
    return [
      ...(lines.length > 0 ? lines : ['Nothing is in the weights yet.']),
      ...(answers ? [`${right} of ${shown.length} are recalled now.`] : []),
      ...(explicit ? [`Notes: ${explicit}`] : []),
      ...(working.length > 0 ? [`${working.length} turns are not written yet.`] : []),
    ].join('\n');
  });
}

async function undo(io: CliIo, session: string): Promise<void> {
  const { peekSession, Session } = await import('../../memory/session.ts');
  const keeper = await Session.open(session, (await peekSession(session)).model);
  const record = await keeper.undo().finally(() => keeper.close());
  if (!record) throw new TmemError('usage', `Session ${session} has no write to take back.`);
  io.result(
    { session, undone: record },
    () =>
      `Taken back: the ${record.consolidated ? 'consolidation' : 'write'} of ${record.time} with ${count(trainedIds(record).length, 'pair')}.`,
  );
}

async function branch(io: CliIo, session: string, name: string): Promise<void> {
  const { branchSession } = await import('../../memory/session.ts');
  await branchSession(session, name);
  io.result({ session, branch: name }, () => `Session ${name} remembers what ${session} does.`);
}

async function switchTo(io: CliIo, session: string | undefined, none: boolean): Promise<void> {
  const { peekSession } = await import('../../memory/session.ts');
  const { currentSession, switchSession } = await import('../../memory/current.ts');
  if (session !== undefined && none) throw new TmemError('usage', 'Name a session, or give --none, not both.');
  if (session !== undefined) await peekSession(session);
  if (session !== undefined || none) await switchSession(session);
  const current = (await currentSession()) ?? null;
  io.result({ session: current }, () =>
    current ? `chat and ask go on with session ${current}.` : 'chat and ask leave nothing behind.',
  );
}

async function move(io: CliIo, sessions: readonly string[], { from, to }: MoveOptions): Promise<void> {
  const { copySessions } = await import('../../memory/session.ts');
  const { placeOf, storeUrl } = await import('../../memory/store/store.ts');
  if (from === undefined && to === undefined)
    throw new TmemError('usage', 'Give the other store: --to URL or --from URL.');
  const [source, target] = [from ?? storeUrl(), to ?? storeUrl()];
  const copied = await copySessions(source, target, sessions);
  const places = { from: placeOf(source), to: placeOf(target) };
  io.result({ ...places, sessions: copied }, () =>
    copied.length === 0
      ? `There is no session in ${places.from}.`
      : [
          `Copied to ${places.to}: ${copied.join(', ')}.`,
          `They are still in ${places.from}; TMEM_STORE says which store is used.`,
        ].join('\n'),
  );
}

async function diff(io: CliIo, session: string, other: string): Promise<void> {
  const { peekSession, recordsOf } = await import('../../memory/session.ts');
  const { differenceOf } = await import('../../memory/ledger.ts');
  const [one, two] = await Promise.all([session, other].map(async (name) => recordsOf(await peekSession(name))));
  const found = differenceOf(one!, two!);
  const lines = (sign: string, pairs: readonly Pair[]) => pairs.map((p) => `${sign} ${pairLine(p)}`);
  io.result({ [session]: found.only, [other]: found.other, same: found.same }, () =>
    [...lines('-', found.only), ...lines('+', found.other), `${found.same} pairs are the same.`].join('\n'),
  );
}

async function exportSession(io: CliIo, session: string, { out, model }: ExportOptions): Promise<void> {
  const { mkdir } = await import('node:fs/promises');
  const path = await import('node:path');
  const { writeAdapterGguf } = await import('../../engine/adapter/gguf.ts');
  const { peftBase, writePeft } = await import('../../engine/adapter/peft.ts');
  const { writeError, writeFileAtomic } = await import('../../engine/files.ts');
  const { readGguf } = await import('../../engine/gguf/reader.ts');
  const { resolveModel } = await import('../../engine/models/store.ts');
  const { peekSession, Session } = await import('../../memory/session.ts');
  const { name } = (await peekSession(session)).model;
  const base = await resolveModel(model ?? (process.env.TMEM_MODEL || DEFAULT_MODEL), { offline: true });
  const gguf = readGguf(base.path);
  const { fingerprint } = gguf;
  const keeper = await Session.open(session, { name: base.path, fingerprint });
  const { state } = keeper.snapshot;
  await keeper.close();
  if (!state.weights) throw new TmemError('usage', `Session ${session} has nothing in its weights yet.`);
  const pairs = committed(state.writes).flatMap((w) => w.pairs);
  const at = (file: string) => path.join(path.resolve(out), file);
  await mkdir(out, { recursive: true }).catch((error) => {
    throw writeError(out, error);
  });
  const architecture = String(gguf.metadata.get('general.architecture'));
  await writeAdapterGguf(at('adapter.gguf'), state.weights, { architecture, fingerprint });
  await writePeft(at('peft'), state.weights, peftBase(gguf, name));
  const lines = pairs.map((pair) => `${JSON.stringify(pair)}\n`);
  await writeFileAtomic(at('ledger.jsonl'), (write) => write(Buffer.from(lines.join(''))));
  const files = { gguf: at('adapter.gguf'), peft: at('peft'), ledger: at('ledger.jsonl') };
  io.result({ session, pairs: pairs.length, files }, () => `${pairs.length} pairs\n${Object.values(files).join('\n')}`);
}
