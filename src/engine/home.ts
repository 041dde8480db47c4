import { homedir } from 'node:os';
import { join } from 'node:path';

/** The folder of everything that tmem keeps (models, sessions, caches): `TMEM_HOME`, by default in the user's cache folder. */
export function tmemHome(env: Readonly<Record<string, string | undefined>> = process.env): string {
  if (env.TMEM_HOME) return env.TMEM_HOME;
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'tmem');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'tmem');
  if (process.platform === 'win32') return join(env.LOCALAPPDATA || join(homedir(), 'AppData', 'Local'), 'tmem');
  return join(homedir(), '.cache', 'tmem');
}
