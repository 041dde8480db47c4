/** Writes the documentation as files: npm run docs -- --out FOLDER */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { docsPages } from './site.ts';

const { out } = parseArgs({ options: { out: { type: 'string', default: 'docs-site' } } }).values;
const files = await docsPages();
for (const [path, { body }] of files) {
  const file = join(out, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, body);
}
console.log(`${files.size} files in ${out}`);
