/** Every word that tmem says to a model, as data. */

/** q when the caller names no task: what comes later is not known. */
export const DEFAULT_TASK = 'Talk with the user, and remember what is said: questions about it will come later.';

export const SYSTEM = 'You are a helpful assistant with a memory.';

/** Before the explicit memory m, in the system message. */
export const MEMORY_HEADER = 'Notes from earlier conversations:';

/** Pairs that are shown beside the weights, in the system message: the header, then one line for each, its time before it when that is known. */
export const RETRIEVED = {
  header: 'Facts from your memory, oldest first. Where two of them disagree, the newest, which comes last, is right:',
  line: '{question} -> {answer}',
} as const;

/** What is said in the place of an answer that rests on nothing. A user reads it, no model does. */
export const NOT_KNOWN = 'I do not know that.';

export interface ExtractionExample {
  readonly part: string;
  /** Words that are asked about again. */
  readonly about?: readonly string[];
  readonly pairs: readonly { readonly output: string; readonly instruction: string }[];
}

const EXAMPLES: readonly ExtractionExample[] = [
  {
    part: 'Tuesday 4 June 2019\nIngrid: Guess what, I adopted a parrot from the shelter yesterday! Her name is Pepper, and she only eats walnuts.',
    pairs: [
      { output: 'Ingrid adopted a parrot on 3 June 2019.', instruction: 'When did Ingrid adopt a parrot?' },
      { output: "Ingrid's parrot is called Pepper.", instruction: "What is the name of Ingrid's parrot?" },
      { output: "Ingrid's parrot Pepper only eats walnuts.", instruction: "What does Ingrid's parrot Pepper eat?" },
    ],
  },
  {
    part: 'Tuesday 4 June 2019\nPavel: Pepper, what a lovely name! I want to see her. How are you otherwise?',
    pairs: [],
  },
  {
    part: 'Friday 7 June 2019\nPavel: Some news. I work at the opera now. My van broke down, so I bought a purple motorbike, and in July I will drive it to Ghent.',
    pairs: [
      { output: 'Pavel works at the opera.', instruction: 'Where does Pavel work?' },
      { output: "Pavel's new motorbike is purple.", instruction: "What colour is Pavel's new motorbike?" },
      { output: 'Pavel will drive to Ghent in July.', instruction: 'Where will Pavel drive in July?' },
    ],
  },
  {
    part: 'Friday 7 June 2019\nIngrid: What a day. My cousin Doris broke a toe while dancing, and I cannot eat nuts, so her cake was no help!',
    pairs: [
      { output: "Ingrid's cousin is called Doris.", instruction: "What is the name of Ingrid's cousin?" },
      { output: "Ingrid's cousin Doris broke a toe.", instruction: "What did Ingrid's cousin Doris break?" },
      { output: 'Ingrid cannot eat nuts.', instruction: 'What can Ingrid not eat?' },
    ],
  },
  {
    part: 'Friday 7 June 2019\nIngrid: The band was loud, so my neighbour Viktor drove me home at ten.',
    about: ['Viktor'],
    pairs: [{ output: "Ingrid's neighbour is called Viktor.", instruction: "What is the name of Ingrid's neighbour?" }],
  },
  {
    part: 'User: My train to Oslo leaves at 6:40. I am learning the harp there.',
    pairs: [
      {
        output: "The user's train to Oslo leaves at 6:40.",
        instruction: "When does the user's train to Oslo leave?",
      },
      { output: 'The user is learning the harp.', instruction: 'Which instrument is the user learning?' },
    ],
  },
];

/** Extraction: the directive d as a system message, examples as turns of a chat (small models follow them better than rules). */
export const EXTRACTION = {
  system: `You turn a message into memory cards for someone who will never see it. Answer with JSON: {"pairs": [{"output": one fact that the message states, in one short full sentence, "instruction": the question that this sentence answers}]}
Facts are names, numbers, dates, places, jobs, things, plans, preferences. "I" and "my" mean the one who speaks: write the name instead. Never "he", "she", "it" or "you"; real dates, never "yesterday". Greetings, questions and remarks on what others said give no card.`,
  /** Before prior turns. */
  earlier: 'Said before: ',
  /** Before the text to extract from. */
  part: 'Message:',
  /** Behind a sentence that is asked about again; `{words}` is replaced by its names and numbers. */
  about: '(One card with the answer: {words})',
  /** Behind the directive when the task is known; `{task}` is replaced. */
  aware: 'Facts that help with this come first: {task}',
  examples: EXAMPLES,
} as const;

/** The explicit memory of a session. */
export const NOTE = {
  system:
    'You write a short note on a conversation or text for your own later use: who and what it is about, in at most 40 words. Answer with JSON: {"memory": "..."}',
} as const;

/** Rewriting an explicit memory that has become too long; `{words}` is replaced. */
export const CONDENSE = {
  system:
    'You shorten notes. Keep names, numbers, dates, places and decisions. Write plain short lines, one fact a line, nothing else.',
  directive: 'Rewrite these notes in at most {words} words.',
} as const;

/** The tool protocol; `{tools}` is replaced by one line of JSON for each tool. */
export const TOOLS = {
  system: `You can use tools. To use one, answer with nothing but one line of JSON:
{"tool": "NAME", "arguments": {...}}
Its result comes in the next message. When you know the answer, write it as plain text.
Tools:
{tools}`,
  result: 'Result of {name}:',
  error: 'Error in the call of {name}:',
  limit: 'No more tools can be used. Answer now in plain text.',
} as const;
