/** Completions while they run: their events, what is measured of them, and what is told of the memory. */
import { describe } from './describe.ts';
import type { Ticket } from './limits.ts';
import type { Owner } from './owner.ts';
import type { Services } from './services.ts';
import { comment, type Followed, follow } from './sse.ts';
import type { CompletionEvent, CompletionMemory, CompletionRequest, CompletionUsage, TokenLogProb } from './types.ts';

/**
 * The events of several completions as they come, null when there are none for a while. Ends the ticket.
 * @throws what the runtime does, and the reason of the ticket's signal.
 */
export async function* runCompletions(
  { runtime, metrics, quietMs }: Services,
  requests: readonly CompletionRequest[],
  { signal, end }: Ticket,
): AsyncGenerator<Followed<CompletionEvent>> {
  const began = performance.now();
  let silent = true;
  try {
    const sources = requests.map((request) => runtime.complete({ ...request, signal }));
    for await (const item of follow(sources, { signal, quietMs })) {
      if (item?.event.type === 'text' || item?.event.type === 'tool-call') {
        if (silent) metrics.firstToken((performance.now() - began) / 1000);
        silent = false;
      } else if (item?.event.type === 'done') {
        metrics.tokens(item.event.usage);
        metrics.writes(item.event.memory?.writes ?? []);
      }
      yield item;
    }
  } finally {
    end();
  }
}

/** The first item may be an error that is answered with a status of its own: it is waited for before a stream is begun. */
export async function begun<T>(items: AsyncGenerator<T>): Promise<AsyncGenerator<T>> {
  const first = await items.next();
  return (async function* () {
    if (first.done) return;
    try {
      yield first.value;
      yield* items;
    } finally {
      await items.return(undefined);
    }
  })();
}

/** A comment for what keeps the client waiting; undefined for what does not. */
export function commentOn(item: Followed<CompletionEvent>): string | undefined {
  if (item === null) return comment('still at work');
  if (item.event.type === 'waiting') return comment('waiting');
  const told = item.event.type === 'memory' ? describe(item.event.event) : undefined;
  return told === undefined ? undefined : comment(told);
}

/** The extension of a response: what the completion has done to the memory. */
export function tmemOf(memory: CompletionMemory | null, owner: Owner) {
  if (memory === null) return {};
  const { session, contextTokens, budget, writes } = memory;
  return {
    tmem: {
      session: owner.unbind(session),
      contextTokens,
      budget,
      writes: writes.map(({ id, verdict, reason, pairs, recalled, ms }) => ({
        ...{ id, verdict, reason, pairs: pairs.length, recalled, ms },
      })),
    },
  };
}

/** Of several completions of one prompt. */
export function totalUsage(usages: readonly CompletionUsage[]): CompletionUsage {
  const outputTokens = usages.reduce((n, usage) => n + usage.outputTokens, 0);
  return { promptTokens: usages[0]!.promptTokens, cachedTokens: usages[0]!.cachedTokens, outputTokens };
}

const token = ({ text, bytes, logProb }: TokenLogProb) => ({ token: text, logprob: logProb, bytes });

/** A token as both APIs tell it. */
export const openAiLogProb = (chosen: TokenLogProb & { readonly top: readonly TokenLogProb[] }) => ({
  ...token(chosen),
  top_logprobs: chosen.top.map(token),
});
