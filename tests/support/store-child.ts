/**
 * A process that changes a session until it is killed: `node store-child.ts URL SESSION SEED PAUSE_MS`, begun by a line on stdin. Prints
 * `> STATE` before each change, with the state that will be stored, and `<` once it is; `ready` first.
 */
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Session, type Snapshot } from '../../src/memory/session.ts';
import type { MemoryState, WriteRecord } from '../../src/memory/types.ts';
import { MODEL, marked, summary } from './store.ts';

const [, , url, name, seed, pause] = process.argv;
/** So few that the two processes of the test, and the writes of one, have the same weights now and then. */
const MARKS = 12;
const MOST_WRITES = 12;

let random = Number(seed) >>> 0;
/** A whole number below n. */
function next(n: number): number {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return Math.floor((random / 2 ** 32) * n);
}

writeSync(1, 'ready\n');
await once(process.stdin, 'data');
process.stdin.pause();
const session = await Session.open(name!, MODEL, url);
let count = 0;
for (;;) {
  const history = await session.history();
  const { snapshot } = session;
  const { writes } = snapshot.state;
  const choice = next(10);
  if (writes.length > 0 && choice === 0) {
    announce(history.slice(0, -1), snapshot);
    await session.undo();
  } else if (writes.length === MOST_WRITES || (writes.length > 1 && choice === 1)) {
    const kept = history.slice(0, 1 + next(writes.length));
    kept.push({ ...kept.pop()!, explicit: `again ${seed} ${count}`, weights: marked(next(MARKS)) });
    announce(kept, snapshot);
    await session.rewrite(kept, snapshot.working);
  } else if (choice === 2) {
    const turn = { role: 'user' as const, content: `turn ${seed} ${count}` };
    const changed = { ...snapshot, turns: snapshot.turns + 1, working: [{ turn, index: snapshot.turns }] };
    announce(history, changed);
    await session.commit(changed);
  } else {
    const state: MemoryState = {
      ...snapshot.state,
      writes: [...writes, record(`${seed}-${count}`)],
      explicit: `notes ${seed} ${count}`,
      weights: marked(next(MARKS)),
    };
    announce([...history.slice(0, -1), snapshot.state, state], snapshot);
    await session.commit({ ...snapshot, state });
  }
  writeSync(1, '<\n');
  count++;
  if (pause) await sleep(Number(pause));
}

function announce(history: readonly MemoryState[], { working, turns }: Omit<Snapshot, 'state'>): void {
  writeSync(1, `> ${JSON.stringify(summary(history, { working, turns }))}\n`);
}

function record(id: string): WriteRecord {
  const pair = { instruction: 'q', output: 'a', source: 's', turn: 0, origin: 'user' as const };
  const pairs = Array.from({ length: 4 }, (_, i) => ({ id: `${id} ${i}`, ...pair }));
  return { id, time: '2025-01-01', pairs, recipe: 'r', verdict: 'committed', loss: [2, 1], recalled: 4, ms: 3 };
}
