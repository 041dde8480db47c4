/** The studio in a real browser, against a server that plays its API. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, describe, it } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import type { TraceEvent } from '../../src/studio/types.ts';
import { chromiumPath, NO_CHROMIUM, openBrowser } from '../support/browser.ts';
import { emptySession, fullSession } from '../support/studio-data.ts';
import { type StudioServer, type StudioServerOptions, startStudio } from '../support/studio-server.ts';

const executable = chromiumPath();
const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 844 };
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core'), 'utf8');

describe('the studio', { skip: executable ? false : NO_CHROMIUM }, () => {
  let browser: Browser;
  let context: BrowserContext;
  let server: StudioServer;
  let page: Page;
  /** What the browser complained of, and requests to elsewhere. */
  let complaints: string[];

  before(async () => {
    browser = await openBrowser(executable!);
  });
  after(() => browser?.close());
  afterEach(async () => {
    await context.close();
    await server.close();
    assert.deepEqual(complaints, []);
  });

  async function open(
    session: string,
    { viewport = WIDE, ...options }: StudioServerOptions & { viewport?: typeof WIDE } = {},
  ): Promise<void> {
    const sessions = [fullSession('nadia'), { ...emptySession('talk'), contextTokens: 740 }];
    server = await startStudio({ pace: 0.01, sessions, ...options });
    context = await browser.newContext({ viewport, reducedMotion: 'reduce' });
    page = await context.newPage();
    page.setDefaultTimeout(15_000);
    complaints = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    // An answer that is no success is logged by the browser, too; the studio tells of it by itself.
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
        complaints.push(message.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(server.url) && !request.url().startsWith('blob:')) complaints.push(request.url());
    });
    await page.goto(`${server.url}/${session ? `#/${session}` : ''}`);
    await page.getByLabel('Message').waitFor();
  }

  const say = async (text: string) => {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
  };
  const tab = (name: string) => page.getByRole('tab', { name: new RegExp(`^${name}`) });
  const button = (name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' });
  const answer = (text: string | RegExp) => page.locator('.answer, .side').getByText(text);

  it('says in a sentence what it is on the first run, and begins a session with the first message', async () => {
    await open('', { sessions: [] });
    await page.getByText('Talk to the model: when the conversation reaches').waitFor();
    assert.equal(await page.getByLabel('Session', { exact: true }).inputValue(), 'default');
    await say('My kitten is called Marzipan.');
    await answer('quiet corner').waitFor();
    assert.ok(server.sessions.has('default'));
    await page
      .locator('.gauge')
      .getByText(/Context [1-9]\d* of 800 tokens/)
      .waitFor();
    assert.match(String(await page.getByRole('meter').getAttribute('aria-valuetext')), /^[1-9]\d* of 800 tokens/);
  });

  it('shows a write as it happens, and then what came of it', async () => {
    const seen: string[] = [];
    const gate = async (event: TraceEvent) => {
      if (event.type === 'extract' && event.part === 0) {
        await page.locator('.card').getByText('My kitten is called Marzipan.').waitFor();
        seen.push(await page.locator('[aria-current="step"]').innerText());
      } else if (event.type === 'write' && event.event.type === 'train' && event.event.event.step === 8) {
        await page.getByRole('img', { name: /in 8 steps/ }).waitFor();
        await page.getByText('writing 8 of 12 steps').waitFor();
        seen.push(await page.locator('[aria-current="step"]').innerText());
      }
    };
    await open('talk', { after: gate });
    await say(
      'My kitten is called Marzipan, and I would like to know what she needs for the first days with us here. '.repeat(
        3,
      ),
    );
    await answer('quiet corner').waitFor();
    assert.deepEqual(seen, ['Read', 'Train']);
    await page.locator('.card').getByText('Committed. With an empty context the model recalls 5 of 6 facts.').waitFor();
    await page.locator('.written').getByText('recalls 5 of 6 facts').waitFor();
    await page.getByText('4 of 4').first().waitFor();
    assert.match(await tab('Facts').innerText(), /6/);
  });

  it('answers one question with and without memory, and says why', async () => {
    await open('nadia');
    await say('What is Nadia allergic to?');
    await answer('Nadia is allergic to celery.').waitFor();
    await button('Why did you say that?').last().click();
    await page.getByText(/rests on it.*−2.41/).waitFor();
    await page.getByLabel('With and without memory').check();
    await say('What is Nadia allergic to?');
    await page.locator('.side').filter({ hasText: 'With memory' }).getByText('celery').waitFor();
    await page.locator('.side').filter({ hasText: 'Without memory' }).getByText('I do not know that').waitFor();
  });

  it('stops an answer, keeps what was said through a reload, and tries again', async () => {
    await open('talk', { pace: 3 });
    await say('Hello.');
    await answer('That is').waitFor();
    await button('Stop').click();
    await page.getByText('Stopped.', { exact: true }).last().waitFor();
    await page.getByLabel('Message').fill('not sent yet');
    await page.reload();
    await answer('That is').waitFor();
    assert.equal(await page.getByLabel('Message').inputValue(), 'not sent yet');
    await button('Try again').click();
    await button('Stop').waitFor();
  });

  it('tells an error of the server in a sentence, and nothing typed is lost', async () => {
    await open('nadia');
    server.faults.set('/completions', { status: 503, message: 'The queue is full; try again in a minute.' });
    await say('What is Nadia allergic to?');
    await page.getByRole('alert').getByText('The queue is full; try again in a minute.').waitFor();
    await page.locator('.question').getByText('What is Nadia allergic to?').waitFor();
    server.faults.clear();
    await button('Try again').click();
    await answer('celery').waitFor();

    await tab('Facts').click();
    await button(/^Edit “Where is Theo's boat/).click();
    await page.getByLabel('The right answer').fill('The boat is in the harbour.');
    server.faults.set('/edit', { status: 500, message: 'The engine has ended; it is started again.' });
    await button('Train').click();
    await page.getByRole('alert').getByText('The engine has ended').waitFor();
    assert.equal(await page.getByLabel('The right answer').inputValue(), 'The boat is in the harbour.');
    server.faults.clear();
    await button('Train').click();
    await page.getByRole('status').getByText('Committed.').first().waitFor();
    await page.locator('.pair').getByText('The boat is in the harbour.', { exact: true }).waitFor();
  });

  it('finds facts, asks them now, and forgets only after showing what goes', async () => {
    await open('nadia', { pace: 0.3 });
    await tab('Facts').click();
    await page.getByLabel('Search facts').fill('pelican');
    await page.getByRole('status').getByText('1 of 13 facts').waitFor();
    await page.getByText('My boat is called Pelican.').waitFor();
    await button(/^Recall now/).click();
    await page.getByText('Recalled', { exact: true }).waitFor();

    const forget = button(/^Forget… “What is Theo's boat called/);
    await forget.click();
    const dialog = page.getByRole('dialog', { name: 'Forget 1 fact?' });
    await dialog.getByText("Theo's boat is called Pelican.").waitFor();
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press('Tab');
      assert.ok(
        await page.evaluate(
          () => document.activeElement === document.body || document.activeElement!.closest('dialog'),
        ),
      );
    }
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    assert.ok(await forget.evaluate((element) => element === document.activeElement), 'the focus is back');
    assert.ok(!server.requests.includes('POST /v1/memory/sessions/nadia/undo'));
    assert.equal(server.sessions.get('nadia')!.pairs.length, 13, 'a dry run removes nothing');

    await forget.click();
    await button('Forget 1 fact').click();
    await page.getByText(/making write 2 again, step/).waitFor();
    await page.getByRole('status').getByText('Forgot 1 fact; none of it is recalled any more.').waitFor();
    assert.equal(server.sessions.get('nadia')!.pairs.length, 12);
  });

  it('undoes, branches and compares', async () => {
    await open('nadia');
    await tab('Writes').click();
    await button('Undo…').click();
    await button('Undo').click();
    await page.getByText('Write 3 is undone').waitFor();
    await page.getByLabel('A session that begins with this memory').fill('nadia');
    await button('Branch').click();
    await page.getByRole('alert').getByText('There is a session nadia already.').waitFor();
    await page.getByLabel('A session that begins with this memory').fill('other');
    await button('Branch').click();
    await page.waitForURL(/#\/other$/);
    server.sessions.set('other', {
      ...server.sessions.get('other')!,
      pairs: server.sessions.get('nadia')!.pairs.slice(0, -1),
    });
    await tab('Writes').click();
    await page.getByLabel('Another session').selectOption('nadia');
    await button('Compare').click();
    await page.getByText('12 facts in both, 0 only here, 1 only in nadia.').waitFor();
  });

  it('exports, imports, verifies and removes', async () => {
    await open('nadia');
    await tab('Weights').click();
    await page.getByRole('rowheader', { name: '27' }).waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), button('JSON lines').click()]);
    assert.equal(download.suggestedFilename(), 'nadia.jsonl');
    assert.equal(readFileSync(await download.path(), 'utf8').split('\n').length, 13);
    await page.getByLabel('Questions and answers, one a line').fill('{"instruction": "Which port?"}');
    await button('Import').click();
    await page.getByRole('alert').getByText('Entry 1 has no instruction and output.').waitFor();
    await page.getByLabel('Questions and answers, one a line').fill('{"instruction": "Which port?", "output": "8417"}');
    await button('Import').click();
    await page.getByRole('status').getByText('recalls 1 of 1 fact.').waitFor();
    assert.equal(await page.getByLabel('Questions and answers, one a line').inputValue(), '');
    await button('Verify').click();
    await page.getByText('bit for bit').waitFor();
    await button('Remove session…').click();
    await button('Remove').click();
    await page.getByText('nadia is removed.').waitFor();
    await page.waitForURL(/#\/talk$/);
    assert.equal(await page.getByText('Good morning, Nadia.').count(), 0, 'the conversation is gone with it');
  });

  it('asks for a key when the server wants one, and forgets it with the tab', async () => {
    await open('nadia', { key: 'secret' });
    const dialog = page.getByRole('dialog', { name: 'This server asks for a key' });
    await dialog.getByLabel('API key').fill('wrong');
    await page.keyboard.press('Enter');
    await dialog.getByText('did not take this key').waitFor();
    await dialog.getByLabel('API key').fill('secret');
    await page.keyboard.press('Enter');
    await page.getByText('212 of 800 tokens').waitFor();
    await page.waitForFunction(() => document.querySelectorAll('option').length === 2);
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('secret')), false);
    assert.equal(await page.evaluate(() => sessionStorage.getItem('tmem.key')), 'secret');
  });

  it('can be used with the keyboard, and on a narrow screen', async () => {
    await open('nadia', { viewport: NARROW });
    await tab('Chat').focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(await tab('Now').getAttribute('aria-selected'), 'true');
    assert.equal(await page.getByLabel('Message').isVisible(), false);
    await page.keyboard.press('End');
    await page.getByRole('heading', { name: 'Size of Delta' }).waitFor();
    await page.keyboard.press('ArrowRight');
    assert.ok(await page.getByLabel('Message').isVisible());
    for (const name of ['Chat', 'Now', 'Facts', 'Writes', 'Weights']) {
      await tab(name).click();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${name} is ${overflow} pixels too wide`);
    }
  });

  for (const viewport of [WIDE, NARROW])
    it(`has no serious violation of accessibility at ${viewport.width} pixels, light or dark`, async () => {
      await open('nadia', { viewport });
      if (viewport === NARROW) await tab('Chat').click();
      await say('What is Nadia allergic to?');
      await answer('celery').waitFor();
      await page.evaluate(AXE);
      const views =
        viewport === NARROW ? ['Chat', 'Now', 'Facts', 'Writes', 'Weights'] : ['Now', 'Facts', 'Writes', 'Weights'];
      const found: string[] = [];
      const check = async (view: string) => {
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          found.push(...(await violations(page)).map((violation) => `${view}, ${colorScheme}: ${violation}`));
        }
      };
      for (const view of views) {
        await tab(view).click();
        await check(view);
      }
      await tab('Facts').click();
      await button(/^Forget…/)
        .first()
        .click();
      await button('Forget 1 fact').waitFor();
      await check('Forget');
      assert.deepEqual(found, []);
    });
});

interface AxeResult {
  readonly violations: readonly {
    readonly id: string;
    readonly impact: string;
    readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
  }[];
}

/** Serious and critical ones, with the element. */
async function violations(page: Page): Promise<string[]> {
  const result = await page.evaluate(() => (window as unknown as { axe: { run(): Promise<AxeResult> } }).axe.run());
  return result.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}
