/** `tmem run`: one episode over recorded turns, then questions with the context cleared. */
import type { Command } from 'commander';
import { z } from 'zod';
import { contextFor } from '../../agent/context-size.ts';
import type { EpisodeOptions, Episode as EpisodeType, Method } from '../../agent/episode.ts';
import { bindRecipe } from '../../agent/recipes.ts';
import type { TraceListener } from '../../agent/trace.ts';
import { TmemError } from '../../engine/errors.ts';
import { trainingOf } from '../../memory/recipe.ts';
import type { Keeper } from '../../memory/session.ts';
import { type Turn, turnSchema, type WriteRecord } from '../../memory/types.ts';
import { type CliIo, numberOption } from '../io.ts';

const questionSchema = z.object({ question: z.string().min(1), answer: z.union([z.string(), z.number()]).optional() });

interface RunOptions {
  readonly events: string;
  readonly questions?: string;
  readonly method: Method;
  readonly budget: number;
  readonly recipe: string;
  readonly layers?: number;
  readonly session?: string;
  readonly model?: string;
  readonly questionAware?: boolean;
  readonly trace?: string;
}

interface Answer {
  readonly question: string;
  readonly answer: string;
  readonly expected?: string;
}

type WriteLine = WriteRecord & { readonly question?: string };

export function register(program: Command, io: CliIo, deps = { bindRecipe }): void {
  program
    .command('run')
    .description('Let an agent read recorded turns into its memory, then ask it questions with an empty context.')
    .requiredOption('--events <file>', 'JSONL of turns {role, content, speaker?, time?}')
    .option('--questions <file>', 'JSONL of questions {question, answer?}')
    .option('--method <method>', 'tmem (fast weights) or explicit (the same without training)', parseMethod, 'tmem')
    .option('--budget <tokens>', 'length of the working context', numberOption('--budget', { integer: true }), 2048)
    .option('--recipe <recipe>', 'default or paper', 'default')
    .option('--layers <n>', 'number of last layers to train', numberOption('--layers', { integer: true, min: 1 }))
    .option('--session <name>', 'keep the memory under this name')
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--question-aware', 'show each question to the extraction; the memory is rebuilt for each')
    .option('--trace <file>', 'write every event to this JSONL file')
    .action((options: RunOptions) => run(io, options, deps.bindRecipe));
}

/** @throws TmemError `usage` naming the methods. */
export function parseMethod(name: string): Method {
  if (name === 'tmem' || name === 'explicit') return name;
  throw new TmemError('usage', `There is no method "${name}"; choose tmem or explicit.`);
}

async function run(io: CliIo, options: RunOptions, bind: typeof bindRecipe): Promise<void> {
  const { Episode } = await import('../../agent/episode.ts');
  const { readJsonl } = await import('../../agent/jsonl.ts');
  const { openTrace } = await import('../../agent/trace.ts');
  const { Session, checkSessionName, openVolatile } = await import('../../memory/session.ts');
  const { liveView } = await import('../live.ts');

  const { method, budget, recipe, session, questionAware = false } = options;
  if (session !== undefined) checkSessionName(session);
  if (questionAware && (session !== undefined || options.questions === undefined))
    throw new TmemError('usage', '--question-aware needs --questions and cannot be used with --session.');
  const turns = await readJsonl(options.events, turnSchema, 'turns');
  const questions = options.questions ? await readJsonl(options.questions, questionSchema, 'questions') : [];
  const { layers } = options;
  const writer = await bind(recipe, { layers });
  const training = method === 'tmem' ? trainingOf(recipe, { layers }) : undefined;
  const file = options.trace ? openTrace(options.trace) : null;
  let keeper: Keeper | null = null;
  try {
    const engine = await io.openEngine({ model: options.model, contextSize: contextFor(budget), training });
    const start = performance.now();
    const view = liveView(io);
    const trace: TraceListener = (event) => {
      file?.write(event);
      view(event);
    };
    const common: EpisodeOptions = { engine, write: writer(engine), method, budget, trace };
    const { signal } = io;
    let memory = '';

    /** One episode over all turns; the writes of this run. */
    const read = async (settings: Partial<EpisodeOptions>) => {
      const kept = settings.from?.state.writes.length ?? 0;
      const episode = await Episode.open({ ...common, ...settings });
      for (const turn of turns) await episode.observe(turn, { signal });
      await episode.write({ signal });
      memory = episode.snapshot.state.explicit;
      return { episode, writes: episode.snapshot.state.writes.slice(kept) };
    };
    const ask = async (episode: EpisodeType, { question, answer }: (typeof questions)[number]) => {
      const given: Answer = { question, answer: await episode.answer(question, { signal }) };
      return answer === undefined ? given : { ...given, expected: String(answer) };
    };

    const answers: Answer[] = [];
    const writes: WriteLine[] = [];
    if (questionAware) {
      for (const question of questions) {
        const { episode, writes: own } = await read({ task: question.question, questionAware });
        writes.push(...own.map((record) => ({ ...record, question: question.question })));
        answers.push(await ask(episode, question));
      }
    } else {
      const { fingerprint } = engine.model;
      const place = session === undefined ? openVolatile(fingerprint) : await Session.open(session, engine.model);
      keeper = place;
      const { episode, writes: own } = await read({ from: place.snapshot, onChange: (next) => place.commit(next) });
      writes.push(...own);
      for (const question of questions) answers.push(await ask(episode, question));
    }
    const tokens = await countAll(turns, async (text) => (await engine.tokenize(text, { plain: true })).length);
    const ms = Math.round(performance.now() - start);
    const settings = { model: engine.model.name, method, recipe, budget, questionAware };
    io.result({ ...settings, writes, answers, memory, tokens, ms }, () => report(answers, writes, memory));
  } finally {
    await keeper?.close();
    file?.close();
  }
}

async function countAll(turns: readonly Turn[], length: (text: string) => Promise<number>): Promise<number> {
  let tokens = 0;
  for (const turn of turns) tokens += await length(turn.content);
  return tokens;
}

function report(answers: readonly Answer[], writes: readonly WriteLine[], memory: string): string {
  const lines = answers.map(({ question, answer, expected }) => {
    const wanted = expected === undefined ? '' : `\n  expected: ${expected}`;
    return `${question}\n  answer:   ${answer.replace(/\s+/g, ' ')}${wanted}`;
  });
  const committed = writes.filter((w) => w.verdict === 'committed');
  const pairs = committed.reduce((sum, w) => sum + w.pairs.length, 0);
  const written = `${committed.length} of ${writes.length} writes committed, ${pairs} pairs in the weights.`;
  return [...lines, written, ...(answers.length > 0 || !memory ? [] : ['Explicit memory:', memory])].join('\n');
}
