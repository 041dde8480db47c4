/**
 * What the server counts and measures, for Prometheus. Names are those of OpenTelemetry's semantic conventions for HTTP and generative AI
 * where these have one, with the unit at the end as Prometheus has it; `tmem.` for the rest.
 */
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import type { WriteRecord } from '../memory/types.ts';
import type { CompletionUsage, Runtime } from './types.ts';

/** Seconds: from a cached token to a write of several minutes. */
const BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

export interface Metrics {
  /** @param route its pattern, not the path */
  request(request: { method: string; route: string; status: number; seconds: number }): void;
  firstToken(seconds: number): void;
  tokens(usage: CompletionUsage): void;
  writes(records: readonly Pick<WriteRecord, 'verdict'>[]): void;
  /** In Prometheus' text format. */
  text(): Promise<string>;
}

export function createMetrics(runtime: Runtime): Metrics {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const serializer = new PrometheusSerializer(undefined, false, undefined, true, true);
  const meter = new MeterProvider({ readers: [exporter] }).getMeter('tmem');

  const seconds = (name: string, description: string) =>
    meter.createHistogram(`${name}.seconds`, { description, advice: { explicitBucketBoundaries: BUCKETS } });
  const durations = seconds('http.server.request.duration', 'From the request to the end of the response.');
  const firstTokens = seconds('gen_ai.server.time_to_first_token', 'From the request to the first token.');
  const tokens = meter.createCounter('tmem.tokens', { description: 'Tokens read and generated.' });
  const writes = meter.createCounter('tmem.writes', { description: 'Writes to memories, by verdict.' });

  const gauges = {
    running: 'Completions that generate.',
    waiting: 'Completions that wait.',
    open: 'Sessions that are open.',
    writing: 'Writes that are going on.',
    memory: 'Bytes of resident memory.',
  } as const;
  for (const name of Object.keys(gauges) as (keyof typeof gauges)[])
    meter
      .createObservableGauge(`tmem.${name}`, { description: gauges[name] })
      .addCallback((gauge) => gauge.observe(runtime.status()[name]));

  return {
    request: ({ method, route, status, seconds }) =>
      durations.record(seconds, {
        'http.request.method': method,
        'http.route': route,
        'http.response.status_code': status,
      }),
    firstToken: (time) => firstTokens.record(time),
    tokens({ promptTokens, cachedTokens, outputTokens }) {
      tokens.add(promptTokens - cachedTokens, { kind: 'input' });
      tokens.add(cachedTokens, { kind: 'cached' });
      tokens.add(outputTokens, { kind: 'output' });
    },
    writes(records) {
      for (const { verdict } of records) writes.add(1, { verdict });
    },
    text: async () => serializer.serialize((await exporter.collect()).resourceMetrics),
  };
}
