import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { TmemError } from '../../src/engine/errors.ts';
import { ChatTemplate } from '../../src/engine/template.ts';
import type { ChatMessage } from '../../src/engine/types.ts';

/** Written by transformers' `apply_chat_template` on the two models. */
interface Fixture {
  readonly template: string;
  readonly bos: string;
  readonly eos: string;
  readonly conversations: { readonly messages: ChatMessage[]; readonly generation: boolean; readonly text: string }[];
}
const fixtures = JSON.parse(
  readFileSync(new URL('../fixtures/chat-templates.json', import.meta.url), 'utf8'),
) as Record<string, Fixture>;

const user = (content: string): ChatMessage => ({ role: 'user', content });

describe('ChatTemplate', () => {
  for (const [model, { template, bos, eos, conversations }] of Object.entries(fixtures)) {
    it(`renders ${model} as transformers does`, () => {
      const chat = new ChatTemplate(template, { bos, eos });
      for (const { messages, generation, text } of conversations) {
        assert.equal(chat.render(messages, { generation }), text);
      }
    });

    it(`makes samples of ${model} that end with the token that ends the turn`, () => {
      const chat = new ChatTemplate(template, { bos, eos });
      const { prompt, answer } = chat.sample('Who?', 'Ada.');
      assert.equal(prompt, chat.render([user('Who?')], { generation: true }));
      assert.equal(answer, 'Ada.<|im_end|>');
      assert.equal(chat.closing(), '<|im_end|>');
    });
  }

  it('switches reasoning off and takes the answer as the template writes it', () => {
    const chat = new ChatTemplate(
      `{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content.split('</think>')[-1] | trim }}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}`,
      {},
    );
    const { prompt, answer } = chat.sample(' Who? ', '<think>hm</think> Ada. ');
    assert.equal(prompt, '<user>Who?<end>\n<assistant><think>\n\n</think>\n\n');
    assert.equal(answer, 'Ada.<end>');
  });

  it('closes the answer itself where generation is opened in another way', () => {
    const chat = new ChatTemplate(
      `{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant><think>\n{% endif %}`,
      {},
    );
    assert.deepEqual(chat.sample('Who?', 'Ada.'), {
      prompt: '<user>Who?<end>\n<assistant><think>\n',
      answer: 'Ada.<end>',
    });
  });

  it('falls back to ChatML only where the vocabulary has its tokens', () => {
    const metadata = (tokens: string[]) =>
      new Map<string, unknown>([
        ['tokenizer.ggml.tokens', tokens],
        ['tokenizer.ggml.eos_token_id', 0],
      ]);
    const chatml = ChatTemplate.fromMetadata(metadata(['</s>', '<|im_start|>', '<|im_end|>']));
    assert.deepEqual(chatml.sample('Who?', 'Ada.'), {
      prompt: '<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n',
      answer: 'Ada.<|im_end|>',
    });
    const plain = ChatTemplate.fromMetadata(metadata(['</s>', 'a']));
    assert.deepEqual(plain.sample('Who?', 'Ada.'), { prompt: 'User: Who?\nAssistant:', answer: ' Ada.</s>' });
    assert.equal(
      plain.render([{ role: 'system', content: 'Be brief.' }, user('Who?')], { generation: true }),
      'Be brief.\nUser: Who?\nAssistant:',
    );
  });

  it('takes the template and the special tokens of the file', () => {
    const chat = ChatTemplate.fromMetadata(
      new Map<string, unknown>([
        ['tokenizer.ggml.tokens', ['<s>', '</s>']],
        ['tokenizer.ggml.bos_token_id', 0],
        ['tokenizer.ggml.eos_token_id', 1],
        ['tokenizer.chat_template', '{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}'],
      ]),
    );
    assert.equal(chat.render([user('x')], { generation: false }), '<s>x</s>');
  });

  it('says what is wrong with a template or a conversation in one sentence', () => {
    assert.throws(
      () => new ChatTemplate('{% for %}', {}),
      (error: TmemError) =>
        error instanceof TmemError && error.code === 'missing' && /chat template/.test(error.message),
    );
    const strict = new ChatTemplate("{{ raise_exception('System role not supported') }}", {});
    assert.throws(
      () => strict.render([user('x')], { generation: true }),
      (error: TmemError) => error.code === 'usage' && /System role not supported/.test(error.message),
    );
  });
});
