import type { Command } from 'commander';
import { describeProgress, resolveModel } from '../../engine/models/store.ts';
import type { CliIo } from '../io.ts';

/** `tmem pull MODEL`: fetches and verifies a model. */
export function register(program: Command, io: CliIo): void {
  program
    .command('pull')
    .description('fetch and verify a model')
    .argument(
      '<model>',
      'a name from `tmem models`, hf:user/repo[:QUANT], hf:user/repo/file.gguf or the path of a .gguf',
    )
    .option('--offline', 'use only what is on this machine')
    .action(async (model: string, { offline }: { offline?: boolean }) => {
      const progress = io.progress(model);
      let outcome = 'not fetched';
      try {
        const found = await resolveModel(model, {
          offline,
          signal: io.signal,
          onNote: io.note,
          onProgress: (event) =>
            progress.update(event.total > 0 ? event.received / event.total : null, describeProgress(event)),
        });
        outcome = 'verified';
        progress.done(outcome);
        io.result(
          found,
          () => `${found.path}\n${(found.bytes / 1e6).toFixed(1)} MB, sha256 ${found.sha256}, ${found.source}`,
        );
      } finally {
        progress.done(outcome);
      }
    });
}
