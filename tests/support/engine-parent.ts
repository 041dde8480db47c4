/** Opens an engine, tells its process id and waits to be killed. */
import { openEngine } from '../../src/engine/process/client.ts';
import { complete } from '../../src/engine/types.ts';

const engineModule = new URL('./hosted-engine.ts', import.meta.url).href;
const engine = await openEngine({ modelPath: 'model', engineModule });
const { text } = await complete(engine, { prompt: 'env' });
process.send!(Number(text.split(' ')[2]));
