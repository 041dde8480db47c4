/**
 * Talk with a model that remembers, also in its next run: node examples/chat-with-memory.ts [SESSION]
 * `/write` writes the conversation into the weights now, `/ask QUESTION` asks them with an empty context, Ctrl-D ends.
 * The model is TMEM_MODEL, or qwen2.5-coder-1.5b.
 */
import { stdin, stdout } from 'node:process';
import { createInterface } from 'node:readline';
import { openMemory } from '../src/index.ts'; // from 'tmem' in a program of your own

const session = process.argv[2] ?? 'example-chat';
const memory = await openMemory({ session, budget: 1024 });
console.log(`${memory.engine.model.name} remembers ${memory.pairs().length} facts in session ${session}.`);

const prompt = () => stdin.isTTY && stdout.write('> ');
try {
  prompt();
  for await (const line of createInterface({ input: stdin })) {
    const text = line.trim();
    if (text === '/write') {
      const record = await memory.write();
      if (!record) console.log('Nothing was said since the last write.');
      for (const { instruction, output } of record?.pairs ?? []) console.log(`  ${instruction} -> ${output}`);
      if (record) console.log(`${record.verdict}: ${record.recalled} of ${record.pairs.length} pairs are recalled.`);
    } else if (text.startsWith('/ask ')) {
      const { answer, confidence } = await memory.ask(text.slice(5), { assess: true });
      console.log(`${answer}  (confidence ${confidence!.confidence.toFixed(2)})`);
    } else if (text !== '') {
      await memory.reply(text, { onText: (piece) => stdout.write(piece) });
      stdout.write('\n');
    }
    prompt();
  }
} finally {
  await memory.close();
}
