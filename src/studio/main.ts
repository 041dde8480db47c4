/** Where the studio begins in the browser. */
import { render } from 'preact';
import { App } from './app.ts';
import { applyTheme } from './theme.ts';
import { html } from './ui.ts';

applyTheme();
render(html`<${App} />`, document.getElementById('app')!);
