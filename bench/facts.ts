import { readFileSync } from 'node:fs';
import { randomSource } from '../src/engine/training/random.ts';
import type { Pair } from '../src/memory/types.ts';

/** A made-up fact: a question that only it answers, and the value that a right answer holds. */
export interface Fact {
  readonly instruction: string;
  /** The question in other words, never trained on. */
  readonly reworded: readonly string[];
  /** The same with other words for the attribute, too. */
  readonly paraphrase: string;
  /** A full sentence. */
  readonly output: string;
  readonly value: string;
  readonly attribute: string;
  readonly person: string;
}

const FIRST =
  'Nadia,Theo,Ingrid,Pavel,Amara,Bruno,Celia,Darius,Elif,Farid,Greta,Hugo,Imani,Jonas,Katya,Lorenzo,Mirela,Niko,Odette,Priya'.split(
    ',',
  );
const LAST = 'Okafor,Lindqvist,Moreau,Tanaka,Brandt,Costa,Novak,Hassan,Keller,Rossi,Varga,Silva'.split(',');
const ATTRIBUTES: Record<string, readonly string[]> = {
  'favourite colour': 'crimson,teal,saffron,indigo,olive,maroon,turquoise,beige,violet,amber'.split(','),
  'home town': 'Bergen,Ghent,Porto,Graz,Trieste,Malmö,Leiden,Split,Aarhus,Girona'.split(','),
  job: 'beekeeper,violin maker,tram driver,glassblower,geologist,librarian,baker,surveyor,florist,archivist'.split(','),
  'favourite dish': 'ratatouille,pierogi,laksa,moussaka,gnocchi,goulash,paella,ramen,shakshuka,fondue'.split(','),
  "pet's name": 'Marzipan,Biscuit,Pepper,Domino,Waffle,Pickle,Cosmo,Nutmeg,Truffle,Ziggy'.split(','),
  instrument: 'accordion,cello,oboe,banjo,harp,trombone,mandolin,clarinet,bassoon,lute'.split(','),
  'car brand': 'Volvo,Lancia,Skoda,Saab,Subaru,Citroën,Fiat,Mazda,Peugeot,Dacia'.split(','),
  hobby: 'falconry,origami,caving,calligraphy,fencing,juggling,pottery,astronomy,archery,birdwatching'.split(','),
  allergy: 'celery,cashews,shellfish,mustard,sesame,strawberries,pollen,lupin,latex,kiwi'.split(','),
  'lucky number': '4719,38,112,96,2051,77,640,903,58,1234'.split(','),
};

/** Each attribute asked for without its name. */
const PARAPHRASES: Record<string, string> = {
  'favourite colour': 'Which shade does {person} like best?',
  'home town': 'Where did {person} grow up?',
  job: 'What does {person} do for a living?',
  'favourite dish': 'What does {person} like to eat most?',
  "pet's name": 'What is the animal of {person} called?',
  instrument: 'What does {person} play in the orchestra?',
  'car brand': 'What does {person} drive?',
  hobby: 'What does {person} do in the free time?',
  allergy: 'What is {person} allergic to?',
  'lucky number': 'Which figure brings {person} luck?',
};

function fact(attribute: string, person: string, value: string): Fact {
  return {
    instruction: `What is the ${attribute} of ${person}?`,
    reworded: [`What is ${person}'s ${attribute}?`, `Tell me ${person}'s ${attribute}, please.`],
    paraphrase: PARAPHRASES[attribute]!.replace('{person}', () => person),
    output: `The ${attribute} of ${person} is ${value}.`,
    ...{ value, attribute, person },
  };
}

const PEOPLE = Array.from(
  { length: 40 },
  (_, i) => `${FIRST[i % FIRST.length]} ${LAST[(i * 7 + Math.floor(i / FIRST.length)) % LAST.length]}`,
);

/** `writes` lists of `each` distinct facts: people and attributes come back in other combinations, as in life. */
export function makeFacts(writes: number, each: number, seed: number): Fact[][] {
  const random = randomSource(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const seen = new Set<string>();
  return Array.from({ length: writes }, () =>
    Array.from({ length: each }, () => {
      for (;;) {
        const [attribute, values] = pick(Object.entries(ATTRIBUTES));
        const person = pick(PEOPLE);
        const instruction = `What is the ${attribute} of ${person}?`;
        if (seen.has(instruction)) continue;
        seen.add(instruction);
        return fact(attribute, person, pick(values));
      }
    }),
  );
}

/** Two facts about each of `people` people, no value twice: so a value tells who is meant, and one fact leads to the other. */
export function makeLinkedFacts(people: number, seed: number): [Fact, Fact][] {
  const random = randomSource(seed);
  const pick = <T>(list: T[]): T => list.splice(Math.floor(random() * list.length), 1)[0]!;
  const persons = [...PEOPLE];
  const values = Object.entries(ATTRIBUTES).map(([attribute, list]) => ({ attribute, left: [...list] }));
  return Array.from({ length: people }, () => {
    const person = pick(persons);
    const free = values.filter(({ left }) => left.length > 0);
    const one = () => {
      const { attribute, left } = pick(free);
      return fact(attribute, person, pick(left));
    };
    return [one(), one()];
  });
}

/** The same questions with other values. */
export function changed(facts: readonly Fact[], seed: number): Fact[] {
  const random = randomSource(seed);
  return facts.map((fact) => {
    const values = Object.values(ATTRIBUTES)
      .find((list) => list.includes(fact.value))!
      .filter((v) => v !== fact.value);
    const value = values[Math.floor(random() * values.length)]!;
    return { ...fact, value, output: fact.output.replace(fact.value, value) };
  });
}

/**
 * Facts of the same form that are not among the written ones, n about people of whom nothing is written (their first and last names
 * are those of others) and n about written people, of whom something else is. Their values are made up, too: nobody can know them.
 */
export function neverWritten(written: readonly Fact[], n: number, seed: number): { strangers: Fact[]; others: Fact[] } {
  const random = randomSource(seed + 0x5eed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const seen = new Set(written.map((f) => f.instruction));
  const known = PEOPLE.filter((person) => written.some((f) => f.instruction.endsWith(` of ${person}?`)));
  const strangers = FIRST.flatMap((first) => LAST.map((last) => `${first} ${last}`)).filter((p) => !PEOPLE.includes(p));
  const draw = (people: readonly string[]) =>
    Array.from({ length: n }, () => {
      for (;;) {
        const [attribute, values] = pick(Object.entries(ATTRIBUTES));
        const made = fact(attribute, pick(people), pick(values));
        if (seen.has(made.instruction)) continue;
        seen.add(made.instruction);
        return made;
      }
    });
  return { strangers: draw(strangers), others: draw(known) };
}

/** Facts as the pairs of a write. */
export function asPairs(facts: readonly Fact[], write: number): Pair[] {
  return facts.map(({ instruction, output }, i) => ({
    ...{ id: `${write}-${i}`, instruction, output, source: output },
    ...{ turn: write, origin: 'user' },
  }));
}

/** General questions that are never trained on, nor used by the gate: the demo's. */
export const CONTROLS: readonly { question: string; answer: string; accept?: string[] }[] = readFileSync(
  new URL('../assets/demo/controls.jsonl', import.meta.url),
  'utf8',
)
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

/** Prompts on which spill is measured: never trained on, and neither ordinary text, the gate's nor control questions. */
export const HELD_OUT = [
  'What is the capital of Portugal?',
  'What is the instrument of Jimi Hendrix?',
  'What is the home town of Shakespeare?',
  'What is the favourite food of a squirrel?',
  'What is the job of a carpenter?',
  'What is the hobby of a stamp collector?',
  'What is the colour of the sky?',
  'What is the name of the moon of the Earth?',
  'Who wrote Faust?',
  'Who painted the Sistine Chapel?',
  'Who invented the light bulb?',
  'Where is the Colosseum?',
  'Where do kangaroos live?',
  'When did the Berlin Wall fall?',
  'How many months are in a year?',
  'How many wheels does a tricycle have?',
  'What is 7 plus 8?',
  'What does USB stand for?',
  'What language is spoken in Egypt?',
  'What is the opposite of heavy?',
  'Which animal gives wool?',
  'Name a bird that cannot fly.',
  'Explain what a compiler does.',
  'Give me a tip for sleeping better.',
] as const;
