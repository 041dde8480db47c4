/** The pages and documents of the server: studio, OpenAPI, health and metrics. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createApp } from '../../src/serve/app.ts';
import { ScriptedRuntime } from '../support/scripted-runtime.ts';
import { saying, served, until } from '../support/serving.ts';

const host = { Host: 'localhost' };

test('The studio is served with a strict policy, its modules as JavaScript', async (t) => {
  const { url } = await served(t, () => '');
  const module = await fetch(`${url}/studio/format.ts`);
  assert.equal(module.headers.get('content-type'), 'text/javascript; charset=utf-8');
  assert.match(module.headers.get('content-security-policy')!, /^default-src 'self'/);
  assert.equal(module.headers.get('x-content-type-options'), 'nosniff');
  assert.doesNotMatch(await module.text(), /: string/);
  const preact = await fetch(`${url}/studio/vendor/preact.js`);
  assert.deepEqual([preact.status, preact.headers.get('content-type')], [200, 'text/javascript; charset=utf-8']);
});

test('Nothing outside of the folders of studio and documentation is served', async (t) => {
  const { url } = await served(t, () => '');
  for (const path of [
    '/studio/../serve/keys.ts',
    '/studio/%2e%2e/serve/keys.ts',
    '/studio/..%2fserve/keys.ts',
    '/docs/../package.json',
    '/docs/%2e%2e/package.json',
    '/docs/..%2fpackage.json',
    '/docs/.git/config',
    '/nothing',
    '/v1/nothing',
  ]) {
    const response = await fetch(url + path);
    assert.deepEqual([response.status, (await response.json()).error.code], [404, 'not_found'], path);
  }
});

test('The OpenAPI document names every route, and what it takes', async () => {
  const { app } = createApp(new ScriptedRuntime({ reply: () => '' }));
  const document = await (await app.request('/openapi.json', { headers: host })).json();
  assert.equal(document.openapi, '3.1.0');
  const documented = Object.entries(document.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const pages = /^(\/|\/docs.*|\/studio.*)$/;
  const routes = app.routes
    .filter(({ method, path }) => method !== 'ALL' && !pages.test(path))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}').replace(/(.)\/$/, '$1')}`);
  assert.deepEqual([...new Set(routes)].sort(), documented.sort());
  const body = (path: string) => document.paths[path].post.requestBody.content['application/json'].schema;
  assert.deepEqual(body('/v1/chat/completions').required, ['messages']);
  assert.equal(body('/v1/chat/completions').properties.top_logprobs.anyOf[0].maximum, 20);
  assert.equal(body('/v1/memory/sessions/{session}/forget').additionalProperties, false);
});

test('Health is told without asking anything of the model', async (t) => {
  const { url, runtime } = await served(t, () => '');
  const health = await (await fetch(`${url}/health`)).json();
  assert.partialDeepStrictEqual(health, { status: 'ok', model: 'scripted', running: 0, waiting: 0 });
  assert.equal(runtime.requests.length, 0);
});

test('Requests, tokens, times and writes are counted', async (t) => {
  const { url, post } = await served(t, () => 'Hello there!');
  const said = { messages: saying('The sky is blue.') };
  await (await post('/v1/chat/completions', said, { 'X-Tmem-Session': 'ann' })).text();
  await (await post('/v1/chat/completions', { ...said, stream: true })).text();
  await (await post('/v1/chat/completions', {})).text();
  await (await post('/v1/memory/sessions/ann/write', {})).text();
  await (await fetch(`${url}/v1/memory/sessions/ann`)).text();
  await (await fetch(`${url}/nothing`)).text();
  let text = '';
  const value = (name: string, labels: Record<string, string | number> = {}) => {
    const line = text.split('\n').find((line) => {
      const [, found, given] = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
      return found === name && Object.entries(labels).every(([key, v]) => given?.includes(`${key}="${v}"`));
    });
    return line === undefined ? undefined : Number(line.split(' ').at(-1));
  };
  const requests = (http_route: string, http_response_status_code: number) =>
    value('http_server_request_duration_seconds_count', { http_route, http_response_status_code });
  const read = async () => {
    const response = await fetch(`${url}/metrics`);
    assert.match(response.headers.get('content-type')!, /^text\/plain/);
    text = await response.text();
  };
  // A response is counted when its last byte has gone, which may be after the client has read it.
  await until(async () => {
    await read();
    return requests('/v1/chat/completions', 200) === 2;
  });
  assert.equal(requests('/v1/chat/completions', 400), 1);
  assert.equal(requests('/v1/memory/sessions/:session', 200), 1);
  assert.equal(requests('/v1/memory/sessions/:session/write', 200), 1);
  assert.doesNotMatch(text, /nothing/);
  assert.equal(value('tmem_tokens_total', { kind: 'input' }), 8);
  assert.equal(value('tmem_tokens_total', { kind: 'output' }), 4);
  assert.equal(value('gen_ai_server_time_to_first_token_seconds_count'), 2);
  assert.equal(value('tmem_writes_total', { verdict: 'committed' }), 1);
  assert.deepEqual([value('tmem_running'), value('tmem_open')], [0, 1]);
  assert.ok(value('tmem_memory')! > 1e6);
});
