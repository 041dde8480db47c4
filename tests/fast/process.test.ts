import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TmemError } from '../../src/engine/errors.ts';
import { openEngine } from '../../src/engine/process/client.ts';
import { complete, type Engine, type FastWeights, type TrainEvent } from '../../src/engine/types.ts';

const engineModule = new URL('../support/hosted-engine.ts', import.meta.url).href;
const opened: Engine[] = [];
const open = async (modelPath = 'model') => {
  const engine = await openEngine({ modelPath, engineModule, contextSize: 1_000_000 });
  opened.push(engine);
  return engine;
};
after(() => Promise.all(opened.map((engine) => engine.close())));

const ask = async (engine: Engine, prompt: string) => (await complete(engine, { prompt, maxTokens: 200_000 })).text;
const isError = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof TmemError && error.code === code && message.test(error.message);
const weights = (value: number): FastWeights => ({
  rank: 1,
  alpha: 1,
  tensors: [{ name: 'w', a: new Float32Array(2), b: new Float32Array(3).fill(value), inputs: 2, outputs: 3 }],
});
/** A process that ended but that nobody has waited for (state Z) is not alive. */
const alive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
};
const gone = async (pid: number) => {
  for (let i = 0; i < 500 && alive(pid); i++) await sleep(20);
  return !alive(pid);
};

describe('engine in a child process', () => {
  it('carries the whole interface', async () => {
    const engine = await open();
    assert.equal(engine.model.path, 'model');
    assert.equal(engine.model.contextSize, 1_000_000);
    const tokens = await engine.tokenize('one two three');
    assert.equal(tokens.length, 3);
    assert.equal((await engine.detokenize(tokens)).trim(), 'one two three');
    assert.match(await engine.renderChat([{ role: 'user', content: 'hello' }]), /hello/);
    const sample = await engine.renderSample('who', 'Ada');
    assert.match(sample.answer, /Ada/);
    const score = await engine.score({ prompt: 'a b', answer: 'c d' });
    assert.ok(score.logProbs instanceof Float64Array);
    const initial = await engine.initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
    assert.ok(initial.tensors[0]!.a instanceof Float32Array);
    const events: TrainEvent[] = [];
    const result = await engine.train(
      { samples: [sample], weights: initial, optimizer: { kind: 'sgd', lr: 1 }, epochs: 3 },
      (event) => events.push(event),
    );
    assert.equal(result.steps.length, 3);
    assert.deepEqual(
      events.map((event) => event.type),
      ['prefix', 'step', 'step', 'step'],
    );
    assert.equal(await ask(engine, 'weights'), 'none');
    await engine.setFastWeights(weights(2));
    assert.equal(await ask(engine, 'weights'), 'sum 6');
    await engine.setFastWeights(null);
    assert.equal(await ask(engine, 'weights'), 'none');
  });

  it('streams text as it comes', async () => {
    const engine = await open();
    const events = [];
    for await (const event of engine.generate({ prompt: 'a b c' })) events.push(event);
    assert.ok(events.length > 3);
    const done = events.at(-1)!;
    const texts = events.slice(0, -1).map((event) => event.text);
    assert.ok(done.type === 'done' && done.text === texts.join(''));
  });

  it('runs in a clean child', async () => {
    const [backtrace, execArgv, pid] = (await ask(await open(), 'env')).split(' ');
    assert.deepEqual([backtrace, execArgv], ['1', '0']);
    assert.notEqual(Number(pid), process.pid);
  });

  it('keeps the code of an error', async () => {
    await assert.rejects(open('missing'), isError('missing', /^There is no such model; pull it\.$/));
    await assert.rejects(ask(await open(), 'throw'), isError('failed', /^a plain error$/));
  });

  it('interrupts a generation, and goes on afterwards', async () => {
    const engine = await open();
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of engine.generate({ prompt: 'long', maxTokens: 200_000, signal: controller.signal })) {
        controller.abort();
      }
    })();
    await assert.rejects(reading, isError('aborted', /./));
    assert.equal(await ask(engine, 'x'), 'you said x');
    await assert.rejects(complete(engine, { prompt: 'x', signal: AbortSignal.abort() }), isError('aborted', /./));
  });

  it('stops a generation that nobody reads any more', async () => {
    const engine = await open();
    for await (const _ of engine.generate({ prompt: 'long', maxTokens: 200_000 })) break;
    assert.equal(await ask(engine, 'x'), 'you said x');
  });

  it('reports a native abort to every pending call, then restarts with the fast weights in force', async () => {
    const engine = await open();
    await engine.setFastWeights(weights(5));
    const before = Number((await ask(engine, 'env')).split(' ')[2]);
    const long = ask(engine, 'long');
    const crash = ask(engine, 'abort');
    const stopped = isError('failed', /^The engine stopped unexpectedly while generating .*try again/);
    await Promise.all([assert.rejects(long, stopped), assert.rejects(crash, stopped)]);
    await crash.catch((error) => assert.match(String(error.cause), /GGML_ASSERT/));
    const [again, pid] = await Promise.all([ask(engine, 'weights'), ask(engine, 'env')]);
    assert.equal(again, 'sum 15');
    assert.notEqual(Number(pid.split(' ')[2]), before);
  });

  it('survives Ctrl-C on the whole group', async () => {
    const engine = await open();
    const pid = Number((await ask(engine, 'env')).split(' ')[2]);
    process.kill(pid, 'SIGINT');
    assert.equal(Number((await ask(engine, 'env')).split(' ')[2]), pid);
  });

  it('ends the process at close and refuses calls afterwards', async () => {
    const engine = await open();
    const pid = Number((await ask(engine, 'env')).split(' ')[2]);
    await Promise.all([engine.close(), engine.close()]);
    assert.ok(await gone(pid));
    await assert.rejects(engine.tokenize('x'), isError('failed', /closed/));
  });

  it('can be interrupted while it opens', async () => {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(openEngine({ modelPath: 'hang', engineModule, signal }), isError('aborted', /./));
  });

  it('ends with its parent', async () => {
    const parent = fork(new URL('../support/engine-parent.ts', import.meta.url), [], {
      stdio: ['ignore', 2, 2, 'ipc'],
    });
    const pid = await new Promise<number>((resolve) => parent.once('message', (message) => resolve(message as number)));
    assert.ok(alive(pid));
    parent.kill('SIGKILL');
    assert.ok(await gone(pid));
  });
});
