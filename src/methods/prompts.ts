/** Every word that the methods say to a model beside those of the agent (agent/prompts.ts), as data; and the context of an answer. */
import { answerContext } from '../agent/context.ts';
import * as agent from '../agent/prompts.ts';
import type { ChatMessage } from '../engine/types.ts';

/** What a memory is for when the question comes later. */
export const GENERAL_TASK =
  'Remember who and what is talked about, and every fact: questions about any of it will come later.';

/** Recursive summarisation; `{words}` is replaced by what the bound leaves. */
export const SUMMARY = {
  system:
    'You keep the summary of a long conversation or text. Keep names, numbers, dates, places, events, plans and preferences, and who they belong to.',
  previous: 'Summary so far:',
  none: '(nothing yet)',
  section: 'What comes next:',
  directive:
    'Write the new summary of everything so far, in at most {words} words. Take over from the old summary what still matters, and write nothing but the summary.',
} as const;

/** MemAgent: a problem, the previous memory and the next section, from which the memory is written anew. `{…}` are replaced. */
export const MEMAGENT = {
  user: `Below are a problem, the memory of what was read before, and the next section of a text that may help with the problem. Read the section closely and write the memory anew, with what the section adds that helps with the problem. Keep every detail of the previous memory that matters.

<problem>
{task}
</problem>

<memory>
{memory}
</memory>

<section>
{section}
</section>

Updated memory:`,
  none: 'No previous memory',
} as const;

/** MEM1: one internal state, rewritten at every step; the tags are those of its repository. `{task}` is replaced. */
export const MEM1 = {
  user: `You work step by step on this task: {task}

At each step you see your own last <think> ... </think>, if there is one, and new information inside <information> ... </information>. Reason about the new information and write a short, cumulative summary inside <think> ... </think>. It is your only memory: everything else is gone at the next step, so it must hold all that matters of the last <think> and of the <information>.`,
  open: '<think>',
  close: '</think>',
  observation: '<information>\n{section}\n</information>',
} as const;

/** A-MEM: the analysis of a note, and the evolution of the memory around it. `{…}` are replaced. */
export const AMEM = {
  analysis: `Analyse this text as a note for a memory. Answer with JSON:
"keywords": three or more specific words for its key concepts, the most important first, without the speaker's name and the time;
"context": one sentence on its topic, its main points and its purpose;
"tags": three or more broad categories that it belongs to.

Text:
{content}`,
  evolution: `You look after a memory that is made of notes. A new note has come; decide what it changes, from its keywords and context and from its nearest neighbours.

New note:
{note}

Nearest neighbours ({count}):
{neighbours}

Answer with JSON. If nothing changes, it is {"should_evolve": false}. Otherwise:
"should_evolve": true;
"actions": "strengthen" to connect the new note with neighbours, "update_neighbor" to rewrite the context and tags of neighbours in the light of the new note, or both;
"suggested_connections": the numbers of the neighbours that the new note is connected with;
"tags_to_update": the tags of the new note;
"new_context_neighborhood" and "new_tags_neighborhood": one context and one list of tags for each neighbour, in the order above; repeat those that do not change.`,
  /** Of a note that could not be analysed. */
  general: 'General',
} as const;

/** Raw-text fine-tuning: what stands before a turn that is trained. `{n}` is the number of the text, counted from 1. */
export const RAW = {
  instruction: 'What was said in message {n}?',
  dated: 'What was said on {date}, in message {n}?',
} as const;

/** What fast weights say to a bare question, shown beside what is kept in words; with the day on which it was said, where that is known. */
export const RECOLLECTION = {
  plain: 'As far as you remember: {answer}',
  dated: 'As far as you remember, from {day}: {answer}',
} as const;

/** All words that a method's answers depend on, those of the agent with them. */
export const PROMPTS = { agent: { ...agent }, GENERAL_TASK, SUMMARY, MEMAGENT, MEM1, AMEM, RAW, RECOLLECTION } as const;

/** A prompt with its `{name}`s replaced, each once. */
export function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (all, name: string) => values[name] ?? all);
}

/** What a summary of at most so many tokens is asked for with, at three quarters of a word a token. */
export function summaryDirective(tokens: number): string {
  return fill(SUMMARY.directive, { words: String(Math.floor(tokens * 0.75)) });
}

/**
 * What a question is answered from, for every method: the agent's own (q, m), with what was kept in the place of m. Nothing kept: the bare
 * question. The kept text comes first, so that questions on the same text share its part of the KV cache.
 */
export function answerPrompt(kept: string, question: string): ChatMessage[] {
  return answerContext(question, kept);
}
