/** Delta: how large it is, layer by layer, and what can be done with all of it. */
import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { Confirm } from './confirm.ts';
import { useStudio } from './context.ts';
import { count, parsePairs, verdictInWords } from './format.ts';
import type { DeltaNorm } from './types.ts';
import { html, useDraft } from './ui.ts';

export function Weights(): VNode {
  const { state } = useStudio();
  return html`<${Delta} delta=${state?.delta ?? []} /><${Transfer} /><${Upkeep} />`;
}

/** "ffn_gate" as "gate". */
const short = (product: string) => product.replace(/^ffn_/, '').replace(/^attn_/, 'attention ');

function Delta({ delta }: { readonly delta: readonly DeltaNorm[] }): VNode {
  if (delta.length === 0)
    return html`<section class="card"><h2>Delta is zero</h2><p>The model is as it was published; the first write gives it fast weights.</p></section>`;
  const most = Math.max(...delta.map(({ norm }) => norm));
  const layers = [...new Set(delta.map(({ layer }) => layer))].sort((a, b) => b - a);
  const products = [...new Set(delta.map(({ product }) => product))];
  return html`<section class="plain">
    <h2>Size of Delta</h2>
    <p class="hint" id="delta-hint">Frobenius norm of B A, by layer and product.</p>
    <table class="delta" aria-describedby="delta-hint">
      <thead><tr><th scope="col">Layer</th>${products.map((product) => html`<th scope="col">${short(product)}</th>`)}</tr></thead>
      <tbody>
        ${layers.map(
          (layer) => html`<tr key=${layer}><th scope="row">${layer}</th>
            ${products.map((product) => {
              const norm = delta.find((entry) => entry.layer === layer && entry.product === product)?.norm ?? 0;
              return html`<td><span>${norm.toPrecision(3)}</span><div class="bar"><i style=${{ width: `${(100 * norm) / most}%` }}></i></div></td>`;
            })}
          </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}

function Transfer(): VNode {
  const { api, session, state, operate } = useStudio();
  const save = async (format: 'gguf' | 'jsonl') => {
    const blob = await operate('Exporting', () => api.export(session, format));
    if (blob) download(blob, `${session}.${format}`);
  };
  return html`<section class="plain">
    <h2>Export</h2>
    <div class="choices">
      <div><button type="button" disabled=${!state?.delta.length} onClick=${() => save('gguf')}>GGUF LoRA</button>
        <p class="hint">The weights, for llama.cpp.</p></div>
      <div><button type="button" disabled=${!state?.writes.length} onClick=${() => save('jsonl')}>JSON lines</button>
        <p class="hint">The ledger: facts and where they were said.</p></div>
    </div>
    <${Import} />
  </section>`;
}

function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  // The browser takes the file over after the click.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Pairs as text or from a file; they stay there until they are written. */
function Import(): VNode {
  const { api, session, busy, operate, tell } = useStudio();
  const [text, setText] = useDraft(`tmem.import.${session}`);
  const [fault, setFault] = useState('');
  const load = async (event: Event) => {
    const file = (event.target as HTMLInputElement).files?.[0];
    if (file) setText(await file.text());
  };
  const submit = async () => {
    try {
      const pairs = parsePairs(text);
      setFault('');
      const done = await operate(`Writing ${count(pairs.length, 'fact')}`, (step) => api.import(session, pairs, step));
      if (!done) return;
      tell(done.writes.map(verdictInWords).join(' '));
      if (done.writes.every(({ verdict }) => verdict !== 'refused')) setText('');
    } catch (error) {
      setFault((error as Error).message);
    }
  };
  return html`<form class="import" onSubmit=${(event: Event) => {
    event.preventDefault();
    void submit();
  }}>
    <h2>Import</h2>
    <label class="field">
      Questions and answers, one a line
      <textarea rows="4" spellcheck=${false} value=${text} placeholder=${'{"instruction": "Which port?", "output": "8417"}'}
        onInput=${(event: InputEvent) => setText((event.target as HTMLTextAreaElement).value)}></textarea>
    </label>
    <p class="fault" role="alert">${fault}</p>
    <div class="actions">
      <label class="file">From a file<input type="file" accept=".jsonl,.json,.txt" onChange=${load} /></label>
      <button type="submit" disabled=${busy || text.trim() === ''}>Import</button>
    </div>
  </form>`;
}

function Upkeep(): VNode {
  const { api, session, state, busy, operate, tell, fail, leave } = useStudio();
  const [removing, setRemoving] = useState(false);
  const isEmpty = !state?.writes.length;
  const verify = async () => {
    const done = await operate('Making the weights again', (step) => api.verify(session, step));
    if (done?.ok) tell('The weights are, bit for bit, what the ledger makes.');
    else if (done) fail(new Error('The weights are not what the ledger makes; consolidate to make them anew.'));
  };
  const consolidate = async () => {
    const done = await operate('Consolidating', (step) => api.consolidate(session, step));
    if (done) tell(verdictInWords(done.write));
  };
  const remove = async () => {
    const done = await operate('Removing', async () => {
      await api.remove(session);
      return true;
    });
    if (!done) return;
    tell(`${session} is removed.`);
    leave(session);
  };
  return html`<section class="plain">
    <h2>Upkeep</h2>
    <div class="choices">
      <div><button type="button" disabled=${busy || isEmpty} onClick=${verify}>Verify</button>
        <p class="hint">Trains everything again and compares the bits.</p></div>
      <div><button type="button" disabled=${busy || isEmpty} onClick=${consolidate}>Consolidate</button>
        <p class="hint">Trains all that holds together, on fresh weights of one size.</p></div>
      <div><button type="button" disabled=${busy || !state} onClick=${() => setRemoving(true)}>Remove session…</button>
        <p class="hint">Facts, weights and notes.</p></div>
    </div>
    ${
      removing &&
      html`<${Confirm} title="Remove ${session}?" text="Its facts, weights and notes are gone for good. Export them first to keep them." action="Remove"
        onConfirm=${remove} onClose=${() => setRemoving(false)} />`
    }
  </section>`;
}
