import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createProgress, EXIT_CODES, numberOption } from '../../src/cli/io.ts';
import { type Register, runProgram } from '../../src/cli/program.ts';
import { type ErrorCode, TmemError, throwIfAborted } from '../../src/engine/errors.ts';

function sink(isTTY = false) {
  const chunks: string[] = [];
  return { isTTY, columns: 40, write: (text: string) => void chunks.push(text), text: () => chunks.join('') };
}

const commands: Register = (program, io) => {
  program
    .command('greet')
    .argument('<name>')
    .option('--times <n>', 'how often', numberOption('--times', { integer: true, min: 1 }), 1)
    .action((name, { times }) => io.result({ name, times }, () => `hello ${name}`.repeat(times)));
  program
    .command('fail')
    .argument('<code>')
    .action((code: ErrorCode) => {
      throw new TmemError(code, 'It went wrong; do something else.', { cause: new Error('the root') });
    });
  program.command('break').action(() => {
    throw new TypeError('x is not a function');
  });
  program.command('wait').action(() => {
    io.out('one');
    io.note('two');
    throwIfAborted(io.signal);
  });
};

async function run(argv: string[], signal = new AbortController().signal) {
  const [stdout, stderr] = [sink(), sink()];
  const code = await runProgram([commands], argv, { stdout, stderr, signal });
  return { code, out: stdout.text(), err: stderr.text() };
}

describe('command line', () => {
  it('prints a result for people, or as one JSON document', async () => {
    assert.deepEqual(await run(['greet', 'Ada']), { code: 0, out: 'hello Ada\n', err: '' });
    for (const argv of [
      ['greet', 'Ada', '--json'],
      ['--json', 'greet', 'Ada'],
    ]) {
      const { code, out } = await run(argv);
      assert.deepEqual([code, JSON.parse(out)], [0, { name: 'Ada', times: 1 }]);
    }
  });

  it('keeps stdout for the document with --json', async () => {
    assert.deepEqual(await run(['wait', '--json']), { code: 0, out: '', err: 'one\ntwo\n' });
    assert.deepEqual(await run(['wait']), { code: 0, out: 'one\n', err: 'two\n' });
  });

  it('maps every error code to its exit code, in one sentence', async () => {
    for (const [name, exit] of Object.entries(EXIT_CODES)) {
      assert.deepEqual(await run(['fail', name]), {
        code: exit,
        out: '',
        err: 'tmem: It went wrong; do something else.\n',
      });
    }
    assert.deepEqual(EXIT_CODES, { failed: 1, usage: 2, missing: 3, refused: 4, aborted: 130 });
  });

  it('reports an error as JSON on stdout with --json', async () => {
    const { code, out, err } = await run(['fail', 'missing', '--json']);
    assert.equal(code, 3);
    assert.deepEqual(JSON.parse(out), { error: { code: 'missing', message: 'It went wrong; do something else.' } });
    assert.equal(err, '');
  });

  it('shows stack traces and causes only with --verbose', async () => {
    const quiet = await run(['break']);
    assert.deepEqual([quiet.code, quiet.err], [1, 'tmem: x is not a function\n']);
    assert.match((await run(['break', '--verbose'])).err, /TypeError: x is not a function\n {4}at /);
    assert.match((await run(['fail', 'failed', '--verbose'])).err, /caused by: Error: the root/);
  });

  it('answers wrong usage with exit code 2 and a hint', async () => {
    const wrong: [string[], RegExp][] = [
      [['gret', 'Ada'], /unknown command 'gret' \(Did you mean greet\?\)/],
      [['greet', 'Ada', '--tims', '2'], /unknown option '--tims' \(Did you mean --times\?\)/],
      [['greet'], /missing required argument 'name'/],
      [['greet', 'Ada', 'Bob'], /too many arguments/],
      [['greet', 'Ada', '--times', 'x'], /--times must be a whole number of at least 1, but it is 'x'/],
      [['greet', 'Ada', '--times', '0'], /--times must be a whole number/],
    ];
    for (const [argv, message] of wrong) {
      const { code, out, err } = await run(argv);
      assert.deepEqual([code, out], [2, ''], argv.join(' '));
      assert.match(err, message);
      assert.equal(err.trim().split('\n').length, 1, err);
      assert.equal(JSON.parse((await run([...argv, '--json'])).out).error.code, 'usage');
    }
  });

  it('prints help and version', async () => {
    assert.match((await run(['--version'])).out, /^\d+\.\d+\.\d+\n$/);
    const help = await run(['--help']);
    assert.deepEqual([help.code, help.err], [0, '']);
    assert.match(help.out, /greet/);
    const bare = await run([]);
    assert.deepEqual([bare.code, bare.out], [2, '']);
    assert.match(bare.err, /Usage: tmem/);
    assert.match((await run(['greet', '--help'])).out, /--times[\s\S]*--json/);
  });

  it('exits with 130 when interrupted, whatever the interruption threw', async () => {
    assert.equal((await run(['wait'], AbortSignal.abort())).code, 130);
    assert.deepEqual(await run(['break'], AbortSignal.abort()), { code: 130, out: '', err: 'tmem: Interrupted.\n' });
  });
});

describe('progress', () => {
  it('rewrites one line on a terminal', () => {
    let now = 0;
    const out = sink(true);
    const progress = createProgress(out, 'model', () => now);
    progress.update(0, 'a');
    progress.update(0.25, 'too soon');
    now = 1000;
    progress.update(0.5, 'b'.repeat(100));
    progress.done('ready');
    progress.update(1, 'ignored');
    progress.done('ignored');
    const line = (text: string) => `\r\x1b[2K${text}`;
    const long = `model: 50% ${'b'.repeat(100)}`.slice(0, 39);
    assert.equal(out.text(), `${line('model: 0% a')}${line(long)}${line('model: ready')}\n`);
  });

  it('is sparse elsewhere', () => {
    let now = 0;
    const out = sink();
    const progress = createProgress(out, 'model', () => now);
    for (now = 0; now < 12_000; now += 100) progress.update(now / 12_000, 'loading');
    progress.done('ready');
    assert.equal(out.text(), 'model: 41% loading\nmodel: 83% loading\nmodel: ready\n');
  });
});

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const tmem = (argv: string[]) => spawn(process.execPath, [main, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
const collect = async (child: ReturnType<typeof tmem>) => {
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, out, err };
};

describe('tmem', () => {
  it('has the commands of the contract', async () => {
    const { code, out } = await collect(tmem(['--help']));
    assert.equal(code, 0);
    for (const name of ['pull', 'models', 'sft', 'run', 'demo', 'chat', 'memory', 'doctor']) {
      assert.match(out, new RegExp(`^ {2}${name}\\b`, 'm'));
    }
  });

  it('reports on the machine as one JSON document', async () => {
    const { code, out } = await collect(tmem(['doctor', '--json']));
    assert.equal(code, 0);
    const report = JSON.parse(out);
    assert.equal(report.node, process.versions.node);
    assert.equal(report.ok, report.problems.length === 0);
    assert.equal(report.libraries.found.startsWith(report.libraries.needed), true);
  });

  it('does not fail when the reader of a pipe has gone', async () => {
    const child = tmem(['models']);
    child.stdout.destroy();
    const code = await new Promise((resolve) => child.once('close', resolve));
    assert.equal(code, 0);
  });
});
