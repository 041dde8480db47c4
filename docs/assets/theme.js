/* Light or dark: as the system has it, until the reader chooses; the studio keeps the choice under the same name. */
const KEY = 'tmem.theme';
const root = document.documentElement;
const isDark = () =>
  root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;

const chosen = localStorage.getItem(KEY);
if (chosen === 'light' || chosen === 'dark') root.dataset.theme = chosen;

document.addEventListener('DOMContentLoaded', () => {
  const button = document.querySelector('#theme');
  const show = () => button.setAttribute('aria-checked', String(isDark()));
  button.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    localStorage.setItem(KEY, root.dataset.theme);
    show();
  });
  button.hidden = false;
  show();
});
