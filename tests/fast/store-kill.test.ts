/** The store against kill -9: `TMEM_KILLS` times, on SQLite and, where its programs are, on PostgreSQL. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { peekSession, Session, sessionNames } from '../../src/memory/session.ts';
import { emptyMemory } from '../../src/memory/types.ts';
import { KINDS } from '../support/places.ts';
import { MODEL, summary } from '../support/store.ts';

const KILLS = Number(process.env.TMEM_KILLS || 40);

/** Code of the processes that are started so often. */
const compiled = mkdtempSync(join(tmpdir(), 'tmem-compiled-'));
after(() => rmSync(compiled, { recursive: true }));

for (const { kind, place, options } of KINDS) {
  test(
    `${kind}: kill -9 at any moment leaves the state before or after, its weights, and no lock`,
    options,
    async (t) => {
      const { url, weights, age } = place(t);
      const peer = startChild(url, 'peer', 1, 20);
      const figures = { kills: 0, inside: 0, applied: 0, changes: 0 };
      let next = startChild(url, 'killed', 100, 0);
      try {
        await peer.go();
        let last = summary([emptyMemory(MODEL.fingerprint)], { working: [], turns: 0 });
        while (figures.kills < KILLS) {
          const child = next;
          await child.go();
          next = startChild(url, 'killed', 101 + figures.kills, 0);
          // While it opens the session, or some changes later.
          if (figures.kills % 10 > 0) await child.begins();
          await sleep(Math.random() * 50);
          await child.kill();
          figures.kills++;
          assert.equal(child.errors(), '');
          const { done, begun } = child.changes();
          figures.changes += done.length;
          const before = done.at(-1) ?? last;
          const opened = await Session.open('killed', MODEL, url);
          last = JSON.parse(JSON.stringify(summary(await opened.history(), opened.snapshot)));
          await opened.close();
          if (begun === undefined) assert.deepEqual(last, before);
          else {
            figures.inside++;
            const after = isDeepStrictEqual(last, begun);
            if (after) figures.applied++;
            else assert.deepEqual(last, before);
          }
          assert.ok(peer.isAlive(), peer.errors());
        }
      } finally {
        await Promise.all([next.kill(), peer.kill()]);
      }
      assert.equal(peer.errors(), '');
      t.diagnostic(
        `${figures.kills} kills, ${figures.inside} inside a change, of which ${figures.applied} are in the store; ` +
          `${figures.changes} changes were acknowledged before, none is lost; beside ${peer.changes().done.length} of another process`,
      );
      assert.ok(figures.inside > 0);
      const named = new Set<string>();
      for (const name of await sessionNames(url)) {
        const { weights, writes } = await peekSession(name, url);
        for (const hash of [weights, ...writes.map((w) => w.before.weights)]) if (hash) named.add(hash);
      }
      // What crashes have left goes when it is a day old.
      age();
      await (await Session.open('peer', MODEL, url)).close();
      assert.deepEqual(await weights(), [...named].sort());
    },
  );
}

type Summary = ReturnType<typeof summary>;

function startChild(url: string, name: string, seed: number, pause: number) {
  const program = join(import.meta.dirname, '../support/store-child.ts');
  const env = { ...process.env, NODE_COMPILE_CACHE: compiled };
  const child: ChildProcess = spawn(process.execPath, [program, url, name, String(seed), String(pause)], { env });
  let [said, errors] = ['', ''];
  child.stdout!.on('data', (chunk) => {
    said += chunk;
  });
  child.stderr!.on('data', (chunk) => {
    errors += chunk;
  });
  child.stdin!.on('error', () => {});
  const closed = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const lines = () => said.split('\n').slice(1, -1);
  const parse = (line: string): Summary => JSON.parse(line.slice(2));
  return {
    /** Lets it begin, once it has loaded everything. */
    async go() {
      while (!said.startsWith('ready\n') && child.exitCode === null) await sleep(5);
      child.stdin!.write('go\n');
    },
    async begins() {
      while (!said.includes('\n>') && child.exitCode === null) await sleep(1);
    },
    async kill() {
      child.kill('SIGKILL');
      await closed;
    },
    isAlive: () => child.exitCode === null,
    errors: () => errors,
    /** The states that it was told are stored, and the one that it has begun to store. */
    changes() {
      const all = lines();
      const done = all.filter((_, i) => all[i + 1] === '<').map(parse);
      const begun = all.at(-1)?.startsWith('>') ? parse(all.at(-1)!) : undefined;
      return { done, begun };
    },
  };
}
