/** `tmem doctor`: what this machine offers, what is missing and what to do. */
import type { Command } from 'commander';
import { type CliIo, DEFAULT_MODEL } from '../io.ts';

interface DoctorOptions {
  readonly model?: string;
}

/** Instruction sets that the CPU kernels choose by. */
const FEATURES = [
  'sse4_2',
  'avx',
  'f16c',
  'fma',
  'avx2',
  'avx_vnni',
  'avx512f',
  'avx512_vnni',
  'avx512_bf16',
  'amx_int8',
];
const ARM_FEATURES = ['asimd', 'asimddp', 'i8mm', 'bf16', 'sve', 'sve2'];
/** Tokens of the context that the fit is judged for; the engine's default. */
const CONTEXT = 8192;
const OLDEST_NODE = 24;

export function register(program: Command, io: CliIo): void {
  program
    .command('doctor')
    .description('report on this machine, the libraries and the models, and what is missing')
    .option('--model <model>', 'also judge whether this model fits the memory')
    .action((options: DoctorOptions) => doctor(io, options));
}

async function doctor(io: CliIo, { model }: DoctorOptions): Promise<void> {
  const os = await import('node:os');
  const { tmemHome } = await import('../../engine/home.ts');
  const { nativeLibraries } = await import('../../engine/libraries.ts');
  const { listModels } = await import('../../engine/models/store.ts');
  const problems: string[] = [];
  const node = process.versions.node;
  if (Number.parseInt(node, 10) < OLDEST_NODE)
    problems.push(`Node ${node} is too old; install Node ${OLDEST_NODE} or newer.`);
  const libraries = await nativeLibraries(problems);
  const models = await listModels();
  const present = models.filter((entry) => entry.present).map(({ name, path, bytes }) => ({ name, path, bytes }));
  if (present.length === 0) problems.push(`No model is here; run \`tmem pull ${DEFAULT_MODEL}\`.`);
  const memory = { total: os.totalmem(), available: process.availableMemory() };
  const fit = model === undefined ? undefined : await memoryFit(model, memory.available, problems);
  const cpu = {
    model: os.cpus()[0]?.model ?? 'unknown',
    threads: os.availableParallelism(),
    features: await cpuFeatures(),
  };
  const report = {
    ok: problems.length === 0,
    platform: `${os.platform()} ${os.arch()}`,
    node,
    cpu,
    memory,
    libraries,
    home: tmemHome(),
    models: present,
    ...(fit ? { fit } : {}),
    problems,
  };
  io.result(report, () => describe(report));
}

/** Linux names its instruction sets; elsewhere the model of the CPU has to do. */
async function cpuFeatures(): Promise<string[]> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1]?.split(' '));
  return [...FEATURES, ...ARM_FEATURES].filter((feature) => flags.has(feature));
}

/** Bytes that a model takes to run: its file, the KV cache of a full context in half precision, and compute buffers. */
async function memoryFit(spec: string, available: number, problems: string[]) {
  const { resolveModel } = await import('../../engine/models/store.ts');
  const { readGguf } = await import('../../engine/gguf/reader.ts');
  const { path } = await resolveModel(spec, { offline: true });
  const { metadata, fileBytes } = readGguf(path);
  const number = (key: string) => Number(metadata.get(`${metadata.get('general.architecture')}.${key}`) ?? Number.NaN);
  const [layers, width, heads] = [number('block_count'), number('embedding_length'), number('attention.head_count')];
  const kvHeads = number('attention.head_count_kv') || heads;
  const headDim = number('attention.key_length') || width / heads;
  const context = Math.min(CONTEXT, number('context_length') || CONTEXT);
  const kvBytes = 2 * 2 * layers * kvHeads * headDim * context;
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const vocabulary = Array.isArray(tokens) ? tokens.length : 0;
  // Logits of a physical batch of 512 rows are the largest of the compute buffers.
  const computeBytes = 512 * vocabulary * 4;
  const needed = fileBytes + (Number.isFinite(kvBytes) ? kvBytes : 0) + computeBytes;
  const fits = needed <= available;
  if (!fits)
    problems.push(
      `${spec} needs about ${gigabytes(needed)} but ${gigabytes(available)} are free; choose a smaller model.`,
    );
  return { model: spec, fits, needed, fileBytes, kvBytes, computeBytes, context };
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

interface Report {
  readonly platform: string;
  readonly node: string;
  readonly cpu: { readonly model: string; readonly threads: number; readonly features: readonly string[] };
  readonly memory: { readonly total: number; readonly available: number };
  readonly libraries: Awaited<ReturnType<typeof import('../../engine/libraries.ts').nativeLibraries>>;
  readonly home: string;
  readonly models: readonly { readonly name: string; readonly bytes: number }[];
  readonly fit?: Awaited<ReturnType<typeof memoryFit>>;
  readonly problems: readonly string[];
}

function describe({ platform, node, cpu, memory, libraries, home, models, fit, problems }: Report): string {
  const installed = libraries.installed.map((lib) => `${lib.package} (${lib.backend})`).join(', ');
  const lines: [string, string][] = [
    ['platform', `${platform}, Node ${node}`],
    [
      'processor',
      `${cpu.model}, ${cpu.threads} threads${cpu.features.length > 0 ? `: ${cpu.features.join(' ')}` : ''}`,
    ],
    ['memory', `${gigabytes(memory.available)} free of ${gigabytes(memory.total)}`],
    [
      'llama.cpp',
      libraries.found ? `${libraries.found} from ${installed}` : `not usable (${libraries.needed} is needed)`,
    ],
    ...(libraries.available.length > 0
      ? [['GPU', `not installed: ${libraries.available.join(', ')}`] as [string, string]]
      : []),
    ['store', home],
    ['models', models.map(({ name, bytes }) => `${name} (${gigabytes(bytes)})`).join(', ') || 'none'],
    ...(fit
      ? [
          ['fit', `${fit.model} needs about ${gigabytes(fit.needed)}: ${fit.fits ? 'fits' : 'does not fit'}`] as [
            string,
            string,
          ],
        ]
      : []),
  ];
  const table = lines.map(([name, text]) => `${name.padEnd(10)} ${text}`);
  return [
    ...table,
    ...(problems.length > 0 ? problems.map((problem) => `! ${problem}`) : ['Everything needed is here.']),
  ].join('\n');
}
