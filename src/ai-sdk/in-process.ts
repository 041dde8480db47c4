/** The provider on a `Runtime` in its own process. */
import type { JSONObject } from '@ai-sdk/provider';
import type { CompletionEvent, CompletionMemory, Runtime } from '../serve/types.ts';
import type { ReplyEvent, Transport } from './transport.ts';

/**
 * @param open gives the runtime when it is first needed, and again after a failure
 * @param owned closing the transport closes the runtime
 */
export function inProcessTransport(open: () => Runtime | Promise<Runtime>, owned: boolean): Transport {
  let opened: Promise<Runtime> | undefined;
  const runtime = () => {
    opened ??= (async () => open())().catch((error) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    async complete({ request }) {
      const { signal } = request;
      const running = await runtime();
      const events = running.complete(request)[Symbol.asyncIterator]();
      const step = () => abortable(() => events.next(), signal);
      const end = async () => void (await events.return?.());
      // An answer that is interrupted before it is read has no reader that would end it.
      signal?.addEventListener('abort', () => end().catch(() => {}), { once: true });
      // The request is looked at when the first event is asked for: what is wrong with it is known then.
      const first = await step();
      return { events: replyEvents(running.model.name, first, step, end) };
    },
    async embed({ texts, signal }) {
      const running = await runtime();
      const { vectors, tokens } = await abortable(() => running.embed(texts, { signal }), signal);
      return { vectors: vectors.map((vector) => [...vector]), tokens };
    },
    async close() {
      const running = opened;
      opened = undefined;
      if (owned) await (await running)?.close();
    },
  };
}

async function abortable<T>(step: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}

async function* replyEvents(
  modelId: string,
  first: IteratorResult<CompletionEvent>,
  step: () => Promise<IteratorResult<CompletionEvent>>,
  end: () => Promise<void>,
): AsyncGenerator<ReplyEvent> {
  try {
    yield { type: 'response', modelId, timestamp: new Date() };
    for (let next = first; !next.done; next = await step()) {
      yield { type: 'raw', value: next.value };
      yield replyEvent(next.value);
    }
  } finally {
    await end();
  }
}

function replyEvent(event: CompletionEvent): ReplyEvent {
  switch (event.type) {
    case 'waiting':
    case 'memory':
      return { type: 'waiting' };
    case 'text':
      return { type: 'text', text: event.text };
    case 'tool-call':
      return event;
    case 'done': {
      const { finish, usage, memory } = event;
      return { type: 'done', finish, usage: { ...usage, raw: { ...usage } }, memory: memory && memoryOf(memory) };
    }
  }
}

/** As the server tells it. */
function memoryOf({ session, contextTokens, budget, writes }: CompletionMemory): JSONObject {
  return {
    ...{ session, contextTokens, budget },
    writes: writes.map(({ id, verdict, reason, pairs, recalled, ms }) => ({
      ...{ id, verdict, pairs: pairs.length, recalled, ms },
      ...(reason !== undefined && { reason }),
    })),
  };
}
