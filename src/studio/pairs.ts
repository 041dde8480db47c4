/** Questions and answers with their quotes, and what was asked about them. */
import type { ComponentChildren, VNode } from 'preact';
import { QUIZ_KINDS } from './format.ts';
import type { Pair, QuizKind, QuizLine } from './types.ts';
import { html } from './ui.ts';

type Shown = Pick<Pair, 'instruction' | 'output' | 'source'>;

export function PairText({ pair, children }: { readonly pair: Shown; readonly children?: ComponentChildren }): VNode {
  return html`
    <p class="instruction">${pair.instruction}</p>
    <p class="output">${pair.output}</p>
    <blockquote>${pair.source}${children}</blockquote>`;
}

export function PairList({ pairs }: { readonly pairs: readonly Shown[] }): VNode {
  return html`<ul class="pairs">
    ${pairs.map((pair) => html`<li class="pair" key=${pair.instruction}><${PairText} pair=${pair} /></li>`)}
  </ul>`;
}

/** One mark for each question, and in words those that were answered wrongly. */
export function QuizView({ quiz }: { readonly quiz: readonly QuizLine[] }): VNode | null {
  if (quiz.length === 0) return null;
  const wrong = quiz.filter(({ ok }) => !ok);
  return html`<div class="quiz">
    <dl>
      ${(Object.keys(QUIZ_KINDS) as QuizKind[]).map((kind) => {
        const lines = quiz.filter((line) => line.kind === kind);
        if (lines.length === 0) return null;
        const right = lines.filter(({ ok }) => ok).length;
        return html`<div key=${kind}>
          <dt>${QUIZ_KINDS[kind]}</dt>
          <dd>
            <span class="marks" aria-hidden="true">${lines.map(({ ok, question }) => html`<i class=${ok ? 'right' : 'wrong'} title=${question}></i>`)}</span>
            <span>${right}<span class="of"> of ${lines.length}</span></span>
          </dd>
        </div>`;
      })}
    </dl>
    ${
      wrong.length > 0 &&
      html`<details><summary>${wrong.length} not as they should be</summary>
        <ul class="wrong-answers">${wrong.map(({ question, answer }) => html`<li><b>${question}</b> ${answer}</li>`)}</ul>
      </details>`
    }
  </div>`;
}
