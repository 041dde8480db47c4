/**
 * An agent that looks something up with a tool and then knows it without: node examples/agent-with-tool.ts
 * The model is TMEM_MODEL, or qwen2.5-coder-1.5b.
 */
import { z } from 'zod';
import { defineTool, openMemory } from '../src/index.ts'; // from 'tmem' in a program of your own

const SHELVES: Readonly<Record<string, string>> = { lamps: 'aisle 14', paint: 'aisle 3', bolts: 'aisle 22' };

const findShelf = defineTool({
  name: 'find_shelf',
  description: 'Tells in which aisle of the shop a product is. Products: lamps, paint, bolts.',
  parameters: z.object({ product: z.string() }),
  run: ({ product }) => {
    const aisle = SHELVES[product.toLowerCase()];
    if (!aisle) throw new Error(`there is no product ${product}`);
    return `The shelf of the ${product} is in ${aisle}.`;
  },
});

const memory = await openMemory({
  budget: 1024,
  turn: { tools: [findShelf], steps: 3 },
  // What tools say is not trained on unless it is trusted.
  extract: { rules: { trusted: ['user', 'assistant', 'tool'] } },
  trace: (event) => {
    if (event.type === 'tool') console.log(`  [${event.name} ${JSON.stringify(event.arguments)}] ${event.result}`);
  },
});
try {
  for (const product of ['lamps', 'bolts']) {
    const question = `Where is the shelf of the ${product}? Use the tool find_shelf.`;
    console.log(`User: ${question}`);
    console.log(`Agent: ${await memory.reply(question)}`);
  }
  const record = await memory.write();
  if (record) console.log(`Write ${record.verdict}: ${record.pairs.length} pairs. ${record.reason ?? ''}`);

  // The context is empty now, and there is no tool: the weights answer.
  const question = 'Where is the shelf of the lamps?';
  console.log(`User: ${question}\nWeights: ${(await memory.ask(question, { useExplicit: false })).answer}`);
} finally {
  await memory.close();
}
