/** The geometry of the loss curve: a path in a box whose corner (0, 0) is at the top left. */

export interface Curve {
  /** SVG path through the finite points; a gap where the loss was not finite. */
  readonly path: string;
  /** The last finite point. */
  readonly end: readonly [x: number, y: number] | null;
}

/**
 * @param loss before each step
 * @param steps that there will be at most; the curve reaches the right side when they are done
 */
export function lossCurve(
  loss: readonly (number | null)[],
  steps: number,
  { width, height }: { readonly width: number; readonly height: number },
): Curve {
  const finite = loss.filter((value): value is number => Number.isFinite(value));
  const top = Math.max(...finite, Number.MIN_VALUE);
  const last = Math.max(steps, loss.length) - 1;
  const round = (value: number) => Math.round(value * 10) / 10;
  let path = '';
  let end: Curve['end'] = null;
  let pen = 'M';
  for (const [i, value] of loss.entries()) {
    if (!Number.isFinite(value)) {
      pen = 'M';
      continue;
    }
    const x = round(last > 0 ? (i / last) * width : 0);
    const y = round(height * (1 - Math.max(0, value!) / top));
    path += `${pen}${x} ${y}`;
    end = [x, y];
    pen = 'L';
  }
  return { path, end };
}
