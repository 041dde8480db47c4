/** Markdown to HTML: headings that can be linked to, links between sources as links between pages, and pictures inside the page. */
import { readFile } from 'node:fs/promises';
import { Marked } from 'marked';
import { escaped, heading, scrolling, slug } from './html.ts';

export interface Rendered {
  /** Text of the first heading. */
  readonly title: string;
  readonly html: string;
}

/** @param folder that pictures are named in. @throws Error when one is not there. */
export async function renderMarkdown(source: string, folder: URL): Promise<Rendered> {
  const pictures = new Map<string, string>();
  for (const [, name] of source.matchAll(/!\[[^\]]*\]\(([^)]+\.svg)\)/g))
    pictures.set(name!, await readFile(new URL(name!, folder), 'utf8'));
  let title = '';
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        const html = this.parser.parseInline(tokens);
        if (depth > 1) return heading(depth, slug(text), html);
        title ||= text;
        return `<h1>${html}</h1>`;
      },
      link({ href, tokens }) {
        return `<a href="${escaped(pageOf(href))}">${this.parser.parseInline(tokens)}</a>`;
      },
      // Inside the page its colours are the page's, light or dark.
      image: ({ href, text }) => `<span class="picture">${labelled(pictures.get(href)!, text)}</span>`,
      table(token) {
        const row = (cells: typeof token.header, tag: string) =>
          `<tr>${cells.map((cell) => `<${tag}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join('')}</tr>`;
        const rows = token.rows.map((cells) => row(cells, 'td')).join('\n');
        return scrolling(`<table><thead>${row(token.header, 'th')}</thead><tbody>${rows}</tbody></table>`);
      },
      code: ({ text }) => `<pre tabindex="0"><code>${escaped(text)}</code></pre>`,
    },
  });
  const html = await marked.parse(source);
  return { title, html };
}

/** A line or two of a doc comment. */
export function renderInline(text: string): string {
  return new Marked().parseInline(text, { async: false });
}

const pageOf = (href: string) => (/^\w+:/.test(href) ? href : href.replace(/\.md(?=#|$)/, '.html'));

const labelled = (svg: string, text: string) =>
  svg.replace(/^[\s\S]*?<svg /, `<svg role="img" aria-label="${escaped(text)}" `);
