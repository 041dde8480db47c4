/** Completion scripts, and what bash makes of its one. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Command } from 'commander';
import { completionScript } from '../../src/cli/commands/completion.ts';
import { fullProgram } from '../../src/docs/commands.ts';

const program = fullProgram();
const MODELS = ['small', 'large'];
const SHELLS = ['bash', 'zsh', 'fish'] as const;
const folder = mkdtempSync(join(tmpdir(), 'tmem-completion-'));
after(() => rmSync(folder, { recursive: true }));
const files = Object.fromEntries(
  SHELLS.map((shell) => {
    const file = join(folder, shell);
    writeFileSync(file, completionScript(program, shell, MODELS));
    return [shell, file];
  }),
) as Record<(typeof SHELLS)[number], string>;

const has = (shell: string) => spawnSync(shell, ['--version']).status === 0;
const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];

for (const shell of SHELLS) {
  test(`the script for ${shell} names every command, option and choice`, () => {
    const words = new Set(completionScript(program, shell, MODELS).match(/[\w.-]+/g));
    const flag = (long: string) => (shell === 'fish' ? long.slice(2) : long);
    for (const command of all(program).slice(1)) {
      assert.ok(words.has(command.name()), command.name());
      for (const option of command.options) {
        assert.ok(words.has(flag(option.long!)), `${command.name()} ${option.long}`);
        for (const choice of option.argChoices ?? []) assert.ok(words.has(choice), choice);
      }
    }
  });

  test(`${shell} can read its script`, { skip: has(shell) ? false : `there is no ${shell} here` }, () => {
    execFileSync(shell, ['-n', files[shell]]);
  });
}

describe('in bash', { skip: has('bash') ? false : 'there is no bash here' }, () => {
  const DRIVER = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tmem; printf "%s\\n" "$' + '{COMPREPLY[@]}"';
  const complete = (...words: string[]) =>
    execFileSync('bash', ['--norc', '-c', DRIVER, files.bash, 'tmem', ...words], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean);

  test('commands are completed, and those below them', () => {
    assert.deepEqual(complete('mem'), ['memory']);
    assert.deepEqual(
      complete(''),
      program.commands.map((command) => command.name()),
    );
    assert.deepEqual(complete('memory', 'mi'), ['migrate']);
    assert.deepEqual(complete('policy', 'e'), ['eval', 'export']);
  });

  test('options are those of the command, and of the program', () => {
    assert.deepEqual(complete('serve', '--max'), ['--max-tokens', '--max-queue', '--max-requests']);
    assert.deepEqual(complete('memory', 'show', 'nadia', '--re'), ['--recall']);
    assert.deepEqual(complete('memory', 'show', 'nadia', '--js'), ['--json']);
    assert.deepEqual(complete('ask', '--max'), []);
    assert.ok(!complete('serve', '--').includes('--version'));
  });

  test('a value is one of the choices or models, also behind an equals sign', () => {
    assert.deepEqual(complete('sft', '--optimizer', ''), ['sgd', 'adamw']);
    assert.deepEqual(complete('sft', '--init', 'r'), ['random']);
    assert.deepEqual(complete('chat', '--model', ''), MODELS);
    assert.deepEqual(complete('pull', 'l'), ['large']);
    assert.deepEqual(complete('completion', 'b'), ['bash']);
    assert.deepEqual(complete('sft', '--optimizer', '='), ['sgd', 'adamw']);
    assert.deepEqual(complete('sft', '--optimizer', '=', 'a'), ['adamw']);
  });

  test('other values and arguments are left to the names of files', () => {
    assert.deepEqual(complete('serve', '--keys', ''), []);
    assert.deepEqual(complete('serve', '--keys', '--po'), []);
    assert.deepEqual(complete('memory', 'import', 'nadia', ''), []);
  });

  test('an argument that is called as a command is not one', () => {
    assert.deepEqual(complete('memory', 'show', 'serve', '--re'), ['--recall']);
  });
});
