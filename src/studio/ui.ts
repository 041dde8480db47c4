/** Parts that every view is made of. */

import htm from 'htm';
import { type ComponentChildren, h, type VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { lossCurve } from './curve.ts';
import { type Block, type Inline, parseMarkdown } from './markdown.ts';

type Tag = (strings: TemplateStringsArray, ...values: unknown[]) => VNode;
// Its types describe its CommonJS build; browsers and Node are given the other one.
export const html = (htm as unknown as { bind(create: typeof h): Tag }).bind(h);

/** Whether a media query holds, as it changes. */
export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = () => setMatches(list.matches);
    change();
    list.addEventListener('change', change);
    return () => list.removeEventListener('change', change);
  }, [query]);
  return matches;
}

/** A text that survives a reload of the page, until the tab is closed. */
export function useDraft(key: string): [string, (text: string) => void] {
  const [, again] = useState(0);
  const text = sessionStorage.getItem(key) ?? '';
  const set = (next: string) => {
    if (next === '') sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, next);
    again((n) => n + 1);
  };
  return [text, set];
}

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

/** A modal dialog: the browser keeps the focus in it and gives it back, and Escape closes it. */
export function Dialog({ title, onClose, children }: DialogProps): VNode {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onCancel=${(event: Event) => {
    event.preventDefault();
    onClose();
  }}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

interface LossCurveProps {
  readonly loss: readonly (number | null)[];
  readonly steps?: number | null;
  /** A line beside other text, without its own figures. */
  readonly small?: boolean;
}

const BOX = { width: 320, height: 96 };
const SMALL_BOX = { width: 72, height: 20 };

/** Loss over the steps of a training, as a line. */
export function LossCurve({ loss, steps, small = false }: LossCurveProps): VNode | null {
  if (loss.length === 0) return null;
  const box = small ? SMALL_BOX : BOX;
  const { path, end } = lossCurve(loss, steps ?? loss.length, box);
  const [first, last] = [figure(loss[0]), figure(loss.at(-1))];
  const label = `Loss from ${first} to ${last} in ${loss.length} steps`;
  const line = html`<svg class="curve" role="img" aria-label=${label} viewBox="-4 -4 ${box.width + 8} ${box.height + 8}">
    ${!small && html`<path class="curve-base" d="M0 ${box.height}H${box.width}" />`}
    <path class="curve-line" d=${path} />
    ${end && html`<circle class="curve-end" cx=${end[0]} cy=${end[1]} r=${small ? 2 : 3.5} />`}
  </svg>`;
  if (small) return line;
  return html`<figure class="loss">
    ${line}
    <figcaption>
      Loss <b>${first}</b> → <b>${last}</b><span>step ${loss.length}${steps ? ` of at most ${steps}` : ''}</span>
    </figcaption>
  </figure>`;
}

const figure = (loss: number | null | undefined) => (Number.isFinite(loss) ? loss!.toFixed(2) : 'not a number');

export function Markdown({ text }: { readonly text: string }): VNode {
  return html`${parseMarkdown(text).map(blockView)}`;
}

function blockView(block: Block): VNode {
  switch (block.type) {
    case 'code':
      return html`<pre tabindex="0"><code>${block.text}</code></pre>`;
    case 'list': {
      const items = block.items.map((item) => html`<li>${item.map(inlineView)}</li>`);
      return block.ordered ? html`<ol>${items}</ol>` : html`<ul>${items}</ul>`;
    }
    case 'quote':
      return html`<blockquote>${block.text.map(inlineView)}</blockquote>`;
    case 'heading':
      return html`<p><strong>${block.text.map(inlineView)}</strong></p>`;
    case 'paragraph':
      return html`<p>${block.text.map(inlineView)}</p>`;
  }
}

function inlineView(part: Inline): VNode | string {
  switch (part.type) {
    case 'link':
      return html`<a href=${part.href} target="_blank" rel="noopener noreferrer">${part.text}</a>`;
    case 'code':
      return html`<code>${part.text}</code>`;
    case 'strong':
      return html`<strong>${part.text}</strong>`;
    case 'em':
      return html`<em>${part.text}</em>`;
    case 'text':
      return part.text;
  }
}
