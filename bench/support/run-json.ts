/** A measured program in a process of its own: nothing of one run is left over in the next. */
import { spawn } from 'node:child_process';

/**
 * Runs a program that prints one JSON document; its stderr goes to ours.
 * @throws when it cannot be started, fails, or prints something else
 */
export async function runJson<T>(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<T> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  const code = await new Promise<number | string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve(signal ?? status ?? 'unknown'));
  });
  if (code !== 0) throw new Error(`${program} ${args[0] ?? ''} ended with ${code}`);
  return JSON.parse(out) as T;
}
