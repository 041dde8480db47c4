/** A question before something that cannot be taken back. */
import type { VNode } from 'preact';
import { Dialog, html } from './ui.ts';

interface ConfirmProps {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  readonly onConfirm: () => void;
  readonly onClose: () => void;
}

export function Confirm({ title, text, action, onConfirm, onClose }: ConfirmProps): VNode {
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <p>${text}</p>
    <div class="actions">
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="button" class="danger" onClick=${() => {
        onClose();
        onConfirm();
      }}>${action}</button>
    </div>
  <//>`;
}
