/** Every word that tmem says to a model, as data. */

/** q when the caller names no task: what comes later is not known. */
export const DEFAULT_TASK = 'Talk with the user, and remember what is said: questions about it will come later.';

export const SYSTEM = 'You are a helpful assistant with a memory.';

/** Before the explicit memory m, in the system message. */
export const MEMORY_HEADER = 'Notes from earlier conversations:';

/**
 * Extraction: the directive d as a system message, examples as turns of a chat (small models follow them better than rules).
 * A part is laid out sentence by sentence, each line with its speaker, so that the line to quote says whose fact it is.
 */
export const EXTRACTION = {
  system: `You make memory cards from a part of a conversation or text, for someone who will never see it.
Answer with JSON: {"memory": "...", "pairs": [{"source": "...", "instruction": "...", "output": "..."}]}
- memory: one short sentence saying what this part is about.
- source: the line of this part that states the fact, copied exactly.
- instruction: a question about that fact that can be understood alone: with the full name of the person it is about, never "he", "she" or "it"; with real dates, never "yesterday". "I" and "my" in a line mean the speaker whose name is before it.
- output: the answer to it in one to eight words.
Make one pair for every fact: names, numbers, dates, places, objects, plans, preferences, lessons. Skip every line that states no fact: greetings, opinions, jokes, questions. Never ask what someone says. If nothing is worth remembering, give an empty list.`,
  /** Before prior turns. */
  earlier: 'Before this part (only to understand it, make no pairs from it):',
  /** Before the turns to extract from. */
  part: 'Part:',
  /** Behind them. */
  directive: 'Write the JSON for every fact in this part.',
  /** Behind the directive when the task is known; `{task}` is replaced. */
  aware: 'Facts that help with this come first: {task}',
  examples: [
    {
      part: `Tuesday 4 June 2019
Ingrid: Guess what, Pavel, I adopted a parrot from the shelter yesterday!
Ingrid: Her name is Pepper and she is 11 years old.
Pavel: Lovely, I would like to see that!
Pavel: What a day.
Pavel: My news: I quit the bakery and now I repair violins in Ghent.
Ingrid: That is so like you.`,
      answer: {
        memory: 'Ingrid adopted a parrot and Pavel has a new job.',
        pairs: [
          {
            source: 'Ingrid: Guess what, Pavel, I adopted a parrot from the shelter yesterday!',
            instruction: 'What animal did Ingrid adopt from the shelter?',
            output: 'a parrot',
          },
          {
            source: 'Ingrid: Guess what, Pavel, I adopted a parrot from the shelter yesterday!',
            instruction: 'When did Ingrid adopt her parrot?',
            output: '3 June 2019',
          },
          {
            source: 'Ingrid: Her name is Pepper and she is 11 years old.',
            instruction: "What is the name of Ingrid's parrot?",
            output: 'Pepper',
          },
          {
            source: 'Ingrid: Her name is Pepper and she is 11 years old.',
            instruction: "How old is Ingrid's parrot Pepper?",
            output: '11 years',
          },
          {
            source: 'Pavel: My news: I quit the bakery and now I repair violins in Ghent.',
            instruction: "What is Pavel's job now?",
            output: 'repairing violins',
          },
          {
            source: 'Pavel: My news: I quit the bakery and now I repair violins in Ghent.',
            instruction: 'In which city does Pavel work now?',
            output: 'Ghent',
          },
        ],
      },
    },
    {
      part: `Friday 7 June 2019
Pavel: Good morning!
Pavel: How are you today?
Ingrid: Fine, thanks.
Ingrid: What a day, isn't it?`,
      answer: { memory: 'Ingrid and Pavel greet each other.', pairs: [] },
    },
    {
      part: `User: My train to Oslo leaves at 6:40 from platform 9.
User: Please remember that I cannot eat peanuts.
Assistant: I will remember that.`,
      answer: {
        memory: 'The user takes a train to Oslo and cannot eat peanuts.',
        pairs: [
          {
            source: 'User: My train to Oslo leaves at 6:40 from platform 9.',
            instruction: 'When does my train to Oslo leave?',
            output: 'at 6:40',
          },
          {
            source: 'User: My train to Oslo leaves at 6:40 from platform 9.',
            instruction: 'From which platform does my train to Oslo leave?',
            output: 'platform 9',
          },
          {
            source: 'User: Please remember that I cannot eat peanuts.',
            instruction: 'What food can I not eat?',
            output: 'peanuts',
          },
        ],
      },
    },
  ],
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
