/** The model's own chat template (Jinja, from the GGUF), and training samples in its terms. */
import { Template } from '@huggingface/jinja';
import { TmemError } from './errors.ts';
import type { ChatMessage, Sample } from './types.ts';

export interface SpecialTokens {
  readonly bos?: string;
  readonly eos?: string;
}

/** For models without a template of their own whose vocabulary has `<|im_start|>`. */
const CHATML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;

/** For base models: they have seen dialogues written like this. An answer ends with the model's end-of-text token. */
const PLAIN = `{% for message in messages %}{% if message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + (eos_token or '') + '\\n' }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n' }}{% else %}{{ 'User: ' + message['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}`;

/** Not in any prompt; where a template puts it shows what surrounds an answer. */
const MARK = 'tmem-answer-mark';

export class ChatTemplate {
  readonly #template: Template;
  readonly #specials: SpecialTokens;
  #closing: string | undefined;

  /**
   * @param source the GGUF's `tokenizer.chat_template`
   * @throws TmemError `missing` when the template cannot be read
   */
  constructor(source: string, specials: SpecialTokens) {
    this.#specials = specials;
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new TmemError(
        'missing',
        `The chat template in this model's file cannot be read (${reason(error)}); use another GGUF of the model.`,
        { cause: error },
      );
    }
  }

  /**
   * The template that a GGUF's metadata names, ChatML for a model without one whose vocabulary has its tokens, otherwise
   * plain `User: …\nAssistant:` text.
   */
  static fromMetadata(metadata: ReadonlyMap<string, unknown>): ChatTemplate {
    const list = metadata.get('tokenizer.ggml.tokens');
    const tokens: readonly unknown[] = Array.isArray(list) ? list : [];
    const special = (name: string): string | undefined => {
      const text = tokens[Number(metadata.get(`tokenizer.ggml.${name}_token_id`) ?? -1)];
      return typeof text === 'string' ? text : undefined;
    };
    const own = metadata.get('tokenizer.chat_template');
    const fallback = () => (tokens.includes('<|im_start|>') ? CHATML : PLAIN);
    return new ChatTemplate(typeof own === 'string' ? own : fallback(), { bos: special('bos'), eos: special('eos') });
  }

  /**
   * The conversation as the model was trained to see it. With `generation` the assistant's turn is opened. Reasoning is
   * switched off where the template has a switch for it (Qwen3): memory is written and asked in plain answers.
   * @throws TmemError `usage` when the template refuses the conversation
   */
  render(messages: readonly ChatMessage[], { generation }: { readonly generation: boolean }): string {
    try {
      return this.#template.render({
        messages,
        add_generation_prompt: generation,
        enable_thinking: false,
        bos_token: this.#specials.bos ?? '',
        eos_token: this.#specials.eos ?? '',
      });
    } catch (error) {
      throw new TmemError(
        'usage',
        `The model's chat template refuses this conversation (${reason(error)}); change its roles or their order.`,
        { cause: error },
      );
    }
  }

  /**
   * The text that closes an assistant's answer, through the token that ends the turn, e.g. `<|im_end|>`; the model's
   * end-of-text token where the template closes a turn by opening the next.
   */
  closing(): string {
    if (this.#closing === undefined) {
      const full = this.#conversation('tmem', MARK);
      const at = full.lastIndexOf(MARK);
      const own = at < 0 ? '' : full.slice(at + MARK.length).trimEnd();
      this.#closing = own || (this.#specials.eos ?? '');
    }
    return this.#closing;
  }

  /** Question and answer as a training sample: prompt with the assistant's turn open; answer as the template writes and closes it. */
  sample(instruction: string, output: string): Sample {
    const prompt = this.render([{ role: 'user', content: instruction }], { generation: true });
    const full = this.#conversation(instruction, output);
    // Some templates open a turn to generate in another way than they write a finished one (a forced <think>, for example).
    const answer = full.startsWith(prompt) ? full.slice(prompt.length).trimEnd() : output;
    return { prompt, answer: answer.endsWith(this.closing()) ? answer : answer + this.closing() };
  }

  #conversation(instruction: string, output: string): string {
    const messages: ChatMessage[] = [
      { role: 'user', content: instruction },
      { role: 'assistant', content: output },
    ];
    return this.render(messages, { generation: false });
  }
}

function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!.replace(/\.$/, '');
}
