/** `tmem completion`: scripts that complete commands, options and choices in a shell, made from the program itself. */
import { Argument, type Command, type Option } from 'commander';
import type { CliIo } from '../io.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export function register(program: Command, io: CliIo): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .description('print a script that completes commands and options: `source <(tmem completion bash)`')
    .action(async (shell: Shell) => {
      const { catalogue } = await import('../../engine/models/catalogue.ts');
      const models = catalogue.map(({ name }) => name);
      const script = completionScript(program, shell, models);
      io.result({ shell, script }, () => script.trimEnd());
    });
}

interface Word {
  readonly word: string;
  readonly about: string;
}

interface Flag extends Word {
  readonly takesValue: boolean;
  /** What the value can be; empty: a file, or what only the user knows. */
  readonly values: readonly string[];
}

/** What may follow the words of one command. */
interface Place {
  /** `/memory/forget`; empty for the program. */
  readonly at: string;
  readonly commands: readonly Word[];
  readonly flags: readonly Flag[];
  /** What its arguments can be. */
  readonly values: readonly string[];
}

/** @param models names that options and arguments called `model` can have */
export function completionScript(program: Command, shell: Shell, models: readonly string[]): string {
  const all = placesOf(program, '', [], models);
  return { bash, zsh, fish }[shell](all);
}

function placesOf(command: Command, at: string, shared: readonly Flag[], models: readonly string[]): Place[] {
  const options = command.createHelp().visibleOptions(command);
  const own = options.map((option) => flagOf(option, models));
  const flags = [...own, ...shared.filter(({ word }) => !own.some((flag) => flag.word === word))];
  const commands = command.commands.map((child) => ({ word: child.name(), about: child.description() }));
  const values = command.registeredArguments.flatMap(
    (argument) => argument.argChoices ?? (argument.name() === 'model' ? models : []),
  );
  // Options of the program are taken after every command, but for its version.
  const below = at === '' ? flags.filter(({ word }) => word !== '--version') : shared;
  return [
    { at, commands, flags, values },
    ...command.commands.flatMap((child) => placesOf(child, `${at}/${child.name()}`, below, models)),
  ];
}

function flagOf(option: Option, models: readonly string[]): Flag {
  const takesValue = option.required || option.optional;
  const named = /[<[]model[>\]]/.test(option.flags) ? models : [];
  return { word: option.long!, about: option.description, takesValue, values: option.argChoices ?? named };
}

/** A command has nothing but other commands below it. */
const isGroup = ({ commands }: Place) => commands.length > 0;
const words = (list: readonly (Word | string)[]) => list.map((x) => (typeof x === 'string' ? x : x.word)).join(' ');
/** Flags of all places that want a value, as `PLACE --flag`, under what that can be. */
function valued(places: readonly Place[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { at, flags } of places)
    for (const { word, takesValue, values } of flags)
      if (takesValue) groups.set(words(values), [...(groups.get(words(values)) ?? []), `${at} ${word}`]);
  return groups;
}
const steps = (places: readonly Place[]) => places.map(({ at }) => at).filter(Boolean);

/** For bash and zsh. */
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
const patterns = (texts: readonly string[]) => texts.map(quoted).join(' | ');

function bash(places: readonly Place[]): string {
  const values = [...valued(places)].map(([list, flags]) => `    ${patterns(flags)}) words=${quoted(list)} ;;`);
  const cases = places.map((place) => {
    const { at, flags, commands, values } = place;
    return `      ${quoted(at)}) flags=${quoted(words(flags))} words=${quoted(words(isGroup(place) ? commands : values))} ;;`;
  });
  return `# Completion of tmem in bash: source <(tmem completion bash)
_tmem() {
  local at='' words='' flags='' i last=$COMP_CWORD word=\${COMP_WORDS[COMP_CWORD]}
  # bash cuts --port=80 into three words.
  if [[ $word == = ]]; then word=''
  elif [[ \${COMP_WORDS[last - 1]} == = ]]; then ((last -= 1))
  fi
  local previous=\${COMP_WORDS[last - 1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/\${COMP_WORDS[i]}" in
      ${patterns(steps(places))}) at="$at/\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at $previous" in
${values.join('\n')}
    *)
      case "$at" in
${cases.join('\n')}
      esac
      [[ $word == -* ]] && words=$flags
      ;;
  esac
  # Without a word that fits, bash completes names of files.
  # shellcheck disable=SC2207
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _tmem tmem
`;
}

function zsh(places: readonly Place[]): string {
  const described = (list: readonly Word[]) =>
    list.map(({ word, about }) => quoted(`${word.replaceAll(':', '\\:')}:${about}`)).join(' ');
  const values = [...valued(places)].map(
    ([list, flags]) => `    (${patterns(flags)}) ${list === '' ? '_files' : `compadd -- ${list}`}; return ;;`,
  );
  const cases = places.map(
    ({ at, commands, flags, values }) => `    (${quoted(at)})
      flags=(${described(flags)})
      commands=(${described(commands)})
      values=(${words(values)})
      ;;`,
  );
  return `#compdef tmem
# Completion of tmem in zsh: source <(tmem completion zsh), or this file as _tmem in a folder of fpath
_tmem() {
  local at='' word previous=\${words[CURRENT-1]}
  local -a commands flags values
  for word in \${words[2,CURRENT-1]}; do
    case "$at/$word" in
      (${patterns(steps(places))}) at="$at/$word" ;;
    esac
  done
  case "$at $previous" in
${values.join('\n')}
  esac
  case "$at" in
${cases.join('\n')}
  esac
  if [[ $PREFIX == -* ]]; then _describe -o option flags
  elif (( $#commands )); then _describe command commands
  elif (( $#values )); then compadd -a values
  else _files
  fi
}
if [[ \${funcstack[1]} == _tmem ]]; then _tmem "$@"; else compdef _tmem tmem; fi
`;
}

function fish(places: readonly Place[]): string {
  const text = (said: string) => `'${said.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = places.flatMap((place) => {
    const { at, commands, flags, values } = place;
    const here = `complete -c tmem -n ${text(`__tmem_at ${text(at)}`)}`;
    return [
      ...(isGroup(place) || values.length > 0 ? [`${here} -f`] : []),
      ...commands.map(({ word, about }) => `${here} -a ${word} -d ${text(about)}`),
      ...(values.length > 0 ? [`${here} -a ${text(words(values))}`] : []),
      ...flags.map(({ word, about, takesValue, values }) => {
        const value = values.length > 0 ? ` -x -a ${text(words(values))}` : takesValue ? ' -r' : '';
        return `${here} -l ${word.slice(2)}${value} -d ${text(about)}`;
      }),
    ];
  });
  return `# Completion of tmem in fish: tmem completion fish | source
function __tmem_at
  set -l at ''
  for word in (commandline -opc)[2..-1]
    switch "$at/$word"
      case ${steps(places).join(' ')}
        set at "$at/$word"
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join('\n')}
`;
}
