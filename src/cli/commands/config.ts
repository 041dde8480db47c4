/** `tmem config`: what is in force, and where it comes from. */
import process from 'node:process';
import type { Command, Option } from 'commander';
import { TmemError } from '../../engine/errors.ts';
import { DEFAULT_MODEL } from '../../engine/models/catalogue.ts';
import {
  applyConfig,
  type ConfigFile,
  type Environment,
  readConfig,
  SETTINGS,
  settable,
  settingOf,
  wordsOf,
} from '../config.ts';
import type { CliIo } from '../io.ts';
import { table } from '../table.ts';

interface Entry {
  /** A setting, or an option with the words of its command: `serve.port`. */
  readonly key: string;
  readonly value: unknown;
  readonly from: 'environment' | 'file' | 'default';
  /** Of the environment, where there is one. */
  readonly variable?: string;
}

interface Loaded {
  readonly file: ConfigFile;
  /** Variables of the environment that the file has set. */
  readonly named: ReadonlySet<string>;
}

export function register(program: Command, io: CliIo, env: Environment = process.env): void {
  let loaded: Loaded | undefined;
  const load = (): Loaded => {
    const file = readConfig(program.opts<{ config?: string }>().config, env);
    return { file, named: applyConfig(program, file, env) };
  };
  program
    .option('--config <file>', 'settings as JSON (default: TMEM_CONFIG, or config.json in TMEM_HOME)')
    .hook('preSubcommand', () => {
      // Help is given whether the file is in order or not.
      if (!program.args.some((word) => word === '--help' || word === '-h')) loaded ??= load();
    });
  program
    .command('config')
    .argument('[command...]', 'show all options of this command: `serve`, `memory forget`')
    .description('show the settings in force, and whether they come from the environment, a file or are defaults')
    .action((words: string[]) => show(program, io, env, loaded ?? load(), words));
}

async function show(program: Command, io: CliIo, env: Environment, { file, named }: Loaded, words: readonly string[]) {
  const { tmemHome } = await import('../../engine/home.ts');
  const settings = await settingsInForce(env, named);
  const options = commandsBelow(commandOf(program, words)).flatMap((command) =>
    settable(command).flatMap((option) => optionInForce(command, option, settings)),
  );
  // Of all commands together only what the file has set for them.
  const isOwn = ({ from, variable }: Entry) => from === 'file' && variable === undefined;
  const shown = words.length > 0 ? options : options.filter(isOwn);
  const home = tmemHome(env);
  io.result({ home, file: file.path, found: file.values !== null, settings, options: shown }, () =>
    [
      `Folder: ${home}`,
      `File: ${file.path}${file.values ? '' : ' (there is none)'}`,
      '',
      table([['SETTING', 'VALUE', 'FROM'], ...[...settings, ...shown].map(row)]),
    ].join('\n'),
  );
}

async function settingsInForce(env: Environment, named: ReadonlySet<string>): Promise<Entry[]> {
  const { currentSession } = await import('../../memory/current.ts');
  const { placeOf, storeUrl } = await import('../../memory/store/store.ts');
  const defaults: Readonly<Record<string, string | undefined>> = {
    ...{ model: DEFAULT_MODEL, session: await currentSession(), store: storeUrl() },
    ...{ backend: 'auto', blas: 'auto', 'train-on': 'cpu' },
  };
  return SETTINGS.map(({ key, variable }) => {
    const value = env[variable] || defaults[key] || null;
    const from = named.has(variable) ? 'file' : env[variable] ? 'environment' : 'default';
    // The URL of a database may hold a password.
    return { key, value: key === 'store' && value ? placeOf(value) : value, from, variable };
  });
}

/** @throws TmemError `usage` when there is no such command. */
function commandOf(program: Command, words: readonly string[]): Command {
  return words.reduce((command, word) => {
    const found = command.commands.find((child) => child.name() === word);
    if (found) return found;
    throw new TmemError('usage', `There is no command \`${words.join(' ')}\`; \`tmem --help\` lists them.`);
  }, program);
}

const commandsBelow = (command: Command): Command[] => [command, ...command.commands.flatMap(commandsBelow)];

/** Nothing for an option without a value. */
function optionInForce(command: Command, option: Option, settings: readonly Entry[]): Entry[] {
  const key = [...wordsOf(command), option.name()].join('.');
  const name = option.attributeName();
  const value = command.getOptionValue(name);
  const setting = settings.find((entry) => entry.key === settingOf(command, option)?.key);
  if (value === undefined) return setting ? [{ ...setting, key }] : [];
  const from = command.getOptionValueSource(name) === 'config' ? 'file' : 'default';
  return [{ key, value: option.negate ? !value : value, from }];
}

function row({ key, value, from, variable }: Entry): string[] {
  const text = value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value);
  return [key, text, from === 'environment' ? `${from} (${variable})` : from];
}
