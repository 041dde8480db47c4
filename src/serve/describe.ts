import type { TraceEvent } from '../agent/trace.ts';

/** What a memory does at the moment, in words for whoever waits; undefined for what takes no time. */
export function describe(event: TraceEvent): string | undefined {
  if (event.type === 'trigger') return `writing ${event.turns} turns into memory`;
  if (event.type === 'extract') return `reading part ${event.part} of ${event.parts}`;
  if (event.type === 'extraction') return `found ${event.pairs.length} pairs`;
  if (event.type !== 'write') return undefined;
  const { event: step } = event;
  if (step.type === 'train' && step.event.type === 'step' && step.totalSteps !== undefined)
    return `writing ${step.event.step} of ${step.totalSteps} steps`;
  if (step.type === 'quiz') return 'checking what was written';
  return step.type === 'verdict' ? `write ${step.record.verdict}` : 'writing';
}
