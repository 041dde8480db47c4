/** The frame of the memory's side: how full the context is, what is being done, and the tabs. */
import type { VNode } from 'preact';
import { useRef } from 'preact/hooks';
import { type Operation, useStudio } from './context.ts';
import { Facts } from './facts.ts';
import { Now } from './now.ts';
import { html } from './ui.ts';
import { Weights } from './weights.ts';
import { Writes } from './writes.ts';

const TABS = ['chat', 'now', 'facts', 'writes', 'weights'] as const;
export type Tab = (typeof TABS)[number];
const TITLES: Readonly<Record<Tab, string>> = {
  ...{ chat: 'Chat', now: 'Now', facts: 'Facts', writes: 'Writes', weights: 'Weights' },
};
const VIEWS = { now: Now, facts: Facts, writes: Writes, weights: Weights };

/** How full the working context is, up to the length at which it is written. */
export function Gauge(): VNode {
  const { api, session, state, live, busy, operate, tell } = useStudio();
  const { tokens, budget } = live;
  const length = budget > 0 ? `of ${budget} tokens` : 'tokens';
  const full = budget > 0 ? Math.min(1, tokens / budget) : 0;
  const write = async () => {
    const done = await operate('Writing', (step) => api.write(session, step));
    if (done?.write === null) tell('There was nothing new to write.');
  };
  return html`<section class="gauge" aria-label="Working context">
    <p class="gauge-title"><span>Context</span> <b>${tokens}</b> ${length}</p>
    <button type="button" disabled=${busy || !state?.working.length} onClick=${write}>Write now</button>
    <div class="meter" role="meter" aria-label="Working context" aria-valuemin="0" aria-valuemax=${budget} aria-valuenow=${Math.min(tokens, budget)}
      aria-valuetext=${`${tokens} ${length}`}>
      <i style=${{ transform: `scaleX(${full})` }}></i>
    </div>
  </section>`;
}

export function OperationStrip({ operation }: { readonly operation: Operation }): VNode {
  const { label, message, stop } = operation;
  return html`<div class="strip">
    <p role="status">${label}<span>${message && `: ${message}`}</span></p>
    <button type="button" class="quiet" onClick=${stop}>Stop</button>
  </div>`;
}

interface TabListProps {
  readonly tab: Tab;
  /** The chat stands beside the tabs and is none of them. */
  readonly wide: boolean;
  readonly onChoose: (tab: Tab) => void;
}

/** Arrow keys, Home and End go through the tabs; only the chosen one is in the order of Tab. */
export function TabList({ tab, wide, onChoose }: TabListProps): VNode {
  const { state } = useStudio();
  const list = useRef<HTMLDivElement>(null);
  const tabs = wide ? TABS.slice(1) : TABS;
  const counts: Partial<Record<Tab, number>> = {
    facts: state?.pairs.filter(({ standing }) => standing).length,
    writes: state?.writes.length,
  };
  const move = (event: KeyboardEvent) => {
    const at = tabs.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs.at(to % tabs.length)!;
    onChoose(next);
    list.current!.querySelector<HTMLElement>(`#tab-${next}`)!.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label="Views" ref=${list} onKeyDown=${move}>
    ${tabs.map(
      (name) => html`<button type="button" role="tab" key=${name} id="tab-${name}" aria-selected=${name === tab}
        aria-controls=${name === tab ? `panel-${name}` : undefined} tabindex=${name === tab ? 0 : -1} onClick=${() => onChoose(name)}>
        ${TITLES[name]} ${counts[name] ? html`<span class="count">${counts[name]}</span>` : null}
      </button>`,
    )}
  </div>`;
}

export function TabPanel({ tab }: { readonly tab: Exclude<Tab, 'chat'> }): VNode {
  return html`<div class="panel" role="tabpanel" key=${tab} id="panel-${tab}" aria-labelledby="tab-${tab}" tabindex="0">
    <${VIEWS[tab]} />
  </div>`;
}
