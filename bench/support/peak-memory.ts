import { readFileSync, writeFileSync } from 'node:fs';

/** Largest resident memory of this process so far in MiB: VmHWM on Linux, which `resetPeak` can lower; ru_maxrss elsewhere. */
export function peakMiB(): number {
  if (process.platform === 'linux') {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    if (found) return Number(found[1]) / 1024;
  }
  return process.resourceUsage().maxRSS / 1024;
}

/** From here on `peakMiB` counts afresh, from what is resident now. @returns false where the system cannot do that. */
export function resetPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return true;
  } catch {
    return false;
  }
}
