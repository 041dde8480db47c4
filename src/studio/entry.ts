/** One entry of the conversation. */
import type { VNode } from 'preact';
import { useStudio } from './context.ts';
import { duration, leaning, verdictInWords } from './format.ts';
import type { Comparison, Entry, Exchange } from './transcript.ts';
import type { AskResult, WhyResult } from './types.ts';
import { html, Markdown } from './ui.ts';

interface EntryProps<E extends Entry> {
  readonly entry: E;
  readonly onRetry: () => void;
  readonly onWhy: (id: number, result: WhyResult) => void;
}

export function EntryView(props: EntryProps<Entry>): VNode {
  const { entry, onRetry } = props;
  return html`<article class="entry">
    ${entry.question && html`<div class="question"><h3 class="visually-hidden">You</h3><p>${entry.question}</p></div>`}
    ${entry.kind === 'exchange' ? html`<${ExchangeAnswer} ...${props} />` : html`<${ComparedAnswers} entry=${entry} />`}
    ${
      (entry.state === 'failed' || entry.state === 'stopped') &&
      html`<p class="ended">${entry.state === 'failed' ? 'It broke off.' : 'Stopped.'}
        <button type="button" class="quiet" onClick=${onRetry}>Try again</button></p>`
    }
  </article>`;
}

function ExchangeAnswer({ entry, onWhy }: EntryProps<Exchange>): VNode {
  const { api, session, state, busy, operate } = useStudio();
  const { id, question, answer, state: progress, status, writes, why } = entry;
  const canAskWhy = progress === 'done' && question && answer && state?.pairs.some(({ standing }) => standing);
  const askWhy = async () => {
    const result = await operate('Finding what the answer rests on', (step) => api.why(session, question, step));
    if (result) onWhy(id, result);
  };
  return html`<div class="answer" aria-busy=${progress === 'running'}>
    ${writes.map(
      (write) => html`<p class="written" key=${write.id}>
      ${verdictInWords({ ...write, pairs: { length: write.pairs } })} ${duration(write.ms)}.
    </p>`,
    )}
    ${answer && html`<h3 class="visually-hidden">Model</h3><${Markdown} text=${answer} />`}
    ${progress === 'running' && html`<p class="pending">${status || (answer ? '' : 'thinking')}<i aria-hidden="true"></i></p>`}
    ${why && html`<${Why} why=${why} />`}
    ${
      canAskWhy &&
      !why &&
      html`<button type="button" class="quiet why-button" disabled=${busy} onClick=${askWhy}>Why did you say that?</button>`
    }
  </div>`;
}

/** Pairs that an answer to the question rests on: what it loses without each. */
function Why({ why }: { readonly why: WhyResult }): VNode {
  if (why.pairs.length === 0)
    return html`<div class="why"><p>Nothing that it was taught is near this question.</p></div>`;
  const most = Math.max(1, ...why.pairs.map(({ drop }) => drop ?? 0));
  return html`<div class="why">
    <h4>Asked with an empty context it says “${why.answer}”</h4>
    <ul>
      ${why.pairs.map(
        ({ id, instruction, output, similarity, drop }) => html`<li key=${id}>
          <p><b>${instruction}</b> ${output}</p>
          ${drop !== null && html`<div class="bar" aria-hidden="true"><i style=${{ width: `${(100 * Math.max(0, drop)) / most}%` }}></i></div>`}
          <p class="hint">${leaning(drop)}${drop !== null && ` (log-probability a token ${signed(-drop)} without it)`}, similarity ${similarity.toFixed(2)}</p>
        </li>`,
      )}
    </ul>
  </div>`;
}

const signed = (value: number) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;

function ComparedAnswers({ entry }: { readonly entry: Comparison }): VNode {
  const side = (title: string, result: AskResult | null) => html`<section class="side">
    <h3>${title}</h3>
    ${result && html`<${Markdown} text=${result.answer} /><p class="hint">Confidence ${Math.round(100 * result.confidence)} %</p>`}
    ${!result && entry.state === 'running' && html`<p class="pending">thinking<i aria-hidden="true"></i></p>`}
  </section>`;
  return html`<div class="sides">${side('With memory', entry.with)}${side('Without memory', entry.without)}</div>`;
}
