/** Forgetting: what would go is shown first, and nothing goes before one agrees. */
import type { VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useStudio } from './context.ts';
import { count } from './format.ts';
import type { ForgetResult } from './types.ts';
import { Dialog, html } from './ui.ts';

interface ForgetDialogProps {
  /** Id of a pair, or words. */
  readonly query: string;
  readonly onClose: () => void;
}

export function ForgetDialog({ query, onClose }: ForgetDialogProps): VNode {
  const { api, session, operate, tell } = useStudio();
  const [would, setWould] = useState<ForgetResult['removed'] | null>(null);
  const [fault, setFault] = useState('');
  useEffect(() => {
    const control = new AbortController();
    api
      .forget(session, query, true, { signal: control.signal })
      .then(({ removed }) => setWould(removed))
      .catch((error: Error) => control.signal.aborted || setFault(error.message));
    return () => control.abort();
  }, [api, session, query]);

  const forget = async () => {
    onClose();
    const done = await operate('Forgetting', (step) => api.forget(session, query, false, step));
    if (!done) return;
    const checked = done.verified ? 'none of it is recalled any more' : 'whether it is recalled could not be shown';
    tell(`Forgot ${count(done.removed.length, 'fact')}; ${checked}.`);
  };

  const n = would?.length ?? 0;
  return html`<${Dialog} title=${would ? `Forget ${count(n, 'fact')}?` : 'Forget'} onClose=${onClose}>
    ${fault && html`<p class="fault" role="alert">${fault}</p>`}
    ${!would && !fault && html`<p class="pending" role="status">looking up what would go<i aria-hidden="true"></i></p>`}
    ${
      would &&
      html`<ul class="going" tabindex="0" aria-label="What would go">
          ${would.map(({ id, instruction, output }) => html`<li key=${id}><b>${instruction}</b> ${output}</li>`)}
        </ul>
        <p class="hint">${n === 0 ? 'Nothing matches.' : 'The writes that hold them are made again without them, which takes as long as those writes did. Other facts stay.'}</p>`
    }
    <div class="actions">
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="button" class="danger" disabled=${n === 0} onClick=${forget}>Forget${n > 0 ? ` ${count(n, 'fact')}` : ''}</button>
    </div>
  <//>`;
}
