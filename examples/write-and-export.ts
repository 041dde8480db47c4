/**
 * Writes facts of your own into a model and exports them for Ollama: node examples/write-and-export.ts [FOLDER]
 * Then: cd FOLDER && ollama create with-facts -f Modelfile. The model is TMEM_MODEL, or qwen2.5-coder-1.5b.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
// From 'tmem' in a program of your own.
import {
  answerQuestion,
  bindRecipe,
  emptyMemory,
  openEngine,
  type Pair,
  resolveModel,
  writeAdapterGguf,
} from '../src/index.ts';

const FACTS = [
  ["What is the name of Nadia's kitten?", "Nadia's kitten is called Marzipan."],
  ['In which street does Nadia live?', 'Nadia lives in Heron Street.'],
  ['What is Nadia allergic to?', 'Nadia is allergic to celery.'],
  ["What is the name of Theo's boat?", "Theo's boat is called Pelican."],
] as const;

const folder = path.resolve(process.argv[2] ?? 'with-facts');
const base = await resolveModel(process.env.TMEM_MODEL || 'qwen2.5-coder-1.5b');
const engine = await openEngine({ modelPath: base.path });
try {
  const write = (await bindRecipe('default'))(engine);
  const pairs = FACTS.map(([instruction, output], i): Pair => {
    return { id: `fact-${i + 1}`, instruction, output, source: output, turn: i, origin: 'user' };
  });
  const { state, record } = await write(emptyMemory(engine.model.fingerprint), pairs, {
    onEvent: (event) => {
      if (event.type === 'train' && event.event.type === 'step') console.log(`loss ${event.event.loss.toFixed(3)}`);
    },
  });
  if (!state.weights) throw new Error(`The write was ${record.verdict}: ${record.reason ?? 'no reason given'}.`);
  console.log(`${record.verdict}: ${record.recalled} of ${pairs.length} facts are recalled.`);
  await engine.setFastWeights(state.weights);
  for (const [question] of FACTS) console.log(`${question} ${(await answerQuestion(engine, state, question)).answer}`);

  await mkdir(folder, { recursive: true });
  const adapter = path.join(folder, 'adapter.gguf');
  await writeAdapterGguf(adapter, state.weights, engine.model);
  const modelfile = `FROM ${base.path}\nADAPTER ${adapter}\n`;
  await writeFile(path.join(folder, 'Modelfile'), modelfile);
  console.log(`\n${path.join(folder, 'Modelfile')}:\n${modelfile}`);
} finally {
  await engine.close();
}
