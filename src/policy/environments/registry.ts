/** Environments by name, as the command line opens them. */
import { TmemError } from '../../engine/errors.ts';
import type { Environment } from '../environment.ts';
import { type Grade, syntheticEnvironment } from './synthetic.ts';

export const ENVIRONMENTS = ['synthetic', 'locomo', 'longmemeval', 'search'] as const;

export interface EnvironmentOptions {
  /** `synthetic` only. */
  readonly grade?: string | undefined;
  /** The published file, for all others. */
  readonly data?: string | undefined;
  readonly corpus?: string | undefined;
  readonly objectives?: number | undefined;
  readonly questions?: number | undefined;
  readonly aware?: boolean | undefined;
  readonly turns?: number | undefined;
}

/** @throws TmemError `usage` naming what is unknown or missing. */
export async function openEnvironment(name: string, options: EnvironmentOptions = {}): Promise<Environment> {
  if (name === 'synthetic') return syntheticEnvironment(options.grade as Grade | undefined);
  if (!ENVIRONMENTS.some((known) => known === name))
    throw new TmemError('usage', `There is no environment "${name}"; choose one of ${ENVIRONMENTS.join(', ')}.`);
  const { data } = options;
  if (data === undefined) throw new TmemError('usage', `The environment ${name} needs --data, the published file.`);
  if (name === 'search') return (await import('./search.ts')).searchEnvironment({ ...options, data });
  const { getBenchmark } = await import('../../tasks/registry.ts');
  const { conversationEnvironment } = await import('./conversations.ts');
  return conversationEnvironment(getBenchmark(name), { ...options, data });
}
