/** The entry `tmem/ai-sdk`. */
export { createTmem, type TmemProvider, type TmemSettings, tmem } from './provider.ts';
export type { TmemOptions } from './request.ts';
