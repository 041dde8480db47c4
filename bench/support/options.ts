/** The number that an option holds. @throws when it is not above 0 */
export function positive<K extends string>(options: Readonly<Record<K, string>>, name: K): number {
  const value = Number(options[name]);
  if (!(value > 0)) throw new Error(`--${name} must be a number above 0, not '${options[name]}'`);
  return value;
}
