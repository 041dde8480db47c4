/**
 * The studio of a real server in a real browser: talk, write, with and without memory, forget, undo. Every step is awaited, so that one that
 * does not work fails. As a program it makes screenshots of a server that runs already:
 *   node tests/support/studio-tour.ts URL FOLDER
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { chromiumPath, NO_CHROMIUM, openBrowser } from './browser.ts';

export interface TourOptions {
  readonly url: string;
  /** A name that no session has yet. */
  readonly session: string;
  /** Two messages that hold a fact each. */
  readonly facts: readonly [string, string];
  /** Called at what is worth a picture. */
  readonly picture?: (name: string) => Promise<void>;
}

interface Facts {
  readonly pairs: readonly { readonly id: string; readonly instruction: string; readonly output: string }[];
  readonly writes: readonly unknown[];
}

export async function tour(page: Page, { url, session, facts, picture = async () => {} }: TourOptions): Promise<void> {
  const button = (name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' });
  const tab = (name: string) => page.getByRole('tab', { name: new RegExp(`^${name}`) });
  const known = async () => (await (await fetch(`${url}/v1/memory/sessions/${session}`)).json()) as Facts;
  const say = async (text: string) => {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
    await button('Send').waitFor();
  };
  await page.goto(`${url}/#/${session}`);
  await page.getByText('Talk to the model: when the conversation reaches').waitFor();
  await picture('first-run');
  for (const [i, fact] of facts.entries()) {
    await say(fact);
    await page.locator('.question').getByText(fact).waitFor();
    await tab('Now').click();
    await button('Write now').click();
    await page.getByRole('img', { name: /in \d+ steps/ }).waitFor();
    await picture(`writing-${i + 1}`);
    await page.locator('.card').getByText('Last write').waitFor();
    await page.locator('.card').getByText('Committed.').waitFor();
    assert.equal((await known()).writes.length, i + 1);
  }
  const [first] = (await known()).pairs;
  await page.getByLabel('With and without memory').check();
  await say(first!.instruction);
  const side = (name: string) => page.locator('.side').filter({ hasText: name });
  await side('With memory').waitFor();
  await side('Without memory').waitFor();
  await picture('with-and-without');
  assert.notEqual(await side('With memory').last().innerText(), await side('Without memory').last().innerText());

  await tab('Facts').click();
  await picture('facts');
  await button(/^Forget… “/)
    .last()
    .click();
  const going = page.getByRole('dialog');
  await going.waitFor();
  await picture('forget');
  const before = (await known()).pairs;
  await button(/^Forget \d+ facts?$/).click();
  await page
    .getByRole('status')
    .getByText(/^Forgot \d+ fact/)
    .waitFor();
  const after = (await known()).pairs;
  assert.ok(after.length < before.length, 'a fact is gone');

  await tab('Writes').click();
  await picture('writes');
  const { writes } = await known();
  await button('Undo…').click();
  await button('Undo').click();
  await page.getByText(/Write \d+ is undone/).waitFor();
  assert.equal((await known()).writes.length, writes.length - 1);
  await tab('Weights').click();
  await picture('weights');
}

const [url, folder] = process.argv.slice(2);
if (import.meta.main && url && folder) {
  const executable = chromiumPath();
  if (!executable) throw new Error(NO_CHROMIUM);
  mkdirSync(folder, { recursive: true });
  const browser = await openBrowser(executable);
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(600_000);
  await tour(page, {
    url,
    session: `tour-${Date.now()}`,
    facts: [
      'My kitten is called Marzipan, and I am allergic to celery.',
      'My brother Milo works at the opera in Ghent.',
    ],
    picture: async (name) => {
      for (const [kind, width, height] of [
        ['wide', 1280, 800],
        ['narrow', 390, 844],
      ] as const) {
        await page.setViewportSize({ width, height });
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          await page.screenshot({ path: path.join(folder, `${name}-${kind}-${colorScheme}.png`) });
        }
      }
      await page.setViewportSize({ width: 1280, height: 800 });
      console.log(name);
    },
  });
  await browser.close();
}
