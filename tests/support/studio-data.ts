/** What the studio's server of tests tells: a memory of a conversation, and how a write of it goes. */
import type {
  DeltaNorm,
  KnownPair,
  Pair,
  QuizLine,
  SessionState,
  TraceEvent,
  WriteRecord,
} from '../../src/studio/types.ts';

type Row = readonly [instruction: string, output: string, source: string];

const ROWS: readonly Row[] = [
  ["What is the name of Nadia's kitten?", "Nadia's kitten is called Marzipan.", 'My kitten is called Marzipan.'],
  ['Where does Theo work now?', 'Theo works at the Clock Museum.', 'I work at the Clock Museum now, in the workshop.'],
  ['What subject does Nadia teach?', 'Nadia teaches chemistry.', 'I teach chemistry to the older classes this year.'],
  ['Which instrument is Theo learning?', 'Theo is learning the accordion.', 'I am learning to play the accordion.'],
  [
    'Which part of her body did Nadia break?',
    'Nadia broke her left wrist.',
    'I fell off the ladder and broke my left wrist.',
  ],
  ['What is Nadia allergic to?', 'Nadia is allergic to celery.', 'I am allergic to celery, so please leave that out.'],
  ["What colour is Theo's scooter?", "Theo's scooter is orange.", 'I bought an orange scooter instead.'],
  ["Who is Theo's sister?", "Theo's sister is Agnes.", 'My sister Agnes had twins last night, two girls.'],
  [
    "What is Nadia's novel about?",
    "Nadia's novel is about a lighthouse keeper.",
    'My novel is about a lighthouse keeper.',
  ],
  ['Where will Theo fly in May?', 'In May Theo will fly to Reykjavik.', 'In May I will fly to Reykjavik for ten days.'],
  ["What is Theo's boat called?", "Theo's boat is called Pelican.", 'My boat is called Pelican.'],
  ["Where is Theo's boat?", "Theo's boat is at the old mill pond.", 'I keep it at the old mill pond.'],
  ['To which city is Nadia moving?', 'Nadia is moving to Trieste.', 'I am moving to Trieste in September.'],
  [
    'Where does Nadia like to eat?',
    'Nadia likes the Copper Kettle best.',
    'My favourite restaurant is the Copper Kettle.',
  ],
  [
    "What is the door code of Theo's house?",
    "The door code of Theo's house is 4719.",
    'The door code of my house is 4719.',
  ],
  [
    "What is Nadia's brother called?",
    "Nadia's brother is called Emil.",
    "My brother Emil can't, he is afraid of cats.",
  ],
  ['What does Theo collect?', 'Theo collects old maps.', 'I collect old maps, as you know.'],
  ['What does Marzipan eat?', 'Marzipan only eats sardines.', 'Marzipan only eats sardines.'],
];

const DAYS = ['2025-03-03T18:10', '2025-03-08T11:02', '2025-03-15T20:31', '2025-03-22T09:12'];

export const FACTS: readonly Pair[] = ROWS.map(([instruction, output, source], i) => ({
  ...{ id: `${(0xa1b2c3 + i * 7919).toString(16)}e5d4`, instruction, output, source },
  ...{ turn: i, time: DAYS[Math.floor(i / 5)]!, origin: 'user' },
}));

/** Facts of each write. */
export const WRITE_SIZE = 6;

const BASE = [1.859, 1.21, 0.83, 0.57, 0.39, 0.262, 0.171, 0.112, 0.071, 0.052, 0.037, 0.024];
const lossOf = (n: number) => BASE.map((loss, i) => Math.round(1000 * loss * (1 + 0.06 * Math.sin(n + i * 2))) / 1000);

const ORDINARY = [
  'What is the capital of France?',
  'Who wrote Hamlet?',
  'What is 12 times 12?',
  'What colour are bananas?',
];

function quizOf(pairs: readonly Pair[], earlier: readonly Pair[]): QuizLine[] {
  const missed = pairs.length > 5 ? pairs[4]!.id : '';
  return [
    ...pairs.map(({ id, instruction, output }) =>
      id === missed
        ? { kind: 'pair' as const, question: instruction, answer: 'Nadia is well.', ok: false }
        : { kind: 'pair' as const, question: instruction, answer: output, ok: true },
    ),
    ...pairs.slice(0, 4).map(({ instruction, output }) => ({
      ...{ kind: 'paraphrase' as const, question: `Tell me: ${instruction}`, answer: output, ok: true },
    })),
    ...earlier.slice(0, 5).map(({ instruction, output }) => ({
      kind: 'earlier' as const,
      question: instruction,
      answer: output,
      ok: true,
    })),
    ...ORDINARY.map((question) => ({ kind: 'anchor' as const, question, answer: '0.04 nats a token', ok: true })),
  ];
}

/** The record of the nth write (from 0), and the events of it in order. */
export function scriptedWrite(
  n: number,
  pairs: readonly Pair[],
  earlier: readonly Pair[],
  context: { readonly tokens: number; readonly budget: number; readonly turns: number } | null,
): { readonly record: WriteRecord; readonly events: readonly TraceEvent[] } {
  const loss = lossOf(n);
  const quiz = quizOf(pairs, earlier);
  const recalled = quiz.filter(({ kind, ok }) => kind === 'pair' && ok).length;
  const record: WriteRecord = {
    ...{ id: `w${n + 1}-${pairs.length}`, time: new Date(Date.UTC(2025, 2, 22, 9, 30 + n * 17)).toISOString() },
    ...{ pairs, recipe: 'default', verdict: 'committed', quiz, loss, recalled, ms: 92_400 + 21_700 * n },
  };
  const parts = 3;
  const each = Math.ceil(pairs.length / parts);
  const reading: TraceEvent[] = context
    ? [
        { type: 'trigger', ...context },
        ...Array.from({ length: parts }, (_, part): TraceEvent => {
          return { type: 'extract', part, parts, pairs: pairs.slice(part * each, (part + 1) * each) };
        }),
        { type: 'extraction', pairs, dropped: { duplicate: 2, vague: 1 } },
      ]
    : [];
  const writing: TraceEvent[] = [
    { type: 'write', event: { type: 'write-start', pairs: pairs.length, anchors: 32 } },
    { type: 'write', event: { type: 'replay', pairs: Math.min(8, earlier.length) } },
    { type: 'write', event: { type: 'train', event: { type: 'prefix' } } },
    ...loss.map((value, i): TraceEvent => {
      return {
        type: 'write',
        event: { type: 'train', event: { type: 'step', step: i + 1, loss: value }, totalSteps: 12 },
      };
    }),
    ...quiz.map((line): TraceEvent => ({ type: 'write', event: { type: 'quiz', ...line } })),
    { type: 'write', event: { type: 'verdict', record } },
    { type: 'swap' },
  ];
  const clearing: TraceEvent[] = context ? [{ type: 'cleared', tokens: 42 }] : [];
  return { record, events: [...reading, ...writing, ...clearing] };
}

/** Fast weights after some writes: larger towards the end of the model, as they are measured to be. */
export function deltaAfter(writes: number): DeltaNorm[] {
  if (writes === 0) return [];
  return [24, 25, 26, 27].flatMap((layer, i) =>
    ['ffn_gate', 'ffn_up', 'ffn_down'].map((product, j) => ({
      ...{ layer, product, norm: Math.sqrt(writes) * (0.6 + 0.25 * i) * (1.2 - 0.3 * j) },
    })),
  );
}

export const emptySession = (session: string): SessionState => ({
  ...{ session, model: 'qwen2.5-coder-1.5b', contextTokens: 0, budget: 800, busy: false, notes: '' },
  ...{ working: [], writes: [], pairs: [], delta: [] },
});

/** A session with some writes behind it: the second of them corrected a fact, the third was refused. */
export function fullSession(session: string): SessionState {
  const first = scriptedWrite(0, FACTS.slice(0, WRITE_SIZE), [], null).record;
  const second = scriptedWrite(1, FACTS.slice(WRITE_SIZE, 2 * WRITE_SIZE), first.pairs, null).record;
  const third = scriptedWrite(2, FACTS.slice(2 * WRITE_SIZE, 2 * WRITE_SIZE + 3), [], null).record;
  const job: Pair = {
    ...FACTS[1]!,
    id: '0ddba11f00',
    output: 'Theo works at the tram depot.',
    source: 'I work at the tram depot.',
  };
  const ended = { time: second.time, by: FACTS[1]!.id };
  const known = (pair: Pair, write: number): KnownPair => ({ ...pair, write, standing: true, ended: null });
  return {
    ...emptySession(session),
    contextTokens: 212,
    notes:
      'Nadia and Theo are old friends who write to each other.\nWhich part of her body did Nadia break? Nadia broke her left wrist.',
    working: [
      {
        index: 14,
        role: 'user',
        content: 'Good morning! I have something to tell you before you hear it from others.',
      },
      { index: 15, role: 'assistant', content: 'Good morning, Nadia. I am listening.' },
    ],
    writes: [
      first,
      { ...second, superseded: [{ pair: job.id, by: FACTS[1]!.id }] },
      {
        ...third,
        ...{ verdict: 'refused', reason: '2 of 4 ordinary answers changed', recalled: 3 },
        quiz: third.quiz!.map((line, i, all) => ({ ...line, ok: i < all.length - 2 })),
        ...{ loss: [1.92, 1.4, 1.9, 2.6, 3.8, 5.1] },
      },
    ],
    pairs: [
      { ...known(job, 1), standing: false, ended },
      ...first.pairs.map((pair) => known(pair, 1)),
      ...second.pairs.map((pair) => known(pair, 2)),
    ],
    delta: deltaAfter(2),
  };
}

/** What the model says: by a word of the question, with the memory and without. */
export function replyTo(question: string, pairs: readonly KnownPair[]): string {
  const words = new Set(question.toLowerCase().match(/[a-z]{4,}/g) ?? []);
  const shared = (pair: Pair) =>
    pair.instruction
      .toLowerCase()
      .match(/[a-z]{4,}/g)!
      .filter((word) => words.has(word)).length;
  const best = pairs.filter(({ standing }) => standing).sort((a, b) => shared(b) - shared(a))[0];
  if (question.endsWith('?'))
    return best && shared(best) > 1 ? best.output : 'I do not know that; nobody has told me yet.';
  return 'That is good to hear. Three things to keep in mind:\n\n1. Put the basket in a **quiet corner**.\n2. Keep the `sardines` for the evenings.\n3. Give her a few days to get used to you.';
}
