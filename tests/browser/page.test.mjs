// The parts of the page that need no browser: the fields of the policy's form in its YAML, and the link.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromFragment, toFragment } from '../../src/playground/page/link.js';
import { read, write } from '../../src/playground/page/policy.js';

const PER_CLIENT = { key: 'perClient', parent: 'limits' };
const MODE = { key: 'mode' };
const YAML = `# first
limits:
  # of each application
  perClient: 1 # one
overrides:
  - name: more
    limits:
      perClient: 5
mode: Audit
`;

test('field of the form is the one of the policy, not that of an override', () => {
  assert.equal(read(YAML, PER_CLIENT), '1');
  assert.equal(read(YAML, { key: 'perUser', parent: 'limits' }), '');
  assert.equal(read(YAML, MODE), 'Audit');
  const overridesFirst = 'overrides:\n  - limits:\n      perClient: 5\nlimits:\n  perClient: 1\n';
  assert.equal(read(overridesFirst, PER_CLIENT), '1');
  assert.equal(write(overridesFirst, PER_CLIENT, '2'), overridesFirst.replace('perClient: 1', 'perClient: 2'));
});

test('changed field leaves all other lines and comments', () => {
  assert.equal(write(YAML, PER_CLIENT, '2'), YAML.replace('perClient: 1', 'perClient: 2'));
  assert.equal(write(YAML, MODE, 'Enforce'), YAML.replace('Audit', 'Enforce'));
  assert.equal(write(YAML, MODE, ''), YAML.replace('mode: Audit\n', ''));
  assert.equal(write(YAML, PER_CLIENT, ''), YAML.replace('  perClient: 1 # one\n', ''));
  assert.equal(write(YAML, { key: 'perUser', parent: 'limits' }, '3'), YAML.replace('limits:\n', 'limits:\n  perUser: 3\n'));
  assert.equal(write('mode: Audit', PER_CLIENT, '1'), 'mode: Audit\nlimits:\n  perClient: 1\n');
  assert.equal(write('', MODE, 'Audit'), 'mode: Audit\n');
  assert.equal(write(YAML, { key: 'strategy' }, ''), YAML);
});

test('fields in braces are read and changed', () => {
  const braces = 'limits: { perClient: 1 } # one\nmode: Audit\n';
  assert.equal(read(braces, PER_CLIENT), '1');
  assert.equal(write(braces, PER_CLIENT, '2'), 'limits: { perClient: 2 } # one\nmode: Audit\n');
  assert.equal(write(braces, { key: 'perUser', parent: 'limits' }, '3'), 'limits: { perClient: 1, perUser: 3 } # one\nmode: Audit\n');
  assert.equal(write('limits: {}\n', PER_CLIENT, '1'), 'limits: { perClient: 1 }\n');
});

test('link holds any text and is bounded', async () => {
  const yaml = `title: "ä ✓"\n${'steps: []\n'.repeat(500)}`;
  const fragment = await toFragment(yaml);
  assert.match(fragment, /^#v1\.[A-Za-z0-9_-]+$/);
  assert.deepEqual(await fromFragment(fragment), { yaml });
  assert.equal(await fromFragment(''), undefined);
  assert.match((await fromFragment(await toFragment('x'.repeat(40_000)))).error, /cannot be read/, 'a bomb');
  for (const wrong of ['#v1.', '#v1.AAAA', '#v2.AAAA', '#x', `${fragment.slice(0, -6)}`]) {
    assert.ok((await fromFragment(wrong)).error, wrong);
  }
});
