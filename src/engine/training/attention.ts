/**
 * Attention of packed samples block by block: a run of queries sees the tokens that all samples share and a run of tokens of its own, so the
 * scores are far fewer than all queries times all tokens.
 */
import { type GgmlContext, type Native, sizesOf, type Tensor, TYPE } from '../native/library.ts';

/** C channels of a head, H heads, G key-value heads, Q query rows, T tokens; scores are multiplied with `scale`, by default 1 / sqrt(C). */
export interface AttentionSize {
  readonly C: number;
  readonly H: number;
  readonly G: number;
  readonly Q: number;
  readonly T: number;
  readonly scale?: number | undefined;
}

export interface Run {
  readonly from: number;
  readonly n: number;
}

/** Queries that follow one another, and the tokens that they may see: the first `shared` ones, then those of `keys`. */
export interface AttentionBlock {
  readonly queries: Run;
  readonly shared: number;
  readonly keys: Run;
  /** [shared + keys, queries]: 0 or -inf. */
  readonly mask: Tensor;
}

/** What one block's attention needs when it is differentiated. */
interface Attended {
  /** [C * H, n] */
  readonly out: Tensor;
  /** From the gradient of `out`: [C, H, n], [C, G, keys], [C, G, keys]. */
  readonly back: (d: Tensor) => { q: () => Tensor; k: () => Tensor; v: () => Tensor };
}

/** One block's queries on its keys. The heads that share one key-value head lie next to each other, as ggml's broadcasting mul_mat expects. */
function attend(
  f: Native,
  c: GgmlContext,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  mask: Tensor,
  size: AttentionSize,
): Attended {
  const { C, H, G, Q, T, scale = 1 / Math.sqrt(C) } = size;
  const byHead = (x: Tensor) => f.permute(c, x, 0, 2, 1, 3); // [C, n, heads] <-> [C, heads, n]
  const channelsLast = (x: Tensor) => f.cont(c, f.permute(c, x, 1, 2, 0, 3)); // [C, heads, n] -> [n, C, heads]
  const scores = f.mulMat(c, byHead(k), byHead(q)); // [T, Q, H]
  const p = f.softMaxExt(c, scores, mask, scale, 0);
  const mixed = f.mulMat(c, channelsLast(v), p); // [C, Q, H]
  const sumGroups = (x: Tensor) => {
    if (H === G) return x; // [C, T, H] -> [C, T, G]
    const grouped = f.reshape3(c, x, C * T, H / G, G);
    return f.reshape3(c, f.repeatBack(c, grouped, f.new3(c, TYPE.F32, C * T, 1, G)), C, T, G);
  };
  return {
    out: f.cont2(c, byHead(mixed), C * H, Q),
    back: (d) => {
      const dOut = f.cont(c, byHead(f.reshape3(c, d, C, H, Q))); // [C, Q, H]
      const dP = f.mulMat(c, f.cont(c, byHead(v)), dOut); // [T, Q, H]
      const dScores = f.softMaxExtBack(c, dP, p, scale, 0);
      return {
        q: () => f.cont(c, byHead(f.mulMat(c, channelsLast(k), dScores))),
        k: () => {
          const dK = f.mulMat(c, channelsLast(q), f.cont(c, f.transpose(c, dScores))); // [C, T, H]
          return f.cont(c, byHead(sumGroups(dK)));
        },
        v: () => {
          const dOutT = f.cont(c, f.transpose(c, dOut)); // [Q, C, H]
          const dV = f.mulMat(c, dOutT, f.cont(c, f.transpose(c, p))); // [C, T, H]
          return f.cont(c, byHead(sumGroups(dV)));
        },
      };
    },
  };
}

/** The same of all blocks, whose queries are those of q [C, H, Q] in order; k and v [C, G, T]. The gradients are of those shapes, too. */
export function blockAttention(
  f: Native,
  c: GgmlContext,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  blocks: readonly AttentionBlock[],
  size: AttentionSize,
): Attended {
  const { C, H, G, T } = size;
  /** Along the last dimension of [C, heads, n] or [rows, n], in halves: so everything is copied the fewest times. */
  const join = (parts: readonly Tensor[], dimension: number): Tensor => {
    if (parts.length === 1) return parts[0]!;
    const half = Math.ceil(parts.length / 2);
    return f.concat(c, join(parts.slice(0, half), dimension), join(parts.slice(half), dimension), dimension);
  };
  const run = (x: Tensor, heads: number, { from, n }: Run) => {
    const row = f.rowSize(TYPE.F32, C * heads);
    return f.reshape3(c, f.view2(c, flat(x, heads), C * heads, n, row, from * row), C, heads, n);
  };
  const flat = (x: Tensor, heads: number) => f.reshape2(c, x, C * heads, f.elements(x) / (C * heads));
  const seen = (x: Tensor, { shared, keys }: AttentionBlock) => {
    const own = run(x, G, keys);
    return shared === 0 ? own : f.concat(c, run(x, G, { from: 0, n: shared }), own, 2);
  };
  const parts = blocks.map((block) => {
    const { queries, shared, keys, mask } = block;
    const own = { ...size, Q: queries.n, T: shared + keys.n };
    return attend(f, c, run(q, H, queries), seen(k, block), seen(v, block), mask, own);
  });
  /** Sum over the blocks of what each sends to its keys, at their places. */
  const toKeys = (sent: readonly Tensor[]): Tensor => {
    const placed = (x: Tensor, part: Run, at: number) => {
      const own = f.reshape2(c, run(x, G, part), C * G, part.n);
      return f.pad(c, own, 0, 0, at, T - at - part.n, 0, 0, 0, 0);
    };
    const terms = sent.flatMap((x, i) => {
      const { shared, keys } = blocks[i]!;
      const own = placed(x, { from: shared, n: keys.n }, keys.from);
      return shared === 0 ? [own] : [own, placed(x, { from: 0, n: shared }, 0)];
    });
    return f.reshape3(
      c,
      terms.reduce((sum, term) => f.add(c, sum, term)),
      C,
      G,
      T,
    );
  };
  return {
    out: join(
      parts.map(({ out }) => out),
      1,
    ),
    back: (d) => {
      const [rows] = sizesOf(d);
      const rowBytes = f.rowSize(TYPE.F32, rows);
      const sent = parts.map(({ back }, i) => {
        const { from, n } = blocks[i]!.queries;
        return back(f.view2(c, d, rows, n, rowBytes, from * rowBytes));
      });
      return {
        q: () =>
          join(
            sent.map((s) => s.q()),
            2,
          ),
        k: () => toKeys(sent.map((s) => s.k())),
        v: () => toKeys(sent.map((s) => s.v())),
      };
    },
  };
}

/** Of a packed batch: where each token's own sample begins, behind the `shared` tokens at the start; position and token of a sample rise together. */
export interface PackedTokens {
  readonly T: number;
  readonly shared: number;
  /** 0 for the shared tokens. */
  readonly starts: Int32Array;
}

/** A block before its mask is in native memory. */
export interface PlannedBlock extends Omit<AttentionBlock, 'mask'> {
  /** Token of each column of the mask; -1 where nothing is to be seen. */
  readonly columns: Int32Array;
}

/** ggml's blocked F32 kernels, which sums over tokens go through in attention and in the gradient of B, want a multiple of this. */
export const TOKENS_UNIT = 16;
/** Tokens that a block's queries reach over, unless so few queries already do. */
const REACH = 160;

/**
 * From this place in a sample on, a block takes an eighth as many queries as there are tokens before them: a graph holds so many nodes only,
 * and each block has nearly a hundred, while the scores that are computed in vain stay few.
 */
const FAR = 512;

/** Queries of a block that begins at this place in its sample, at least. */
const queriesAt = (place: number) => (place < FAR ? TOKENS_UNIT : Math.floor(place / 8 / TOKENS_UNIT) * TOKENS_UNIT);

/** Divides queries, the tokens of which are given in order, into blocks. */
export function planBlocks(queries: readonly number[], { T, shared, starts }: PackedTokens): PlannedBlock[] {
  const blocks: PlannedBlock[] = [];
  for (let from = 0; from < queries.length; ) {
    const first = starts[queries[from]!]!;
    let n = queriesAt(queries[from]! - first + (first < shared ? 0 : shared));
    while (from + n < queries.length && queries[Math.min(from + n + TOKENS_UNIT, queries.length) - 1]! - first < REACH)
      n += TOKENS_UNIT;
    n = Math.min(n, queries.length - from);
    blocks.push(blockOf({ from, n }, first, queries[from + n - 1]!));
    from += n;
  }
  return blocks;

  function blockOf(run: Run, first: number, last: number): PlannedBlock {
    // Shared tokens among the queries see only such: what is shared is then what their run begins with.
    const seen = first < shared ? 0 : shared;
    const begin = first < shared ? 0 : first;
    const whole = Math.ceil((seen + last + 1 - begin) / TOKENS_UNIT) * TOKENS_UNIT - seen;
    const n = whole <= T ? whole : last + 1 - begin;
    const keys = { from: Math.min(begin, T - n), n };
    const columns = Int32Array.from({ length: seen + n }, (_, j) => {
      if (j < seen) return j;
      const token = keys.from + j - seen;
      return token < begin ? -1 : token;
    });
    return { queries: run, shared: seen, keys, columns };
  }
}

/** Whether a query's token sees another one, as far as samples go; -1 is seen by none. */
export function sees(token: number, other: number, { shared, starts }: PackedTokens): boolean {
  return other >= 0 && other <= token && (other < shared || other >= starts[token]!);
}
