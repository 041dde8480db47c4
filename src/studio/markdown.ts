/** The part of Markdown that models write in chats: paragraphs, headings, lists, quotes, code, emphasis and links. */

export type Inline =
  | { readonly type: 'text' | 'code' | 'strong' | 'em'; readonly text: string }
  | { readonly type: 'link'; readonly text: string; readonly href: string };

export type Block =
  | { readonly type: 'paragraph' | 'heading' | 'quote'; readonly text: readonly Inline[] }
  | { readonly type: 'list'; readonly ordered: boolean; readonly items: readonly (readonly Inline[])[] }
  | { readonly type: 'code'; readonly text: string };

const ITEM = /^\s*(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const FENCE = /^\s*```/;

/** Every line of the text is in one block, whatever it looks like. A fence that is not closed yet lasts to the end. */
export function parseMarkdown(source: string): Block[] {
  const blocks: Block[] = [];
  const lines = source.split('\n');
  for (let at = 0; at < lines.length; ) {
    const line = lines[at]!;
    const run = (belongs: (line: string) => boolean): string[] => {
      const from = at;
      while (at < lines.length && belongs(lines[at]!)) at++;
      return lines.slice(from, at);
    };
    if (line.trim() === '') at++;
    else if (FENCE.test(line)) {
      at++;
      blocks.push({ type: 'code', text: run((l) => !FENCE.test(l)).join('\n') });
      at++;
    } else if (/^#{1,6}\s/.test(line)) {
      blocks.push({ type: 'heading', text: parseInline(line.replace(/^#+\s+/, '')) });
      at++;
    } else if (ITEM.test(line)) {
      const ordered = ITEM.exec(line)![1] !== undefined;
      const items = run((l) => (ITEM.exec(l)?.[1] !== undefined) === ordered && ITEM.test(l));
      blocks.push({ type: 'list', ordered, items: items.map((l) => parseInline(ITEM.exec(l)![2]!)) });
    } else if (/^\s*>/.test(line)) {
      const quoted = run((l) => /^\s*>/.test(l)).map((l) => l.replace(/^\s*>\s?/, ''));
      blocks.push({ type: 'quote', text: parseInline(quoted.join('\n')) });
    } else {
      const plain = run((l) => l.trim() !== '' && !FENCE.test(l) && !ITEM.test(l) && !/^(#{1,6}\s|\s*>)/.test(l));
      blocks.push({ type: 'paragraph', text: parseInline(plain.join('\n')) });
    }
  }
  return blocks;
}

const INLINE =
  /`([^`\n]+)`|\*\*([^*\n]+)\*\*|(?<![\w*])\*([^*\s](?:[^*\n]*[^*\s])?)\*(?![\w*])|\[([^\]\n]+)\]\((https?:\/\/[^)\s]+)\)/g;

export function parseInline(source: string): Inline[] {
  const parts: Inline[] = [];
  let end = 0;
  const plain = (text: string) => text !== '' && parts.push({ type: 'text', text });
  for (const match of source.matchAll(INLINE)) {
    const [all, code, strong, em, text, href] = match;
    plain(source.slice(end, match.index));
    end = match.index + all.length;
    if (href !== undefined) parts.push({ type: 'link', text: text!, href });
    else if (code !== undefined) parts.push({ type: 'code', text: code });
    else if (strong !== undefined) parts.push({ type: 'strong', text: strong });
    else parts.push({ type: 'em', text: em! });
  }
  plain(source.slice(end));
  return parts;
}
