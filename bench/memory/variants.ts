/** Several ways to write the same facts, one after the other on one engine, and a table of what each keeps. */
import type { Engine } from '../../src/engine/types.ts';
import { table } from '../support/report.ts';
import { generalRight, report, spill } from './support.ts';

/** General questions that are asked. */
const GENERAL = 50;

export interface Variant {
  readonly name: string;
  /** From the base model on; what else is to be in the JSON. */
  readonly write: () => Promise<Readonly<Record<string, number>>>;
}

/**
 * Prints a table to stderr and one JSON document to stdout. The names of `--only` are separated by semicolons.
 * @param shares what is asked after a variant's writes: recall from 0 to 1, by name
 */
export async function compareVariants(
  bench: string,
  engine: Engine,
  options: { readonly only: string },
  variants: readonly Variant[],
  shares: Readonly<Record<string, () => Promise<number>>>,
): Promise<void> {
  const wanted = options.only.split(';').filter(Boolean);
  const unknown = wanted.filter((name) => !variants.some((variant) => variant.name === name));
  if (unknown.length > 0)
    throw new Error(`There is no "${unknown[0]}"; use one of: ${variants.map(({ name }) => name).join('; ')}`);
  const general = (await generalRight(engine)).slice(0, GENERAL);
  const spilt = await spill(engine);
  const results = [];
  for (const { name, write } of variants) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    await engine.setFastWeights(null);
    const start = performance.now();
    const others = await write();
    const seconds = (performance.now() - start) / 1000;
    const recalled: Record<string, number> = {};
    for (const [kind, share] of Object.entries(shares)) recalled[kind] = await share();
    const kept = (await generalRight(engine, general)).length;
    results.push({ name, ...others, seconds, recalled, general: kept, ...(await spilt()) });
    console.error(JSON.stringify(results.at(-1)));
  }
  const percent = (x: number) => `${Math.round(100 * x)} %`;
  console.error(
    table([
      ['', ...Object.keys(shares), `general of ${general.length}`, 'nats', 'KL', 's'],
      ...results.map((r) => [
        ...[r.name, ...Object.values(r.recalled).map(percent), String(r.general)],
        ...[r.nats.toFixed(3), r.kl.toFixed(3), r.seconds.toFixed(0)],
      ]),
    ]),
  );
  report(bench, engine, options, { general: general.length, results });
}
