// The inhibition rules of docs/operations.md, in a real Alertmanager: of the alerts that one cause fires, one notifies. Needs
// `alertmanager` or `prometheus-alertmanager` (its Debian name), and amtool.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const ALERTMANAGER = process.env.ALERTMANAGER ?? 'prometheus-alertmanager';
const OPERATIONS = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');

/** The rules as the documentation prints them, with a receiver. */
function configuration() {
  const [, rules] = OPERATIONS.match(/```yaml\n(route:\n[^]*?)```/);
  return `${rules.replace('route:\n', 'route:\n  receiver: nobody\n')}receivers: [{ name: nobody }]\n`;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

let folder;
let process_;
let api;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'alertmanager-'));
  const file = join(folder, 'alertmanager.yml');
  writeFileSync(file, configuration());
  execFileSync('amtool', ['check-config', file]);
  const port = await freePort();
  const storage = join(folder, 'data');
  process_ = spawn(ALERTMANAGER, [`--config.file=${file}`, `--storage.path=${storage}`, `--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address='], { stdio: 'ignore' });
  process_.on('error', (error) => assert.fail(`${ALERTMANAGER}: ${error.message}`));
  api = `http://127.0.0.1:${port}/api/v2`;
  await until(async () => (await fetch(`${api}/status`).catch(() => undefined))?.ok);
});

after(async () => {
  if (process_?.exitCode === null) {
    process_.kill('SIGKILL');
    await once(process_, 'exit');
  }
  rmSync(folder, { recursive: true });
});

/** Repeats until the result is true. Fails after half a minute. */
async function until(isDone) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await isDone()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail('not done in half a minute');
}

/** The names of those alerts that are not inhibited, when all of them fire in a release of its own. */
async function notifying(job, alerts) {
  const labels = alerts.map(({ alert, ...more }) => ({ alertname: `SessionChecker${alert}`, namespace: 'login', job, ...more }));
  const response = await fetch(`${api}/alerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(labels.map((it) => ({ labels: it }))),
  });
  assert.equal(response.status, 200);
  const url = `${api}/alerts?filter=${encodeURIComponent(`job="${job}"`)}`;
  let active;
  let before;
  // Alertmanager takes alerts and sources of inhibition one after the other: the result is that which stays.
  await until(async () => {
    const all = await (await fetch(url)).json();
    active = all.filter(({ status }) => status.inhibitedBy.length === 0).map((it) => it.labels.alertname.slice('SessionChecker'.length));
    const now = JSON.stringify([all.length, active]);
    const isSettled = all.length === alerts.length && now === before;
    before = now;
    return isSettled;
  });
  return active.sort();
}

const tenant = { tenant: 'acme.eu.auth0.com' };
const policy = { ...tenant, policy: 'login/limit' };
const pod = { pod: 'a' };

for (const [cause, alerts, expected] of [
  [
    'an outage of a tenant notifies once',
    [{ alert: 'TenantFailing', ...tenant }, { alert: 'ErrorBudgetBurningFast' }, { alert: 'ErrorBudgetBurningSlowly' }, { alert: 'LatencyBudgetBurningFast' },
      { alert: 'LatencyBudgetBurningSlowly' }, { alert: 'BreakerOpen', ...tenant }, { alert: 'Auth0BudgetSpent', ...tenant }],
    ['TenantFailing'],
  ],
  [
    'a rejected credential notifies once',
    [{ alert: 'CredentialsUnusable', ...policy, reason: 'credentials_rejected' }, { alert: 'PolicyNotReady', ...policy }, { alert: 'ErrorBudgetBurningFast' }],
    ['CredentialsUnusable'],
  ],
  [
    'a problem of two tenants notifies for both',
    [{ alert: 'TenantFailing', ...tenant }, { alert: 'BreakerOpen', ...tenant }, { alert: 'BreakerOpen', tenant: 'other.eu.auth0.com' }],
    ['BreakerOpen', 'TenantFailing'],
  ],
  ['a slow month notifies once', [{ alert: 'LatencyBudgetBurningFast' }, { alert: 'LatencyBudgetBurningSlowly' }], ['LatencyBudgetBurningFast']],
  [
    'checks that stop notify once',
    [{ alert: 'ChecksStopped', ...tenant }, { alert: 'LoginsWithoutPolicy', reason: 'no_policy' }, { alert: 'PolicyUnused', ...policy }],
    ['ChecksStopped'],
  ],
  [
    'an Action that does not ask notifies once',
    [{ alert: 'LoginsNotChecked', ...tenant }, { alert: 'ChecksStopped', ...tenant }, { alert: 'NoChecks', ...tenant }],
    ['LoginsNotChecked'],
  ],
  ['a ledger that stays away notifies once', [{ alert: 'LedgerDegraded' }, { alert: 'LedgerInterrupted' }], ['LedgerDegraded']],
  // Most replicas without the ledger make logins unknown, not unchecked. A warning must not hide that an Action does not ask.
  ['a ledger that is away does not hide logins without a check', [{ alert: 'LedgerDegraded' }, { alert: 'LoginsNotChecked', ...tenant }], ['LedgerDegraded', 'LoginsNotChecked']],
  // The warning would hide for days that an Action does not ask, which is critical.
  ['a split ledger does not hide logins without a check', [{ alert: 'LedgerSplit' }, { alert: 'LoginsNotChecked', ...tenant }], ['LedgerSplit', 'LoginsNotChecked']],
  ['a replica without the ledger does not hide a split ledger', [{ alert: 'LedgerDegraded' }, { alert: 'LedgerSplit' }], ['LedgerDegraded', 'LedgerSplit']],
  // Where `timeout` is longer than the Action waits, callers give up only while the tenant is slow. That needs its own remedy.
  [
    'a slow tenant does not hide an Action that gives up',
    [{ alert: 'TenantFailing', ...tenant }, { alert: 'LatencyBudgetBurningFast' }, { alert: 'CallersGaveUp' }],
    ['CallersGaveUp', 'TenantFailing'],
  ],
  [
    'an API server that is away notifies once',
    [{ alert: 'WatchStale', ...pod, watch: 'policies' }, { alert: 'NoLeader' }, { alert: 'StatusWritesFailing' }, { alert: 'ReplicasDisagree', policy: 'login/limit' }, { alert: 'WatchFailing', ...pod, watch: 'policies' }],
    ['WatchStale'],
  ],
  [
    'a Pod without room notifies once',
    [{ alert: 'ConnectionsRejected', ...pod, listener: 'checks' }, { alert: 'SourceLimited', ...pod, listener: 'checks' }],
    ['ConnectionsRejected'],
  ],
  ['a service without policies notifies once', [{ alert: 'NoPolicies', ...pod }, { alert: 'LoginsWithoutPolicy', reason: 'no_policy' }], ['NoPolicies']],
  ['a Pod without policies notifies once', [{ alert: 'NoPolicies', ...pod }, { alert: 'ReplicasDisagree', policy: 'login/limit' }, { alert: 'ReplicasDisagree', policy: 'login/other' }], ['NoPolicies']],
  ['a broken file does not hide Pods whose policies differ', [{ alert: 'PolicyFilesBroken' }, { alert: 'ReplicasDisagree' }], ['PolicyFilesBroken', 'ReplicasDisagree']],
  ['a Pod that restarts notifies once', [{ alert: 'Restarting', ...pod }, { alert: 'ReplicaMissing', ...pod }], ['Restarting']],
  ['a Pod that restarts does not hide another', [{ alert: 'Restarting', ...pod }, { alert: 'ReplicaMissing', pod: 'b' }], ['ReplicaMissing', 'Restarting']],
]) {
  test(cause, async () => assert.deepEqual(await notifying(cause.replaceAll(' ', '-'), alerts), expected));
}

test('a release in another cluster is not inhibited', async () => {
  const alerts = [{ alert: 'TenantFailing', ...tenant, cluster: 'one' }, { alert: 'ErrorBudgetBurningFast', cluster: 'two' }];
  assert.deepEqual(await notifying('clusters', alerts), ['ErrorBudgetBurningFast', 'TenantFailing']);
});

test('every inhibition rule has a cause among the tests', () => {
  const tests = readFileSync(new URL(import.meta.url), 'utf8');
  for (const [, names] of configuration().matchAll(/source_matchers: \['alertname=~?"([^"]+)"'\]/g)) {
    const isTested = names.split('|').some((name) => tests.includes(`alert: '${name.slice('SessionChecker'.length)}'`));
    assert.ok(isTested, names);
  }
});
