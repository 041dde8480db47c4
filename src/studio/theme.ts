/** Light or dark: as the system has it, until the reader chooses. */
import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { html, useMedia } from './ui.ts';

const KEY = 'tmem.theme';
type Theme = 'light' | 'dark';

const chosen = () => localStorage.getItem(KEY) as Theme | null;

export function applyTheme(theme: Theme | null = chosen()): void {
  if (theme) document.documentElement.dataset.theme = theme;
}

export function ThemeSwitch(): VNode {
  const systemDark = useMedia('(prefers-color-scheme: dark)');
  const [theme, setTheme] = useState(chosen);
  const dark = theme ? theme === 'dark' : systemDark;
  const toggle = () => {
    const next = dark ? 'light' : 'dark';
    localStorage.setItem(KEY, next);
    applyTheme(next);
    setTheme(next);
  };
  return html`<button type="button" class="icon" role="switch" aria-checked=${dark} aria-label="Dark theme" title="Dark theme"
    onClick=${toggle}>
    <svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7" class="theme-ring" /><path d="M10 3a7 7 0 0 1 0 14z" /></svg>
  </button>`;
}
