/** `tmem memory why`: which pairs an answer rests on. */
import type { Command } from 'commander';
import { type CliIo, numberOption } from './io.ts';
import { costFrom, MODEL_OPTION, type ModelOption, type Opened, pairLine, withSession } from './memory-again.ts';

interface WhyOptions extends ModelOption {
  readonly top: number;
  readonly quick: boolean;
}

export function registerWhy(memory: Command, io: CliIo): void {
  memory
    .command('why')
    .argument('<session>')
    .argument('<question>')
    .description('which pairs an answer rests on: the weights are made again without each of the nearest')
    .option(
      '--top <n>',
      'leave out this many pairs, one at a time',
      numberOption('--top', { integer: true, min: 1 }),
      2,
    )
    .option('--quick', 'only name the nearest pairs', false)
    .option(...MODEL_OPTION)
    .action((session: string, question: string, options: WhyOptions) => why(io, session, question, options));
}

async function why(io: CliIo, session: string, question: string, { top, quick, model }: WhyOptions): Promise<void> {
  const { groundsOf } = await import('../agent/why.ts');
  const use = (opened: Opened) =>
    groundsOf(opened, question, {
      ...{ top, quick, signal: io.signal },
      onTry: ({ pair }, from) => {
        const { writes, seconds } = costFrom(opened.keeper.snapshot.state.writes, from);
        io.note(`Without ${pairLine(pair)}: ${writes} writes again, which took ${seconds} s.`);
      },
    });
  const { answer, own, base, grounds } = await withSession(io, session, model, use, { trains: !quick });
  const pairs = grounds
    .map(({ nearest, without, reason }) => ({
      ...{ ...nearest.pair, similarity: nearest.similarity, reason },
      ...(without === undefined ? {} : { without, drop: own - without }),
    }))
    // Those that the answer needs most first; those that were not tried stay in order behind them.
    .sort((a, b) => (b.drop ?? Number.NEGATIVE_INFINITY) - (a.drop ?? Number.NEGATIVE_INFINITY) || 0);
  io.result({ session, question, answer, logProb: own, base, quick, pairs }, () =>
    [
      answer,
      `Log-probability of a token: ${own.toFixed(2)}, without the memory ${base.toFixed(2)}.`,
      ...(pairs.length === 0 ? ['No pair shares a word with the question.'] : []),
      ...pairs.map((p) => {
        const drop = p.drop === undefined ? '' : `  ${p.without!.toFixed(2)} without it (${signed(-p.drop)})`;
        return `  ${pairLine(p)}\n    similarity ${p.similarity.toFixed(2)}${drop}${p.reason ? `  ${p.reason}` : ''}`;
      }),
    ].join('\n'),
  );
}

const signed = (x: number) => `${x < 0 ? '' : '+'}${x.toFixed(2)}`;
