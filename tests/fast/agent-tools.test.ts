import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { act } from '../../src/agent/loop.ts';
import { calculate, calculator } from '../../src/agent/tools/calculator.ts';
import { searchFiles } from '../../src/agent/tools/search-files.ts';
import { parseToolCall, runTool, toolInstructions } from '../../src/agent/tools.ts';
import type { TraceEvent } from '../../src/agent/trace.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Turn } from '../../src/memory/types.ts';

test('calls are found in JSON, fences and native tags; text is left alone', () => {
  const call = { type: 'call', name: 'f', arguments: { x: 1 } };
  for (const text of [
    '{"tool": "f", "arguments": {"x": 1}}',
    'I will look.\n```json\n{"tool": "f", "arguments": {"x": 1},}\n```',
    '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>',
    '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}',
  ])
    assert.deepEqual(JSON.parse(JSON.stringify(parseToolCall(text))), call, text);
  for (const text of ['', 'The answer is {4}.', '{"name": "Ann"}', '{"a": 1}'])
    assert.equal(parseToolCall(text).type, 'none', text);
  for (const text of ['<tool_call>f(1)</tool_call>', '{"tool": f}'])
    assert.equal(parseToolCall(text).type, 'malformed', text);
  fc.assert(fc.property(fc.string(), (text) => void parseToolCall(`<tool_call>${text}`)));
});

test('wrong names, wrong arguments and failures are results for the model', async () => {
  const run = (name: string, args: unknown) => runTool([calculator], { type: 'call', name, arguments: args });
  assert.deepEqual(await run('calculator', { expression: '2+2' }), { name: 'calculator', ok: true, result: '4' });
  assert.match((await run('weather', {})).result, /the tools are: calculator/);
  assert.match((await run('calculator', { expr: '2' })).result, /expression/);
  assert.deepEqual((await run('calculator', { expression: '2+' })).ok, false);
});

test('the instructions hold name, description and JSON schema of each tool; none without tools', () => {
  const line = toolInstructions([calculator])
    .split('\n')
    .find((l) => l.includes('calculator'))!;
  const { name, parameters } = JSON.parse(line);
  assert.equal(name, 'calculator');
  assert.deepEqual(parameters.required, ['expression']);
  assert.equal(toolInstructions([]), '');
});

async function play(replies: string[], steps?: number) {
  const events: TraceEvent[] = [];
  const turns: Turn[] = [];
  let n = 0;
  const engine = new ScriptedEngine({ reply: () => replies[Math.min(n++, replies.length - 1)]! });
  const context = [{ role: 'user' as const, content: 'q' }];
  const options = { tools: [calculator], steps, trace: (e: TraceEvent) => void events.push(e) };
  const text = await act(engine, context, (turn) => turns.push(turn), options);
  return { text, turns, events, asked: engine.calls.length };
}

const CALL = '{"tool": "calculator", "arguments": {"expression": "6*7"}}';

test('the loop calls, shows the result, and ends with the answer', async () => {
  const { text, turns, events } = await play([CALL, 'It is 42.']);
  assert.equal(text, 'It is 42.');
  assert.deepEqual(
    turns.map((t) => t.role),
    ['assistant', 'tool', 'assistant'],
  );
  assert.match(turns[1]!.content, /calculator:\n42$/);
  assert.deepEqual(events, [
    {
      type: 'tool',
      name: 'calculator',
      arguments: events[0]!.type === 'tool' && events[0].arguments,
      ok: true,
      result: '42',
    },
  ]);
});

test('a malformed call is answered with an error, and the steps are limited', async () => {
  const malformed = await play(['{"tool": calculator}', 'Sorry: 42.']);
  assert.match(malformed.turns[1]!.content, /^Error .*\n.*not valid JSON/);
  const stubborn = await play([CALL], 2);
  assert.equal(stubborn.asked, 3);
  assert.deepEqual(
    stubborn.turns.map((t) => t.role),
    ['assistant', 'tool', 'assistant', 'tool', 'assistant'],
  );
  assert.match(stubborn.turns[3]!.content, /No more tools/);
});

test('arithmetic by hand', () => {
  const cases: [string, number][] = [
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['-2^2', -4],
    ['2^3^2', 512],
    ['2 ** -1', 0.5],
    ['10 % 4 / 2', 1],
    ['sqrt(16) + ln(e) - log(100)', 3],
    ['1.5e3 × 2', 3000],
    ['cos(pi)', -1],
  ];
  for (const [text, value] of cases) assert.equal(calculate(text), value, text);
  for (const text of [
    '',
    '1 +',
    '2 2',
    '1/0',
    'process.exit()',
    'sqrt 4',
    '(1',
    '('.repeat(1000),
    'constructor(1)',
    '1..2',
  ])
    assert.throws(() => calculate(text), Error, text);
});

test('the calculator agrees with the arithmetic of the language', () => {
  const leaf = fc.nat(1000).map((n) => ({ text: String(n), value: n }));
  const { tree } = fc.letrec<{ tree: typeof leaf extends fc.Arbitrary<infer T> ? T : never }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      leaf,
      fc.tuple(tie('tree'), fc.constantFrom('+', '-', '*'), tie('tree')).map(([a, op, b]) => ({
        text: `(${a.text} ${op} ${b.text})`,
        value: op === '+' ? a.value + b.value : op === '-' ? a.value - b.value : a.value * b.value,
      })),
    ),
  }));
  fc.assert(fc.property(tree, ({ text, value }) => void assert.equal(calculate(text), value)));
});

test('search finds passages by words, best first, and stays in its folder', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tmem-search-'));
  t.after(() => rm(folder, { recursive: true }));
  const root = join(folder, 'notes');
  await mkdir(join(root, 'deep'), { recursive: true });
  await writeFile(join(folder, 'outside.txt'), 'The violin is secret.');
  await writeFile(join(root, 'a.txt'), 'Shopping: milk.\n\nThe violin of Pavel\nis from 1902.\n');
  await writeFile(join(root, 'deep', 'b.md'), 'A violin.');
  await writeFile(join(root, 'c.bin'), 'violin');
  await symlink(join(folder, 'outside.txt'), join(root, 'link.txt'));
  const tool = await searchFiles(root);
  const { ok, result } = await runTool([tool], {
    type: 'call',
    name: 'search_files',
    arguments: { query: "Pavel's violin" },
  });
  assert.ok(ok);
  assert.equal(result, 'a.txt:3: The violin of Pavel\nis from 1902.\n\ndeep/b.md:1: A violin.');
  const none = await runTool([tool], { type: 'call', name: 'search_files', arguments: { query: 'secret' } });
  assert.equal(none.result, 'nothing found');
  await assert.rejects(searchFiles(join(root, 'a.txt')), { code: 'usage' });
});
