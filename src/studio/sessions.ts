/** Which session is looked at: one of those there are, or a new one. */
import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { useStudio } from './context.ts';
import { sessionNameFault } from './format.ts';
import { Dialog, html } from './ui.ts';

export function SessionPicker(): VNode {
  const { session, sessions, choose } = useStudio();
  const [naming, setNaming] = useState(false);
  const names = sessions.includes(session) ? sessions : [session, ...sessions];
  return html`<div class="session">
    <label class="visually-hidden" for="session">Session</label>
    <select id="session" value=${session} onChange=${(event: Event) => choose((event.target as HTMLSelectElement).value)}>
      ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
    <button type="button" onClick=${() => setNaming(true)}>New<span class="visually-hidden"> session</span></button>
    ${naming && html`<${NewSession} onClose=${() => setNaming(false)} />`}
  </div>`;
}

function NewSession({ onClose }: { readonly onClose: () => void }): VNode {
  const { sessions, choose } = useStudio();
  return html`<${Dialog} title="Begin a session" onClose=${onClose}>
    <${NameForm} label="Name" action="Begin" taken=${sessions} onCancel=${onClose} onName=${(name: string) => {
      onClose();
      choose(name);
    }} />
    <p class="hint">A session has a memory of its own; it is kept once something has been said in it.</p>
  <//>`;
}

interface NameFormProps {
  readonly label: string;
  readonly action: string;
  readonly taken: readonly string[];
  readonly disabled?: boolean;
  readonly onCancel?: () => void;
  readonly onName: (name: string) => void;
}

/** A session's name, checked before it is sent. */
export function NameForm({ label, action, taken, disabled = false, onCancel, onName }: NameFormProps): VNode {
  const [name, setName] = useState('');
  const [tried, setTried] = useState(false);
  const fault = sessionNameFault(name.trim(), taken);
  const id = `name-${action}`;
  return html`<form class="name-form" noValidate onSubmit=${(event: Event) => {
    event.preventDefault();
    setTried(true);
    if (fault !== null) return;
    onName(name.trim());
    setName('');
    setTried(false);
  }}>
    <label class="field" for=${id}>${label}</label>
    <input id=${id} value=${name} autocomplete="off" spellcheck=${false} maxlength="64"
      aria-invalid=${tried && fault !== null} aria-describedby="${id}-fault"
      onInput=${(event: InputEvent) => setName((event.target as HTMLInputElement).value)} />
    <p class="fault" id="${id}-fault" role="alert">${tried && fault}</p>
    <div class="actions">
      ${onCancel && html`<button type="button" onClick=${onCancel}>Cancel</button>`}
      <button type="submit" class=${onCancel ? 'primary' : ''} disabled=${disabled}>${action}</button>
    </div>
  </form>`;
}
