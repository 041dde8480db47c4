/**
 * Successive writes: does memory survive memory? N writes of M made-up facts each; after every write recall of its own and of the
 * first facts, and general questions that are never trained on; after every tenth (`--every`) also recall of all facts so far, of all asked in
 * other words, of general questions that the model answered rightly before, and the spill on ordinary prompts.
 *   node bench/memory/successive.ts [--model qwen2.5-coder-1.5b] [--writes 40] [--facts 8] [--recipe default] [--set '{"rank":8}'] [--seed 1]
 */
import { score } from '../../src/memory/quiz.ts';
import { emptyMemory } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { asPairs, makeFacts } from '../facts.ts';
import { setting } from '../support/report.ts';
import { controls, generalRight, openBench, readOptions, recall, spill } from './support.ts';

const options = readOptions({ writes: '40', facts: '8', every: '10' });
const { engine, recipe } = await openBench(options);
const facts = makeFacts(Number(options.writes), Number(options.facts), Number(options.seed));
const general = (await generalRight(engine)).slice(0, 50);
const spilt = await spill(engine);
const line = (figures: object) => console.log(JSON.stringify(figures));
const rounded = (x: number) => Number(x.toFixed(3));
line({ bench: 'successive', ...setting(), model: engine.model.name, recipe, seed: options.seed });
line({ write: 0, general: general.length, controls: (await controls(engine)).right });
let state = emptyMemory(engine.model.fingerprint);
for (const [w, list] of facts.entries()) {
  const start = performance.now();
  let replayed = 0;
  let [last, phase] = [start, 'wordings'];
  const phases: Record<string, number> = {};
  const enter = (next: string) => {
    const now = performance.now();
    phases[phase] = Math.round((phases[phase] ?? 0) + (now - last) / 1000);
    [last, phase] = [now, next];
  };
  const { state: next, record } = await writePairs(engine, state, asPairs(list, w), recipe, {
    onEvent: (event) => {
      if (event.type === 'replay') {
        if (phase === 'wordings') replayed = event.pairs;
        enter(phase === 'wordings' ? 'keys' : 'train on');
      } else if (event.type === 'train' && phase === 'keys') enter('train');
      else if (event.type === 'quiz' && phase.startsWith('train')) enter('quiz');
    },
  });
  state = next;
  enter('questions');
  const { loss, verdict, recalled, reason, quiz = [] } = record;
  const reworded = score(quiz, 'paraphrase');
  const { right, wrong } = await controls(engine);
  line({
    ...{ write: w + 1, verdict, reason, replayed, steps: loss.length, own: recalled / list.length },
    ...{ reworded: `${reworded.right} of ${reworded.asked}` },
    ...{ first: await recall(engine, facts[0]!), controls: right, wrong },
    s: Math.round((performance.now() - start) / 1000),
    phases,
  });
  if ((w + 1) % Number(options.every) !== 0 && w < facts.length - 1) continue;
  const all = facts.slice(0, w + 1).flat();
  const { nats, kl } = await spilt();
  line({
    ...{ after: w + 1, all: rounded(await recall(engine, all)), last: await recall(engine, list) },
    allReworded: rounded(await recall(engine, all, (fact) => fact.reworded)),
    general: `${(await generalRight(engine, general)).length} of ${general.length}`,
    ...{ nats: rounded(nats), kl: rounded(kl) },
  });
}
await engine.close();
