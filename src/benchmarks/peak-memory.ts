/** How much memory this process and those that it started, such as the engine, take at most. */
import { execFile } from 'node:child_process';

const EVERY_MS = 1000;

export interface MemoryWatch {
  /** Largest sum of resident memory seen, in MiB; null where the system has no `ps`. */
  peakMiB(): number | null;
  stop(): void;
}

export function watchMemory(): MemoryWatch {
  let peak: number | null = null;
  const look = () =>
    execFile('ps', ['-A', '-o', 'pid=,ppid=,rss='], (error, text) => {
      if (!error) peak = Math.max(peak ?? 0, residentKiB(text, process.pid) / 1024);
    });
  look();
  const timer = setInterval(look, EVERY_MS);
  timer.unref();
  return { peakMiB: () => (peak === null ? null : Math.round(peak)), stop: () => clearInterval(timer) };
}

/** Resident memory of a process and all that descend from it, of lines `pid ppid rss`. */
export function residentKiB(text: string, root: number): number {
  const processes = text
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .map(([pid, parent, rss]) => ({ pid: pid!, parent: parent!, rss: rss! }));
  const sum = (pid: number): number =>
    (processes.find((p) => p.pid === pid)?.rss ?? 0) +
    processes.filter((p) => p.parent === pid && p.pid !== pid).reduce((all, child) => all + sum(child.pid), 0);
  return sum(root);
}
