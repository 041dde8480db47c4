/** An episode as it is seen on the terminal: progress lines while something runs, one line for what came of it. */
import type { DropCounts } from '../agent/pairs.ts';
import type { TraceListener } from '../agent/trace.ts';
import type { WriteRecord } from '../memory/types.ts';
import type { CliIo, Progress } from './io.ts';

export function liveView(io: Pick<CliIo, 'note' | 'progress'>): TraceListener {
  let progress: Progress | null = null;
  const update = (label: string, fraction: number | null, text: string): void => {
    progress ??= io.progress(label);
    progress.update(fraction, text);
  };
  const end = (text?: string): void => {
    progress?.done(text);
    progress = null;
  };
  // Parts are extracted together and end in any order.
  let partsDone = 0;
  return (event) => {
    if (event.type === 'trigger')
      io.note(`Context at ${event.tokens} of ${event.budget} tokens: writing ${count(event.turns, 'turn')}.`);
    else if (event.type === 'extract') {
      const pairs = event.pairs === null ? 'not readable' : count(event.pairs.length, 'pair');
      partsDone++;
      update('extract', Math.min(1, partsDone / event.parts), `part ${event.part + 1} of ${event.parts}: ${pairs}`);
    } else if (event.type === 'extraction') {
      partsDone = 0;
      end(`${count(event.pairs.length, 'pair')}${describeDrops(event.dropped)}`);
      if (event.unreadable > 0)
        io.note(`${count(event.unreadable, 'part')} gave nothing readable: kept as text in the explicit memory.`);
    } else if (event.type === 'write') {
      const write = event.event;
      if (write.type === 'train' && write.event.type === 'step') {
        const { step, loss } = write.event;
        const fraction = write.totalSteps ? step / write.totalSteps : null;
        update('train', fraction, `step ${step}: loss ${loss.toFixed(3)}`);
      } else if (write.type === 'quiz') {
        if (progress) end();
      } else if (write.type === 'verdict') {
        end();
        io.note(describeWrite(write.record));
      }
    } else if (event.type === 'cleared') io.note(`Context cleared: ${event.tokens} tokens.`);
    else if (event.type === 'tool') io.note(`${event.name}: ${event.result.split('\n')[0]}`);
  };
}

/** A write in one line. */
export function describeWrite(record: WriteRecord): string {
  const { verdict, pairs, recalled, loss, ms, reason } = record;
  if (verdict === 'empty') return 'Nothing to write: no pairs.';
  const curve = loss.length > 0 ? `, loss ${loss[0]!.toFixed(2)} to ${loss.at(-1)!.toFixed(2)}` : '';
  if (verdict === 'refused')
    return `Write refused${reason ? ` (${reason})` : ''}${curve}: the weights are as before, the facts are kept as text.`;
  return `Written: ${recalled} of ${count(pairs.length, 'pair')} recalled${curve}, ${(ms / 1000).toFixed(1)} s.`;
}

function describeDrops(dropped: DropCounts): string {
  const parts = Object.entries(dropped).map(([reason, n]) => `${n} ${reason}`);
  return parts.length > 0 ? `, dropped: ${parts.join(', ')}` : '';
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
