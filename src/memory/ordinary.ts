import type { Engine, Sample } from '../engine/types.ts';
import { talk } from './anchors.ts';
import { sampleOf } from './samples.ts';

/**
 * Ordinary text: questions of everyday use with plain answers. The inputs of the adapted products on it are what A is whitened
 * against, so it has the form of what is asked of a memory ("What is the ... of ...?"; general chat adds little, LOG.md). Some of the
 * questions are trained beside the pairs, with the model's own answers.
 */
export const ORDINARY = (
  [
    ['What is the capital of Japan?', 'The capital of Japan is Tokyo.'],
    ['How many legs does a spider have?', 'A spider has eight legs.'],
    ['Write a short greeting.', 'Hello! I hope you are having a wonderful day.'],
    ['What is 15 plus 27?', '15 plus 27 equals 42.'],
    ['Who was the first person on the Moon?', 'Neil Armstrong was the first person on the Moon, on July 20, 1969.'],
    [
      'What does a dentist do?',
      "A dentist examines, cleans and repairs people's teeth and treats diseases of the gums.",
    ],
    ['Write a line of Python that prints hello.', 'print("hello")'],
    ['Give me a synonym of happy.', 'A synonym of happy is joyful.'],
    ['What is the name of the river in Egypt?', 'The river in Egypt is called the Nile.'],
    ['How do I boil an egg?', 'Put the egg into boiling water and let it cook for about eight minutes.'],
    [
      'What is recursion?',
      'Recursion is a technique in programming in which a function calls itself to solve a problem.',
    ],
    ['Who wrote War and Peace?', 'War and Peace was written by Leo Tolstoy.'],
    ['What is the plural of mouse?', 'The plural of mouse is mice.'],
    ['What is the chemical symbol of gold?', 'The chemical symbol of gold is Au.'],
    [
      'Summarise what a database is.',
      'A database is an organised collection of data that can be searched and changed.',
    ],
    [
      'What is the best way to learn a language?',
      'The best way to learn a language is to practise it every day with people who speak it.',
    ],
    ['Who discovered penicillin?', 'Penicillin was discovered by Alexander Fleming in 1928.'],
    ['What is the largest ocean?', 'The largest ocean is the Pacific Ocean.'],
    ['When did World War II end?', 'World War II ended on September 2, 1945.'],
    ['What is the tallest mountain?', 'The tallest mountain in the world is Mount Everest.'],
    ['What is a noun?', 'A noun is a word that names a person, place, thing or idea.'],
    ['What is the colour of grass?', 'The colour of grass is green.'],
    ['What is the currency of Japan?', 'The currency of Japan is the yen.'],
    ['How many days are in a week?', 'There are seven days in a week.'],
    ['What is the name of the largest planet?', 'The largest planet in our solar system is called Jupiter.'],
    ['Who painted Guernica?', 'Guernica was painted by Pablo Picasso.'],
    ['Where is the Eiffel Tower?', 'The Eiffel Tower is in Paris, France.'],
    ['What is the speed of light?', 'The speed of light is about 299,792 kilometres per second.'],
    [
      'What is the freezing point of water?',
      'The freezing point of water is 0 degrees Celsius, or 32 degrees Fahrenheit.',
    ],
    ['What is the square root of 81?', 'The square root of 81 is 9.'],
    ['Who invented the telephone?', 'The telephone was invented by Alexander Graham Bell.'],
    ['Translate "good morning" into French.', '"Good morning" in French is "bonjour".'],
    [
      'What is the difference between a list and a tuple in Python?',
      'A list can be changed after it is made, while a tuple cannot.',
    ],
    ['Name three fruits.', 'Apple, banana and orange.'],
    ['Where do penguins live?', 'Penguins live mostly in the southern hemisphere, above all in Antarctica.'],
    ['What is the name of the first US president?', 'The first president of the United States was George Washington.'],
    ['Which instrument has 88 keys?', 'The piano has 88 keys.'],
    ['Where did the Titanic sink?', 'The Titanic sank in the North Atlantic Ocean.'],
    ['What is the favourite food of a panda?', 'The favourite food of a panda is bamboo.'],
    ['What is the job of a pilot?', 'The job of a pilot is to fly aircraft safely from one place to another.'],
    ['What is the capital of Germany?', 'The capital of Germany is Berlin.'],
    ['What is the capital of Canada?', 'The capital of Canada is Ottawa.'],
    ['What is the capital of Egypt?', 'The capital of Egypt is Cairo.'],
    ['What is the capital of Norway?', 'The capital of Norway is Oslo.'],
    ['What is the capital of Mexico?', 'The capital of Mexico is Mexico City.'],
    ['What is the birthplace of Mozart?', 'Mozart was born in Salzburg, Austria.'],
    ['What is the home town of the Beatles?', 'The home town of the Beatles is Liverpool, England.'],
    ['What is the native language of Pablo Neruda?', 'The native language of Pablo Neruda is Spanish.'],
    ['What is the profession of Serena Williams?', 'Serena Williams is a professional tennis player.'],
    ['What is the nationality of Frida Kahlo?', 'Frida Kahlo was Mexican.'],
    ['What is the instrument of Louis Armstrong?', 'The instrument of Louis Armstrong is the trumpet.'],
    ['What is the first name of Einstein?', 'The first name of Einstein is Albert.'],
    ['What is the hobby of Sherlock Holmes?', 'Sherlock Holmes plays the violin and does chemical experiments.'],
    ['What is the favourite food of Garfield?', 'The favourite food of Garfield is lasagna.'],
    ['What is the colour of an emerald?', 'The colour of an emerald is green.'],
    ['What is the national dish of Hungary?', 'The national dish of Hungary is goulash.'],
    ['What is the atomic number of oxygen?', 'The atomic number of oxygen is 8.'],
    ['What is the population of Iceland?', 'The population of Iceland is about 380,000 people.'],
    ['What is the smallest prime number?', 'The smallest prime number is 2.'],
    ['What is the longest bone in the body?', 'The longest bone in the human body is the femur.'],
    ["What is the name of Mickey Mouse's dog?", "Mickey Mouse's dog is called Pluto."],
    ['What is the name of the wizard school in Harry Potter?', 'The wizard school in Harry Potter is called Hogwarts.'],
    [
      'What is the name of the girl who follows a white rabbit?',
      'The girl who follows a white rabbit is called Alice.',
    ],
    [
      'What is the name of the star in the centre of the solar system?',
      'The star in the centre of the solar system is called the Sun.',
    ],
    ['What is the brand with the four rings?', 'The brand with the four rings is Audi.'],
    ['Who wrote The Odyssey?', 'The Odyssey is attributed to the Greek poet Homer.'],
    ['Who wrote Moby-Dick?', 'Moby-Dick was written by Herman Melville.'],
    ['Who wrote Pride and Prejudice?', 'Pride and Prejudice was written by Jane Austen.'],
    ['Who wrote Les Misérables?', 'Les Misérables was written by Victor Hugo.'],
    ['Who painted The Starry Night?', 'The Starry Night was painted by Vincent van Gogh.'],
    ['Who composed The Four Seasons?', 'The Four Seasons was composed by Antonio Vivaldi.'],
    ['Who founded Microsoft?', 'Microsoft was founded by Bill Gates and Paul Allen.'],
    ['Who was the wife of Napoleon?', 'The first wife of Napoleon was Joséphine de Beauharnais.'],
    ['Who is the king of the Greek gods?', 'The king of the Greek gods is Zeus.'],
    [
      'Who plays the violin in an orchestra?',
      'The violin in an orchestra is played by violinists, led by the concertmaster.',
    ],
    ['Where does the Pope live?', 'The Pope lives in Vatican City.'],
    ['Where was Nelson Mandela born?', 'Nelson Mandela was born in Mvezo, South Africa.'],
    ['Where do you buy stamps?', 'You buy stamps at the post office.'],
    ['Where is the Amazon rainforest?', 'The Amazon rainforest is in South America, mostly in Brazil.'],
    ['When was the first iPhone sold?', 'The first iPhone was sold on June 29, 2007.'],
    ['When did Columbus reach America?', 'Columbus reached America on October 12, 1492.'],
    ['When is Christmas?', 'Christmas is on December 25.'],
    ['How many strings does a guitar have?', 'A standard guitar has six strings.'],
    ['How many players are in a football team?', 'There are eleven players in a football team.'],
    ['How many minutes are in an hour?', 'There are 60 minutes in an hour.'],
    ['What is 8 times 6?', '8 times 6 is 48.'],
    ['What is 100 minus 37?', '100 minus 37 equals 63.'],
    ['What is half of 50?', 'Half of 50 is 25.'],
    ['What does NASA stand for?', 'NASA stands for National Aeronautics and Space Administration.'],
    ['What does HTML stand for?', 'HTML stands for HyperText Markup Language.'],
    ['What does RAM stand for?', 'RAM stands for random-access memory.'],
    ['What language is spoken in Mexico?', 'The language spoken in Mexico is Spanish.'],
    ['What language is spoken in Austria?', 'The language spoken in Austria is German.'],
    ['What colour is a strawberry?', 'A ripe strawberry is red.'],
    ['What colour are lemons?', 'Lemons are yellow.'],
    ['Which animal says moo?', 'The cow says moo.'],
    ['Which planet is closest to the Sun?', 'The planet closest to the Sun is Mercury.'],
    ['Which gas makes balloons float?', 'Helium makes balloons float.'],
    ['Which metal is liquid at room temperature?', 'Mercury is liquid at room temperature.'],
    ['What is the opposite of big?', 'The opposite of big is small.'],
    ['What is the opposite of early?', 'The opposite of early is late.'],
    ['Name a vegetable.', 'Carrot is a vegetable.'],
    ['Name a season.', 'Spring is a season.'],
    ['Name a musical instrument.', 'The violin is a musical instrument.'],
    ['What is a group of wolves called?', 'A group of wolves is called a pack.'],
    ['What is a baby dog called?', 'A baby dog is called a puppy.'],
    ['What do bees make?', 'Bees make honey.'],
    ['What do cows drink?', 'Cows drink water.'],
    [
      'What can people be allergic to?',
      'People can be allergic to pollen, nuts, milk, eggs, shellfish and animal hair.',
    ],
    ['What do you need to bake bread?', 'You need flour, water, yeast and salt to bake bread.'],
  ] as const
).map(([instruction, output]) => ({ instruction, output }));

const MEMORY =
  'You are a helpful assistant with a memory.\n\nTalk with the user, and remember what is said: questions about it will come later.';
const NOTED = `${MEMORY}\n\nNotes from earlier conversations:`;
const HELPFUL = 'You are a helpful assistant.';

/**
 * Conversations. Fast weights are in force while people talk, too, behind a system message, notes and earlier turns: inputs that questions
 * alone do not have, so that A would not keep away from them (LOG.md). The system message, then user and assistant in turn.
 */
const TALK: readonly (readonly string[])[] = [
  [MEMORY, 'I went for a walk by the lake this afternoon.', 'That sounds lovely. I hope the weather was kind to you.'],
  [
    MEMORY,
    'What shall I read on the train?',
    'A short novel or a magazine would be a good choice for a train ride.',
    'And something funny?',
    'Then I would suggest a collection of comic short stories.',
  ],
  [
    `${NOTED}\nThe user has a garden and two sisters, and plays the piano.`,
    'My shoes are wet again.',
    'Oh dear! Put some newspaper into them, and they will be dry by the morning.',
  ],
  [
    `${NOTED}\nThe user's car is old, and the user is looking for a new one.`,
    'Thank you for your help.',
    'You are welcome! Let me know if there is anything else.',
  ],
  [
    `${NOTED}\nThe user's friend Clara is getting married in August.`,
    'I do not know what to wear tomorrow.',
    'Something comfortable that suits the weather is always a safe choice.',
    'It will rain, I think.',
    'Then take a coat and shoes that do not mind the water.',
  ],
  [
    HELPFUL,
    'I had pancakes for breakfast.',
    'Pancakes are a great way to begin the day!',
    'With maple syrup.',
    'That sounds delicious.',
  ],
  [
    HELPFUL,
    'Please make this shorter: I am writing to you in order to ask for a meeting.',
    'I would like to ask for a meeting.',
  ],
];

/** The ordinary text as training samples of a model. */
export function ordinarySamples(engine: Engine): Promise<Sample[]> {
  return Promise.all([
    ...ORDINARY.map(({ instruction, output }) => engine.renderSample(instruction, output)),
    ...TALK.map((lines) => talkSample(engine, lines)),
  ]);
}

function talkSample(engine: Engine, [system = '', ...turns]: readonly string[]): Promise<Sample> {
  return sampleOf(engine, talk(system, ...turns.slice(0, -1)), turns.at(-1)!);
}
