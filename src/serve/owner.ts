/**
 * Whose sessions a request may see, and which of them it is about. Names that reach the runtime are bound to their owner: under an API key
 * they begin with a prefix made of the key's hash, so that no key can name another one's sessions.
 */
import { createHash } from 'node:crypto';
import { TmemError } from '../engine/errors.ts';
import { checkSessionName } from '../memory/session.ts';
import { ApiError } from './errors.ts';
import type { ApiKey } from './keys.ts';

/** Hexadecimal digits of a key's hash in the names of its sessions. */
const PREFIX_DIGITS = 12;
const HASHED = /^h-[0-9a-f]{32}$/;

export class Owner {
  /** For counting; not a secret. */
  readonly id: string;
  readonly #prefix: string;

  /** @param key undefined: the server is open, and all sessions are everybody's. */
  constructor(key?: Pick<ApiKey, 'hash'>) {
    this.id = key ? key.hash.slice(0, PREFIX_DIGITS) : '';
    this.#prefix = key ? `${this.id}.` : '';
  }

  /** The name in the store. @throws ApiError 400 for a name that the store does not take. */
  bind(name: string, param = 'session'): string {
    try {
      // Also without the prefix: it is a name that its owner may take away, and use without a key.
      checkSessionName(name);
      checkSessionName(this.#prefix + name);
    } catch (error) {
      if (!(error instanceof TmemError)) throw error;
      const room = 64 - this.#prefix.length;
      throw new ApiError(
        400,
        `This cannot be a session name; use up to ${room} letters, digits, dots, dashes and underscores, a letter or digit first.`,
        { param, code: 'invalid_session' },
      );
    }
    return this.#prefix + name;
  }

  /** As the owner calls it. */
  unbind(bound: string): string {
    return bound.slice(this.#prefix.length);
  }

  owns(bound: string): boolean {
    return bound.startsWith(this.#prefix);
  }

  /** A name for what somebody else's software calls a session: the same if the store takes it, a hash otherwise. */
  bindForeign(...parts: readonly string[]): string {
    const joined = parts.join('.');
    // Otherwise two parts could be joined to the same name in two ways, or a name be chosen that is another one's hash.
    const plain = (parts.length === 1 || parts.every((part) => !part.includes('.'))) && !HASHED.test(joined);
    if (plain && this.#takes(joined)) return this.#prefix + joined;
    const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex');
    return `${this.#prefix}h-${digest.slice(0, 32)}`;
  }

  #takes(name: string): boolean {
    try {
      this.bind(name);
      return true;
    } catch {
      return false;
    }
  }
}

export interface Named {
  readonly header: (name: string) => string | undefined;
  readonly user?: string | null | undefined;
}

/** The session that a request is about, bound to its owner; null: none. @throws ApiError 400 for a bad `X-Tmem-Session`. */
export function sessionOf(owner: Owner, { header, user }: Named): string | null {
  const own = header('x-tmem-session');
  if (own !== undefined) return owner.bind(own, 'X-Tmem-Session');
  const chat = header('x-openwebui-chat-id');
  if (chat) {
    const person = header('x-openwebui-user-id');
    return person ? owner.bindForeign(person, chat) : owner.bindForeign(chat);
  }
  return user ? owner.bindForeign(user) : null;
}
