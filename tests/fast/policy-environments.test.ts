import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Turn } from '../../src/memory/types.ts';
import type { Agent } from '../../src/policy/environment.ts';
import { conversationEnvironment } from '../../src/policy/environments/conversations.ts';
import { openEnvironment } from '../../src/policy/environments/registry.ts';
import { GRADES, type Grade, syntheticTask } from '../../src/policy/environments/synthetic.ts';
import { locomo } from '../../src/tasks/locomo.ts';
import type { Sample } from '../../src/tasks/types.ts';

const asset = (name: string) => new URL(`../../assets/benchmarks/${name}`, import.meta.url).pathname;
const anyTask = fc.record({
  grade: fc.constantFrom(...GRADES),
  seed: fc.nat(),
  split: fc.constantFrom('train' as const, 'held-out' as const),
});

/** What the turns say holds, by owner and attribute; a later one takes the place of an earlier one. Read by itself, from the text alone. */
function factsOf(turns: readonly Turn[]): Map<string, string> {
  const facts = new Map<string, string>();
  for (const { speaker, content } of turns) {
    const own = /^My (.+?) is (?:now )?(.+)\.$/.exec(content);
    const told = /^(\w+)'s (.+?) is (.+)\.$/.exec(content);
    if (own) facts.set(`${speaker}/${own[1]}`, own[2]!);
    else if (told) facts.set(`${told[1]}/${told[2]}`, told[3]!);
  }
  return facts;
}

function derive(question: string, facts: ReadonlyMap<string, string>): string | undefined {
  const hop = /^What is the (.+) of (\w+)'s (.+)\?$/.exec(question);
  if (hop) return facts.get(`${facts.get(`${hop[2]}/${hop[3]}`)}/${hop[1]}`);
  const [, owner, attribute] = /^What is (\w+)'s (.+)\?$/.exec(question)!;
  return facts.get(`${owner}/${attribute}`);
}

test('a synthetic task is a pure function of its grade, seed and split', () => {
  fc.assert(
    fc.property(anyTask, ({ grade, seed, split }) => {
      const plain = () => JSON.stringify(syntheticTask(grade, seed, split));
      assert.equal(plain(), plain());
    }),
    { numRuns: 60 },
  );
});

test('the right answer to every synthetic question follows from the turns', () => {
  fc.assert(
    fc.property(anyTask, ({ grade, seed, split }) => {
      const { turns, questions } = syntheticTask(grade, seed, split);
      const facts = factsOf(turns);
      for (const { text, gold } of questions) assert.equal(derive(text, facts), gold, text);
    }),
    { numRuns: 300 },
  );
});

test('grades differ in what they ask: a fact that changed, one among remarks, one behind another', () => {
  const of = (grade: Grade) => syntheticTask(grade, 5, 'train');
  assert.equal(of('easy').turns.length, 2);
  assert.equal(of('easy').questions.length, 2);
  const changed = of('updates').turns.filter(({ content }) => content.includes(' is now '));
  assert.equal(changed.length, 1);
  assert.ok(of('distractors').turns.some(({ content }) => !content.startsWith('My ')));
  assert.ok(factsOf(of('distractors').turns).size > of('distractors').questions.length);
  assert.ok(of('two-hop').questions.some(({ text }) => text.startsWith('What is the ')));
});

test('a changed fact comes after the one that it changes', () => {
  for (let seed = 0; seed < 50; seed++) {
    const { turns } = syntheticTask('updates', seed, 'train');
    const at = turns.findIndex(({ content }) => content.includes(' is now '));
    const [, attribute] = /^My (.+?) is now/.exec(turns[at]!.content)!;
    const first = turns.findIndex(
      ({ speaker, content }) => speaker === turns[at]!.speaker && content.startsWith(`My ${attribute} is `),
    );
    assert.ok(first < at);
  }
});

test('the reward is the mean F1 over the questions, and grows as an answer says less beside what is right', () => {
  const { questions, reward, figures } = syntheticTask('easy', 1, 'train');
  const gold = questions.map((question) => question.gold);
  assert.equal(reward(gold), 1);
  assert.equal(reward([gold[0]!, 'nothing like it']), 0.5);
  assert.equal(reward([]), 0);
  const long = gold.map((answer) => `I think that the answer is ${answer}.`);
  assert.ok(Number(reward(long)) > 0 && Number(reward(long)) < 0.5);
  assert.deepEqual(figures!(long), { exact: 0, said: 1 });
});

test('training and held-out tasks of a seed are not the same', () => {
  const turns = (split: 'train' | 'held-out') => JSON.stringify(syntheticTask('easy', 3, split).turns);
  assert.notEqual(turns('train'), turns('held-out'));
});

test('conversations of LoCoMo give questions with F1, and some conversations are held out', async () => {
  const environment = await conversationEnvironment(locomo, { data: asset('locomo.json'), questions: 2 });
  const ids = async (split: 'train' | 'held-out') => {
    const tasks = await Promise.all(Array.from({ length: 12 }, (_, seed) => environment.episode(seed, split)));
    return new Set(tasks.map(({ id }) => id.split(`-${split}`)[0]));
  };
  const [train, heldOut] = [await ids('train'), await ids('held-out')];
  assert.ok([...heldOut].every((id) => !train.has(id)));
  const task = await environment.episode(1, 'train');
  assert.equal(task.questions.length, 2);
  assert.ok(task.turns.length > 2 && task.task === undefined);
  assert.equal(await task.reward(task.questions.map(({ gold }) => gold)), 1);
  assert.deepEqual(JSON.stringify(await environment.episode(1, 'train')), JSON.stringify(task));
});

test('an episode may be a stretch of a conversation, and asks what stands in it', async () => {
  const [first] = await locomo.read(asset('locomo.json'));
  for (const turns of [4, 12]) {
    const environment = await openEnvironment('locomo', { data: asset('locomo.json'), turns });
    for (let seed = 0; seed < 20; seed++) {
      const task = await environment.episode(seed, 'train');
      assert.equal(task.turns.length, turns);
      assert.ok(task.questions.length >= 1);
      for (const { gold, text } of task.questions) {
        const { evidence } = first!.questions.find(({ ask, reference }) => ask.text === text && reference === gold)!;
        const said = task.turns.map(({ content }) => content);
        for (const i of evidence!) assert.ok(said.includes(first!.turns[i]!.content));
      }
    }
  }
});

test('a stretch that is too short for any question is refused', async () => {
  const sample = { id: 'far', turns: [], questions: [{ category: 'x', evidence: [2, 9] }] } as unknown as Sample;
  const benchmark = { name: 'far', read: async () => [sample, sample] };
  await assert.rejects(conversationEnvironment(benchmark, { data: 'file', turns: 7 }), /far in file .* from 7 turns/);
  assert.ok(await conversationEnvironment(benchmark, { data: 'file', turns: 8 }));
});

test('the extraction can be shown the question, as in the paper', async () => {
  const environment = await openEnvironment('longmemeval', { data: asset('longmemeval.json'), aware: true });
  const { task, questions } = await environment.episode(0, 'train');
  assert.equal(questions.length, 1);
  assert.ok(questions[0]!.text.includes(task!));
});

test('multi-objective search is played by searching, and rewards answers by F1', async () => {
  const environment = await openEnvironment('search', { data: asset('search.jsonl') });
  const task = await environment.episode(0, 'train');
  const observed: Turn[] = [];
  const golds = task.questions[0]!.gold;
  const replies = ['<search>bridge designer</search>', `<answer>${golds}</answer>`];
  const agent: Agent = {
    observe: async (turn) => void observed.push(turn),
    settle: async () => {},
    answer: async () => ({ text: replies.shift()!, contextTokens: 1 }),
  };
  const answers = await task.play!(agent);
  assert.equal(await task.reward(answers), 1);
  assert.equal(await task.reward(['no answer']), 0);
  assert.match(observed.at(-1)!.content, /Document 1:/);
});

test('an environment that is unknown, has no data, or is of an unknown grade is refused', async () => {
  await assert.rejects(openEnvironment('chess'), /no environment "chess"; choose one of synthetic, locomo/);
  await assert.rejects(openEnvironment('locomo'), /needs --data/);
  await assert.rejects(openEnvironment('synthetic', { grade: 'hard' }), /no grade "hard"; choose one of easy/);
});
