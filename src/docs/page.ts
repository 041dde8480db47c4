/** One page: head, contents, text, and where to read on. */
import { posix } from 'node:path';
import { escaped } from './html.ts';

/** A page before it stands among the others. */
export interface Draft {
  /** From the root of the site: `cli/serve.html`. */
  readonly path: string;
  readonly title: string;
  /** Of its main part; links are relative to the page. */
  readonly html: string;
}

export interface Chapter {
  readonly page: Draft;
  /** Pages that belong to it. */
  readonly parts: readonly Draft[];
}

export function renderPage(page: Draft, chapters: readonly Chapter[], version: string): string {
  const to = (path: string) => posix.relative(posix.dirname(page.path), path);
  const order = chapters.flatMap((chapter) => [chapter.page, ...chapter.parts]);
  const at = order.indexOf(page);
  const beside = (other: Draft | undefined, before: string, after: string) =>
    other ? `<a href="${to(other.path)}">${before}${escaped(other.title)}${after}</a>` : '<span></span>';
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <title>${page.path === 'index.html' ? 'tmem documentation' : `${escaped(page.title)} - tmem`}</title>
    <link rel="icon" href="${to('assets/icon.svg')}" type="image/svg+xml" />
    <link rel="stylesheet" href="${to('assets/base.css')}" />
    <link rel="stylesheet" href="${to('assets/docs.css')}" />
    <script src="${to('assets/theme.js')}"></script>
  </head>
  <body>
    <header class="head">
      <a class="skip" href="#main">To the text</a>
      <a class="home" href="${to('index.html')}"><img src="${to('assets/icon.svg')}" alt="" />tmem ${escaped(version)}</a>
      <a class="to-contents" href="#contents">Contents</a>
      <button type="button" id="theme" class="icon" role="switch" aria-checked="false" aria-label="Dark theme" title="Dark theme" hidden>
        <svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7" class="theme-ring" /><path d="M10 3a7 7 0 0 1 0 14z" /></svg>
      </button>
    </header>
    <main id="main" class="prose">
${page.html}
<div class="turn">${beside(order[at - 1], '← ', '')}${beside(order[at + 1], '', ' →')}</div>
    </main>
    <nav id="contents" class="contents" aria-label="Contents">
      <ul>
${chapters.map((chapter) => item(chapter, page, to)).join('\n')}
      </ul>
    </nav>
  </body>
</html>
`;
}

/** A chapter in the contents; the one that is read is open. */
function item({ page, parts }: Chapter, current: Draft, to: (path: string) => string): string {
  const isOpen = page === current || parts.includes(current);
  const entry = (draft: Draft) =>
    `<li><a href="${to(draft.path)}"${draft === current ? ' aria-current="page"' : ''}>${escaped(draft.title)}</a>`;
  const below =
    isOpen && parts.length > 0 ? `<ul class="parts">${parts.map((part) => `${entry(part)}</li>`).join('')}</ul>` : '';
  return `${entry(page)}${below}</li>`;
}
