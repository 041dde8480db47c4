/** What the memory knows: found, checked, corrected, forgotten. */
import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { useStudio } from './context.ts';
import { ForgetDialog } from './forget.ts';
import { verdictInWords, when } from './format.ts';
import { PairText } from './pairs.ts';
import { matches } from './search.ts';
import type { KnownPair, RecallResult } from './types.ts';
import { html, useDraft } from './ui.ts';

/** Facts that are shown before one asks for more. */
const PAGE = 50;

export function Facts(): VNode {
  const { api, session, state, busy, operate } = useStudio();
  const [query, setQuery] = useState('');
  const [withEnded, setWithEnded] = useState(false);
  const [shown, setShown] = useState(PAGE);
  const [recalled, setRecalled] = useState<ReadonlyMap<string, RecallResult>>(new Map());
  const [forgetting, setForgetting] = useState<string | null>(null);
  const pairs = state?.pairs ?? [];
  const ended = pairs.filter(({ standing }) => !standing).length;
  const found = pairs.filter((pair) => (withEnded || pair.standing) && matches(pair, query)).toReversed();
  const page = found.slice(0, shown);

  const recall = async (ids: readonly string[]) => {
    const done = await operate('Asking', (step) => api.recall(session, ids, step));
    if (done) setRecalled(new Map([...recalled, ...done.results.map((result) => [result.pair, result] as const)]));
  };

  if (pairs.length === 0)
    return html`<section class="card"><h2>Nothing known yet</h2><p>Facts appear here when a write has trained them into the weights.</p></section>`;
  return html`<section class="plain" aria-label="Facts">
    <div class="search" role="search">
      <label class="visually-hidden" for="search">Search facts</label>
      <input id="search" type="search" placeholder="Search questions, answers and quotes" value=${query}
        onInput=${(event: InputEvent) => setQuery((event.target as HTMLInputElement).value)} />
      <button type="button" disabled=${busy || page.length === 0} onClick=${() => recall(page.map(({ id }) => id))}>${query.trim() === '' ? 'Recall all' : 'Recall these'}</button>
      ${query.trim() !== '' && found.length > 0 && html`<button type="button" disabled=${busy} onClick=${() => setForgetting(query.trim())}>Forget these…</button>`}
    </div>
    <p class="search-line"><span role="status">${found.length === pairs.length ? `${found.length} facts` : `${found.length} of ${pairs.length} facts`}</span>
      ${
        ended > 0 &&
        html`<label class="check"><input type="checkbox" checked=${withEnded}
          onChange=${(event: Event) => setWithEnded((event.target as HTMLInputElement).checked)} />Also the ${ended} that no longer hold</label>`
      }
    </p>
    <ul class="pairs">
      ${page.map(
        (
          pair,
        ) => html`<${Fact} key=${pair.id} pair=${pair} recalled=${recalled.get(pair.id)} onRecall=${() => recall([pair.id])}
          onForget=${() => setForgetting(pair.id)} />`,
      )}
    </ul>
    ${found.length > shown && html`<button type="button" onClick=${() => setShown(shown + PAGE)}>Show more</button>`}
    ${forgetting !== null && html`<${ForgetDialog} query=${forgetting} onClose=${() => setForgetting(null)} />`}
  </section>`;
}

interface FactProps {
  readonly pair: KnownPair;
  readonly recalled: RecallResult | undefined;
  readonly onRecall: () => void;
  readonly onForget: () => void;
}

function Fact({ pair, recalled, onRecall, onForget }: FactProps): VNode {
  const { busy, state } = useStudio();
  const [editing, setEditing] = useState(false);
  const by = pair.ended && state?.pairs.find(({ id }) => id === pair.ended!.by);
  const about = html`<span class="visually-hidden"> “${pair.instruction}”</span>`;
  return html`<li class=${`pair${pair.standing ? '' : ' ended'}`}>
    <${PairText} pair=${pair}>
      <footer>${pair.origin}${pair.time && `, ${when(pair.time)}`}, turn ${pair.turn + 1}, write ${pair.write}</footer>
    <//>
    ${pair.ended && html`<p class="hint">Held until ${when(pair.ended.time)}${by && `; now: ${by.output}`}</p>`}
    ${
      recalled &&
      html`<p class=${`recalled ${recalled.ok ? 'right' : 'wrong'}`} role="status">
        <b>${recalled.ok ? 'Recalled' : 'Not recalled'}</b> “${recalled.answer}”
      </p>`
    }
    ${
      editing
        ? html`<${EditForm} pair=${pair} onClose=${() => setEditing(false)} />`
        : html`<div class="pair-actions">
          <button type="button" class="quiet" disabled=${busy} onClick=${onRecall}>Recall now${about}</button>
          ${pair.standing && html`<button type="button" class="quiet" onClick=${() => setEditing(true)}>Edit${about}</button>`}
          <button type="button" class="quiet" disabled=${busy} onClick=${onForget}>Forget…${about}</button>
        </div>`
    }
  </li>`;
}

/** Another answer to the same question; it stays as typed until it is written. */
function EditForm({ pair, onClose }: { readonly pair: KnownPair; readonly onClose: () => void }): VNode {
  const { api, session, busy, operate, tell, fail } = useStudio();
  const [draft, setDraft] = useDraft(`tmem.edit.${session}.${pair.id}`);
  const text = draft || pair.output;
  const close = () => {
    setDraft('');
    onClose();
  };
  const submit = async () => {
    const done = await operate('Writing the correction', (step) => api.edit(session, pair.id, text.trim(), step));
    if (!done) return;
    if (done.write.verdict !== 'committed') fail(new Error(verdictInWords(done.write)));
    else {
      tell(verdictInWords(done.write));
      close();
    }
  };
  return html`<form class="edit" onSubmit=${(event: Event) => {
    event.preventDefault();
    void submit();
  }}>
    <label class="field">
      The right answer
      <textarea rows="2" required ref=${focusOnce} value=${text}
        onInput=${(event: InputEvent) => setDraft((event.target as HTMLTextAreaElement).value)}></textarea>
    </label>
    <p class="hint">It is trained as a write of its own, and the old answer ends.</p>
    <div class="actions">
      <button type="button" onClick=${close}>Cancel</button>
      <button type="submit" class="primary" disabled=${busy || text.trim() === '' || text.trim() === pair.output}>Train</button>
    </div>
  </form>`;
}

const focusOnce = (element: HTMLTextAreaElement | null) => element?.focus();
