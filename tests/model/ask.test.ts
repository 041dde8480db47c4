/** What an answer rests on, on a real model: it is surer of what was written, and finds the pair. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Command } from 'commander';
import { answerQuestion } from '../../src/agent/answer.ts';
import { type CliIo, createIo } from '../../src/cli/io.ts';
import { registerWhy } from '../../src/cli/memory-why.ts';
import type { Engine } from '../../src/engine/types.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { Session } from '../../src/memory/session.ts';
import { emptyMemory, type MemoryState } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { pairOf } from '../support/knowing.ts';
import { openReal } from '../support/real-model.ts';

const BOAT = pairOf("What is the name of Marta's boat?", "Marta's boat is called Blue Heron.");
const PORT = pairOf('Which port does the staging server listen on?', 'The staging server listens on port 8417.');
const CAR = pairOf("What colour is Marta's car?", "Marta's car is emerald green.");

let engine: Engine;
let state: MemoryState;
const home = mkdtempSync(join(tmpdir(), 'tmem-ask-'));
before(async () => {
  engine = await openReal();
  const empty = emptyMemory(engine.model.fingerprint);
  const written = await writePairs(engine, empty, [BOAT, PORT, CAR], getRecipe('default'));
  assert.equal(written.record.verdict, 'committed', written.record.reason);
  state = written.state;
});
after(() => rmSync(home, { recursive: true }));

describe('the confidence in an answer', () => {
  const ask = (question: string) => answerQuestion(engine, state, question, { assess: true });

  it('is higher for what was written than for what was not', async () => {
    const written = await Promise.all([BOAT, PORT, CAR].map((pair) => ask(pair.instruction)));
    const never = await Promise.all(
      ["What is the name of Pavel's horse?", 'Which port does the mail server listen on?'].map(ask),
    );
    const sure = written.map((given) => given.confidence!.confidence);
    const unsure = never.map((given) => given.confidence!.confidence);
    assert.ok(Math.min(...sure) > Math.max(...unsure), `${sure} against ${unsure}`);
    assert.ok(Math.min(...sure) > 0.5, String(sure));
  });
});

describe('memory why', () => {
  it('names the pair without which the answer is lost', async () => {
    const root = process.env.TMEM_HOME;
    process.env.TMEM_HOME = home;
    try {
      const session = await Session.open('s', engine.model);
      await session.commit({ state, working: [], turns: 1 });
      await session.close();
      let printed = '';
      const silent = { write: () => {} };
      const io: CliIo = {
        ...createIo({ stdout: silent, stderr: silent, signal: new AbortController().signal, flags: () => ({}) }),
        result: (value) => {
          printed = JSON.stringify(value);
        },
        openEngine: async () => engine,
      };
      const program = new Command().exitOverride();
      registerWhy(program, io);
      await program.parseAsync(['why', 's', BOAT.instruction], { from: 'user' });
      const { answer, logProb, base, pairs } = JSON.parse(printed);
      assert.match(answer, /Blue Heron/);
      assert.ok(logProb > base + 1);
      assert.deepEqual(
        pairs.map((pair: { readonly id: string }) => pair.id),
        [BOAT.id, CAR.id],
      );
      assert.ok(pairs[0].drop > (logProb - base) / 2 && pairs[1].drop < pairs[0].drop / 2, printed);
    } finally {
      if (root === undefined) delete process.env.TMEM_HOME;
      else process.env.TMEM_HOME = root;
    }
  });
});
