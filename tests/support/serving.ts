/** A server on a scripted runtime, for the length of a test. */
import type { TestContext } from 'node:test';
import OpenAI from 'openai';
import { type ServeOptions, serve } from '../../src/serve/server.ts';
import { ScriptedRuntime, type ScriptedRuntimeOptions } from './scripted-runtime.ts';

export interface Served {
  readonly runtime: ScriptedRuntime;
  readonly url: string;
  /** OpenAI's own client. */
  readonly client: OpenAI;
  /** What failed in the server itself. */
  readonly failures: unknown[];
  readonly close: () => Promise<void>;
  post(path: string, body: unknown, headers?: Record<string, string>, signal?: AbortSignal): Promise<Response>;
}

/** Any free port; closed after the test. */
export async function served(
  t: TestContext,
  reply: ScriptedRuntimeOptions['reply'] | ScriptedRuntimeOptions,
  options: ServeOptions = {},
): Promise<Served> {
  const runtime = new ScriptedRuntime(typeof reply === 'function' ? { reply } : reply);
  const failures: unknown[] = [];
  const onError = (error: unknown) => void failures.push(error);
  const { url, close } = await serve(runtime, { port: 0, graceMs: 50, onError, ...options });
  t.after(close);
  return {
    ...{ runtime, url, failures, close },
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }),
    post: (path, body, headers = {}, signal) =>
      fetch(url + path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...(signal && { signal }),
      }),
  };
}

/** The messages of a conversation of one user's line. */
export const saying = (content: string) => [{ role: 'user' as const, content }];

/** Waits until something holds. @throws after two seconds. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 2000; !(await holds()); ) {
    if (Date.now() > end) throw new Error('it did not come to hold');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Comments and events of a stream, in order. */
export async function framesOf(response: Response): Promise<{ comment?: string; event?: string; data?: string }[]> {
  return (await response.text())
    .split('\n\n')
    .filter((block) => block !== '')
    .map((block) =>
      Object.fromEntries(
        block.split('\n').map((line) => {
          const [, name, value] = /^(\w*): ?(.*)$/.exec(line)!;
          return [name || 'comment', value];
        }),
      ),
    );
}
