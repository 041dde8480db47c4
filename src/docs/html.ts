/** Small pieces of HTML. */

export const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

export const code = (text: string): string => `<code>${escaped(text)}</code>`;

export const pre = (text: string): string => `<pre tabindex="0"><code>${escaped(text)}</code></pre>`;

/** The name of a heading in addresses: `Keys and shards` is `keys-and-shards`. */
export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '');

/** A heading that can be linked to. @param html of its text */
export const heading = (level: number, id: string, html: string): string =>
  `<h${level} id="${id}">${html}<a class="anchor" href="#${id}" aria-label="Link to this section">#</a></h${level}>`;

/** Cells are HTML. On a narrow screen the table scrolls, not the page. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join('')}</tr>`;
  const body = rows.map((cells) => row(cells, 'td')).join('\n');
  return scrolling(`<table><thead>${row(head, 'th')}</thead><tbody>${body}</tbody></table>`);
}

export const scrolling = (html: string): string => `<div class="table" tabindex="0">${html}</div>`;
