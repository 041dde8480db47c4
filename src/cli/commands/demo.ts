/** `tmem demo`: the main job on a bundled conversation. Before, write, clear, after. */
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { z } from 'zod';
import { bindRecipe } from '../../agent/recipes.ts';
import type { TraceEvent } from '../../agent/trace.ts';
import { complete, type Engine } from '../../engine/types.ts';
import { accepts } from '../../memory/recall.ts';
import { trainingOf } from '../../memory/recipe.ts';
import { turnSchema, type WriteRecord } from '../../memory/types.ts';
import { type CliIo, numberOption } from '../io.ts';
import { liveView } from '../live.ts';
import { shorten } from '../table.ts';

const BUDGET = 800;
const questionSchema = z.strictObject({
  question: z.string().min(1),
  answer: z.string().min(1),
  accept: z.array(z.string()).optional(),
});
type Question = z.infer<typeof questionSchema>;

interface DemoAnswer {
  readonly question: string;
  readonly expected: string;
  readonly before: string;
  readonly after: string;
  readonly rightBefore: boolean;
  readonly rightAfter: boolean;
}

export function register(program: Command, io: CliIo): void {
  program
    .command('demo')
    .description('watch a model read a conversation, write it into its weights, and answer with an empty context')
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--recipe <recipe>', 'default or paper', 'default')
    .option('--layers <n>', 'number of last layers to train', numberOption('--layers', { integer: true, min: 1 }))
    .action((options: { model?: string; recipe: string; layers?: number }) => demo(io, options));
}

async function demo(io: CliIo, options: { model?: string; recipe: string; layers?: number }): Promise<void> {
  const { Episode } = await import('../../agent/episode.ts');
  const { readJsonl } = await import('../../agent/jsonl.ts');
  const asset = (name: string) => fileURLToPath(new URL(`../../../assets/demo/${name}`, import.meta.url));
  const turns = await readJsonl(asset('conversation.jsonl'), turnSchema, 'turns');
  const questions = await readJsonl(asset('questions.jsonl'), questionSchema, 'questions');
  const controls = await readJsonl(asset('controls.jsonl'), questionSchema, 'questions');
  const { recipe, layers } = options;
  const writer = await bindRecipe(recipe, { layers });
  const training = trainingOf(recipe, { layers });
  const engine = await io.openEngine({ model: options.model, training });
  const { signal } = io;
  const start = performance.now();

  io.note(
    `\nBefore: ${questions.length} questions about a conversation that the model has not read, and ${controls.length} general ones.`,
  );
  const before = await askAll(engine, [...questions, ...controls], signal);

  io.note(
    '\nThe model reads the conversation. Whenever its context is full it writes what it learned into its weights and forgets the text.\n',
  );
  const view = liveView(io);
  const episode = await Episode.open({
    engine,
    write: writer(engine),
    budget: BUDGET,
    useExplicit: false,
    trace: (event) => {
      showReading(io, event, BUDGET);
      view(event);
    },
  });
  for (const turn of turns) await episode.observe(turn, { signal });
  await episode.write({ signal });
  const { writes } = episode.snapshot.state;

  io.note('\nAfter: the same questions, with an empty context.');
  const after = await askAll(engine, [...questions, ...controls], signal);
  const answers = [...questions, ...controls].map(
    (q, i): DemoAnswer => ({
      question: q.question,
      expected: q.answer,
      before: before[i]!,
      after: after[i]!,
      rightBefore: accepts(before[i]!, q),
      rightAfter: accepts(after[i]!, q),
    }),
  );
  const learned = answers.slice(0, questions.length);
  const kept = answers.slice(questions.length);
  const ms = Math.round(performance.now() - start);
  io.result(
    { model: engine.model.name, recipe: options.recipe, budget: BUDGET, answers: learned, controls: kept, writes, ms },
    () =>
      [
        table(learned),
        '',
        'General questions, never trained on:',
        table(kept),
        '',
        summary(learned, kept, writes, ms),
      ].join('\n'),
  );
}

/** With an empty context: the bare question. All at once, so that they are decoded together. */
async function askAll(engine: Engine, questions: readonly Question[], signal: AbortSignal): Promise<string[]> {
  return Promise.all(
    questions.map(async ({ question }) => {
      const { text } = await complete(engine, {
        prompt: [{ role: 'user', content: question }],
        maxTokens: 32,
        stop: ['\n'],
        signal,
      });
      return text.trim();
    }),
  );
}

function showReading(io: CliIo, event: TraceEvent, budget: number): void {
  if (event.type === 'observe') {
    const filled = Math.round((Math.min(event.tokens, budget) / budget) * 20);
    const { speaker = 'user', content } = event.turn;
    io.note(
      `[${'#'.repeat(filled)}${'.'.repeat(20 - filled)}] ${String(event.tokens).padStart(4)} tokens  ${speaker}: ${shorten(content, 60)}`,
    );
  } else if (event.type === 'extraction') {
    for (const pair of event.pairs) io.note(`    ${pair.instruction}  ->  ${pair.output}`);
  } else if (event.type === 'write' && event.event.type === 'train' && event.event.event.type === 'step') {
    const { step, loss } = event.event.event;
    if (step % 4 === 1)
      io.note(
        `    step ${String(step).padStart(2)}  loss ${loss.toFixed(3)}  ${'='.repeat(Math.min(60, Math.round(loss * 20)))}`,
      );
  }
}

function table(answers: readonly DemoAnswer[]): string {
  const row = (mark: string, q: string, before: string, after: string, expected: string) =>
    `${mark.padEnd(2)}${shorten(q, 44).padEnd(45)}${shorten(before, 26).padEnd(27)}${shorten(after, 34).padEnd(35)}${shorten(expected, 22)}`;
  return [
    row('', 'Question', 'Before', 'After', 'Expected'),
    ...answers.map((a) => row(a.rightAfter ? '+' : '-', a.question, a.before, a.after, a.expected)),
  ].join('\n');
}

function summary(
  learned: readonly DemoAnswer[],
  kept: readonly DemoAnswer[],
  writes: readonly WriteRecord[],
  ms: number,
): string {
  const right = (list: readonly DemoAnswer[], when: 'rightBefore' | 'rightAfter') =>
    `${list.filter((a) => a[when]).length} of ${list.length}`;
  const committed = writes.filter((w) => w.verdict === 'committed');
  const pairs = committed.reduce((n, w) => n + w.pairs.length, 0);
  return [
    `About the conversation: ${right(learned, 'rightBefore')} right before, ${right(learned, 'rightAfter')} after.`,
    `General questions: ${right(kept, 'rightBefore')} right before, ${right(kept, 'rightAfter')} after.`,
    `${committed.length} of ${writes.length} writes committed, ${pairs} pairs in the weights, ${(ms / 60_000).toFixed(1)} minutes.`,
  ].join('\n');
}
