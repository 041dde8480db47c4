/** What requests are taken for: their fields, their session, and whether they may teach. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkSessionName } from '../../src/memory/session.ts';
import { parseValue } from '../../src/serve/body.ts';
import { type ChatBody, chatRequests, chatSchema } from '../../src/serve/chat-request.ts';
import { ApiError } from '../../src/serve/errors.ts';
import { DEFAULT_LIMITS } from '../../src/serve/limits.ts';
import { Owner, sessionOf } from '../../src/serve/owner.ts';
import { seedOf } from '../../src/serve/request.ts';
import { responsesRequest, responsesSchema } from '../../src/serve/responses-request.ts';
import { saying, served } from '../support/serving.ts';

const limits = { ...DEFAULT_LIMITS, maxTokens: 100 };
const headers = (all: Record<string, string> = {}) => ({ header: (name: string) => all[name] });
const asker = (all?: Record<string, string>) => ({ owner: new Owner(), limits, ...headers(all) });
const chat = (body: object, all?: Record<string, string>) =>
  chatRequests(parseValue(chatSchema, { messages: saying('Hi'), ...body }), asker(all));

function refusal(work: () => unknown): ApiError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error));
    return error;
  }
  throw assert.fail('it was not refused');
}

const image = { type: 'image_url', image_url: { url: 'data:' } };
const tool = { type: 'function', function: { name: 'look' } };

test('A wrong field of a chat is named', () => {
  for (const [body, param] of [
    [{ messages: [] }, 'messages'],
    [{ messages: 'Hi' }, 'messages'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, image] }] }, 'messages[0].content[1].type'],
    [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages[0].tool_call_id'],
    [{ temperature: 2.1 }, 'temperature'],
    [{ temperature: '1' }, 'temperature'],
    [{ top_p: -0.1 }, 'top_p'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_completion_tokens: 1.5 }, 'max_completion_tokens'],
    [{ n: 9 }, 'n'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
    [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, 'tools[0].function.name'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tools: [tool], tool_choice: { type: 'function', function: { name: 'other' } } }, 'tool_choice'],
    [{ response_format: { type: 'xml' } }, 'response_format.type'],
    [{ stream: 'yes' }, 'stream'],
    [{ tmem: { retrieve: -1 } }, 'tmem.retrieve'],
  ] as const) {
    const { status, details, message } = refusal(() => chat(body));
    assert.deepEqual([status, details.param], [400, param], JSON.stringify(body));
    assert.match(message, /[A-Za-z ]{8}/);
  }
  assert.match(refusal(() => chat({ messages: [{ role: 'user', content: [image] }] })).message, /no images/);
  assert.equal(refusal(() => parseValue(chatSchema, [])).details.param, undefined);
});

test('A wrong field of a response is named', () => {
  for (const [body, param] of [
    [{}, 'input'],
    [{ input: [] }, 'input'],
    [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content[0].type'],
    [{ input: 'x', previous_response_id: 'resp_1' }, 'previous_response_id'],
    [{ input: 'x', background: true }, 'background'],
    [{ input: 'x', tools: [{ type: 'web_search' }] }, 'tools[0].type'],
    [{ input: 'x', text: { format: { type: 'json_schema', name: 'x' } } }, 'text.format.schema'],
    [{ input: 'x', max_output_tokens: 101 }, 'max_output_tokens'],
    [{ input: 'x', tool_choice: { type: 'function', name: 'no' } }, 'tool_choice'],
  ] as const) {
    const error = refusal(() => responsesRequest(parseValue(responsesSchema, body), asker()));
    assert.deepEqual([error.status, error.details.param], [400, param], JSON.stringify(body));
  }
});

test('Fields that are null or not known are passed over', () => {
  const nothing = Object.fromEntries(
    Object.keys(chatSchema.shape)
      .filter((name) => name !== 'messages')
      .map((name) => [name, null]),
  );
  const [request] = chat({ ...nothing, frequency_penalty: 0.5, logit_bias: {}, service_tier: 'auto' });
  assert.deepEqual(JSON.parse(JSON.stringify(request)), {
    ...{ session: null, teach: true, messages: saying('Hi'), temperature: 0, seed: 0 },
  });
});

test('Without a seed a sampled answer is another one each time', () => {
  const seeds = Array.from({ length: 8 }, () => chat({ temperature: 1 })[0]!.seed!);
  assert.ok(new Set(seeds).size > 1);
  assert.ok(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32));
});

test('Every whole number is a seed', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (seed) => {
      const taken = seedOf(seed);
      assert.ok(Number.isInteger(taken) && taken >= 0 && taken < 2 ** 32);
      if (seed >= 0 && seed < 2 ** 32) assert.equal(taken, seed);
    }),
  );
});

const contents = fc.oneof(
  fc.string(),
  fc.array(fc.record({ type: fc.constant('text' as const), text: fc.string() }), { maxLength: 3 }),
);
const messages = fc.array(
  fc.oneof(
    fc.record({ role: fc.constantFrom('system', 'developer', 'user'), content: contents }),
    fc.record({ role: fc.constant('assistant'), content: fc.option(contents) }),
    fc.record({ role: fc.constant('tool'), content: contents, tool_call_id: fc.string() }),
  ),
  { minLength: 1, maxLength: 5 },
);

test('Every conversation of text reaches the runtime in its order, with its roles and its text', () => {
  fc.assert(
    fc.property(messages, fc.integer({ min: 1, max: 8 }), (given, n) => {
      const requests = chat({ messages: given, n });
      assert.equal(requests.length, n);
      const text = (content: ChatBody['messages'][number]['content']) =>
        typeof content === 'string' ? content : (content ?? []).map((part) => part.text).join('\n');
      for (const { messages: taken } of requests)
        assert.deepEqual(
          taken.map(({ role, content }) => [role, content]),
          given.map(({ role, content }) => [role === 'developer' ? 'system' : role, text(content)]),
        );
      assert.ok(requests.slice(1).every(({ teach }) => teach === false));
    }),
  );
});

test('Whatever a body is, it is taken or refused with 400', () => {
  const field = fc.constantFrom(...Object.keys(chatSchema.shape), 'x');
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(field, fc.jsonValue())), (body) => {
      for (const take of [
        () => chatRequests(parseValue(chatSchema, body), asker()),
        () => responsesRequest(parseValue(responsesSchema, body), asker()),
      ])
        try {
          take();
        } catch (error) {
          assert.ok(error instanceof ApiError && error.status === 400, String(error));
        }
    }),
    { numRuns: 300 },
  );
});

test('A body that is not JSON is refused', async (t) => {
  const { post, runtime } = await served(t, () => '');
  for (const body of ['', '{', 'messages=Hi', '\u0000']) {
    const response = await post('/v1/chat/completions', body);
    assert.deepEqual([response.status, (await response.json()).error.code], [400, 'invalid_json']);
  }
  assert.equal(runtime.requests.length, 0);
});

const KEY = { hash: 'c0ffee'.repeat(11).slice(0, 64) };
const owners = [new Owner(), new Owner(KEY), new Owner({ hash: 'f'.repeat(64) })];

test('A session is the first of header, Open WebUI chat and user that is there', () => {
  const own = { 'x-tmem-session': 'ann' };
  const webui = { 'x-openwebui-chat-id': 'c1', 'x-openwebui-user-id': 'u1' };
  const session = (all: Record<string, string>, user?: string) => sessionOf(new Owner(), { ...headers(all), user });
  assert.equal(session({ ...own, ...webui }, 'bob'), 'ann');
  assert.equal(session(webui, 'bob'), 'u1.c1');
  assert.equal(session({ 'x-openwebui-chat-id': 'c1' }, 'bob'), 'c1');
  assert.equal(session({ 'x-openwebui-user-id': 'u1' }, 'bob'), 'bob');
  assert.equal(session({}), null);
  assert.equal(session({}, ''), null);
  assert.match(session({}, 'bob@example.org')!, /^h-[0-9a-f]{32}$/);
});

test('A bad name in our own header is refused, never another session', () => {
  for (const name of ['', '.', '../x', 'a/b', 'a b', 'é', 'con', 'x.', 'x'.repeat(65), '-x']) {
    const error = refusal(() => sessionOf(new Owner(), headers({ 'x-tmem-session': name })));
    assert.deepEqual([error.status, error.details.param], [400, 'X-Tmem-Session'], name);
  }
  const long = { 'x-tmem-session': 'x'.repeat(52) };
  assert.equal(sessionOf(new Owner(), headers(long)), long['x-tmem-session']);
  assert.match(refusal(() => sessionOf(new Owner(KEY), headers(long))).message, /up to 51/);
});

test('Every name of other software becomes one that the store takes, and its own', () => {
  const names = fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z0-9._-]{1,70}$/), fc.uuid());
  fc.assert(
    fc.property(names, names, names, names, fc.constantFrom(...owners), (u1, c1, u2, c2, owner) => {
      const [one, two] = [owner.bindForeign(u1, c1), owner.bindForeign(u2, c2)];
      for (const name of [one, two, owner.bindForeign(u1)]) {
        checkSessionName(name);
        assert.ok(owner.owns(name));
      }
      assert.equal(one === two, u1 === u2 && c1 === c2);
      assert.equal(owner.bindForeign(u1) === owner.bindForeign(u2), u1 === u2);
      assert.equal(one, owner.bindForeign(u1, c1));
    }),
  );
});

test('What an owner is told of a name leads back to it, and to nobody else', () => {
  const names = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$/);
  fc.assert(
    fc.property(names, (name) => {
      const [, one, other] = owners;
      let bound: string;
      try {
        bound = one!.bind(name);
      } catch (error) {
        assert.throws(() => checkSessionName(name));
        return assert.ok(error instanceof ApiError);
      }
      assert.equal(one!.unbind(bound), name);
      assert.ok(one!.owns(bound) && !other!.owns(bound) && !other!.owns(name));
    }),
  );
});

const asked = '### Task:\nGenerate a title.\n<chat_history>\nHi\n</chat_history>';

test('A request about a conversation does not teach, nor one that says so', () => {
  const teach = (body: object, all?: Record<string, string>) => chat(body, all)[0]!.teach;
  assert.equal(teach({}), true);
  assert.equal(teach({ messages: saying(asked) }), false);
  assert.equal(teach({ messages: saying('### Task: tell me of <b>') }), true);
  assert.equal(teach({ messages: [...saying(asked), ...saying('And now?')] }), true);
  assert.equal(teach({ metadata: { task: 'title_generation' } }), false);
  assert.equal(teach({ metadata: { chat: 'x' } }), true);
  assert.equal(teach({}, { 'x-openwebui-task': 'tags_generation' }), false);
  assert.equal(teach({ tmem: { teach: false } }), false);
  assert.equal(chat({ tmem: { retrieve: 3 } })[0]!.retrieve, 3);
  const response = parseValue(responsesSchema, { input: asked });
  assert.equal(responsesRequest(response, asker()).teach, false);
});
