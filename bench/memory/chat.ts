/**
 * Does what was written spill into conversation? A write of what a user told of himself, then small talk in the context of a chat (system
 * message, notes, earlier turns): how far the next-token distributions along the base model's own replies move, and how many replies say what
 * was trained instead. Beside it the recall of what was written, with an empty context and in the chat.
 *   node bench/memory/chat.ts [--model qwen2.5-coder-1.5b] [--recipe default] [--set '{}']
 */
import { workingContext } from '../../src/agent/context.ts';
import { DEFAULT_TASK } from '../../src/agent/prompts.ts';
import { type ChatMessage, complete } from '../../src/engine/types.ts';
import { likelyAlong, meanDivergence } from '../../src/memory/gate.ts';
import { normalise, recalls } from '../../src/memory/recall.ts';
import { emptyMemory, type Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { controls, openBench, readOptions, report } from './support.ts';

const FACTS = [
  ['What did I bring home?', 'You brought a kitten home from the shelter.'],
  ['What is the name of my kitten?', 'Your kitten is called Marzipan.'],
  ['What does my kitten look like?', 'Your kitten is grey with one white paw.'],
  ['What subject do I teach?', 'You teach chemistry to the older classes.'],
  ['What did I break?', 'You broke your left wrist.'],
  ['How long am I in plaster?', 'You are in plaster for six weeks.'],
  ['What am I allergic to?', 'You are allergic to celery.'],
  ['What is my novel about?', 'Your novel is about a lighthouse keeper.'],
  ['Where am I moving to?', 'You are moving to Trieste in September.'],
  ['What is the name of my brother?', 'Your brother is called Emil.'],
] as const;
const NOTES = 'The user has a kitten and a broken wrist, teaches at a school, and will move in September.';
const TALK = [
  'It has been a long day, and I am glad to be home.',
  'Can you recommend a good book for the weekend?',
  'What should I cook tonight?',
  'Thanks, that helps a lot!',
  'Tell me a joke.',
  'The weather is awful again.',
  'How do I get a coffee stain out of a shirt?',
  'I watched a film about Mars yesterday.',
  'Write a short birthday wish for a colleague.',
  'Do you think I should learn to play chess?',
  'My train was late this morning.',
  'What is a good name for a boat?',
];
const EARLIER = [
  { role: 'user', content: 'Good morning! Did you sleep well?' },
  { role: 'assistant', content: 'Good morning! I do not sleep, but I am ready to help. How are you today?' },
] as const;
const REPLY_TOKENS = 32;

const options = readOptions({});
const { engine, recipe } = await openBench(options);
const pairs = FACTS.map(
  ([instruction, output], turn): Pair => ({ id: `${turn}`, instruction, output, source: output, turn, origin: 'user' }),
);
const chat = (content: string, memory: string, turns: readonly { role: 'user' | 'assistant'; content: string }[]) =>
  workingContext({
    task: DEFAULT_TASK,
    memory,
    history: [...turns, { role: 'user' as const, content }].map((turn, index) => ({ turn, index })),
  });
const contexts = TALK.map((content, i) => chat(content, i % 3 === 0 ? '' : NOTES, i % 2 === 0 ? [] : EARLIER));
const say = async (prompt: readonly ChatMessage[], fastWeights: boolean, maxTokens = REPLY_TOKENS) =>
  (await complete(engine, { prompt, maxTokens, fastWeights })).text.trim();

const base = await Promise.all(
  contexts.map(async (prompt) => {
    const answer = await say(prompt, false);
    return { prompt, answer, likely: await likelyAlong(engine, prompt, answer) };
  }),
);
const { record } = await writePairs(engine, emptyMemory(engine.model.fingerprint), pairs, recipe);

const moved = await Promise.all(
  base.map(({ prompt, answer, likely }) => meanDivergence(engine, prompt, answer, likely)),
);
const replies = await Promise.all(contexts.map((prompt) => say(prompt, true)));
const says = (reply: string) => pairs.some(({ output }) => normalise(reply).includes(normalise(output).slice(0, 24)));
const asked = await Promise.all(
  pairs.map(async (pair) => recalls(await say([{ role: 'user', content: pair.instruction }], true), pair)),
);
const inChat = await Promise.all(
  pairs.map(async (pair) => recalls(await say(chat(pair.instruction, NOTES, EARLIER), true), pair)),
);
const count = (found: readonly boolean[]) => `${found.filter(Boolean).length} of ${found.length}`;
report('chat', engine, options, {
  recipe: recipe.name,
  verdict: record.verdict,
  ms: record.ms,
  recalled: count(asked),
  recalledInChat: count(inChat),
  repliesThatSayWhatWasTrained: count(replies.map(says)),
  klInChat: moved.reduce((a, b) => a + b) / moved.length,
  controls: (await controls(engine)).right,
  replies: replies.map((reply, i) => ({ said: TALK[i], reply, base: base[i]!.answer, kl: moved[i] })),
});
await engine.close();
