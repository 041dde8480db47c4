/** `GET /v1/memory/sessions/{session}/events`: what happens in a session, as it happens. */
import { Channel } from './channel.ts';
import { answerable } from './errors.ts';
import type { Ctx, Services } from './services.ts';
import { comment, endingWith, follow, frame, sseResponse } from './sse.ts';
import type { SessionEvent } from './types.ts';

const QUIET_MS = 15_000;
/** Events that a listener may be behind; one who is further behind is sent away. */
const MOST_BEHIND = 10_000;

/** @param session bound to its owner; it need not exist yet */
export function watchEvents(c: Ctx, { runtime, admission, quietMs = QUIET_MS, onError }: Services, session: string) {
  const owner = c.get('owner');
  const { signal, end } = admission.admit(owner.id, { client: c.req.raw.signal, watches: true });
  const channel = new Channel<SessionEvent>();
  const unwatch = runtime.watch(session, (event) => {
    channel.push(event);
    if (channel.length > MOST_BEHIND) channel.close();
  });
  const frames = async function* () {
    try {
      yield comment('watching');
      for await (const item of follow([channel], { signal, quietMs })) {
        if (item === null) yield comment('nothing new');
        else {
          const { event } = item;
          yield frame({ event: event.event.type, data: { ...event, session: owner.unbind(event.session) } });
        }
      }
    } finally {
      unwatch();
      end();
    }
  };
  return sseResponse(
    c,
    endingWith(frames(), (error) => frame({ event: 'error', data: answerable(error, onError).body })),
  );
}
