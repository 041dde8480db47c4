/**
 * The native surface: every C function that tmem calls, typed. The only file that knows C signatures.
 * Declarations follow llama.h, ggml.h, ggml-alloc.h and ggml-backend.h of the release named in platform.ts.
 *
 * Pointers are branded bigints. Typed arrays pass as pointers for the length of one call only: memory that C keeps must come
 * from `allocate` or from C.
 */
import koffi from 'koffi';
import { TmemError } from '../errors.ts';
import { withoutAmx } from './backend-files.ts';
import { LLAMA_RELEASE, type NativeLibraries, requireLibraries } from './platform.ts';

type Pointer<Brand> = bigint & { readonly __pointer: Brand };
export type Model = Pointer<'llama_model'>;
export type Vocab = Pointer<'llama_vocab'>;
export type Context = Pointer<'llama_context'>;
export type Memory = Pointer<'llama_memory'>;
export type Adapter = Pointer<'llama_adapter_lora'>;
export type Sampler = Pointer<'llama_sampler'>;
export type Tensor = Pointer<'ggml_tensor'>;
export type GgmlContext = Pointer<'ggml_context'>;
export type Graph = Pointer<'ggml_cgraph'>;
export type BackendHandle = Pointer<'ggml_backend'>;
export type Device = Pointer<'ggml_backend_dev'>;
export type BufferType = Pointer<'ggml_backend_buffer_type'>;
export type Buffer = Pointer<'ggml_backend_buffer'>;
export type GraphAllocator = Pointer<'ggml_gallocr'>;
export type Scheduler = Pointer<'ggml_backend_sched'>;
export type Callback = Pointer<'callback'>;
export type Raw = Pointer<'void'>;

/** llama_batch, passed by value. */
export interface Batch {
  n_tokens: number;
  readonly token: Raw;
  readonly embd: Raw | null;
  readonly pos: Raw;
  readonly n_seq_id: Raw;
  readonly seq_id: Raw;
  readonly logits: Raw;
}
export type Params = Record<string, unknown>;

/** enum llama_pooling_type: how the states of a sequence become one embedding. */
export const POOLING = { NONE: 0, MEAN: 1, CLS: 2, LAST: 3, RANK: 4 } as const;

export const TYPE = { F32: 0, F16: 1, Q8_0: 8, Q4_K: 12, I32: 26, I64: 27, BF16: 30 } as const;

function declareTypes() {
  const P = 'void *';
  koffi.struct('llama_model_params', {
    devices: P,
    tensor_buft_overrides: P,
    n_gpu_layers: 'int32',
    split_mode: 'int32',
    load_mode: 'int32',
    lazy_mode: 'int32',
    main_gpu: 'int32',
    tensor_split: P,
    progress_callback: P,
    progress_callback_user_data: P,
    kv_overrides: P,
    vocab_only: 'bool',
    check_tensors: 'bool',
    use_extra_bufts: 'bool',
    no_host: 'bool',
    no_alloc: 'bool',
    load_mtp: 'bool',
  });
  koffi.struct('llama_context_params', {
    n_ctx: 'uint32',
    n_batch: 'uint32',
    n_ubatch: 'uint32',
    n_seq_max: 'uint32',
    n_rs_seq: 'uint32',
    n_outputs_max: 'uint32',
    n_outputs_max_per_seq: 'uint32',
    n_threads: 'int32',
    n_threads_batch: 'int32',
    ctx_type: 'int32',
    rope_scaling_type: 'int32',
    pooling_type: 'int32',
    attention_type: 'int32',
    flash_attn_type: 'int32',
    rope_freq_base: 'float',
    rope_freq_scale: 'float',
    yarn_ext_factor: 'float',
    yarn_attn_factor: 'float',
    yarn_beta_fast: 'float',
    yarn_beta_slow: 'float',
    yarn_orig_ctx: 'uint32',
    defrag_thold: 'float',
    cb_eval: P,
    cb_eval_user_data: P,
    type_k: 'int32',
    type_v: 'int32',
    abort_callback: P,
    abort_callback_data: P,
    embeddings: 'bool',
    offload_kqv: 'bool',
    no_perf: 'bool',
    op_offload: 'bool',
    swa_full: 'bool',
    kv_unified: 'bool',
    samplers: P,
    n_samplers: 'size_t',
    ctx_other: P,
  });
  koffi.struct('llama_batch', { n_tokens: 'int32', token: P, embd: P, pos: P, n_seq_id: P, seq_id: P, logits: P });
  koffi.struct('llama_sampler_chain_params', { no_perf: 'bool' });
  koffi.struct('ggml_init_params', { mem_size: 'size_t', mem_buffer: P, no_alloc: 'bool' });
  return {
    evalCallback: koffi.pointer(koffi.proto('bool tmem_eval_callback(void *tensor, bool ask, void *user)')),
    logCallback: koffi.pointer(koffi.proto('void tmem_log_callback(int level, const char *text, void *user)')),
    setThreads: koffi.proto('void tmem_set_n_threads(void *backend, int n)'),
    extraBufferTypes: koffi.proto('void *tmem_extra_buffer_types(void *device)'),
  };
}
let types: ReturnType<typeof declareTypes> | undefined;

/** Kinds of devices. */
export const DEVICE = { CPU: 0, GPU: 1, IGPU: 2 } as const;

/** Rope parameters of ggml_rope_ext after the tensors: n_dims, mode, n_ctx_orig, freq_base, freq_scale, ext, attn, beta_fast, beta_slow. */
export type RopeArguments = readonly [number, number, number, number, number, number, number, number, number];

function declare(lib: NativeLibraries) {
  types ??= declareTypes();
  // Loading ggml-base first with global symbols lets the other two resolve against it whatever the loader's search path is.
  const base = koffi.load(lib.ggmlBase, { global: true });
  const ggml = koffi.load(lib.ggml, { global: true });
  const llama = koffi.load(lib.llama, { global: true });
  const b = <F>(signature: string): F => base.func(signature) as unknown as F;
  const g = <F>(signature: string): F => ggml.func(signature) as unknown as F;
  const l = <F>(signature: string): F => llama.func(signature) as unknown as F;
  type Unary = (c: GgmlContext, a: Tensor) => Tensor;
  type Binary = (c: GgmlContext, a: Tensor, b: Tensor) => Tensor;
  type Ternary = (c: GgmlContext, a: Tensor, b: Tensor, d: Tensor) => Tensor;
  return {
    // llama: model and vocabulary
    version: l<() => string>('const char *llama_version()'),
    backendInit: l<() => void>('void llama_backend_init()'),
    logSet: l<(callback: Callback | null, user: null) => void>('void llama_log_set(void *, void *)'),
    modelDefaultParams: l<() => Params>('llama_model_params llama_model_default_params()'),
    contextDefaultParams: l<() => Params>('llama_context_params llama_context_default_params()'),
    modelLoad: l<(path: string, params: Params) => Model | null>(
      'void *llama_model_load_from_file(const char *, llama_model_params)',
    ),
    modelFree: l<(m: Model) => void>('void llama_model_free(void *)'),
    modelVocab: l<(m: Model) => Vocab>('void *llama_model_get_vocab(void *)'),
    modelRopeType: l<(m: Model) => number>('int llama_model_rope_type(void *)'),
    /** Tokens that a sliding window sees back, 0 without one. */
    modelWindow: l<(m: Model) => number>('int32 llama_model_n_swa(void *)'),
    modelContextTrain: l<(m: Model) => number>('int32 llama_model_n_ctx_train(void *)'),
    modelEmbeddingWidth: l<(m: Model) => number>('int32 llama_model_n_embd_out(void *)'),
    vocabSize: l<(v: Vocab) => number>('int32 llama_vocab_n_tokens(void *)'),
    vocabIsEog: l<(v: Vocab, token: number) => boolean>('bool llama_vocab_is_eog(void *, int32)'),
    vocabBos: l<(v: Vocab) => number>('int32 llama_vocab_bos(void *)'),
    vocabAddBos: l<(v: Vocab) => boolean>('bool llama_vocab_get_add_bos(void *)'),
    tokenize: l<
      (
        v: Vocab,
        text: Uint8Array,
        bytes: number,
        out: Int32Array,
        max: number,
        addSpecial: boolean,
        parseSpecial: boolean,
      ) => number
    >('int32 llama_tokenize(void *, const void *, int32, void *, int32, bool, bool)'),
    tokenToPiece: l<
      (v: Vocab, token: number, out: Uint8Array, bytes: number, lstrip: number, special: boolean) => number
    >('int32 llama_token_to_piece(void *, int32, void *, int32, int32, bool)'),
    // llama: context
    contextInit: l<(m: Model, params: Params) => Context | null>(
      'void *llama_init_from_model(void *, llama_context_params)',
    ),
    contextFree: l<(c: Context) => void>('void llama_free(void *)'),
    contextMemory: l<(c: Context) => Memory>('void *llama_get_memory(void *)'),
    memoryClear: l<(m: Memory, data: boolean) => void>('void llama_memory_clear(void *, bool)'),
    memoryRemove: l<(m: Memory, seq: number, from: number, to: number) => boolean>(
      'bool llama_memory_seq_rm(void *, int32, int32, int32)',
    ),
    memoryCopy: l<(m: Memory, from: number, to: number, p0: number, p1: number) => void>(
      'void llama_memory_seq_cp(void *, int32, int32, int32, int32)',
    ),
    /** Lowest position of which the cache still holds all that layers with a sliding window computed, -1 if none. */
    memoryLowest: l<(m: Memory, seq: number) => number>('int32 llama_memory_seq_pos_min(void *, int32)'),
    batchInit: l<(tokens: number, embd: number, seqs: number) => Batch>(
      'llama_batch llama_batch_init(int32, int32, int32)',
    ),
    batchFree: l<(batch: Batch) => void>('void llama_batch_free(llama_batch)'),
    decode: l<(c: Context, batch: Batch) => number>('int32 llama_decode(void *, llama_batch)'),
    logitsAt: l<(c: Context, index: number) => Raw | null>('void *llama_get_logits_ith(void *, int32)'),
    /** Pooled states of a sequence of the last batch, valid until the next one. */
    embeddingOf: l<(c: Context, seq: number) => Raw | null>('void *llama_get_embeddings_seq(void *, int32)'),
    adapterInit: l<(m: Model, path: string) => Adapter | null>('void *llama_adapter_lora_init(void *, const char *)'),
    adapterFree: l<(a: Adapter) => void>('void llama_adapter_lora_free(void *)'),
    setAdapters: l<(c: Context, adapters: Adapter[], n: number, scales: Float32Array) => number>(
      'int32 llama_set_adapters_lora(void *, void **, size_t, float *)',
    ),
    // llama: samplers
    chainInit: l<(params: { no_perf: boolean }) => Sampler>(
      'void *llama_sampler_chain_init(llama_sampler_chain_params)',
    ),
    chainAdd: l<(chain: Sampler, sampler: Sampler) => void>('void llama_sampler_chain_add(void *, void *)'),
    samplerFree: l<(s: Sampler) => void>('void llama_sampler_free(void *)'),
    samplerAccept: l<(s: Sampler, token: number) => void>('void llama_sampler_accept(void *, int32)'),
    samplerApply: l<(s: Sampler, candidates: Raw) => void>('void llama_sampler_apply(void *, void *)'),
    samplerGreedy: l<() => Sampler>('void *llama_sampler_init_greedy()'),
    samplerDist: l<(seed: number) => Sampler>('void *llama_sampler_init_dist(uint32)'),
    samplerTopK: l<(k: number) => Sampler>('void *llama_sampler_init_top_k(int32)'),
    samplerTopP: l<(p: number, keep: number) => Sampler>('void *llama_sampler_init_top_p(float, size_t)'),
    samplerMinP: l<(p: number, keep: number) => Sampler>('void *llama_sampler_init_min_p(float, size_t)'),
    samplerTemperature: l<(t: number) => Sampler>('void *llama_sampler_init_temp(float)'),
    samplerGrammar: l<(v: Vocab, grammar: string, root: string) => Sampler | null>(
      'void *llama_sampler_init_grammar(void *, const char *, const char *)',
    ),
    samplerDry: l<
      (
        v: Vocab,
        multiplier: number,
        base: number,
        allowed: number,
        last: number,
        breakers: string[],
        n: number,
      ) => Sampler
    >('void *llama_sampler_init_dry(void *, float, float, int32, int32, const char **, size_t)'),
    // ggml: backend and memory
    loadBackends: g<(folder: string) => void>('void ggml_backend_load_all_from_path(const char *)'),
    loadBackend: g<(file: string) => Raw | null>('void *ggml_backend_load(const char *)'),
    deviceCount: g<() => number>('size_t ggml_backend_dev_count()'),
    deviceAt: g<(i: number) => Device>('void *ggml_backend_dev_get(size_t)'),
    deviceByType: g<(type: number) => Device | null>('void *ggml_backend_dev_by_type(int)'),
    deviceName: b<(d: Device) => string>('const char *ggml_backend_dev_name(void *)'),
    deviceDescription: b<(d: Device) => string>('const char *ggml_backend_dev_description(void *)'),
    deviceInit: b<(d: Device, params: null) => BackendHandle>('void *ggml_backend_dev_init(void *, const char *)'),
    deviceRegistry: b<(d: Device) => Raw>('void *ggml_backend_dev_backend_reg(void *)'),
    registryProc: b<(reg: Raw, name: string) => Raw | null>(
      'void *ggml_backend_reg_get_proc_address(void *, const char *)',
    ),
    backendFree: b<(backend: BackendHandle) => void>('void ggml_backend_free(void *)'),
    bufferTypeName: b<(type: BufferType) => string>('const char *ggml_backend_buft_name(void *)'),
    defaultBufferType: b<(backend: BackendHandle) => BufferType>('void *ggml_backend_get_default_buffer_type(void *)'),
    allocateContext: b<(c: GgmlContext, backend: BackendHandle) => Buffer | null>(
      'void *ggml_backend_alloc_ctx_tensors(void *, void *)',
    ),
    allocateContextFrom: b<(c: GgmlContext, type: BufferType) => Buffer | null>(
      'void *ggml_backend_alloc_ctx_tensors_from_buft(void *, void *)',
    ),
    supports: b<(d: Device, operation: Tensor) => boolean>('bool ggml_backend_dev_supports_op(void *, void *)'),
    bufferBytes: b<(buffer: Buffer) => number>('size_t ggml_backend_buffer_get_size(void *)'),
    bufferFree: b<(buffer: Buffer) => void>('void ggml_backend_buffer_free(void *)'),
    tensorSet: b<(t: Tensor, data: ArrayBufferView, offset: number, bytes: number) => void>(
      'void ggml_backend_tensor_set(void *, const void *, size_t, size_t)',
    ),
    tensorGet: b<(t: Tensor, data: ArrayBufferView, offset: number, bytes: number) => void>(
      'void ggml_backend_tensor_get(void *, void *, size_t, size_t)',
    ),
    allocatorNew: b<(type: BufferType) => GraphAllocator>('void *ggml_gallocr_new(void *)'),
    allocatorFree: b<(a: GraphAllocator) => void>('void ggml_gallocr_free(void *)'),
    allocatorAllocate: b<(a: GraphAllocator, graph: Graph) => boolean>('bool ggml_gallocr_alloc_graph(void *, void *)'),
    allocatorBytes: b<(a: GraphAllocator, i: number) => number>('size_t ggml_gallocr_get_buffer_size(void *, int)'),
    schedulerNew: b<
      (
        backends: BackendHandle[],
        types: null,
        n: number,
        nodes: number,
        parallel: boolean,
        offload: boolean,
      ) => Scheduler
    >('void *ggml_backend_sched_new(void **, void **, int, size_t, bool, bool)'),
    schedulerFree: b<(s: Scheduler) => void>('void ggml_backend_sched_free(void *)'),
    schedulerReset: b<(s: Scheduler) => void>('void ggml_backend_sched_reset(void *)'),
    schedulerAllocate: b<(s: Scheduler, graph: Graph) => boolean>(
      'bool ggml_backend_sched_alloc_graph(void *, void *)',
    ),
    schedulerCompute: b<(s: Scheduler, graph: Graph) => number>('int ggml_backend_sched_graph_compute(void *, void *)'),
    schedulerSplits: b<(s: Scheduler) => number>('int ggml_backend_sched_get_n_splits(void *)'),
    tensorCopy: b<(from: Tensor, to: Tensor) => void>('void ggml_backend_tensor_copy(void *, void *)'),
    compute: b<(backend: BackendHandle, graph: Graph) => number>('int ggml_backend_graph_compute(void *, void *)'),
    // ggml: tensors and graphs
    init: b<(params: { mem_size: number; mem_buffer: null; no_alloc: boolean }) => GgmlContext>(
      'void *ggml_init(ggml_init_params)',
    ),
    free: b<(c: GgmlContext) => void>('void ggml_free(void *)'),
    tensorOverhead: b<() => number>('size_t ggml_tensor_overhead()'),
    graphOverhead: b<(size: number, grads: boolean) => number>('size_t ggml_graph_overhead_custom(size_t, bool)'),
    newGraph: b<(c: GgmlContext, size: number, grads: boolean) => Graph>(
      'void *ggml_new_graph_custom(void *, size_t, bool)',
    ),
    graphNodes: b<(graph: Graph) => number>('int ggml_graph_n_nodes(void *)'),
    graphNode: b<(graph: Graph, i: number) => Tensor>('void *ggml_graph_node(void *, int)'),
    /** Name of the operation that a tensor is the result of. */
    operation: b<(t: Tensor) => string>('const char *ggml_op_desc(void *)'),
    expand: b<(graph: Graph, t: Tensor) => void>('void ggml_build_forward_expand(void *, void *)'),
    /** Empties a graph, whose nodes then are what `addNode` appends: without what those are computed from. */
    graphClear: b<(graph: Graph) => void>('void ggml_graph_clear(void *)'),
    addNode: b<(graph: Graph, t: Tensor) => void>('void ggml_graph_add_node(void *, void *)'),
    setInput: b<(t: Tensor) => void>('void ggml_set_input(void *)'),
    setOutput: b<(t: Tensor) => void>('void ggml_set_output(void *)'),
    setParam: b<(t: Tensor) => void>('void ggml_set_param(void *)'),
    elements: b<(t: Tensor) => number>('int64 ggml_nelements(void *)'),
    data: b<(t: Tensor) => Raw>('void *ggml_get_data(void *)'),
    tensorName: b<(t: Tensor) => string>('const char *ggml_get_name(void *)'),
    new1: b<(c: GgmlContext, type: number, n0: number) => Tensor>('void *ggml_new_tensor_1d(void *, int, int64)'),
    new2: b<(c: GgmlContext, type: number, n0: number, n1: number) => Tensor>(
      'void *ggml_new_tensor_2d(void *, int, int64, int64)',
    ),
    new3: b<(c: GgmlContext, type: number, n0: number, n1: number, n2: number) => Tensor>(
      'void *ggml_new_tensor_3d(void *, int, int64, int64, int64)',
    ),
    // ggml: operations
    view2: b<(c: GgmlContext, a: Tensor, n0: number, n1: number, rowBytes: number, offset: number) => Tensor>(
      'void *ggml_view_2d(void *, void *, int64, int64, size_t, size_t)',
    ),
    /** Bytes of one row [ne0] as its type stores it. */
    rowSize: b<(type: number, n0: number) => number>('size_t ggml_row_size(int, int64)'),
    /** Zeros before and after, dimension by dimension. */
    pad: b<(c: GgmlContext, a: Tensor, ...zeros: [number, number, number, number, 0, 0, 0, 0]) => Tensor>(
      'void *ggml_pad_ext(void *, void *, int, int, int, int, int, int, int, int)',
    ),
    mulMat: b<Binary>('void *ggml_mul_mat(void *, void *, void *)'),
    /** [n0 of a, n0 of b], summed over the second dimension of both. */
    outProd: b<Binary>('void *ggml_out_prod(void *, void *, void *)'),
    add: b<Binary>('void *ggml_add(void *, void *, void *)'),
    sub: b<Binary>('void *ggml_sub(void *, void *, void *)'),
    mul: b<Binary>('void *ggml_mul(void *, void *, void *)'),
    scale: b<(c: GgmlContext, a: Tensor, s: number) => Tensor>('void *ggml_scale(void *, void *, float)'),
    silu: b<Unary>('void *ggml_silu(void *, void *)'),
    tanh: b<Unary>('void *ggml_tanh(void *, void *)'),
    /** s a + bias, element by element. */
    scaleBias: b<(c: GgmlContext, a: Tensor, s: number, bias: number) => Tensor>(
      'void *ggml_scale_bias(void *, void *, float, float)',
    ),
    siluBack: b<Binary>('void *ggml_silu_back(void *, void *, void *)'),
    log: b<Unary>('void *ggml_log(void *, void *)'),
    sum: b<Unary>('void *ggml_sum(void *, void *)'),
    sqr: b<Unary>('void *ggml_sqr(void *, void *)'),
    rmsNorm: b<(c: GgmlContext, a: Tensor, eps: number) => Tensor>('void *ggml_rms_norm(void *, void *, float)'),
    rmsNormBack: b<(c: GgmlContext, grad: Tensor, x: Tensor, eps: number) => Tensor>(
      'void *ggml_rms_norm_back(void *, void *, void *, float)',
    ),
    getRows: b<Binary>('void *ggml_get_rows(void *, void *, void *)'),
    getRowsBack: b<Ternary>('void *ggml_get_rows_back(void *, void *, void *, void *)'),
    /** Along a dimension. */
    concat: b<(c: GgmlContext, a: Tensor, b: Tensor, dimension: number) => Tensor>(
      'void *ggml_concat(void *, void *, void *, int)',
    ),
    setRows: b<Ternary>('void *ggml_set_rows(void *, void *, void *, void *)'),
    reshape2: b<(c: GgmlContext, a: Tensor, n0: number, n1: number) => Tensor>(
      'void *ggml_reshape_2d(void *, void *, int64, int64)',
    ),
    reshape3: b<(c: GgmlContext, a: Tensor, n0: number, n1: number, n2: number) => Tensor>(
      'void *ggml_reshape_3d(void *, void *, int64, int64, int64)',
    ),
    permute: b<(c: GgmlContext, a: Tensor, x0: number, x1: number, x2: number, x3: number) => Tensor>(
      'void *ggml_permute(void *, void *, int, int, int, int)',
    ),
    transpose: b<Unary>('void *ggml_transpose(void *, void *)'),
    cont: b<Unary>('void *ggml_cont(void *, void *)'),
    cont2: b<(c: GgmlContext, a: Tensor, n0: number, n1: number) => Tensor>(
      'void *ggml_cont_2d(void *, void *, int64, int64)',
    ),
    cast: b<(c: GgmlContext, a: Tensor, type: number) => Tensor>('void *ggml_cast(void *, void *, int)'),
    copy: b<Binary>('void *ggml_cpy(void *, void *, void *)'),
    softMax: b<Unary>('void *ggml_soft_max(void *, void *)'),
    softMaxInplace: b<Unary>('void *ggml_soft_max_inplace(void *, void *)'),
    softMaxExt: b<(c: GgmlContext, a: Tensor, mask: Tensor | null, scale: number, bias: number) => Tensor>(
      'void *ggml_soft_max_ext(void *, void *, void *, float, float)',
    ),
    softMaxExtBack: b<(c: GgmlContext, grad: Tensor, y: Tensor, scale: number, bias: number) => Tensor>(
      'void *ggml_soft_max_ext_back(void *, void *, void *, float, float)',
    ),
    rope: b<(c: GgmlContext, a: Tensor, pos: Tensor, factors: Tensor | null, ...rest: RopeArguments) => Tensor>(
      'void *ggml_rope_ext(void *, void *, void *, void *, int, int, int, float, float, float, float, float, float)',
    ),
    ropeBack: b<(c: GgmlContext, a: Tensor, pos: Tensor, factors: Tensor | null, ...rest: RopeArguments) => Tensor>(
      'void *ggml_rope_ext_back(void *, void *, void *, void *, int, int, int, float, float, float, float, float, float)',
    ),
    repeatBack: b<Binary>('void *ggml_repeat_back(void *, void *, void *)'),
    stepSgd: b<(c: GgmlContext, w: Tensor, grad: Tensor, params: Tensor) => Tensor>(
      'void *ggml_opt_step_sgd(void *, void *, void *, void *)',
    ),
    stepAdamW: b<(c: GgmlContext, w: Tensor, grad: Tensor, m: Tensor, v: Tensor, params: Tensor) => Tensor>(
      'void *ggml_opt_step_adamw(void *, void *, void *, void *, void *, void *)',
    ),
  };
}

export type Native = ReturnType<typeof declare> & { readonly libraries: NativeLibraries };
let loaded: Native | undefined;

/**
 * Loads the best installed variant once per process, checks its release and registers its backends.
 * @throws TmemError `missing` when none is installed, none loads, or its llama.cpp release is another one.
 */
export function loadNative(): Native {
  if (loaded) return loaded;
  let failure: unknown;
  for (const libraries of requireLibraries()) {
    try {
      const native = { ...declare(libraries), libraries };
      const release = native.version();
      if (!release.startsWith(LLAMA_RELEASE)) {
        throw new TmemError(
          'missing',
          `${libraries.packageName} holds llama.cpp ${release}, but tmem needs ${LLAMA_RELEASE}; reinstall tmem so that the versions match.`,
        );
      }
      if (!process.env.TMEM_NATIVE_LOG)
        native.logSet(
          registerCallback('log', () => {}),
          null,
        );
      const files = withoutAmx(libraries.folder);
      if (files) for (const file of files) native.loadBackend(file);
      else native.loadBackends(libraries.folder);
      native.backendInit();
      loaded = native;
      return native;
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure instanceof TmemError) throw failure;
  throw new TmemError(
    'missing',
    `The llama.cpp libraries could not be loaded (${String((failure as Error).message)}); run \`tmem doctor\`.`,
    { cause: failure },
  );
}

/** `eval`: (tensor, ask) => boolean; `log`: (level, text) => void. Lives until `unregisterCallback`. */
export function registerCallback(kind: 'eval' | 'log', callback: (...values: never[]) => unknown): Callback {
  types ??= declareTypes();
  return koffi.register(callback, kind === 'eval' ? types.evalCallback : types.logCallback) as Callback;
}

export function unregisterCallback(callback: Callback): void {
  koffi.unregister(callback);
}

/** Zeroed memory that C may keep; freed with `release`. */
export function allocate(bytes: number): Raw {
  const pointer = koffi.alloc('uint8', bytes) as Raw;
  new Uint8Array(koffi.view(pointer, bytes)).fill(0);
  return pointer;
}

export function release(pointer: Raw): void {
  koffi.free(pointer);
}

/** A window onto native memory; valid only while that memory is. */
export function view(pointer: Raw, bytes: number): ArrayBuffer {
  return koffi.view(pointer, bytes);
}

/** The n pointers stored at an address. */
export function pointersAt(pointer: Raw, n: number): Raw[] {
  return koffi.decode(pointer, 'void *', n) as Raw[];
}

/** ggml_tensor begins with its type and buffer; then come the sizes. */
const SIZES_OFFSET = 16;

/** The first two sizes of a tensor, in ggml order. */
export function sizesOf(tensor: Tensor): [number, number] {
  const [n0, n1] = koffi.decode(tensor, SIZES_OFFSET, 'int64', 2) as [bigint, bigint];
  return [Number(n0), Number(n1)];
}

/** Threads of a CPU backend; the setter is not exported by ggml itself but by the backend's registry. */
export function setBackendThreads(native: Native, device: Device, backend: BackendHandle, threads: number): void {
  const setter = native.registryProc(native.deviceRegistry(device), 'ggml_backend_set_n_threads');
  if (setter) koffi.call(setter, types!.setThreads, backend, threads);
}

/** Buffer types of a CPU that rearrange weights for its kernels, the preferred ones first. */
export function extraBufferTypes(native: Native, device: Device): BufferType[] {
  const getter = native.registryProc(native.deviceRegistry(device), 'ggml_backend_dev_get_extra_bufts');
  const list = getter && (koffi.call(getter, types!.extraBufferTypes, device) as Raw | null);
  const found: BufferType[] = [];
  if (!list) return found;
  // The list ends with a null pointer.
  for (;;) {
    const [type] = koffi.decode(list, found.length * koffi.sizeof('void *'), 'void *', 1) as (BufferType | null)[];
    if (!type) return found;
    found.push(type);
  }
}
