import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeAdapterGguf } from '../adapter/gguf.ts';
import { checkFastWeights } from '../adapter/weights.ts';
import { TmemError } from '../errors.ts';
import type { Adapter, Context } from '../native/library.ts';
import type { FastWeights } from '../types.ts';
import type { LlamaModel } from './model.ts';

interface Loaded {
  readonly weights: FastWeights;
  readonly handle: Adapter;
}

/** One state of what is added to the base model: keys and values computed under another one are never reused. */
interface Version {
  readonly number: number;
  readonly delta: Loaded | undefined;
}

/** Fast weights under their names, and the policy under all of them, as llama.cpp's adapters. */
export class Adapters {
  #llama: LlamaModel;
  #scratch = mkdtempSync(path.join(os.tmpdir(), 'tmem-'));
  #count = 0;
  #policy: Loaded | undefined;
  /** Base model and policy alone. */
  #base: Version = { number: 0, delta: undefined };
  #memories = new Map<string, Version>();

  constructor(llama: LlamaModel) {
    this.#llama = llama;
  }

  get policy(): FastWeights | undefined {
    return this.#policy?.weights;
  }

  /** @param memory a name; undefined: without fast weights */
  versionOf(memory: string | undefined): number {
    return ((memory !== undefined && this.#memories.get(memory)) || this.#base).number;
  }

  /** Of all that can still be asked for. */
  get versions(): Set<number> {
    return new Set([this.#base, ...this.#memories.values()].map((v) => v.number));
  }

  /** @throws TmemError `failed` when llama.cpp does not take them. */
  apply(context: Context, version: number): void {
    const { delta } = [...this.#memories.values()].find((v) => v.number === version) ?? this.#base;
    const handles = [this.#policy, delta].filter((x) => x !== undefined).map((x) => x.handle);
    this.#set(context, handles);
  }

  /** The policy alone, on a context that is used for nothing else. */
  applyPolicy(context: Context): void {
    this.#set(context, this.#policy ? [this.#policy.handle] : []);
  }

  /** Loads fast weights and gives them a name; `swap` gets what is to be done while nothing decodes under those in their place. */
  async put(memory: string, weights: FastWeights | null, swap: (change: () => void) => Promise<void>): Promise<void> {
    const file = weights && (await this.#write(weights, 'The fast weights'));
    await swap(() => {
      const old = this.#memories.get(memory)?.delta;
      this.#memories.delete(memory);
      if (old) this.#llama.native.adapterFree(old.handle);
      if (weights) this.#memories.set(memory, { number: ++this.#count, delta: this.#load(file!, weights) });
    });
  }

  async putPolicy(weights: FastWeights | null, swap: (change: () => void) => Promise<void>): Promise<void> {
    const file = weights && (await this.#write(weights, 'The policy'));
    await swap(() => {
      if (this.#policy) this.#llama.native.adapterFree(this.#policy.handle);
      this.#policy = undefined;
      if (weights) this.#policy = this.#load(file!, weights);
      this.#base = { number: weights ? ++this.#count : 0, delta: undefined };
      for (const [name, { delta }] of this.#memories) this.#memories.set(name, { number: ++this.#count, delta });
    });
  }

  /** Takes all off a context: an adapter that is freed while it is set is used after its end. */
  unset(context: Context): void {
    this.#set(context, []);
  }

  free(): void {
    const loaded = [this.#policy, ...[...this.#memories.values()].map((v) => v.delta)];
    for (const one of loaded) if (one) this.#llama.native.adapterFree(one.handle);
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #set(context: Context, handles: Adapter[]): void {
    const scales = new Float32Array(handles.length).fill(1);
    const status = this.#llama.native.setAdapters(context, handles, handles.length, scales);
    if (status !== 0)
      throw new TmemError('failed', `llama.cpp could not put the fast weights in force (status ${status}).`);
  }

  async #write(weights: FastWeights, what: string): Promise<string> {
    checkFastWeights(weights, what, { shape: (name) => this.#llama.shapes.get(name) });
    const file = path.join(this.#scratch, `adapter-${++this.#count}.gguf`);
    await writeAdapterGguf(file, weights, this.#llama.info);
    return file;
  }

  #load(file: string, weights: FastWeights): Loaded {
    const handle = this.#llama.native.adapterInit(this.#llama.handle, file);
    rmSync(file, { force: true });
    if (!handle) throw new TmemError('failed', 'llama.cpp refused the fast weights; run `tmem doctor`.');
    return { weights, handle };
  }
}
