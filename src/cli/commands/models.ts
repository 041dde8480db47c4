import type { Command } from 'commander';
import { type ListedModel, listModels } from '../../engine/models/store.ts';
import type { CliIo } from '../io.ts';
import { table } from '../table.ts';

/** `tmem models`: what the catalogue offers and what is here. */
export function register(program: Command, io: CliIo): void {
  program
    .command('models')
    .description('list the models that can be pulled and those that are here')
    .action(async () => {
      const models = await listModels();
      io.result({ models }, () => describe(models));
    });
}

function describe(models: readonly ListedModel[]): string {
  const rows = models.map(({ name, file, bytes, licence, present }) => [
    name,
    // The name of a cached file already says it.
    name.endsWith(file) ? '' : file,
    `${Math.round(bytes / 1e6)} MB`,
    licence ?? '',
    present ? 'here' : '',
  ]);
  return table([['NAME', 'MODEL', 'SIZE', 'LICENCE', ''], ...rows], [2]);
}
