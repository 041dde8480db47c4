/** An episode as it is seen on the terminal: progress lines while something runs, one line for what came of it. */
import type { DropCounts } from '../agent/pairs.ts';
import type { TraceListener } from '../agent/trace.ts';
import { trainedIds } from '../memory/ledger.ts';
import { score } from '../memory/quiz.ts';
import type { WriteRecord } from '../memory/types.ts';
import type { CliIo, Progress } from './io.ts';

export function liveView(io: Pick<CliIo, 'note' | 'progress'>): TraceListener {
  let shown: { readonly label: string; readonly progress: Progress } | null = null;
  const end = (text?: string): void => {
    shown?.progress.done(text);
    shown = null;
  };
  const update = (label: string, fraction: number | null, text: string): void => {
    if (shown?.label !== label) end();
    shown ??= { label, progress: io.progress(label) };
    shown.progress.update(fraction, text);
  };
  // Parts are extracted together and end in any order; so are pairs asked.
  let partsDone = 0;
  let asked = 0;
  let pairs = 0;
  return (event) => {
    if (event.type === 'trigger')
      io.note(`Context at ${event.tokens} of ${event.budget} tokens: writing ${count(event.turns, 'turn')}.`);
    else if (event.type === 'extract') {
      const found = event.pairs === null ? 'not readable' : count(event.pairs.length, 'pair');
      if (event.about) update('extract', null, `again, about ${event.about.join(', ')}: ${found}`);
      else
        update('extract', Math.min(1, ++partsDone / event.parts), `part ${event.part + 1} of ${event.parts}: ${found}`);
    } else if (event.type === 'extraction') {
      partsDone = 0;
      end(`${count(event.pairs.length, 'pair')}${describeDrops(event.dropped)}`);
      if (event.unreadable > 0)
        io.note(`${count(event.unreadable, 'part')} gave nothing readable: kept as text in the explicit memory.`);
    } else if (event.type === 'write') {
      const write = event.event;
      if (write.type === 'write-start') {
        [asked, pairs] = [0, write.pairs];
        update('train', null, `preparing ${count(pairs, 'pair')}`);
      } else if (write.type === 'replay') {
        update('train', null, `preparing ${count(pairs, 'pair')}, ${write.pairs} earlier ones beside them`);
      } else if (write.type === 'train' && write.event.type === 'step') {
        const { step, loss } = write.event;
        const fraction = write.totalSteps ? step / write.totalSteps : null;
        update('train', fraction, `step ${step}: loss ${loss.toFixed(3)}`);
      } else if (write.type === 'quiz') {
        // A write that harms is quizzed again with less of its Delta.
        if (write.kind === 'pair') asked = asked < pairs ? asked + 1 : 1;
        update('quiz', Math.min(1, asked / pairs), `${asked} of ${count(pairs, 'pair')} asked`);
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
  const { verdict, recalled, loss, ms, reason } = record;
  if (verdict === 'empty') return 'Nothing to write: no pairs.';
  const curve = loss.length > 0 ? `, loss ${loss[0]!.toFixed(2)} to ${loss.at(-1)!.toFixed(2)}` : '';
  if (verdict === 'refused')
    return `Write refused${reason ? ` (${reason})` : ''}${curve}: the weights are as before, the facts are kept as text.`;
  const asked = trainedIds(record).length;
  const reworded = score(record.quiz ?? [], 'paraphrase');
  const other = reworded.asked > 0 ? `, ${reworded.right} of ${reworded.asked} in other words` : '';
  return `Written: ${recalled} of ${count(asked, 'pair')} recalled${other}${curve}, ${(ms / 1000).toFixed(1)} s.`;
}

function describeDrops(dropped: DropCounts): string {
  const parts = Object.entries(dropped).map(([reason, n]) => `${n} ${reason}`);
  return parts.length > 0 ? `, dropped: ${parts.join(', ')}` : '';
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
