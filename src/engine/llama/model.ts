import { statSync } from 'node:fs';
import path from 'node:path';
import { TmemError } from '../errors.ts';
import { type GgufFile, readGguf } from '../gguf/reader.ts';
import { loadNative, type Model, type Native, POOLING, type Vocab } from '../native/library.ts';
import { ChatTemplate } from '../template.ts';
import type { ModelInfo, Token } from '../types.ts';

/** A model's weights and vocabulary in this process. */
export class LlamaModel {
  readonly native: Native;
  readonly handle: Model;
  readonly vocab: Vocab;
  readonly template: ChatTemplate;
  readonly info: Omit<ModelInfo, 'contextSize'>;
  readonly vocabularySize: number;
  /** How the states of a text become its embedding (`POOLING`); of a model that talks, not at all. */
  readonly pooling: number;
  /** Shapes of the model's tensors in ggml order, by name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  #addBos: boolean;
  #bos: number;
  #tokenBuffer = new Int32Array(1 << 14);
  #pieceBuffer = new Uint8Array(1 << 10);

  /** @throws TmemError `missing` when the file is damaged or llama.cpp does not know its architecture. */
  constructor(modelPath: string) {
    // Our own reader refuses malformed files first: llama.cpp may end the process on them.
    const gguf = readGguf(modelPath);
    this.shapes = new Map(gguf.tensors.map((t) => [t.name, t.shape]));
    const architecture = gguf.metadata.get('general.architecture');
    this.pooling = Number(gguf.metadata.get(`${architecture}.pooling_type`) ?? POOLING.NONE);
    const f = loadNative();
    this.native = f;
    const handle = f.modelLoad(modelPath, f.modelDefaultParams());
    if (!handle) {
      throw new TmemError(
        'missing',
        `llama.cpp cannot load ${path.basename(modelPath)} (architecture ${architecture}); use another model or pull it again.`,
      );
    }
    this.handle = handle;
    this.vocab = f.modelVocab(handle);
    this.vocabularySize = f.vocabSize(this.vocab);
    this.#addBos = f.vocabAddBos(this.vocab);
    this.#bos = f.vocabBos(this.vocab);
    this.template = ChatTemplate.fromMetadata(gguf.metadata);
    this.info = describe(modelPath, gguf, f, handle);
  }

  free(): void {
    this.native.modelFree(this.handle);
  }

  /** @param options.bos put the BOS token first where the model wants one. */
  tokenize(text: string, options: { plain?: boolean; bos?: boolean } = {}): Token[] {
    const f = this.native;
    const bytes = new TextEncoder().encode(text);
    const fill = (into: Int32Array) =>
      f.tokenize(this.vocab, bytes, bytes.length, into, into.length, false, !options.plain);
    let n = fill(this.#tokenBuffer);
    if (n < 0) {
      this.#tokenBuffer = new Int32Array(-n);
      n = fill(this.#tokenBuffer);
    }
    const tokens = Array.from(this.#tokenBuffer.subarray(0, n)) as Token[];
    if (options.bos && this.#addBos && tokens[0] !== this.#bos) tokens.unshift(this.#bos as Token);
    return tokens;
  }

  /** The bytes of a token; a character may be spread over several tokens. Control tokens have none unless `special`. */
  piece(token: Token, special = false): Uint8Array {
    const f = this.native;
    let n = f.tokenToPiece(this.vocab, token, this.#pieceBuffer, this.#pieceBuffer.length, 0, special);
    if (n < 0) {
      this.#pieceBuffer = new Uint8Array(-n);
      n = f.tokenToPiece(this.vocab, token, this.#pieceBuffer, this.#pieceBuffer.length, 0, special);
    }
    return this.#pieceBuffer.slice(0, n);
  }

  /** @throws TmemError `usage` for a token outside of the vocabulary. */
  detokenize(tokens: readonly Token[]): string {
    const decoder = new TextDecoder();
    let text = '';
    for (const token of tokens) {
      if (!Number.isInteger(token) || token < 0 || token >= this.vocabularySize) {
        throw new TmemError('usage', `Token ${token} is not in the vocabulary of ${this.vocabularySize} tokens.`);
      }
      text += decoder.decode(this.piece(token, true), { stream: true });
    }
    return text + decoder.decode();
  }
}

function describe(modelPath: string, gguf: GgufFile, f: Native, handle: Model): Omit<ModelInfo, 'contextSize'> {
  const architecture = String(gguf.metadata.get('general.architecture'));
  const size = (name: string) => Number(gguf.metadata.get(`${architecture}.${name}`) ?? 0);
  const gpu = Array.from({ length: Number(f.deviceCount()) }, (_, i) => f.deviceDescription(f.deviceAt(i)));
  return {
    path: path.resolve(modelPath),
    fingerprint: gguf.fingerprint,
    name: String(gguf.metadata.get('general.name') ?? path.basename(modelPath, '.gguf')),
    architecture,
    layers: size('block_count'),
    width: size('embedding_length'),
    feedForward: size('feed_forward_length'),
    vocabulary: f.vocabSize(f.modelVocab(handle)),
    contextTrain: f.modelContextTrain(handle),
    bytes: statSync(modelPath).size,
    device: gpu.join(', '),
  };
}
