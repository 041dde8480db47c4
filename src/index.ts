/** tmem as a library: an engine, an episode that writes into its weights, and what they speak of. */

export { type Answered, type AnswerOptions, answerQuestion } from './agent/answer.ts';
export { Episode, type EpisodeOptions, METHODS, type Method } from './agent/episode.ts';
export type { Extraction, ExtractOptions } from './agent/extract.ts';
export { type Memory, type OpenMemoryOptions, openMemory } from './agent/open-memory.ts';
export { bindRecipe } from './agent/recipes.ts';
export { defineTool, type Tool } from './agent/tools.ts';
export { openTrace, type TraceEvent, type TraceListener } from './agent/trace.ts';
export { runBench } from './benchmarks/bench.ts';
export { writeAdapterGguf } from './engine/adapter/gguf.ts';
export { type ErrorCode, TmemError } from './engine/errors.ts';
export { type CatalogueEntry, catalogue, catalogueEntry } from './engine/models/catalogue.ts';
export { type ResolvedModel, type ResolveOptions, resolveModel } from './engine/models/store.ts';
export { type EmbedderOptions, type EngineOptions, openEmbedder, openEngine } from './engine/process/client.ts';
export * from './engine/types.ts';
export { getRecipe, type Recipe, recipeNames } from './memory/recipe.ts';
export { type Keeper, openVolatile, Session, type Snapshot } from './memory/session.ts';
export {
  emptyMemory,
  type MemoryState,
  type Pair,
  type Turn,
  type WriteEvent,
  type WriteRecord,
  type Writer,
} from './memory/types.ts';
export { type WriteOptions, writePairs } from './memory/write.ts';
export { answerFrom, fitsAnswer } from './methods/common.ts';
export { getMethod } from './methods/registry.ts';
export type { MethodOptions, MethodSpec } from './methods/types.ts';
export type { Agent, Environment, Split, Task, TaskQuestion } from './policy/environment.ts';
export { syntheticEnvironment } from './policy/environments/synthetic.ts';
export { evaluatePolicy } from './policy/evaluate.ts';
export { type TrainSettings, trainSettings } from './policy/settings.ts';
export { trainPolicy } from './policy/train.ts';
export { openRuntime, type RuntimeOptions } from './serve/runtime/runtime.ts';
export { type ServeOptions, serve } from './serve/server.ts';
export type { Runtime } from './serve/types.ts';
export { getBenchmark } from './tasks/registry.ts';
