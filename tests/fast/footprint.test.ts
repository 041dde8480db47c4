/** What a model is said to take of the memory. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkFootprint, defaultContext, footprint } from '../../src/engine/footprint.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import { openTraining, rewriteGguf, scratchFile, tinyModel } from '../support/engine-fixture.ts';

const model = { architecture: 'llama', width: 256, feedForward: 512, layers: 4, type: 'Q8_0' } as const;
const gguf = async () => readGguf(await tinyModel(model));

describe('the footprint', () => {
  it('counts the cache of a full context', async () => {
    const file = await gguf();
    const cache = (tokens: number) => footprint(file, tokens).cache;
    // Keys and values of 4 layers and 2 heads of 64 channels, in half precision.
    assert.equal(cache(1000) - cache(0), 1000 * 4 * 2 * 2 * 64 * 2);
  });

  it('grows with what is trained', async () => {
    const file = await gguf();
    const total = (training?: Parameters<typeof footprint>[2]) => footprint(file, 512, training).total;
    const growing = [
      total(),
      total({ layers: 1, likelyTokens: true }),
      total({ layers: 1 }),
      total({ layers: 1, attention: true }),
      total({ layers: 4 }),
      total({ layers: 4, keys: true }),
    ];
    assert.deepEqual(
      growing,
      growing.toSorted((a, b) => a - b),
    );
    assert.equal(new Set(growing).size, growing.length);
  });

  it('holds the bytes of the trained layers and their copies', async () => {
    for (const attention of [false, true]) {
      const { top } = await openTraining(model, { layers: 2, attention, backward: 'Q8_0' });
      const { layers } = footprint(await gguf(), 512, { layers: 2, attention, likelyTokens: true });
      // The first layer's products without a gradient to their input have no copy.
      assert.ok(top.bytes < layers && top.bytes > 0.8 * layers, `${top.bytes} of ${layers}`);
    }
  });

  it('is that of the context that an engine opens with', async () => {
    const file = await tinyModel(model);
    assert.equal(defaultContext(readGguf(file)), 512);
    const long = await rewriteGguf(await tinyModel({ architecture: 'llama' }), scratchFile('long.gguf'), {
      metadata: { 'llama.context_length': { type: 'u32', value: 1 << 17 } },
    });
    assert.equal(defaultContext(readGguf(long)), 8192);
  });
});

describe('a model that does not fit', () => {
  const settings = { layers: 4, keys: true };

  it('is refused with the estimate and what would fit', async () => {
    const file = await gguf();
    const needed = (layers: number) => footprint(file, 512, { ...settings, layers }).total;
    checkFootprint(file, 512, settings, needed(4));
    assert.throws(() => checkFootprint(file, 512, settings, needed(4) - 1), {
      code: 'missing',
      message: /^Training the last 4 layers takes about 0\.\d GB .* use --layers 3 \(0\.\d GB\)/,
    });
    assert.throws(() => checkFootprint(file, 512, settings, needed(2)), { message: /--layers 2/ });
    assert.throws(() => checkFootprint(file, 512, { layers: 5 }, needed(4)), { code: 'usage', message: /from 1 to 4/ });
    assert.throws(() => checkFootprint(file, 512, settings, 1000), {
      message: /use a smaller model or a shorter context/,
    });
  });
});
