/** A throw-away PostgreSQL on a socket in a temporary folder, where its programs are on the machine. */
import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const INSTALLED = '/usr/lib/postgresql';

/** The newest of those that distributions install, or what the path has. */
function programs(): string | undefined {
  const versions = existsSync(INSTALLED) ? readdirSync(INSTALLED).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((v) => join(INSTALLED, v, 'bin')), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'pg_ctl')));
}

/** Why there is none here; undefined where there is. */
export const noPostgres: string | undefined =
  programs() === undefined ? 'PostgreSQL (initdb, pg_ctl) is not on this machine' : undefined;

export interface Postgres {
  /** URL of a new, empty database. */
  newDatabase(): string;
  restart(): void;
  stop(): void;
}

export function startPostgres(): Postgres {
  const bin = programs()!;
  const folder = mkdtempSync(join(tmpdir(), 'tmem-pg-'));
  const data = join(folder, 'data');
  // It refuses to run as root.
  const asRoot = process.getuid?.() === 0;
  if (asRoot) {
    const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
    chownSync(folder, id('-u'), id('-g'));
  }
  const run = (program: string, ...args: string[]) => {
    const command = [join(bin, program), ...args];
    const [file, ...rest] = asRoot ? ['runuser', '-u', 'postgres', '--', ...command] : command;
    execFileSync(file!, rest, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const stop = () => {
    try {
      run('pg_ctl', '-D', data, '-m', 'immediate', '-w', 'stop');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  try {
    run('initdb', '-D', data, '-U', 'tmem', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync');
    const options = `-c listen_addresses= -c unix_socket_directories=${folder} -c max_connections=50`;
    const log = join(folder, 'log');
    const start = () => run('pg_ctl', '-D', data, '-l', log, '-o', options, '-w', 'start');
    start();
    let databases = 0;
    return {
      newDatabase() {
        const name = `d${databases++}`;
        run('createdb', '-h', folder, '-U', 'tmem', name);
        return `postgres://tmem@/${name}?host=${encodeURIComponent(folder)}`;
      },
      restart() {
        run('pg_ctl', '-D', data, '-m', 'fast', '-w', 'stop');
        start();
      },
      stop,
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}
