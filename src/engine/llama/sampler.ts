import { TmemError } from '../errors.ts';
import { schemaToGrammar } from '../grammar.ts';
import { allocate, type Native, type Raw, release, type Sampler, type Vocab, view } from '../native/library.ts';
import { logSumExp, mostLikely } from '../training/head.ts';
import type { ChosenToken, JsonSchema, SamplingOptions, Token } from '../types.ts';

/** llama_token_data: id, logit, p. */
const CANDIDATE_BYTES = 12;
/** llama_token_data_array: data, size, selected, sorted. */
const ARRAY_BYTES = 32;
/** llama.cpp's own defaults for DRY. */
const DRY_BREAKERS = ['\n', ':', '"', '*'];

/** Candidate array over the vocabulary, shared by all samplers of a context (they run one after the other). */
export class Candidates {
  readonly array: Raw;
  #data: Raw;
  #ids: Int32Array;
  #logits: Float32Array;
  #header: DataView;
  #single: { data: Raw; ids: Int32Array; logits: Float32Array; array: Raw; header: DataView };
  #size: number;

  constructor(vocabularySize: number) {
    this.#size = vocabularySize;
    this.#data = allocate(vocabularySize * CANDIDATE_BYTES);
    const buffer = view(this.#data, vocabularySize * CANDIDATE_BYTES);
    this.#ids = new Int32Array(buffer);
    this.#logits = new Float32Array(buffer);
    this.array = allocate(ARRAY_BYTES);
    this.#header = new DataView(view(this.array, ARRAY_BYTES));
    const data = allocate(CANDIDATE_BYTES);
    const array = allocate(ARRAY_BYTES);
    this.#single = {
      data,
      ids: new Int32Array(view(data, CANDIDATE_BYTES)),
      logits: new Float32Array(view(data, CANDIDATE_BYTES)),
      array,
      header: new DataView(view(array, ARRAY_BYTES)),
    };
  }

  /** Fills the array with all tokens and their logits [V]. */
  fill(logits: Float32Array): void {
    for (let i = 0, at = 0; i < this.#size; i++, at += 3) {
      this.#ids[at] = i;
      this.#logits[at + 1] = logits[i]!;
      this.#logits[at + 2] = 0;
    }
    writeHeader(this.#header, this.#data, this.#size);
  }

  /** The token that the last applied sampler chose. */
  selected(): { token: Token; possible: boolean } {
    const index = Number(this.#header.getBigInt64(16, true));
    const at = (index < 0 ? 0 : index) * 3;
    return { token: this.#ids[at] as Token, possible: index >= 0 && this.#logits[at + 1]! > Number.NEGATIVE_INFINITY };
  }

  /** An array of one token; a grammar that forbids it sets its logit to -inf. */
  one(token: Token): { array: Raw; allowed: () => boolean } {
    const s = this.#single;
    s.ids[0] = token;
    s.logits[1] = 1;
    s.logits[2] = 0;
    writeHeader(s.header, s.data, 1);
    return { array: s.array, allowed: () => s.logits[1]! > Number.NEGATIVE_INFINITY };
  }

  free(): void {
    for (const pointer of [this.#data, this.array, this.#single.data, this.#single.array]) release(pointer);
  }
}

function writeHeader(header: DataView, data: Raw, size: number): void {
  header.setBigUint64(0, data, true);
  header.setBigUint64(8, BigInt(size), true);
  header.setBigInt64(16, -1n, true);
  header.setUint8(24, 0);
}

function inRange(name: string, value: number | undefined, low: number, high: number): void {
  if (value !== undefined && !(value >= low && value <= high)) {
    throw new TmemError('usage', `${name} must be a number from ${low} to ${high}, not ${value}.`);
  }
}

/** @throws TmemError `usage` for an option that llama.cpp could not take. */
export function checkSampling(options: SamplingOptions): void {
  inRange('temperature', options.temperature, 0, 100);
  inRange('topK', options.topK, 0, 1_000_000);
  inRange('topP', options.topP, 0, 1);
  inRange('minP', options.minP, 0, 1);
  inRange('seed', options.seed, 0, 0xffffffff);
  inRange('dry.multiplier', options.dry?.multiplier, 0, 100);
  inRange('dry.base', options.dry?.base, 1, 100);
  inRange('dry.allowedLength', options.dry?.allowedLength, 0, 100_000);
  inRange('dry.lastTokens', options.dry?.lastTokens, -1, 1_000_000);
}

/** How one generation picks its tokens: DRY, top-k, top-p, min-p, temperature, seed, and a grammar that has the last word. */
export class TokenSampler {
  #f: Native;
  #candidates: Candidates;
  #chain: Sampler;
  #grammar: Sampler | undefined;
  #greedy: boolean;

  constructor(
    native: Native,
    vocab: Vocab,
    candidates: Candidates,
    options: SamplingOptions & { schema?: JsonSchema | undefined },
  ) {
    checkSampling(options);
    this.#f = native;
    this.#candidates = candidates;
    const { temperature = 0, topK = 0, topP = 1, minP = 0, dry, seed = 0, schema } = options;
    if (schema) {
      const grammar = native.samplerGrammar(vocab, schemaToGrammar(schema), 'root');
      if (!grammar) throw new TmemError('usage', 'The JSON schema could not be turned into a grammar; simplify it.');
      this.#grammar = grammar;
    }
    this.#chain = native.chainInit({ no_perf: true });
    const add = (sampler: Sampler) => native.chainAdd(this.#chain, sampler);
    if (dry && dry.multiplier > 0) {
      add(
        native.samplerDry(
          vocab,
          dry.multiplier,
          dry.base ?? 1.75,
          dry.allowedLength ?? 2,
          dry.lastTokens ?? 1024,
          DRY_BREAKERS,
          DRY_BREAKERS.length,
        ),
      );
    }
    if (temperature > 0) {
      if (topK > 0) add(native.samplerTopK(topK));
      if (topP < 1) add(native.samplerTopP(topP, 1));
      if (minP > 0) add(native.samplerMinP(minP, 1));
      add(native.samplerTemperature(temperature));
      add(native.samplerDist(seed));
    } else {
      add(native.samplerGreedy());
    }
    this.#greedy = temperature === 0 && !dry;
  }

  /** The next token for logits [V]; the sampler's state moves on. */
  next(logits: Float32Array): Token {
    const f = this.#f;
    let token: Token;
    if (this.#greedy) {
      token = argmax(logits);
    } else {
      this.#candidates.fill(logits);
      f.samplerApply(this.#chain, this.#candidates.array);
      token = this.#candidates.selected().token;
    }
    if (this.#grammar) {
      // Usually the free choice already fits; testing one token is far cheaper than the whole vocabulary.
      const one = this.#candidates.one(token);
      f.samplerApply(this.#grammar, one.array);
      if (!one.allowed()) {
        this.#candidates.fill(logits);
        f.samplerApply(this.#grammar, this.#candidates.array);
        f.samplerApply(this.#chain, this.#candidates.array);
        const selected = this.#candidates.selected();
        if (!selected.possible)
          throw new TmemError('failed', 'No token fits the JSON schema any more; loosen the schema.');
        token = selected.token;
      }
      f.samplerAccept(this.#grammar, token);
    }
    f.samplerAccept(this.#chain, token);
    return token;
  }

  /** Lets repetition control see the prompt. */
  observe(tokens: readonly Token[]): void {
    for (const token of tokens) this.#f.samplerAccept(this.#chain, token);
  }

  free(): void {
    this.#f.samplerFree(this.#chain);
    if (this.#grammar) this.#f.samplerFree(this.#grammar);
  }
}

export function argmax(logits: Float32Array): Token {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best as Token;
}

/** A token that was chosen, with the `top` most probable ones in its place. @param logits [V] */
export function chosenToken(
  llama: { piece(token: Token): Uint8Array },
  token: Token,
  logits: Float32Array,
  top: number,
): ChosenToken {
  const whole = logSumExp(logits);
  const one = (token: Token) => ({ token, bytes: llama.piece(token), logProb: logits[token]! - whole });
  const likely = top > 0 ? Array.from(mostLikely(logits, top, whole).tokens) : [];
  const ranked = likely.sort((a, b) => logits[b]! - logits[a]!).slice(0, top);
  return { ...one(token), top: ranked.map((token) => one(token as Token)) };
}
