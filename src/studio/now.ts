/** What happens at present: the write that is going on or the last one, and what is in the context. */
import type { VNode } from 'preact';
import { useStudio } from './context.ts';
import { count, droppedInWords, duration, verdictInWords } from './format.ts';
import type { LiveWrite, Stage } from './live.ts';
import { PairList, QuizView } from './pairs.ts';
import type { WriteRecord } from './types.ts';
import { html, LossCurve } from './ui.ts';

export function Now(): VNode {
  const { state, live } = useStudio();
  const last = state?.writes.at(-1);
  return html`
    ${live.write ? html`<${WriteCard} write=${live.write} />` : last ? html`<${LastWrite} record=${last} />` : html`<${NothingYet} />`}
    <${Context} />`;
}

function NothingYet(): VNode {
  return html`<section class="card">
    <h2>Nothing written yet</h2>
    <p>The first write can be watched here: what it finds, how the training goes, and what the model recalls of it.</p>
  </section>`;
}

const STAGES: readonly (readonly [Stage, string])[] = [
  ['reading', 'Read'],
  ['training', 'Train'],
  ['asking', 'Quiz'],
  ['done', 'Verdict'],
];
/** Pairs that are shown while they are found, the newest first. */
const LATEST = 4;

function WriteCard({ write }: { readonly write: LiveWrite }): VNode {
  const { stage, pairs, dropped, loss, totalSteps, quiz, record } = write;
  const at = STAGES.findIndex(([name]) => name === stage);
  const left = droppedInWords(dropped);
  return html`<section class="card" aria-label="Write">
    <h2>${stage === 'done' ? 'Last write' : 'Writing'}</h2>
    <ol class="stages">
      ${STAGES.map(
        ([name, title], i) => html`<li key=${name} aria-current=${i === at && stage !== 'done' ? 'step' : undefined}
          class=${i < at || stage === 'done' ? 'past' : ''}>${title}</li>`,
      )}
    </ol>
    <p class="stage-line" role="status">${inWords(write)}</p>
    ${stage === 'reading' && html`<${PairList} pairs=${pairs.slice(-LATEST).reverse()} />`}
    <${LossCurve} loss=${loss} steps=${stage === 'done' ? null : totalSteps} />
    <${QuizView} quiz=${quiz} />
    ${
      stage !== 'reading' &&
      pairs.length > 0 &&
      html`<details open=${stage !== 'done'}><summary>${count(pairs.length, 'fact')}${left && `, left out: ${left}`}</summary><${PairList} pairs=${pairs} /></details>`
    }
    ${record && html`<p class="hint">It took ${duration(record.ms)}.</p>`}
  </section>`;
}

/** Only what a listener should hear: it changes a few times in a write. */
function inWords({ stage, turns, read, parts, pairs, replayed, record }: LiveWrite): string {
  if (record) return verdictInWords(record);
  if (stage === 'asking') return 'Asking the model what it learned, with an empty context.';
  if (stage === 'training')
    return `Training the weights${pairs.length > 0 ? ` on ${count(pairs.length, 'fact')}` : ''}${replayed > 0 ? `, with ${replayed} earlier ones` : ''}.`;
  const part = parts > 0 ? `, part ${Math.min(read + 1, parts)} of ${parts}` : '';
  return `Reading ${turns > 0 ? count(turns, 'turn') : 'the conversation'}${part}: ${count(pairs.length, 'fact')} so far.`;
}

function LastWrite({ record }: { readonly record: WriteRecord }): VNode {
  return html`<section class="card">
    <h2>Last write</h2>
    <p class="stage-line">${verdictInWords(record)}</p>
    <${LossCurve} loss=${record.loss} />
    <${QuizView} quiz=${record.quiz ?? []} />
    <p class="hint">It took ${duration(record.ms)}.</p>
  </section>`;
}

/** The notes and the turns that the model reads before every answer. */
function Context(): VNode {
  const { state } = useStudio();
  const notes = state?.notes.trim().split('\n').filter(Boolean) ?? [];
  const working = state?.working ?? [];
  return html`<section class="plain">
    <h2>In the context</h2>
    <h3>Notes</h3>
    ${
      notes.length === 0
        ? html`<p class="hint">None. What does not stick in the weights is kept here as text.</p>`
        : html`<ul class="notes">${notes.map((line) => html`<li>${line}</li>`)}</ul>`
    }
    <h3>Turns not written yet</h3>
    ${
      working.length === 0
        ? html`<p class="hint">None: the context is empty.</p>`
        : html`<ol class="turns">
            ${working.map(({ index, role, content }) => html`<li key=${index}><span class="role">${role}</span><p>${content}</p></li>`)}
          </ol>`
    }
  </section>`;
}
