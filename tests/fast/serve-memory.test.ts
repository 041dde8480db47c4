/** The memory API: what it shows of a session, what it does to one, and how it tells of both while it happens. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { deltaNorms } from '../../src/serve/delta.ts';
import type { ScriptedRuntimeOptions } from '../support/scripted-runtime.ts';
import { framesOf, saying, served, until } from '../support/serving.ts';

const AT = '/v1/memory/sessions';

/** A server with a session `ann` that has written two facts. */
async function setUp(t: TestContext, options: Partial<ScriptedRuntimeOptions> = {}) {
  const server = await served(t, { reply: () => 'I see.', ...options });
  const { url, post } = server;
  await post(
    '/v1/chat/completions',
    { messages: saying('The sky is blue. The sea is deep.') },
    { 'X-Tmem-Session': 'ann' },
  );
  const call = async (name: string, body: unknown = {}, session = 'ann') => {
    const response = await post(`${AT}/${session}/${name}`, body);
    return { status: response.status, body: await response.json() };
  };
  const get = async (path: string) => (await fetch(url + AT + path)).json();
  assert.equal((await call('write')).body.write.pairs.length, 2);
  return { ...server, call, get };
}

test('A session is shown with its writes, its pairs and the size of its Delta', async (t) => {
  const { get, call, post } = await setUp(t);
  await post('/v1/chat/completions', { messages: saying('Hello.') }, { 'X-Tmem-Session': 'ann' });
  const { pairs: before } = await get('/ann');
  await call('edit', { pair: before[0].id, output: 'grey' });
  const { writes, pairs, ...shown } = await get('/ann');
  assert.deepEqual(shown, {
    ...{ session: 'ann', model: 'scripted', contextTokens: 3, budget: 100, busy: false, notes: '' },
    working: [
      { index: 0, role: 'user', content: 'Hello.' },
      { index: 1, role: 'assistant', content: 'I see.' },
    ],
    delta: [{ layer: 3, product: 'ffn_up', norm: 10 }],
  });
  assert.deepEqual(
    writes.map(({ verdict, loss }: { verdict: string; loss: unknown }) => [verdict, loss]),
    [1, 2].map(() => ['committed', [1, null]]),
  );
  assert.deepEqual(
    pairs.map(({ output, write, standing, ended }: Record<string, unknown>) => [
      output,
      write,
      standing,
      ended !== null,
    ]),
    [
      ['blue', 1, false, true],
      ['deep', 1, true, false],
      ['grey', 2, true, false],
    ],
  );
  assert.equal(pairs[0].ended.by, pairs[2].id);
});

test('Every operation reaches the session, and says what came of it', async (t) => {
  const { call, get, runtime } = await setUp(t);
  const { pairs } = await get('/ann');
  const ids = pairs.map(({ id }: { id: string }) => id);
  const question = 'What is the sky?';
  assert.partialDeepStrictEqual((await call('ask', { question })).body, { answer: 'blue', abstained: false });
  assert.equal((await call('ask', { question, memory: false })).body.answer, 'I do not know.');
  assert.deepEqual(
    (await call('recall', { pairs: ids })).body.results.map(({ ok }: { ok: boolean }) => ok),
    [true, true],
  );
  assert.equal((await call('why', { question })).body.pairs.length, 2);
  assert.deepEqual((await call('verify')).body, { ok: true });
  assert.deepEqual((await call('branch', { to: 'ben' })).body, { session: 'ben' });
  assert.equal((await call('branch', { to: 'ben' })).status, 400);
  const dry = await call('forget', { query: 'sea', dryRun: true });
  assert.deepEqual([dry.body.removed[0].output, dry.body.verified], ['deep', false]);
  assert.equal((await call('forget', { query: 'sea' })).body.verified, true);
  assert.equal((await call('consolidate')).body.write.consolidated.pairs.length, 1);
  const imported = await call('import', { pairs: [{ instruction: 'Who?', output: 'I.' }] }, 'new');
  assert.equal(imported.body.writes[0].pairs[0].output, 'I.');
  assert.equal((await call('write')).body.write, null);
  assert.equal((await call('undo')).body.write.recipe, 'scripted');
  assert.deepEqual(
    runtime.calls.map(({ name, session }) => `${name} ${session}`).join(', '),
    'write ann, ask ann, ask ann, recall ann, why ann, verify ann, branch ann, branch ann, forget ann, forget ann, ' +
      'consolidate ann, import new, write ann, undo ann',
  );
  assert.deepEqual((await get('')).sessions, ['ann', 'ben', 'new']);
});

test('Two sessions are compared', async (t) => {
  const { call, get, url } = await setUp(t);
  await call('branch', { to: 'ben' });
  const { pairs } = await get('/ben');
  await call('edit', { pair: pairs[0].id, output: 'grey' }, 'ben');
  const { only, other, same } = await get('/ann/diff?other=ben');
  assert.deepEqual([only.length, only[0].output, other[0].output, same], [1, 'blue', 'grey', 1]);
  for (const query of ['', '?other=', '?other=../x'])
    assert.equal((await fetch(`${url}${AT}/ann/diff${query}`)).status, 400);
});

test('A session is exported as a file, and removed', async (t) => {
  const { url, get } = await setUp(t);
  const file = await fetch(`${url}${AT}/ann/export?format=jsonl`);
  assert.equal(file.headers.get('content-disposition'), 'attachment; filename="ann.jsonl"');
  assert.equal(JSON.parse((await file.text()).split('\n')[0]!).output, 'blue');
  assert.equal(await (await fetch(`${url}${AT}/ann/export?format=gguf`)).text(), 'GGUF');
  assert.equal((await fetch(`${url}${AT}/ann/export?format=zip`)).status, 400);
  const removed = await fetch(`${url}${AT}/ann`, { method: 'DELETE' });
  assert.deepEqual([removed.status, await removed.text()], [204, '']);
  assert.deepEqual((await get('')).sessions, []);
});

test('What is not a request for a memory is refused before anything is done', async (t) => {
  const { call, runtime } = await setUp(t);
  const before = runtime.calls.length;
  for (const [name, body, param] of [
    ['ask', {}, 'question'],
    ['ask', { question: '' }, 'question'],
    ['ask', { question: 'x', abstain: 2 }, 'abstain'],
    ['forget', { query: 'x', dryrun: true }, null],
    ['recall', { pairs: [] }, 'pairs'],
    ['recall', { pairs: ['x', 3] }, 'pairs[1]'],
    ['import', { pairs: [{ instruction: 'x' }] }, 'pairs[0].output'],
    ['branch', { to: 'a/b' }, 'to'],
    ['write', [], null],
  ] as const) {
    const { status, body: answer } = await call(name, body);
    assert.deepEqual([status, answer.error.param], [400, param], `${name} ${JSON.stringify(body)}`);
  }
  assert.equal((await call('write', {}, 'nobody')).status, 404);
  assert.equal((await call('write', {}, '%2e%2e%2fx')).status, 400);
  assert.equal((await call('fly')).status, 404);
  assert.equal(runtime.calls.length, before);
});

test('An operation that takes a while tells how far it is, and then its result or its error', async (t) => {
  const { post } = await setUp(t, {
    onStep: async (progress) => {
      progress('one of two');
      progress('two of two');
    },
  });
  const stream = async (path: string, body: object) =>
    framesOf(await post(`${AT}/${path}`, body, { Accept: 'text/event-stream' }));
  assert.deepEqual(await stream('ann/verify', {}), [
    { event: 'progress', data: '{"message":"one of two"}' },
    { event: 'progress', data: '{"message":"two of two"}' },
    { event: 'result', data: '{"ok":true}' },
  ]);
  const [failed] = await stream('nobody/verify', {});
  assert.equal(failed!.event, 'error');
  assert.equal(JSON.parse(failed!.data!).error.code, 'missing');
});

test('A client that goes away ends an operation', async (t) => {
  let aborted: AbortSignal | undefined;
  const { post, runtime } = await setUp(t);
  const verify = runtime.verify.bind(runtime);
  runtime.verify = (session, step) => {
    aborted = step?.signal;
    return new Promise<never>(() => {}).then(() => verify(session, step));
  };
  for (const headers of [{ Accept: 'text/event-stream' }, { Accept: 'application/json' }]) {
    const gone = new AbortController();
    const response = post(`${AT}/ann/verify`, {}, headers, gone.signal).catch(() => {});
    await until(() => aborted !== undefined);
    gone.abort();
    await response;
    await until(() => aborted!.aborted);
    aborted = undefined;
  }
});

test('Who watches a session is told what happens in it, under its name, and is forgotten when he goes', async (t) => {
  const { call, url, runtime } = await setUp(t);
  const gone = new AbortController();
  const response = await fetch(`${url}${AT}/ann/events`, { signal: gone.signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const read = async (until: RegExp) => {
    while (!until.test(text)) text += (await reader.read()).value;
  };
  await read(/: watching\n\n/);
  await call('consolidate');
  await read(/event: write\ndata: .*\n\n/);
  const event = JSON.parse(/data: (.*)\n/.exec(text)![1]!);
  assert.partialDeepStrictEqual(event, { session: 'ann', event: { type: 'write', event: { type: 'verdict' } } });
  assert.equal(runtime.watchers('ann'), 1);
  gone.abort();
  await until(() => runtime.watchers('ann') === 0);
});

test('A session that is watched in silence sends comments', async (t) => {
  const { url, close } = await served(t, () => '', { quietMs: 10 });
  const response = await fetch(`${url}${AT}/ann/events`);
  setTimeout(close, 60);
  const comments = (await framesOf(response)).flatMap(({ comment }) => comment ?? []);
  assert.ok(comments.length > 2 && comments[1] === 'nothing new', comments.join());
});

test('The norm of a Delta is that of B A', () => {
  const [R, I, O] = [3, 5, 4];
  const numbers = (n: number, step: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(1 + i * step));
  const [a, b] = [numbers(R * I, 0.7), numbers(O * R, 1.3)];
  let squares = 0;
  for (let o = 0; o < O; o++)
    for (let i = 0; i < I; i++) {
      let product = 0;
      for (let r = 0; r < R; r++) product += b[o * R + r]! * a[r * I + i]!;
      squares += product ** 2;
    }
  const tensor = { name: 'blk.12.attn_q.weight', a, b, inputs: I, outputs: O };
  const [found] = deltaNorms({ rank: R, alpha: R, tensors: [tensor] });
  assert.deepEqual([found!.layer, found!.product], [12, 'attn_q']);
  assert.ok(Math.abs(found!.norm - Math.sqrt(squares)) < 1e-9);
});
