/** Server-sent events from a response body, which (unlike `EventSource`) may need a key or answer a POST. Source: WHATWG HTML, 9.2.6. */

export type SseItem =
  | { readonly type: 'event'; readonly event: string; readonly data: string }
  | { readonly type: 'comment'; readonly text: string };

/** Takes a stream piece by piece, cut anywhere, and tells what each piece has completed. */
export function sseParser(): (text: string) => SseItem[] {
  let rest = '';
  let event = '';
  let data: string[] = [];
  /** The last piece ended in CR: an LF that begins the next one belongs to it. */
  let afterCr = false;

  const line = (text: string): SseItem[] => {
    if (text === '') {
      const items: SseItem[] =
        data.length > 0 ? [{ type: 'event', event: event || 'message', data: data.join('\n') }] : [];
      event = '';
      data = [];
      return items;
    }
    const colon = text.indexOf(':');
    if (colon === 0) return [{ type: 'comment', text: text.slice(1).trim() }];
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') event = value;
    return [];
  };

  return (text) => {
    if (text === '') return [];
    rest += afterCr && text.startsWith('\n') ? text.slice(1) : text;
    afterCr = text.endsWith('\r');
    const lines = rest.split(/\r\n|\n|\r/);
    rest = lines.pop()!;
    return lines.flatMap(line);
  };
}

/** The items of a response as they come. Leaving the loop ends the response. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<SseItem> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parse = sseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
