/** `tmem keys`: who may use the server. */
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { table } from '../table.ts';

interface KeysOptions {
  readonly keys?: string;
}

const FILE_OPTION = ['--keys <file>', 'the file of keys (default: keys.json in TMEM_HOME)'] as const;

export function register(program: Command, io: CliIo): void {
  const keys = program.command('keys').description('make, list and revoke the API keys of `tmem serve`');
  keys
    .command('create')
    .argument('<name>', 'who it is for')
    .description('make a key, which is shown this once; each key has sessions of its own')
    .option(...FILE_OPTION)
    .action((name: string, options: KeysOptions) => create(io, name, options));
  keys
    .command('list')
    .description('names of the keys')
    .option(...FILE_OPTION)
    .action((options: KeysOptions) => list(io, options));
  keys
    .command('revoke')
    .argument('<name>')
    .description('shut a key out, at once; its sessions stay')
    .option(...FILE_OPTION)
    .action((name: string, options: KeysOptions) => revoke(io, name, options));
}

async function create(io: CliIo, name: string, { keys: path }: KeysOptions): Promise<void> {
  const { createKey } = await import('../../serve/keys.ts');
  const { key, entry } = await createKey(name, path);
  if (!io.json) io.note('Keep it: it is not stored and cannot be shown again.');
  io.result({ name: entry.name, key, created: entry.created }, () => key);
}

async function list(io: CliIo, { keys: path }: KeysOptions): Promise<void> {
  const { readKeys } = await import('../../serve/keys.ts');
  const keys = (await readKeys(path)).map(({ name, created }) => ({ name, created }));
  io.result({ keys }, () => table([['NAME', 'CREATED'], ...keys.map(({ name, created }) => [name, created])]));
}

async function revoke(io: CliIo, name: string, { keys: path }: KeysOptions): Promise<void> {
  const { revokeKey } = await import('../../serve/keys.ts');
  await revokeKey(name, path);
  io.result({ revoked: name }, () => `${name} can no longer use the server.`);
}
