/** `tmem doctor`: what this machine offers, what is missing and what to do. */
import { isIPv6 } from 'node:net';
import type { Command } from 'commander';
import { z } from 'zod';
import type { Footprint } from '../../engine/footprint.ts';
import { DEFAULT_MODEL } from '../../engine/models/catalogue.ts';
import { gigabytes } from '../../engine/units.ts';
import type { CliIo } from '../io.ts';

interface DoctorOptions {
  readonly model?: string;
}

/** Instruction sets that the CPU kernels choose by. */
const FEATURES = ['sse4_2', 'avx', 'f16c', 'fma', 'avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16'];
const ARM_FEATURES = ['asimd', 'asimddp', 'i8mm', 'bf16', 'sve', 'sve2'];
const OLDEST_NODE = 24;

export function register(program: Command, io: CliIo): void {
  program
    .command('doctor')
    .description('report on this machine, the libraries and the models, and what is missing')
    .option('--model <model>', 'also judge whether this model fits the memory')
    .action((options: DoctorOptions) => doctor(io, options, serveAddress(program)));
}

interface Address {
  readonly host: string;
  readonly port: number;
}

/** Where `tmem serve` listens when it is not told otherwise; undefined in a program without that command. */
const serveAddress = (program: Command): Address | undefined =>
  program.commands.find((command) => command.name() === 'serve')?.opts<Address>();

async function doctor(io: CliIo, { model }: DoctorOptions, address: Address | undefined): Promise<void> {
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
  const server = address && (await serverAt(address));
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
    ...(server ? { server } : {}),
    problems,
  };
  io.result(report, () => describe(report));
}

/** Milliseconds that a server has to answer. */
const SERVER_MS = 1500;
const healthSchema = z.object({ status: z.literal('ok'), model: z.string() });
const documentSchema = z.object({ info: z.object({ title: z.literal('tmem'), version: z.string() }) });

/** Whether a server of tmem answers there, or something else does. */
async function serverAt({ host, port }: Address) {
  // What listens everywhere is reached here.
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  const url = `http://${isIPv6(name) ? `[${name}]` : name}:${port}`;
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(url + path, { signal: AbortSignal.timeout(SERVER_MS) });
    return response.json().catch(() => null);
  };
  try {
    const [health, document] = await Promise.all([get('/health'), get('/openapi.json')]);
    const [said, described] = [healthSchema.safeParse(health), documentSchema.safeParse(document)];
    if (!said.success || !described.success) return { url, answers: 'other' as const };
    return { url, answers: 'tmem' as const, version: described.data.info.version, model: said.data.model };
  } catch {
    return { url, answers: null };
  }
}

async function cpuFeatures(): Promise<string[]> {
  const { processorFlags } = await import('../../engine/libraries.ts');
  const flags = processorFlags();
  return [...FEATURES, ...ARM_FEATURES].filter((feature) => flags.has(feature));
}

/** Whether a model fits the memory, to run and to be trained by the default recipe. */
async function memoryFit(spec: string, available: number, problems: string[]) {
  const { resolveModel } = await import('../../engine/models/store.ts');
  const { readGguf } = await import('../../engine/gguf/reader.ts');
  const { defaultContext, footprint } = await import('../../engine/footprint.ts');
  const { trainingOf } = await import('../../memory/recipe.ts');
  const { trainableArchitectures } = await import('../../engine/training/architectures/index.ts');
  const { path } = await resolveModel(spec, { offline: true });
  const gguf = readGguf(path);
  const context = defaultContext(gguf);
  const run = footprint(gguf, context);
  const judge = ({ total, ...parts }: Footprint) => ({ fits: total <= available, needed: total, ...parts });
  const architecture = String(gguf.metadata.get('general.architecture'));
  const training = trainingOf('default');
  const trained = trainableArchitectures.includes(architecture)
    ? { lastLayers: training.layers, ...judge(footprint(gguf, context, training)) }
    : null;
  if (!trained)
    problems.push(`Models of architecture ${architecture} can be run, but not trained; choose another model.`);
  if (run.total > available)
    problems.push(
      `${spec} needs about ${gigabytes(run.total)} but ${gigabytes(available)} are free; choose a smaller model.`,
    );
  else if (trained && !trained.fits)
    problems.push(
      `Training ${spec} needs about ${gigabytes(trained.needed)} but ${gigabytes(available)} are free; use fewer --layers or a smaller model.`,
    );
  return { model: spec, context, run: judge(run), training: trained };
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
  readonly server?: Awaited<ReturnType<typeof serverAt>> | undefined;
  readonly problems: readonly string[];
}

function describe({ platform, node, cpu, memory, libraries, home, models, fit, server, problems }: Report): string {
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
    [
      'BLAS',
      libraries.blas
        ? describeBlas(libraries.blas)
        : 'none used; OpenBLAS or MKL can make training faster on processors with AVX-512',
    ],
    ...libraries.gpus.map(({ name, lacks }): [string, string] => [
      'GPU',
      `${name}; TMEM_TRAIN_ON=gpu trains on it${lacks.length > 0 ? `, without ${lacks.join(', ')}, which the CPU computes` : ''}`,
    ]),
    ...(libraries.available.length > 0
      ? [['GPU', `not installed: ${libraries.available.join(', ')}`] as [string, string]]
      : []),
    ['store', home],
    ['models', models.map(({ name, bytes }) => `${name} (${gigabytes(bytes)})`).join(', ') || 'none'],
    ...(fit ? [['fit', describeFit(fit)] as [string, string]] : []),
    ...(server ? [['server', describeServer(server)] as [string, string]] : []),
  ];
  const table = lines.map(([name, text]) => `${name.padEnd(10)} ${text}`);
  return [
    ...table,
    ...(problems.length > 0 ? problems.map((problem) => `! ${problem}`) : ['Everything needed is here.']),
  ].join('\n');
}

function describeBlas({ name, library, gain, used }: NonNullable<Report['libraries']['blas']>): string {
  const verdict = used
    ? 'training uses it (TMEM_BLAS=off: not)'
    : 'not worth its memory, so that training uses it for LoRA and attention only (TMEM_BLAS=off: not at all)';
  return `${name} (${library}), ${gain.toFixed(1)} times as fast as ggml; ${verdict}`;
}

function describeServer({ url, answers, version, model }: NonNullable<Report['server']>): string {
  if (answers === null) return `none at ${url}; \`tmem serve\` starts one`;
  return answers === 'tmem' ? `tmem ${version} with ${model} at ${url}` : `something else answers at ${url}`;
}

function describeFit({ model, context, run, training }: NonNullable<Report['fit']>): string {
  const verdict = ({ fits }: { fits: boolean }) => (fits ? 'fits' : 'does not fit');
  const trained = training
    ? `; to train its last ${training.lastLayers} layers ${gigabytes(training.needed)}: ${verdict(training)}`
    : '';
  return `${model} needs about ${gigabytes(run.needed)} with ${context} tokens of context: ${verdict(run)}${trained}`;
}
