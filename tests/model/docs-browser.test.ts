/** The documentation in a browser: under the server's policy, on a phone, in both themes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { docsPages } from '../../src/docs/site.ts';
import { STUDIO_POLICY } from '../../src/serve/studio-files.ts';
import { chromiumPath, NO_CHROMIUM, openBrowser } from '../support/browser.ts';

const executable = chromiumPath();
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** One of each kind. */
const KINDS = ['index.html', 'concepts.html', 'cli/memory.html', 'http.html', 'library/agent.html'];

describe('the documentation in a browser', { skip: executable ? false : NO_CHROMIUM }, () => {
  let browser: Browser;
  let base: string;
  const server = createServer(async (request, response) => {
    const file = (await docsPages()).get(request.url!.slice('/docs/'.length) || 'index.html');
    if (!file) return void response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': file.type, 'Content-Security-Policy': STUDIO_POLICY }).end(file.body);
  });
  before(async () => {
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/docs/`;
    browser = await openBrowser(executable!);
  });
  after(async () => {
    await browser?.close();
    server.close();
  });

  /** A page that fails the test for anything on its console, and for requests that lead elsewhere. */
  async function opened(options: { colorScheme?: 'light' | 'dark'; width?: number } = {}): Promise<Page> {
    const { colorScheme = 'light', width = 1200 } = options;
    const page = await browser.newPage({ colorScheme, viewport: { width, height: 800 }, bypassCSP: false });
    page.on('console', (message) => assert.fail(message.text()));
    page.on('pageerror', (error) => assert.fail(error.message));
    page.on('request', (request) => assert.ok(request.url().startsWith(base), request.url()));
    return page;
  }

  test('no page is wider than a phone', async () => {
    const page = await opened({ width: 360 });
    for (const path of KINDS) {
      await page.goto(base + path);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, path);
    }
    await page.close();
  });

  for (const colorScheme of ['light', 'dark'] as const)
    test(`everybody can read it: ${colorScheme}`, async () => {
      const page = await opened({ colorScheme });
      // The colours are those of the style sheets, so that one page tells of the other theme.
      for (const path of colorScheme === 'light' ? ['concepts.html', 'cli/serve.html'] : ['guide.html']) {
        await page.goto(base + path);
        await page.evaluate(axe);
        const { violations } = (await page.evaluate('axe.run()')) as {
          violations: { id: string; nodes: { html: string }[] }[];
        };
        assert.deepEqual(
          violations.map(({ id, nodes }) => [id, nodes[0]!.html]),
          [],
          path,
        );
      }
      await page.close();
    });

  test('the theme is chosen with a button and stays chosen', async () => {
    const page = await opened({ colorScheme: 'light' });
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.goto(base);
    const light = await background();
    await page.getByRole('switch', { name: 'Dark theme' }).click();
    const dark = await background();
    assert.notEqual(dark, light);
    await page.getByRole('link', { name: 'Concepts' }).first().click();
    await page.waitForURL('**/concepts.html');
    assert.equal(await background(), dark);
    assert.equal(await page.getByRole('switch').getAttribute('aria-checked'), 'true');
    await page.close();
  });
});
