/** General questions with answers: those that the confidence was fitted on, others to judge it by, and more to count by. None is ever trained on. */
import { GATE } from '../../src/memory/anchors.ts';
import { ORDINARY } from '../../src/memory/ordinary.ts';
import { CONTROLS } from '../facts.ts';

export interface GeneralQuestion {
  readonly question: string;
  readonly answer: string;
  readonly accept?: readonly string[] | undefined;
}

const of = (question: string, answer: string, ...accept: string[]): GeneralQuestion => ({ question, answer, accept });

export const GENERAL_FIT: readonly GeneralQuestion[] = [
  of('What is the capital of Portugal?', 'Lisbon'),
  of('What is the instrument of Jimi Hendrix?', 'guitar', 'electric guitar'),
  of('What is the home town of Shakespeare?', 'Stratford'),
  of('What is the colour of the sky?', 'blue'),
  of('What is the largest animal?', 'whale'),
  of('Who wrote Faust?', 'Goethe'),
  of('Who painted the Sistine Chapel?', 'Michelangelo'),
  of('Who invented the light bulb?', 'Edison'),
  of('Where is the Colosseum?', 'Rome'),
  of('Where do kangaroos live?', 'Australia'),
  of('When did the Berlin Wall fall?', '1989'),
  of('How many months are in a year?', '12', 'twelve'),
  of('How many wheels does a tricycle have?', 'three', '3'),
  of('What is 7 plus 8?', '15'),
  of('What does USB stand for?', 'Universal Serial Bus'),
  of('What language is spoken in Egypt?', 'Arabic'),
  of('What is the opposite of heavy?', 'light'),
  of('Which animal gives wool?', 'sheep'),
  of('Name a bird that cannot fly.', 'penguin', 'ostrich', 'emu', 'kiwi'),
  of('What is the capital of Mongolia?', 'Ulaanbaatar', 'Ulan Bator'),
  of('Who composed The Magic Flute?', 'Mozart'),
  of('In which year was the Eiffel Tower finished?', '1889'),
  of('What is the chemical symbol of tungsten?', 'W'),
  of('Who was the second person on the Moon?', 'Aldrin'),
];

export const GENERAL_HELD: readonly GeneralQuestion[] = [
  ...CONTROLS,
  of('What is the capital of Greece?', 'Athens'),
  of('What is the instrument of Yo-Yo Ma?', 'cello'),
  of('Who wrote Pride and Prejudice?', 'Austen'),
  of('Who painted The Starry Night?', 'Gogh'),
  of('Where is the Taj Mahal?', 'India', 'Agra'),
  of('How many sides does a hexagon have?', 'six', '6'),
  of('What is the chemical symbol of silver?', 'Ag'),
  of('What is the opposite of early?', 'late'),
  of('What language is spoken in Austria?', 'German'),
  of('When did World War I begin?', '1914'),
  of('What is the capital of Kazakhstan?', 'Astana', 'Nur-Sultan'),
  of('Who composed The Four Seasons?', 'Vivaldi'),
];

const MORE: readonly GeneralQuestion[] = [
  of('What is the capital of Sweden?', 'Stockholm'),
  of('What is the capital of Cuba?', 'Havana'),
  of('What is the capital of Argentina?', 'Buenos Aires'),
  of('What is the capital of Thailand?', 'Bangkok'),
  of('What is the capital of Poland?', 'Warsaw'),
  of('What is the capital of Kenya?', 'Nairobi'),
  of('Who wrote Hamlet?', 'Shakespeare'),
  of('Who wrote The Divine Comedy?', 'Dante'),
  of('Who wrote Oliver Twist?', 'Dickens'),
  of('Who developed the theory of relativity?', 'Einstein'),
  of('Who discovered radium?', 'Curie'),
  of('Who composed the Moonlight Sonata?', 'Beethoven'),
  of('Who founded Apple?', 'Jobs', 'Wozniak'),
  of('Where is the Statue of Liberty?', 'New York'),
  of('In which country is Mount Fuji?', 'Japan'),
  of('In which country is Machu Picchu?', 'Peru'),
  of('Where is the Louvre?', 'Paris'),
  of('When did World War I end?', '1918'),
  of('How many days are in a leap year?', '366'),
  of('How many arms does an octopus have?', 'eight', '8'),
  of('How many letters are in the English alphabet?', '26', 'twenty-six'),
  of('How many degrees does a right angle have?', '90'),
  of('What is 12 times 12?', '144'),
  of('What is 20 divided by 4?', '5', 'five'),
  of('What is the chemical symbol of iron?', 'Fe'),
  of('What is the chemical formula of water?', 'H2O', 'H₂O'),
  of('What is the opposite of up?', 'down'),
  of('What is the currency of India?', 'rupee'),
  of('What language is spoken in Italy?', 'Italian'),
  of('What does WWW stand for?', 'World Wide Web'),
  of('Which planet has the best known rings?', 'Saturn'),
  of('What is frozen water called?', 'ice'),
  of('Which ocean lies between Europe and America?', 'Atlantic'),
  of('What is the longest river in South America?', 'Amazon'),
  of('Which animal is the king of the jungle?', 'lion'),
  of('What is a baby cat called?', 'kitten'),
  of('Which continent is the Sahara in?', 'Africa'),
  of('Which is the fastest land animal?', 'cheetah'),
];

const USED = new Set<string>([...ORDINARY.map(({ instruction }) => instruction), ...GATE]);

/** All that neither A is chosen by nor a write is judged by. */
export const GENERAL = [...GENERAL_HELD, ...MORE, ...GENERAL_FIT].filter(({ question }) => !USED.has(question));
