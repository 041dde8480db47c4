import type { Command } from 'commander';
import { type ListedModel, listModels } from '../../engine/models/store.ts';
import type { CliIo } from '../io.ts';

/** `tmem models`: what the catalogue offers and what is here. */
export function register(program: Command, io: CliIo): void {
  program
    .command('models')
    .description('list the models that can be pulled and those that are here')
    .action(async () => {
      const models = await listModels();
      io.result({ models }, () => table(models));
    });
}

function table(models: readonly ListedModel[]): string {
  const rows = models.map(({ name, file, bytes, licence, present }) => [
    name,
    // The name of a cached file already says it.
    name.endsWith(file) ? '' : file,
    `${Math.round(bytes / 1e6)} MB`,
    licence ?? '',
    present ? 'here' : '',
  ]);
  const all = [['NAME', 'MODEL', 'SIZE', 'LICENCE', ''], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => (column === 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
