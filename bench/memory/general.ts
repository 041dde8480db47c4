/** General questions with answers: those that the confidence was fitted on, and others to judge it by. None is ever trained on. */
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
