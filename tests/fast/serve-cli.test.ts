/** `tmem serve` as a command: what it prints, what it refuses, how it ends. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Command } from 'commander';
import { register, type ServeCommandOptions } from '../../src/cli/commands/serve.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { createKey } from '../../src/serve/keys.ts';
import { recordingIo, temporaryHome } from '../support/home.ts';
import { ScriptedRuntime } from '../support/scripted-runtime.ts';
import { saying, until } from '../support/serving.ts';

/** The command on a scripted runtime, begun but not ended. */
function command(t: TestContext, home = temporaryHome(t)) {
  const stop = new AbortController();
  const { io, results, notes } = recordingIo<{ url: string }>(new ScriptedEngine({ reply: () => '' }), {
    signal: stop.signal,
  });
  const opened: { runtime: ScriptedRuntime; options: ServeCommandOptions }[] = [];
  const open = async (_: unknown, options: ServeCommandOptions) => {
    const runtime = new ScriptedRuntime({
      reply: ({ messages }) => {
        if (messages[0]!.content === 'fail') throw new TypeError('it broke');
        return 'Yes.';
      },
    });
    opened.push({ runtime, options });
    return runtime;
  };
  const serve = (...args: string[]) => {
    const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
    register(program, io, { open });
    return program.parseAsync(['serve', ...args], { from: 'user' });
  };
  t.after(() => stop.abort());
  return { home, serve, results, notes, opened, stop: () => stop.abort() };
}

test('It prints one line with its address when it is ready, and ends with its runtime when it is told to', async (t) => {
  const { serve, results, opened, stop } = command(t);
  const running = serve('--port', '0', '--budget', '500', '--max-tokens', '5');
  await until(() => results.length === 1);
  const { value, text } = results[0]!;
  assert.match(text, /^tmem is at http:\/\/127\.0\.0\.1:\d+$/);
  assert.ok(text.endsWith(value.url));
  const ask = (max_tokens: number) =>
    fetch(`${value.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ messages: saying('Hi'), max_tokens }),
    });
  assert.equal((await ask(5)).status, 200);
  assert.equal((await ask(6)).status, 400);
  assert.equal(opened[0]!.options.budget, 500);
  stop();
  await running;
  assert.ok(opened[0]!.runtime.closed);
  await assert.rejects(fetch(value.url));
});

test('Keys that there are close it, wherever they are', async (t) => {
  const home = temporaryHome(t);
  const file = join(home, 'others.json');
  const { key } = await createKey('ann', file);
  const { serve, results } = command(t, home);
  await assert.rejects(serve('--keys', join(home, 'none.json')), { code: 'usage', message: /tmem keys create/ });
  void serve('--port', '0', '--keys', file);
  await until(() => results.length === 1);
  const models = (headers: Record<string, string>) => fetch(`${results[0]!.value.url}/v1/models`, { headers });
  assert.equal((await models({})).status, 401);
  assert.equal((await models({ Authorization: `Bearer ${key}` })).status, 200);
  await createKey('ben');
  void serve('--port', '0');
  await until(() => results.length === 2);
  assert.equal((await fetch(`${results[1]!.value.url}/v1/models`)).status, 401);
});

test('What it refuses it refuses before a model is loaded', async (t) => {
  const { serve, opened } = command(t);
  for (const args of [
    ['--host', '0.0.0.0'],
    ['--port', '65536'],
    ['--port', 'x'],
    ['--max-queue', '-1'],
    ['--timeout', '0'],
  ])
    await assert.rejects(serve(...args), { code: 'usage' }, args.join(' '));
  assert.equal(opened.length, 0);
});

test('A port that is taken is said, and the runtime closed', async (t) => {
  const { serve, results, opened } = command(t);
  void serve('--port', '0');
  await until(() => results.length === 1);
  const { port } = new URL(results[0]!.value.url);
  await assert.rejects(serve('--port', port), { code: 'usage', message: /EADDRINUSE/ });
  assert.deepEqual(
    opened.map(({ runtime }) => runtime.closed),
    [false, true],
  );
});

test('Failures of requests are noted for who runs it', async (t) => {
  const { serve, results, notes } = command(t);
  void serve('--port', '0');
  await until(() => results.length === 1);
  const response = await fetch(`${results[0]!.value.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ messages: saying('fail') }),
  });
  assert.equal(response.status, 500);
  assert.deepEqual(notes, ['A request failed: TypeError: it broke']);
});
