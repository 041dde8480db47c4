/**
 * Made-up facts in graded difficulty, for learning on a small machine: a few short turns, then questions on them. A task is a pure function
 * of its seed, and every right answer follows from its turns.
 *
 * - `easy`: two facts, a turn each, as someone tells them ("Nadia's job is baker.").
 * - `updates`: people speak of themselves ("My job is baker."), and one fact changes later; the last one holds.
 * - `distractors`: also remarks that say nothing, and facts that nobody asks for.
 * - `two-hop`: also a question that takes two facts ("What is the job of Nadia's neighbour?").
 *
 * The reward is F1 with the right answer, mean over the questions. In all grades two things are learned at once: to write down each fact
 * in a form that can be read and that names whose it is, and to answer in as few words as are right. Sampled at temperature 1 even a tiny
 * model does both now and then, so that the episodes of a group differ.
 */
import { TmemError } from '../../engine/errors.ts';
import { randomSource } from '../../engine/training/random.ts';
import { holds } from '../../memory/recall.ts';
import type { Turn } from '../../memory/types.ts';
import { exactMatch, f1 } from '../../tasks/scoring/text.ts';
import { mean } from '../advantages.ts';
import type { Environment, Split, Task } from '../environment.ts';
import { seedOf } from '../seeds.ts';

export const GRADES = ['easy', 'updates', 'distractors', 'two-hop'] as const;
export type Grade = (typeof GRADES)[number];

interface Shape {
  readonly facts: number;
  readonly updates: number;
  readonly remarks: number;
  readonly hops: number;
  readonly questions: number;
  /** People speak of themselves. */
  readonly spoken: boolean;
}

const SHAPES: Readonly<Record<Grade, Shape>> = {
  easy: { facts: 2, updates: 0, remarks: 0, hops: 0, questions: 2, spoken: false },
  updates: { facts: 3, updates: 1, remarks: 0, hops: 0, questions: 3, spoken: true },
  distractors: { facts: 4, updates: 1, remarks: 3, hops: 0, questions: 3, spoken: true },
  'two-hop': { facts: 4, updates: 1, remarks: 3, hops: 1, questions: 3, spoken: true },
};

const list = (text: string): readonly string[] => text.split(',');
const PEOPLE = list(
  'Nadia,Theo,Ingrid,Pavel,Amara,Bruno,Celia,Darius,Greta,Hugo,Jonas,Katya,Lorenzo,Odette,Priya,Victor',
);
const ATTRIBUTES: Readonly<Record<string, readonly string[]>> = {
  'favourite colour': list('teal,crimson,olive,violet,beige,orange,silver,indigo'),
  'home town': list('Bergen,Ghent,Porto,Leiden,Split,Girona,Trieste,Graz'),
  job: list('baker,florist,librarian,geologist,beekeeper,plumber,tailor,pilot'),
  dog: list('Waffle,Biscuit,Pepper,Domino,Pickle,Cosmo,Nutmeg,Ziggy'),
  instrument: list('cello,harp,oboe,banjo,trombone,flute,lute,drums'),
  'favourite dish': list('ramen,paella,goulash,gnocchi,pierogi,laksa,fondue,curry'),
  hobby: list('archery,pottery,fencing,caving,juggling,origami,chess,rowing'),
  car: list('Volvo,Skoda,Saab,Mazda,Fiat,Dacia,Subaru,Lancia'),
};
const RELATIONS = list('neighbour,cousin,boss,best friend');
const REMARKS = list(
  'What a long week it has been!,I could not agree more.,Thanks for calling.,Let us talk about it tomorrow.,That sounds lovely.,It rained all day again.',
);
const ANSWER_TOKENS = 24;

/** Something that is said to hold: `owner`'s `attribute` is `value`. */
interface Fact {
  readonly owner: string;
  readonly attribute: string;
  readonly value: string;
}

export function syntheticEnvironment(grade: Grade = 'easy'): Environment {
  if (!GRADES.includes(grade))
    throw new TmemError('usage', `There is no grade "${grade}"; choose one of ${GRADES.join(', ')}.`);
  return { name: `synthetic-${grade}`, episode: (seed, split) => syntheticTask(grade, seed, split) };
}

export function syntheticTask(grade: Grade, seed: number, split: Split): Task {
  const shape = SHAPES[grade];
  const draw = new Draw(seedOf('synthetic', grade, split, seed));
  const owners = draw.some(PEOPLE, shape.facts);
  const attributes = draw.some(Object.keys(ATTRIBUTES), shape.facts);
  const facts = owners.map((owner, i): Fact => {
    const attribute = attributes[i]!;
    return { owner, attribute, value: draw.one(ATTRIBUTES[attribute]!) };
  });
  const updates = facts.slice(0, shape.updates).map((fact): Fact => {
    const others = ATTRIBUTES[fact.attribute]!.filter((value) => value !== fact.value);
    return { ...fact, value: draw.one(others) };
  });
  // The second fact is asked for by way of who its owner is to someone else.
  const hops = facts.slice(shape.updates, shape.updates + shape.hops).map((fact) => {
    const strangers = PEOPLE.filter((person) => !owners.includes(person));
    return { fact, link: { owner: draw.one(strangers), attribute: draw.one(RELATIONS), value: fact.owner } };
  });

  const say = (fact: Fact) => said(fact, shape.spoken);
  const remarks = draw.some(REMARKS, shape.remarks).map((content): Turn => {
    return { role: 'user', speaker: draw.one(owners), content };
  });
  const turns = draw.shuffled([...facts.map(say), ...hops.map(({ link }) => say(link)), ...remarks]);
  for (const [i, update] of updates.entries()) {
    const after = turns.findIndex(({ content, speaker }) => {
      const before = say(facts[i]!);
      return content === before.content && speaker === before.speaker;
    });
    const { speaker, content } = say(update);
    const at = after + 1 + draw.below(turns.length - after);
    turns.splice(at, 0, { role: 'user', speaker, content: content.replace(' is ', ' is now ') });
  }

  const hopped = new Set(hops.map(({ fact }) => fact));
  const asked = [
    ...updates.map((fact) => ({ text: question(fact), gold: fact.value })),
    ...hops.map(({ fact, link }) => ({
      text: `What is the ${fact.attribute} of ${link.owner}'s ${link.attribute}?`,
      gold: fact.value,
    })),
    ...facts
      .slice(updates.length)
      .filter((fact) => !hopped.has(fact))
      .map((fact) => ({ text: question(fact), gold: fact.value })),
  ];
  const questions = asked.slice(0, shape.questions).map((item) => ({ ...item, maxTokens: ANSWER_TOKENS }));
  const over = (score: (answer: string, gold: string) => number) => (answers: readonly string[]) =>
    mean(questions.map(({ gold }, i) => score(answers[i] ?? '', gold)));
  return {
    ...{ id: `${grade}-${split}-${seed}`, turns, questions, reward: over(f1) },
    figures: (answers) => ({
      exact: over(exactMatch)(answers),
      // Said in whatever words: does not rise by answering more shortly.
      said: over((answer, gold) => (holds(answer, gold) ? 1 : 0))(answers),
    }),
  };
}

function said({ owner, attribute, value }: Fact, spoken: boolean): Turn {
  return spoken
    ? { role: 'user', speaker: owner, content: `My ${attribute} is ${value}.` }
    : { role: 'user', content: `${owner}'s ${attribute} is ${value}.` };
}

function question({ owner, attribute }: Fact): string {
  return `What is ${owner}'s ${attribute}?`;
}

class Draw {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomSource(seed);
  }

  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  one<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  shuffled<T>(from: readonly T[]): T[] {
    const items = [...from];
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }

  /** Different ones. */
  some<T>(from: readonly T[], n: number): T[] {
    return this.shuffled(from).slice(0, n);
  }
}
