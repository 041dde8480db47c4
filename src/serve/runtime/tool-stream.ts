/** Text of a model that may call a tool: what is surely no call is given out as it comes. */
import { parseToolCall } from '../../agent/tools.ts';

/** What a call begins with: JSON, a tag, or a block of code. */
const MAY_BEGIN = /[{<`]/;

export interface CalledTool {
  readonly name: string;
  /** JSON text. */
  readonly arguments: string;
}

export class ToolStream {
  #held = '';
  readonly #names: ReadonlySet<string>;

  constructor(names: readonly string[]) {
    this.#names = new Set(names);
  }

  /** @returns text that is certain to be no call. */
  push(text: string): string {
    if (this.#names.size === 0) return text;
    this.#held += text;
    const at = this.#held.search(MAY_BEGIN);
    const sure = at < 0 ? this.#held : this.#held.slice(0, at);
    this.#held = this.#held.slice(sure.length);
    return sure;
  }

  /** The call that was held back, or else the text. */
  end(): { readonly call?: CalledTool; readonly text: string } {
    const request = parseToolCall(this.#held);
    if (request.type === 'call' && this.#names.has(request.name))
      return { text: '', call: { name: request.name, arguments: JSON.stringify(request.arguments ?? {}) } };
    return { text: this.#held };
  }
}
