/**
 * Pictures of the studio's main states, wide and narrow, light and dark:
 * `node tests/support/studio-screenshots.ts FOLDER [STATE]`.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import type { TraceEvent } from '../../src/studio/types.ts';
import { chromiumPath, NO_CHROMIUM, openBrowser } from './browser.ts';
import { emptySession, fullSession } from './studio-data.ts';
import { startStudio } from './studio-server.ts';

const SIZES = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 844 } };
const SCHEMES = ['light', 'dark'] as const;

interface Look {
  readonly page: Page;
  readonly narrow: boolean;
}

const tab = (page: Page, name: string) => page.getByRole('tab', { name: new RegExp(`^${name}`) }).click();
const say = async ({ page, narrow }: Look, text: string) => {
  if (narrow) await tab(page, 'Chat');
  await page.getByLabel('Message').fill(text);
  await page.keyboard.press('Enter');
};

/** The write of the chat stands still once the training has come so far. */
const isStill = (event: TraceEvent) =>
  event.type === 'write' && event.event.type === 'train' && event.event.event.step === 8;

const STATES: Readonly<Record<string, { readonly session: string; show(look: Look): Promise<void> }>> = {
  'first-run': { session: 'begin', show: async () => {} },
  writing: {
    session: 'talk',
    async show(look) {
      await say(look, 'My kitten is called Marzipan, and she only eats sardines.');
      await look.page.locator('.answer').getByText('few days').waitFor();
      await say(look, 'And what do you think I should buy for her before Saturday?');
      await look.page.getByText('writing 8 of 12').waitFor();
      if (look.narrow) await tab(look.page, 'Now');
    },
  },
  'writing-chat': {
    session: 'talk',
    async show(look) {
      if (!look.narrow) return;
      await STATES.writing!.show(look);
      await tab(look.page, 'Chat');
    },
  },
  facts: {
    session: 'nadia',
    async show({ page }) {
      await tab(page, 'Facts');
      await page
        .getByRole('button', { name: /^Recall now/ })
        .first()
        .click();
      await page.getByText('Recalled', { exact: true }).waitFor();
    },
  },
  forget: {
    session: 'nadia',
    async show({ page }) {
      await tab(page, 'Facts');
      await page.getByLabel('Search facts').fill('theo');
      await page.getByRole('button', { name: 'Forget these…' }).click();
      await page.getByRole('button', { name: /^Forget \d/ }).waitFor();
    },
  },
  writes: {
    session: 'nadia',
    async show({ page }) {
      await tab(page, 'Writes');
    },
  },
  weights: {
    session: 'nadia',
    async show({ page }) {
      await tab(page, 'Weights');
    },
  },
  why: {
    session: 'nadia',
    async show(look) {
      await say(look, 'What is Nadia allergic to?');
      await look.page.getByText('allergic to celery').first().waitFor();
      await look.page.getByRole('button', { name: 'Why did you say that?' }).last().click();
      await look.page.getByText('rests on it').waitFor();
      await look.page.getByLabel('With and without memory').check();
      await say(look, "What is the name of Nadia's kitten?");
      await look.page.getByText('Confidence').nth(1).waitFor();
      if (!look.narrow) await tab(look.page, 'Now');
    },
  },
};

const [folder, only] = process.argv.slice(2);
const executable = chromiumPath();
if (!folder || !executable) {
  console.error(folder ? `No pictures: ${NO_CHROMIUM}.` : 'Give the folder for the pictures.');
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const browser = await openBrowser(executable);
for (const [state, { session, show }] of Object.entries(STATES)) {
  if (only && only !== state) continue;
  for (const [size, viewport] of Object.entries(SIZES))
    for (const colorScheme of SCHEMES) {
      const sessions = [fullSession('nadia'), { ...emptySession('talk'), contextTokens: 740 }];
      const server = await startStudio({
        ...{ pace: 0.02, sessions, after: (event) => (isStill(event) ? new Promise(() => {}) : undefined) },
      });
      const page = await browser.newPage({ viewport, colorScheme });
      await page.goto(`${server.url}/#/${session}`);
      await page.getByText(session === 'begin' ? 'Talk to the model' : /of 800 tokens/).waitFor();
      await show({ page, narrow: size === 'narrow' });
      await page.waitForTimeout(600);
      await page.screenshot({ path: join(folder, `${state}-${size}-${colorScheme}.png`) });
      await page.close();
      await server.close();
    }
}
await browser.close();
