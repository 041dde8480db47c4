import { readFileSync } from 'node:fs';
import { randomSource } from '../src/engine/training/random.ts';
import type { Pair } from '../src/memory/types.ts';

/** A made-up fact: a question that only it answers, and the value that a right answer holds. */
export interface Fact {
  readonly instruction: string;
  /** The question in other words, never trained on. */
  readonly reworded: readonly string[];
  /** A full sentence. */
  readonly output: string;
  readonly value: string;
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

/** `writes` lists of `each` distinct facts: people and attributes come back in other combinations, as in life. */
export function makeFacts(writes: number, each: number, seed: number): Fact[][] {
  const random = randomSource(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const people = Array.from(
    { length: 40 },
    (_, i) => `${FIRST[i % FIRST.length]} ${LAST[(i * 7 + Math.floor(i / FIRST.length)) % LAST.length]}`,
  );
  const seen = new Set<string>();
  return Array.from({ length: writes }, () =>
    Array.from({ length: each }, () => {
      for (;;) {
        const [attribute, values] = pick(Object.entries(ATTRIBUTES));
        const person = pick(people);
        const instruction = `What is the ${attribute} of ${person}?`;
        if (seen.has(instruction)) continue;
        seen.add(instruction);
        const value = pick(values);
        const reworded = [`What is ${person}'s ${attribute}?`, `Tell me ${person}'s ${attribute}, please.`];
        return { instruction, reworded, output: `The ${attribute} of ${person} is ${value}.`, value };
      }
    }),
  );
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
