/** The history of a memory: its writes, newest first, and how to leave it. */
import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { Confirm } from './confirm.ts';
import { useStudio } from './context.ts';
import { count, duration, verdictInWords, when } from './format.ts';
import { PairList, QuizView } from './pairs.ts';
import { NameForm } from './sessions.ts';
import type { DiffResult, WriteRecord } from './types.ts';
import { html, LossCurve } from './ui.ts';

export function Writes(): VNode {
  const { state } = useStudio();
  const writes = state?.writes ?? [];
  if (writes.length === 0)
    return html`<section class="card"><h2>No writes yet</h2><p>Every write is kept here, with what it learned, how it went, and a way back.</p></section>`;
  return html`
    <ol class="timeline" reversed>
      ${writes.map((record, i) => html`<${WriteItem} key=${record.id} record=${record} number=${i + 1} isLast=${i === writes.length - 1} />`).toReversed()}
    </ol>
    <${Branch} />
    <${Diff} />`;
}

interface WriteItemProps {
  readonly record: WriteRecord;
  readonly number: number;
  readonly isLast: boolean;
}

function WriteItem({ record, number, isLast }: WriteItemProps): VNode {
  const { verdict, pairs, consolidated, quiz = [], superseded = [], loss, ms, time } = record;
  return html`<li class=${`write ${verdict}`}>
    <div class="write-head">
      <h2>Write ${number}</h2>
      <time datetime=${time}>${when(time)}</time>
      <${LossCurve} loss=${loss} small />
      <span class="took">${duration(ms)}</span>
    </div>
    <p>${verdictInWords(record)}</p>
    ${consolidated && html`<p class="hint">All that held was trained anew together, at rank ${consolidated.rank}.</p>`}
    ${superseded.length > 0 && html`<p class="hint">${count(superseded.length, 'earlier fact')} no longer ${superseded.length === 1 ? 'holds' : 'hold'}.</p>`}
    ${pairs.length > 0 && html`<details><summary>${count(pairs.length, 'fact')}</summary><${PairList} pairs=${pairs} /></details>`}
    ${quiz.length > 0 && html`<details><summary>Quiz</summary><${QuizView} quiz=${quiz} /></details>`}
    ${isLast && html`<${Undo} number=${number} />`}
  </li>`;
}

function Undo({ number }: { readonly number: number }): VNode {
  const { api, session, busy, operate, tell } = useStudio();
  const [asking, setAsking] = useState(false);
  const undo = async () => {
    if (await operate('Undoing', (step) => api.undo(session, step)))
      tell(`Write ${number} is undone; weights and notes are as before it.`);
  };
  return html`<button type="button" class="quiet" disabled=${busy} onClick=${() => setAsking(true)}>Undo…</button>
    ${
      asking &&
      html`<${Confirm} title="Undo write ${number}?" text="The weights and the notes become what they were before it, and what it learned is gone. Branch first to keep a copy."
        action="Undo" onConfirm=${undo} onClose=${() => setAsking(false)} />`
    }`;
}

function Branch(): VNode {
  const { api, session, sessions, busy, operate, tell, choose } = useStudio();
  const branch = async (to: string) => {
    if (!(await operate('Branching', (step) => api.branch(session, to, step)))) return;
    tell(`${to} remembers what ${session} does, and goes its own way from here.`);
    choose(to);
  };
  return html`<section class="plain"><h2>Branch</h2>
    <${NameForm} label="A session that begins with this memory" action="Branch" taken=${sessions} disabled=${busy} onName=${branch} />
  </section>`;
}

function Diff(): VNode | null {
  const { api, session, sessions, fail } = useStudio();
  const others = sessions.filter((name) => name !== session);
  const [chosen, setChosen] = useState('');
  const [diff, setDiff] = useState<(DiffResult & { readonly with: string }) | null>(null);
  if (others.length === 0) return null;
  const other = others.includes(chosen) ? chosen : others[0]!;
  const compare = () => api.diff(session, other).then((result) => setDiff({ ...result, with: other }), fail);
  return html`<section class="plain"><h2>Difference</h2>
    <div class="name-form">
      <label class="field" for="other">Another session</label>
      <select id="other" value=${other} onChange=${(event: Event) => setChosen((event.target as HTMLSelectElement).value)}>
        ${others.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
      <div class="actions"><button type="button" onClick=${compare}>Compare</button></div>
    </div>
    <div role="status">
      ${
        diff &&
        html`<p>${count(diff.same, 'fact')} in both, ${diff.only.length} only here, ${diff.other.length} only in ${diff.with}.</p>
          ${diff.only.length > 0 && html`<details open><summary>Only in ${session}</summary><${PairList} pairs=${diff.only} /></details>`}
          ${diff.other.length > 0 && html`<details open><summary>Only in ${diff.with}</summary><${PairList} pairs=${diff.other} /></details>`}`
      }
    </div>
  </section>`;
}
