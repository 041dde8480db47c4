/** The pages of the command line, from the program itself. */
import type { Command, Help } from 'commander';
import { wordsOf } from '../cli/config.ts';
import type { CliIo } from '../cli/io.ts';
import { createProgram } from '../cli/program.ts';
import { registers } from '../cli/registers.ts';
import { code, escaped, heading, pre, slug, table } from './html.ts';
import { renderInline } from './markdown.ts';
import type { Draft } from './page.ts';

/** The program with all commands; nothing of it is run. */
export function fullProgram(): Command {
  const program = createProgram();
  for (const register of registers) register(program, {} as CliIo);
  return program;
}

/** A table of all commands, to stand below the introduction. */
export function commandList(program: Command): string {
  const rows = program.commands.map((command) => [
    `<a href="cli/${command.name()}.html">${code(`tmem ${command.name()}`)}</a>`,
    said(command.description()),
  ]);
  const help = program.createHelp();
  return [
    heading(2, 'commands', 'Commands'),
    table(['command', 'what it does'], rows),
    heading(2, 'options-of-every-command', 'Options of every command'),
    options(program, help),
  ].join('\n');
}

/** A page for each command of the program, with those below it. */
export function commandPages(program: Command): Draft[] {
  return program.commands.map((command) => ({
    path: `cli/${command.name()}.html`,
    title: `tmem ${command.name()}`,
    html: `<h1>${escaped(`tmem ${command.name()}`)}</h1>\n${described(command)}`,
  }));
}

function described(command: Command): string {
  const help = command.createHelp();
  const listed = help.visibleArguments(command).map((argument) => {
    const about = help.argumentDescription(argument);
    return [code(help.argumentTerm(argument)), about === '' ? '' : said(about)];
  });
  const below = command.commands.map((child) => {
    const words = wordsOf(child).join(' ');
    return `${heading(2, slug(words), escaped(`tmem ${words}`))}\n${described(child)}`;
  });
  return [
    `<p>${said(sentence(command.description()))}</p>`,
    pre(help.commandUsage(command).replace(/\|\S+/, '')),
    ...(listed.some(([, about]) => about !== '') ? [table(['argument', 'what it is'], listed)] : []),
    ...(below.length > 0 ? below : [options(command, help)]),
  ].join('\n');
}

function options(command: Command, help: Help): string {
  const rows = help
    .visibleOptions(command)
    .filter((option) => option.long !== '--help')
    .map((option) => {
      const must = option.mandatory ? ' (required)' : '';
      // That a switch is off and a list empty goes without saying.
      const about = help.optionDescription(option).replace(/ \(default: (?:false|\[\])\)$/, '');
      return [code(help.optionTerm(option).replaceAll(', ', ' ')), said(about) + must];
    });
  return rows.length > 0 ? table(['option', 'what it is'], rows) : '';
}

const said = (text: string) => renderInline(escaped(text));
/** Descriptions in lists of commands have no capital and no full stop. */
const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, '')}.`;
