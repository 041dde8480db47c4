/** Server-sent events from the bytes of a response (WHATWG HTML, 9.2.6 Interpreting an event stream). */

export type ServerSentEvent =
  | { readonly type: 'event'; readonly name: string; readonly data: string }
  /** A line that begins with a colon: the connection is alive. */
  | { readonly type: 'comment'; readonly text: string };

/** What the stream says, however its bytes are cut. An event that the end of the stream breaks off is not told, as specified. */
export async function* serverSentEvents(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  let name = '';
  let data: string[] = [];
  for await (const line of linesOf(bytes)) {
    if (line === '') {
      if (data.length > 0) yield { type: 'event', name: name || 'message', data: data.join('\n') };
      name = '';
      data = [];
      continue;
    }
    const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
    if (line.startsWith(':')) yield { type: 'comment', text: value };
    else if (field === 'event') name = value;
    else if (field === 'data') data.push(value);
  }
}

/** Lines end with \r\n, \n or \r; what follows the last end is not a line. */
async function* linesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder(); // drops a byte order mark
  let rest = '';
  for await (const chunk of bytes) {
    rest += decoder.decode(chunk, { stream: true });
    // A \r at the end may be the first half of \r\n: it waits for what comes next.
    const complete = rest.split(/\r\n|\n|\r(?!$)/);
    rest = complete.pop()!;
    yield* complete;
  }
  if (rest.endsWith('\r')) yield rest.slice(0, -1);
}
