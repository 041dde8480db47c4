/** `tmem memory why`: which pairs an answer rests on. */
import type { Command } from 'commander';
import { TmemError } from '../engine/errors.ts';
import type { NearestPair } from '../memory/nearest.ts';
import type { MemoryState } from '../memory/types.ts';
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

/** One of the nearest pairs; log-probabilities are means over the answer's tokens. */
interface Ground {
  readonly nearest: NearestPair;
  /** The answer's log-probability when the memory never had the pair; undefined: not tried. */
  readonly without?: number;
  /** Why the memory could not be made again without it. */
  readonly reason?: string;
}

async function why(io: CliIo, session: string, question: string, { top, quick, model }: WhyOptions): Promise<void> {
  const { answerQuestion } = await import('../agent/answer.ts');
  const { meanLogProb } = await import('../memory/gate.ts');
  const { signal } = io;
  const use = async ({ engine, keeper, again }: Opened) => {
    const { state } = keeper.snapshot;
    await engine.setFastWeights(state.weights);
    const { answer, nearest } = await answerQuestion(engine, state, question, {
      useExplicit: false,
      nearest: top,
      signal,
    });
    if (answer === '') throw new TmemError('failed', 'The model gave no answer; ask it in other words.');
    const logProb = (fastWeights: boolean) => meanLogProb(engine, question, answer, fastWeights, signal);
    const [own, base] = [await logProb(true), await logProb(false)];
    const grounds: Ground[] = [];
    for (const [i, near] of nearest.entries()) {
      if (quick || i >= top) {
        grounds.push({ nearest: near });
        continue;
      }
      const { from, keeps, writes, seconds } = without(state, near);
      io.note(`Without ${pairLine(near.pair)}: ${writes} writes again, which took ${seconds} s.`);
      try {
        await again({ from, keeps });
        grounds.push({ nearest: near, without: await logProb(true) });
      } catch (error) {
        if (!(error instanceof TmemError) || error.code !== 'refused') throw error;
        grounds.push({ nearest: near, reason: error.message });
      }
    }
    return { answer, own, base, grounds };
  };
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

/** How the memory is made again as if it had never had a pair. */
function without({ writes }: MemoryState, { pair: { id } }: NearestPair) {
  const from = writes.findIndex((write) => write.pairs.some((pair) => pair.id === id));
  return { from, keeps: (pair: { readonly id: string }) => pair.id !== id, ...costFrom(writes, from) };
}

const signed = (x: number) => `${x < 0 ? '' : '+'}${x.toFixed(2)}`;
