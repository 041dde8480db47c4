import { readFileSync } from 'node:fs';

/** Instruction sets as Linux names them; empty elsewhere. */
export function processorFlags(): ReadonlySet<string> {
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8');
    return new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1]?.split(' '));
  } catch {
    return new Set();
  }
}
