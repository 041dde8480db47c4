/** The frame of a report: one HTML file that opens offline, with tables, and plots by Chart.js (inlined). */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

export interface Page {
  readonly title: string;
  /** HTML below the title; a chart is drawn where a `<canvas>` has its name as `id`. */
  readonly body: string;
  /** Configurations of Chart.js by name. */
  readonly charts: Readonly<Record<string, unknown>>;
}

export function renderPage({ title, body, charts }: Page): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${asHtml(title)}</title><style>${STYLE}</style></head><body><main>
<h1>${asHtml(title)}</h1>
${body}
</main>
<script>${chartLibrary()}</script>
<script>${drawing(charts)}</script>
</body></html>
`;
}

export function htmlTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${asHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="wide"><table><thead>${line(head, 'th')}</thead><tbody>${rows.map((row) => line(row, 'td')).join('')}</tbody></table></div>`;
}

/** Terms and what is said of them. */
export function htmlList(entries: readonly (readonly [term: string, text: string])[]): string {
  return `<dl>${entries.map(([term, text]) => `<dt>${asHtml(term)}</dt><dd>${asHtml(text)}</dd>`).join('')}</dl>`;
}

export function asHtml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
}

/** The one file for browsers, which lies beside the package's entry. */
function chartLibrary(): string {
  const entry = createRequire(import.meta.url).resolve('chart.js');
  const file = path.join(path.dirname(entry), 'chart.umd.min.js');
  return readFileSync(file, 'utf8').replace(/\n\/\/# sourceMappingURL=.*$/m, '');
}

/** What draws the plots: data, and one call of the library for each. */
function drawing(charts: Page['charts']): string {
  // A closing tag inside a name must not end the script.
  const data = JSON.stringify(charts).replaceAll('<', '\\u003c');
  return `const charts = ${data};
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
if (dark) { Chart.defaults.color = '#ccc'; Chart.defaults.borderColor = '#444'; }
for (const [id, chart] of Object.entries(charts)) new Chart(document.getElementById(id), chart);`;
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figcaption { font-size: .875rem; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
`;
