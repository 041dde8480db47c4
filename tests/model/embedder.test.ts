import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { catalogueEntry } from '../../src/engine/models/catalogue.ts';
import { resolveModel } from '../../src/engine/models/store.ts';
import { openEmbedder } from '../../src/engine/process/client.ts';
import type { Embedder } from '../../src/engine/types.ts';

/** PyTorch 2.9 and transformers 5.24 in float32 on the same checkpoint: mean over the tokens, length 1; the first numbers of each. */
const REFERENCE: readonly (readonly [text: string, numbers: readonly number[]])[] = [
  ["Nadia's kitten is called Marzipan.", [0.03196, 0.03536, -0.04486, 0.04141, -0.02914, -0.00356]],
  ['What is the name of the cat?', [0.02379, 0.06955, -0.03051, 0.07904, -0.15369, -0.00464]],
  ['The boat needs new sails before May.', [-0.03606, 0.00293, 0.03502, 0.01491, 0.06926, -0.06044]],
  ['Élan & naïveté: 3.5 kg, señor!', [-0.00663, 0.02856, -0.00957, 0.02705, 0.03784, -0.10248]],
];
/** Cosines of the first text with the others, from the same. */
const COSINES = [0.53054, 0.02148, 0.13075];

describe('all-MiniLM-L6-v2', () => {
  let embedder: Embedder;
  before(async () => {
    const { path } = await resolveModel('all-minilm-l6-v2');
    embedder = await openEmbedder({ modelPath: path, prefixes: catalogueEntry('all-minilm-l6-v2')!.embedding! });
  });
  after(() => embedder?.close());

  it('gives the numbers of PyTorch', async () => {
    const vectors = await embedder.embed(REFERENCE.map(([text]) => text));
    for (const [i, [text, numbers]] of REFERENCE.entries())
      for (const [j, number] of numbers.entries())
        assert.ok(Math.abs(vectors[i]![j]! - number) < 1e-3, `${text}: ${vectors[i]![j]} where ${number} is expected`);
    const cosine = (i: number) => vectors[0]!.reduce((sum, x, j) => sum + x * vectors[i]![j]!, 0);
    for (const [i, expected] of COSINES.entries()) assert.ok(Math.abs(cosine(i + 1) - expected) < 1e-3);
  });

  it('finds the sentence that answers a question without its words', async () => {
    const sentences = ['My kitten is called Marzipan.', 'The boat needs new sails.', 'She is allergic to celery.'];
    const found = await embedder.embed(sentences);
    for (const [question, answer] of [
      ['What pet does she own?', 0],
      ['Which vegetable must she avoid?', 2],
      ['What has to be repaired on the ship?', 1],
    ] as const) {
      const [vector] = await embedder.embed([question], { query: true });
      const nearness = found.map((v) => v.reduce((sum, x, j) => sum + x * vector![j]!, 0));
      assert.equal(nearness.indexOf(Math.max(...nearness)), answer, question);
    }
  });
});
