/** The API key: asked for when the server wants one, and kept until the tab is closed. */
import type { VNode } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import type { Keys } from './api.ts';
import { Dialog, html } from './ui.ts';

const KEY = 'tmem.key';

export interface KeyRing {
  readonly keys: Keys;
  /** How many keys were given so far. */
  readonly given: number;
  /** The dialog, while a key is asked for. */
  readonly dialog: VNode | null;
}

export function useKeys(): KeyRing {
  const [refused, setRefused] = useState<string | null | undefined>(undefined);
  const [given, setGiven] = useState(0);
  const waiting = useRef<{ promise: Promise<string | null>; resolve: (key: string | null) => void } | null>(null);

  const keys = useMemo<Keys>(
    () => ({
      read: () => sessionStorage.getItem(KEY),
      async ask(refusedKey) {
        const now = sessionStorage.getItem(KEY);
        // Another request has been refused as well, and has got a key meanwhile.
        if (now !== null && now !== refusedKey) return now;
        waiting.current ??= Promise.withResolvers<string | null>();
        setRefused(refusedKey);
        return waiting.current.promise;
      },
    }),
    [],
  );

  const answer = (key: string | null) => {
    if (key !== null) {
      sessionStorage.setItem(KEY, key);
      setGiven((n) => n + 1);
    }
    setRefused(undefined);
    waiting.current?.resolve(key);
    waiting.current = null;
  };

  const dialog = refused === undefined ? null : html`<${KeyDialog} refused=${refused} answer=${answer} />`;
  return { keys, given, dialog };
}

interface KeyDialogProps {
  readonly refused: string | null;
  readonly answer: (key: string | null) => void;
}

function KeyDialog({ refused, answer }: KeyDialogProps): VNode {
  const [key, setKey] = useState('');
  return html`<${Dialog} title="This server asks for a key" onClose=${() => answer(null)}>
    <form onSubmit=${(event: Event) => {
      event.preventDefault();
      if (key.trim()) answer(key.trim());
    }}>
      <label class="field">
        API key
        <input type="password" autocomplete="off" required value=${key}
          onInput=${(event: InputEvent) => setKey((event.target as HTMLInputElement).value)} />
      </label>
      ${refused !== null && html`<p class="fault" role="alert">The server did not take this key; try another one.</p>`}
      <p class="hint">It stays in this tab and is gone when the tab is closed.</p>
      <div class="actions">
        <button type="button" onClick=${() => answer(null)}>Cancel</button>
        <button type="submit" class="primary">Use key</button>
      </div>
    </form>
  <//>`;
}
