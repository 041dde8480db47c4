/** Settings in a file, beside flags and the environment. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Option } from 'commander';
import fc from 'fast-check';
import { register as config } from '../../src/cli/commands/config.ts';
import { applyConfig, type Environment } from '../../src/cli/config.ts';
import { numberOption } from '../../src/cli/io.ts';
import { type Register, runProgram } from '../../src/cli/program.ts';
import { registers } from '../../src/cli/registers.ts';
import { fullProgram } from '../../src/docs/commands.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { temporaryHome } from '../support/home.ts';

const collect = (text: string, all: readonly string[]) => [...all, text];

/** Commands that answer with the options that they see. */
const commands: Register = (program, io) => {
  program
    .command('serve')
    .option('--port <n>', 'port', numberOption('--port', { integer: true }), 8484)
    .option('--model <model>')
    .option('--budget <n>', 'tokens', numberOption('--budget', { integer: true }), 2048)
    .option('--cors <origin>', 'origin', collect, [])
    .option('--insecure', 'open', false)
    .option('--no-studio', 'without')
    .addOption(new Option('--loss <kind>').choices(['grpo', 'dapo']))
    .action((options) => io.result(options, () => ''));
  const memory = program.command('memory');
  for (const name of ['forget', 'show'])
    memory
      .command(name)
      .requiredOption('--out <dir>')
      .option('--budget <n>', 'tokens', numberOption('--budget', { integer: true }), 2048)
      .action((options) => io.result(options, () => ''));
};

/** Runs a command line with a file of these settings; text is the file as it is. */
async function run(t: TestContext, settings: unknown, argv: string[], env: Environment = {}) {
  const home = temporaryHome(t);
  const text = typeof settings === 'string' ? settings : JSON.stringify(settings);
  if (settings !== undefined) writeFileSync(join(home, 'config.json'), text);
  const all: Environment = { TMEM_HOME: home, ...env };
  const chunks: string[] = [];
  const sink = { write: (said: string) => void chunks.push(said) };
  const [stderr, signal] = [{ write: () => {} }, new AbortController().signal];
  const own: Register = (program, io) => config(program, io, all);
  const code = await runProgram([own, commands], [...argv, '--json'], { stdout: sink, stderr, signal });
  return { code, out: chunks.join(''), env: all, home };
}

async function optionsOf(t: TestContext, settings: unknown, argv: string[], env?: Environment) {
  const { code, out } = await run(t, settings, argv, env);
  assert.equal(code, 0, out);
  return JSON.parse(out);
}

async function failure(t: TestContext, settings: unknown, argv = ['serve'], env?: Environment) {
  const { code, out } = await run(t, settings, argv, env);
  return { code, message: JSON.parse(out).error.message as string };
}

test('flags go before the file, and the file before defaults', async (t) => {
  const settings = { serve: { port: 8500, budget: 512 } };
  const { port, budget, insecure } = await optionsOf(t, settings, ['serve', '--port', '9000']);
  assert.deepEqual([port, budget, insecure], [9000, 512, false]);
  assert.equal((await optionsOf(t, undefined, ['serve'])).port, 8484);
});

test('what stands further out is for all commands below, unless something nearer says otherwise', async (t) => {
  const settings = { budget: 100, memory: { out: 'there', forget: { budget: 7 } } };
  assert.equal((await optionsOf(t, settings, ['serve'])).budget, 100);
  assert.deepEqual(await optionsOf(t, settings, ['memory', 'show']), { budget: 100, out: 'there' });
  assert.deepEqual(await optionsOf(t, settings, ['memory', 'forget']), { budget: 7, out: 'there' });
});

test('a setting of the environment goes before that of the file', async (t) => {
  const settings = { model: 'from-file', serve: { model: 'for-serve' } };
  const { code, env } = await run(t, settings, ['serve'], { TMEM_MODEL: 'from-env' });
  assert.deepEqual([code, env.TMEM_MODEL], [0, 'from-env']);
  assert.equal((await optionsOf(t, settings, ['serve'], { TMEM_MODEL: 'from-env' })).model, undefined);
  assert.equal((await run(t, settings, ['serve'])).env.TMEM_MODEL, 'from-file');
  assert.equal((await optionsOf(t, settings, ['serve'])).model, 'for-serve');
  assert.equal((await optionsOf(t, settings, ['serve', '--model', 'flag'], { TMEM_MODEL: 'x' })).model, 'flag');
});

test('switches, negated ones, choices and lists are as their flags would give them', async (t) => {
  const given = { insecure: true, 'no-studio': true, loss: 'dapo', cors: ['http://a', 'http://b'], port: '81' };
  const { insecure, studio, loss, cors, port } = await optionsOf(t, { serve: given }, ['serve']);
  assert.deepEqual([insecure, studio, loss, port], [true, false, 'dapo', 81]);
  assert.deepEqual(cors, ['http://a', 'http://b']);
  assert.deepEqual((await optionsOf(t, { serve: { cors: 'http://a' } }, ['serve'])).cors, ['http://a']);
  assert.equal((await optionsOf(t, { serve: { 'no-studio': false } }, ['serve'])).studio, true);
});

test('flags of a list take the place of that of the file', async (t) => {
  const argv = ['serve', '--cors', 'http://x', '--cors', 'http://y'];
  const { cors } = await optionsOf(t, { serve: { cors: ['http://a'] } }, argv);
  assert.deepEqual(cors, ['http://x', 'http://y']);
});

test('what does not fit is one sentence that names the key and the file', async (t) => {
  const wrong: [unknown, RegExp][] = [
    [{ serve: { prot: 1 } }, /^serve\.prot in .*config\.json is no option of tmem serve/],
    [{ sevre: { port: 1 } }, /^sevre in /],
    [{ version: true }, /^version in /],
    [{ config: 'other.json' }, /^config in /],
    [{ serve: { port: 'x' } }, /^serve\.port in .*: --port must be a whole number/],
    [{ serve: { port: true } }, /^serve\.port in .*: it must be a text or a number/],
    [{ serve: { insecure: 'yes' } }, /^serve\.insecure in .*: it must be true or false/],
    [{ serve: { loss: 'x' } }, /^serve\.loss in .*: Allowed choices are grpo, dapo/],
    [{ serve: { cors: [{}] } }, /^serve\.cors in .*a list of these/],
    [{ memory: { forget: { budget: -1 } } }, /^memory\.forget\.budget in /],
    [{ model: 3 }, /^model in .* must be a text/],
    ['[]', /is not a JSON object of settings/],
    ['{', /is not a JSON object of settings/],
  ];
  for (const [settings, message] of wrong) {
    const said = await failure(t, settings);
    assert.equal(said.code, 2, JSON.stringify(settings));
    assert.match(said.message, message);
    assert.equal(said.message.split('\n').length, 1);
  }
});

test('whatever JSON is in the file, it is taken or refused with a sentence', () => {
  const keys = fc.constantFrom('serve', 'memory', 'forget', 'port', 'model', 'cors', 'keys', 'budget', 'json', 'x');
  const scalar = fc.oneof(fc.boolean(), fc.integer(), fc.string(), fc.constant(null));
  const { tree } = fc.letrec((tie) => ({
    tree: fc.dictionary(keys, fc.oneof({ maxDepth: 3 }, scalar, fc.array(scalar, { maxLength: 2 }), tie('tree'))),
  }));
  fc.assert(
    fc.property(tree, (values) => {
      try {
        applyConfig(fullProgram(), { path: 'config.json', values: values as Record<string, unknown> }, {});
      } catch (error) {
        assert.ok(error instanceof TmemError && error.code === 'usage', String(error));
      }
    }),
    { numRuns: 60 },
  );
});

test('another file is named by a flag, or by the environment', async (t) => {
  const path = join(temporaryHome(t), 'other.json');
  writeFileSync(path, '{ "serve": { "port": 1234 } }');
  assert.equal((await optionsOf(t, { serve: { port: 1 } }, ['serve', '--config', path])).port, 1234);
  assert.equal((await optionsOf(t, { serve: { port: 1 } }, ['serve'], { TMEM_CONFIG: path })).port, 1234);
  const missing = await failure(t, undefined, ['serve'], { TMEM_CONFIG: `${path}.not` });
  assert.equal(missing.code, 3);
  assert.match(missing.message, /other\.json\.not cannot be read/);
});

test('help is given whatever is in the file', async (t) => {
  const { code, out } = await run(t, '{', ['serve', '--help']);
  assert.equal(code, 0);
  assert.match(out, /Usage: tmem serve/);
});

test('tmem config says what is in force and where it comes from', async (t) => {
  const settings = { store: 'sqlite:/x/y.db', serve: { port: 8500 } };
  const { file, found, settings: all, options } = await optionsOf(t, settings, ['config'], { TMEM_BLAS: 'off' });
  assert.equal(found, true);
  assert.match(file, /config\.json$/);
  const from = Object.fromEntries(
    all.map((entry: { key: string; value: unknown; from: string }) => [entry.key, entry]),
  );
  assert.deepEqual([from.store.value, from.store.from], ['/x/y.db', 'file']);
  assert.deepEqual([from.blas.value, from.blas.from, from.blas.variable], ['off', 'environment', 'TMEM_BLAS']);
  assert.deepEqual([from.backend.value, from.backend.from], ['auto', 'default']);
  assert.deepEqual(options, [{ key: 'serve.port', value: 8500, from: 'file' }]);
});

test('tmem config COMMAND shows all of its options, and refuses one that there is not', async (t) => {
  const { options } = await optionsOf(t, { serve: { port: 1 } }, ['config', 'serve'], { TMEM_MODEL: 'm' });
  const shown = Object.fromEntries(options.map(({ key, from }: { key: string; from: string }) => [key, from]));
  assert.deepEqual([shown['serve.port'], shown['serve.budget']], ['file', 'default']);
  assert.equal(shown['serve.model'], 'environment');
  assert.equal((await failure(t, undefined, ['config', 'sing'])).code, 2);
});

test('a password in the URL of the store is not shown', async (t) => {
  const { out } = await run(t, { store: 'postgres://me:secret@host/db' }, ['config']);
  assert.ok(!out.includes('secret'));
});

for (const answers of ['tmem', 'other', null] as const)
  test(`tmem doctor tells what is at the configured address: ${answers ?? 'nothing'}`, async (t) => {
    const home = temporaryHome(t);
    process.env.TMEM_BLAS = 'off';
    delete process.env.TMEM_CONFIG;
    const bodies: Record<string, unknown> = {
      '/health': { status: 'ok', model: 'tiny' },
      '/openapi.json': { info: { title: 'tmem', version: '9.8.7' } },
    };
    const server = createServer((request, response) =>
      response.end(answers === 'tmem' ? JSON.stringify(bodies[request.url!]) : 'hello'),
    );
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    if (answers === null) await new Promise((done) => server.close(done));
    else t.after(() => server.close());
    writeFileSync(join(home, 'config.json'), JSON.stringify({ serve: { port } }));
    let out = '';
    const stdout = {
      write(text: string) {
        out += text;
      },
    };
    await runProgram(registers, ['doctor', '--json'], {
      ...{ stdout, stderr: { write: () => {} }, signal: new AbortController().signal },
    });
    const { server: found } = JSON.parse(out);
    const url = `http://127.0.0.1:${port}`;
    const more = answers === 'tmem' ? { version: '9.8.7', model: 'tiny' } : {};
    assert.deepEqual(found, { url, answers, ...more });
  });
