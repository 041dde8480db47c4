/** A session as it is on the server, kept up to date by its events. */
import { useCallback, useEffect, useReducer, useRef } from 'preact/hooks';
import { type Api, ApiError } from './api.ts';
import { follow, IDLE, type Live, settle } from './live.ts';
import type { SessionEvent, SessionState } from './types.ts';

export interface Watched {
  readonly state: SessionState | null;
  readonly live: Live;
  /** Events arrive. */
  readonly connected: boolean;
  /** Events so far. */
  readonly seen: number;
}

type Action =
  | { readonly type: 'chosen' }
  | { readonly type: 'connected'; readonly connected: boolean }
  /** `seen`: how many events had come when it was asked for. */
  | { readonly type: 'state'; readonly state: SessionState | null; readonly seen: number }
  | { readonly type: 'event'; readonly event: SessionEvent };

const NOTHING: Watched = { state: null, live: IDLE, connected: false, seen: 0 };

function watched(now: Watched, action: Action): Watched {
  switch (action.type) {
    case 'chosen':
      return NOTHING;
    case 'connected':
      return { ...now, connected: action.connected };
    case 'event':
      return { ...now, seen: now.seen + 1, live: follow(now.live, action.event) };
    case 'state': {
      const { state, seen } = action;
      return { ...now, state, live: state ? settle(now.live, state, seen !== now.seen) : now.live };
    }
  }
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 5000;
/** Events that change what the server says of the session come in clusters. */
const SETTLING = 200;

/**
 * @param fail is told what goes wrong when the session is read; lost connections are tried again without a word
 * @param keys how many keys were given so far: with another one everything is tried anew
 */
export function useSession(api: Api, session: string, fail: (error: unknown) => void, keys: number) {
  const [now, dispatch] = useReducer(watched, NOTHING);
  const current = useRef({ session, seen: 0 });
  current.current = { session, seen: now.seen };

  const refresh = useCallback(async () => {
    const { seen } = current.current;
    try {
      const state = await api.info(session).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      });
      if (current.current.session === session) dispatch({ type: 'state', state, seen });
    } catch (error) {
      if (current.current.session === session) fail(error);
    }
  }, [api, session, fail]);

  useEffect(() => {
    const ended = new AbortController();
    let settling: ReturnType<typeof setTimeout> | undefined;
    const listen = async (): Promise<void> => {
      for (let wait = FIRST_WAIT; !ended.signal.aborted; wait = Math.min(LONGEST_WAIT, wait * 2)) {
        try {
          const opened = () => {
            wait = FIRST_WAIT;
            dispatch({ type: 'connected', connected: true });
            void refresh();
          };
          for await (const event of api.watch(session, ended.signal, opened)) {
            dispatch({ type: 'event', event });
            if (!changesState(event)) continue;
            clearTimeout(settling);
            settling = setTimeout(refresh, SETTLING);
          }
        } catch (error) {
          // Without a key there is nothing to wait for but a key.
          if (error instanceof ApiError && error.status === 401) return;
        }
        if (ended.signal.aborted) return;
        dispatch({ type: 'connected', connected: false });
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    };
    dispatch({ type: 'chosen' });
    void refresh();
    void listen();
    return () => {
      clearTimeout(settling);
      ended.abort();
    };
  }, [api, session, refresh, keys]);

  return { ...now, refresh };
}

function changesState({ event }: SessionEvent): boolean {
  if (event.type === 'write') return event.event.type === 'verdict';
  return event.type === 'cleared' || event.type === 'swap' || event.type === 'answer' || event.type === 'trigger';
}
