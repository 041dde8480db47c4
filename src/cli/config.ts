/**
 * Settings in a file, `config.json`: options of commands by their long names, and what the environment's variables name otherwise.
 * What stands in an object applies to the commands below it, too, unless something nearer says otherwise:
 * `{ "model": "qwen3-4b", "budget": 1024, "serve": { "port": 8500 }, "memory": { "forget": { "prove": true } } }`.
 * Flags go before the environment, the environment before the file, and the file before defaults.
 */
import type { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, type Option } from 'commander';
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { tmemHome } from '../engine/home.ts';

export type Environment = Record<string, string | undefined>;

/** What has a variable in the environment, as every part of tmem reads it there. */
export interface Setting {
  readonly key: string;
  readonly variable: string;
  readonly about: string;
  /** Commands (by their first word) whose option of the same name has this value when it is not given. */
  readonly stands?: (command: string) => boolean;
}

export const SETTINGS: readonly Setting[] = [
  {
    ...{ key: 'model', variable: 'TMEM_MODEL', about: 'the model of commands that are told none' },
    stands: (command) => command !== 'doctor',
  },
  {
    ...{ key: 'session', variable: 'TMEM_SESSION', about: 'the session of chat and ask' },
    stands: (command) => command === 'chat' || command === 'ask',
  },
  {
    key: 'store',
    variable: 'TMEM_STORE',
    about: 'where sessions are kept: sqlite:PATH or postgres://USER@HOST/DATABASE',
  },
  { key: 'backend', variable: 'TMEM_BACKEND', about: 'the device: cpu, cuda, vulkan or metal' },
  { key: 'blas', variable: 'TMEM_BLAS', about: 'a BLAS of the system: openblas, mkl, a path, or off' },
  { key: 'amx', variable: 'TMEM_AMX', about: "off: without ggml's build for AMX, where the processor has it" },
  { key: 'train-on', variable: 'TMEM_TRAIN_ON', about: 'gpu: train there, too' },
];

const valuesSchema = z.record(z.string(), z.unknown());
type Values = z.infer<typeof valuesSchema>;

export interface ConfigFile {
  readonly path: string;
  /** null: there is no such file. */
  readonly values: Values | null;
}

/**
 * @param named by a flag; without it `TMEM_CONFIG`, or `config.json` in the folder of everything that tmem keeps
 * @throws TmemError `missing` when a file that was named is not there, `usage` when it holds no JSON object
 */
export function readConfig(named: string | undefined, env: Environment): ConfigFile {
  const given = named ?? (env.TMEM_CONFIG || undefined);
  const path = resolve(given ?? join(tmemHome(env), 'config.json'));
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' && given === undefined) return { path, values: null };
    throw new TmemError('missing', `The configuration ${path} cannot be read (${code}); name another file.`, { cause });
  }
  try {
    return { path, values: valuesSchema.parse(JSON.parse(text)) };
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : 'it must be an object';
    throw new TmemError('usage', `The configuration ${path} is not a JSON object of settings: ${reason}.`, { cause });
  }
}

/**
 * Puts what the file says in force: options as values with the source `config`, before their commands read the flags; settings in `env`,
 * where it does not name them.
 * @returns variables that the file has named
 * @throws TmemError `usage` for a key that names nothing, or a value that does not fit
 */
export function applyConfig(program: Command, { path, values }: ConfigFile, env: Environment): ReadonlySet<string> {
  const named = new Set<string>();
  if (!values) return named;
  const inEnvironment = new Set(SETTINGS.filter(({ variable }) => env[variable]).map(({ key }) => key));
  const options: Values = {};
  for (const [key, value] of Object.entries(values)) {
    const setting = SETTINGS.find((entry) => entry.key === key);
    if (!setting) options[key] = value;
    else if (typeof value !== 'string' || value === '')
      throw new TmemError('usage', `${key} in ${path} must be a text; it is ${setting.about}.`);
    else if (!inEnvironment.has(key)) {
      env[setting.variable] = value;
      named.add(setting.variable);
    }
  }
  const isTaken = (command: Command, option: Option) => {
    const setting = settingOf(command, option);
    return setting !== undefined && inEnvironment.has(setting.key);
  };
  put(program, options, {}, { path, isTaken });
  return named;
}

/** The setting whose value an option has when it is not given. */
export function settingOf(command: Command, option: Option): Setting | undefined {
  const [first] = wordsOf(command);
  const setting = SETTINGS.find(({ key }) => key === option.name());
  return first !== undefined && setting?.stands?.(first) ? setting : undefined;
}

/** The words that call a command, without `tmem`. */
export function wordsOf(command: Command): string[] {
  return command.parent ? [...wordsOf(command.parent), command.name()] : [];
}

/** Options that a file can set; those of the program itself but for the ones that say what is to be done. */
export const settable = (command: Command): Option[] =>
  command.options.filter((option) => command.parent !== null || !['config', 'version'].includes(option.name()));

/** What of the file's has a place of its own, and whether the environment has spoken already. */
interface Place {
  readonly path: string;
  readonly isTaken: (command: Command, option: Option) => boolean;
}

function put(command: Command, own: Values, inherited: Values, place: Place): void {
  const deeper: [Command, Values][] = [];
  const values: Values = { ...inherited };
  for (const [key, value] of Object.entries(own)) {
    const below = command.commands.find((child) => child.name() === key);
    const nested = valuesSchema.safeParse(value);
    if (below && nested.success) deeper.push([below, nested.data]);
    else if (isKnown(command, key)) values[key] = value;
    else {
      const words = ['tmem', ...wordsOf(command)].join(' ');
      throw new TmemError(
        'usage',
        `${at(command, key)} in ${place.path} is no option of ${words}; \`${words} --help\` lists them.`,
      );
    }
  }
  for (const option of settable(command)) {
    const value = values[option.name()];
    if (value === undefined || place.isTaken(command, option)) continue;
    if (command.getOptionValueSource(option.attributeName()) === 'cli') continue;
    set(command, option, parse(option, value, `${at(command, option.name())} in ${place.path}`));
  }
  for (const child of command.commands) {
    const found = deeper.find(([below]) => below === child);
    put(child, found?.[1] ?? {}, values, place);
  }
}

const at = (command: Command, key: string) => [...wordsOf(command), key].join('.');

function isKnown(command: Command, key: string): boolean {
  return (
    settable(command).some((option) => option.name() === key) || command.commands.some((child) => isKnown(child, key))
  );
}

function set(command: Command, option: Option, value: unknown): void {
  const name = option.attributeName();
  command.setOptionValueWithSource(name, value, 'config');
  if (!isList(option)) return;
  // Flags are collected in a list beside what is there; they take the place of the file's. (Commander's types do not say that it emits events.)
  (command as Command & EventEmitter).prependOnceListener(`option:${option.name()}`, () =>
    command.setOptionValueWithSource(name, option.defaultValue, 'default'),
  );
}

const isList = (option: Option) => option.variadic || Array.isArray(option.defaultValue);
const scalar = z.union([z.string(), z.number()]).transform(String);

/** The value as the flag would give it. */
function parse(option: Option, given: unknown, where: string): unknown {
  const fails = (what: string, cause?: unknown) => new TmemError('usage', `${where}: ${what}`, { cause });
  if (option.isBoolean() || option.negate) {
    const said = z.boolean().safeParse(given);
    if (!said.success) throw fails('it must be true or false.', said.error);
    return option.negate ? !said.data : said.data;
  }
  const one = (text: string, previous: unknown) => (option.parseArg ? option.parseArg(text, previous) : text);
  try {
    if (!isList(option)) return one(scalar.parse(given), option.defaultValue);
    const texts = z.array(scalar).parse(Array.isArray(given) ? given : [given]);
    return option.parseArg ? texts.reduce((all: unknown, text) => one(text, all), option.defaultValue) : texts;
  } catch (error) {
    if (error instanceof z.ZodError)
      throw fails(`it must be a text or a number${isList(option) ? ', or a list of these' : ''}.`, error);
    if (error instanceof TmemError || error instanceof InvalidArgumentError) throw fails(error.message, error);
    throw error;
  }
}
