/** The server on real weights: a conversation that passes its budget again and again, with the client that people have. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { resolveModel } from '../../src/engine/models/store.ts';
import { openEngine } from '../../src/engine/process/client.ts';
import { recalls } from '../../src/memory/recall.ts';
import type { Pair } from '../../src/memory/types.ts';
import { openRuntime } from '../../src/serve/runtime/runtime.ts';
import { serve } from '../../src/serve/server.ts';
import { chromiumPath, NO_CHROMIUM, openBrowser } from '../support/browser.ts';
import { SMALL_MODEL } from '../support/real-model.ts';
import { tour } from '../support/studio-tour.ts';

const BUDGET = 256;
const home = mkdtempSync(path.join(tmpdir(), 'tmem-serve-'));
let server: Awaited<ReturnType<typeof serve>>;
let client: OpenAI;

before(async () => {
  const { path: modelPath } = await resolveModel(SMALL_MODEL);
  const runtime = await openRuntime({
    store: `sqlite:${path.join(home, 'memory.db')}`,
    budget: BUDGET,
    openEngine: ({ background }) => openEngine({ modelPath, background, contextSize: 4096 }),
  });
  server = await serve(runtime, { port: 0 });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
after(async () => {
  await server?.close();
  rmSync(home, { recursive: true });
});

const FACTS = [
  'Viktor plays the tuba in Ghent.',
  'Milo lives in Oslo with his wife Ines.',
  'Theo bought a green van in Porto.',
];
/** Says nothing that is worth a pair. */
const CHATTER =
  'Well, well, that is nice to hear, is it not? Yes, it really is, and so on and so on, as they say. '.repeat(5);

interface Extension {
  readonly tmem?: { readonly writes: readonly { readonly verdict: string }[]; readonly contextTokens: number };
}

test('a conversation that passes its budget three times is answered about its first part', async () => {
  const messages: OpenAI.ChatCompletionMessageParam[] = [];
  const verdicts: string[] = [];
  const say = async (content: string, max_tokens: number) => {
    messages.push({ role: 'user', content });
    const request = { model: SMALL_MODEL, messages, max_tokens };
    const answer = await client.chat.completions.create(request, { headers: { 'X-Tmem-Session': 'ann' } });
    const [choice] = answer.choices;
    messages.push({ role: 'assistant', content: choice!.message.content });
    const { tmem } = answer as Extension;
    verdicts.push(...tmem!.writes.map(({ verdict }) => verdict));
    return { text: choice!.message.content ?? '', promptTokens: answer.usage!.prompt_tokens };
  };
  for (const fact of FACTS) {
    await say(fact, 4);
    await say(CHATTER, 4);
  }
  assert.ok(verdicts.length >= 3 && verdicts.includes('committed'), verdicts.join());

  const session = `${server.url}/v1/memory/sessions/ann`;
  const { pairs } = (await (await fetch(session)).json()) as { pairs: Pair[] };
  // What a model of this size writes down is odd; that it knows it later is what is tested.
  const [first] = pairs;
  const { text, promptTokens } = await say(first!.instruction, 24);
  assert.ok(promptTokens <= BUDGET, `${promptTokens} tokens: what was written is not in the context`);
  assert.ok(recalls(text, first!), `"${first!.instruction}": ${text}`);
  const ask = async (memory: boolean) => {
    const response = await fetch(`${session}/ask`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ question: first!.instruction, memory }),
    });
    return ((await response.json()) as { answer: string }).answer;
  };
  assert.ok(recalls(await ask(true), first!));
  assert.ok(!recalls(await ask(false), first!));
});

const executable = chromiumPath();
test('the studio talks, writes, compares, forgets and undoes', { skip: executable ? false : NO_CHROMIUM }, async () => {
  const browser = await openBrowser(executable!);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    const facts = ['Viktor plays the tuba in Ghent.', 'Theo bought a green van in Porto.'] as const;
    await tour(page, { url: server.url, session: 'studio', facts });
  } finally {
    await browser.close();
  }
});
