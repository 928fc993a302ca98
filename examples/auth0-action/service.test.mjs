// The Action against the real service and its simulated tenant: `session-checker demo`, started from the binary that
// SESSION_CHECKER_BIN names. Without it these tests are skipped, and in CI they fail.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { login, run } from './actions-api.mjs';

const BIN = process.env.SESSION_CHECKER_BIN;
const skip = !BIN && process.env.CI !== 'true' && 'set SESSION_CHECKER_BIN to the session-checker binary';
if (skip) console.error(`service.test.mjs: SKIPPED, ${skip}`);

// ---- What `session-checker demo` prints. This is the one place that knows it. -------------------------------------
// It prints commands to try, to standard output, at least COMMANDS of them once it is ready to answer them:
//
//   curl … http://127.0.0.1:PORT/check … -H 'authorization: Bearer TOKEN' … -d '{"user_id":"…","client_id":"…","sid":"…"}'
//
// One of them is allowed, one is blocked, and one is blocked with `revoke_session: true`: its sid is in the tenant's
// list without a client, as that of a login under way is. The header may be missing when the demo asks for no token.
const COMMANDS = 3;
const READY_WITHIN_MS = 30_000;

function parse(output) {
  const bodies = [...output.matchAll(/\s(?:-d|--data(?:-raw)?|--json)\s+'(\{[^']*\})'/g)].map(([, body]) => JSON.parse(body));
  return {
    url: output.match(/https?:\/\/[^\s'"]+\/check\b/)?.[0],
    token: output.match(/authorization:\s*bearer\s+([^\s'"]+)/i)?.[1] ?? '',
    questions: bodies.filter((body) => body.user_id && body.client_id),
  };
}
// --------------------------------------------------------------------------------------------------------------------

let demo;
let service;

/** Asks as `curl` would, without the Action. */
async function ask(question, headers = {}) {
  const response = await fetch(service.url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(service.token && { Authorization: `Bearer ${service.token}` }), ...headers },
    body: JSON.stringify(question),
  });
  return { status: response.status, answer: await response.json() };
}

/** The first of the printed questions whose answer is such as the test needs. */
async function printed(what, wanted) {
  for (const question of service.questions) {
    const { status, answer } = await ask(question);
    assert.equal(status, 200, `a printed command answers: ${JSON.stringify(answer)}`);
    if (wanted(answer)) return { question, answer };
  }
  return assert.fail(`the demo prints no command for a login that is ${what}`);
}

/** The login of a printed question, as Auth0 would hand it to the Action. */
const loginOf = ({ user_id, client_id, sid }, secrets = {}) =>
  login({
    user: { user_id },
    client: { client_id },
    session: sid ? { id: sid } : undefined,
    secrets: { SESSION_CHECKER_URL: service.url, SESSION_CHECKER_TOKEN: service.token, ...secrets },
  });

before(async () => {
  if (skip) return;
  assert.ok(BIN, 'SESSION_CHECKER_BIN names the session-checker binary');
  demo = spawn(BIN, ['demo', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  demo.stderr.on('data', (chunk) => (errors += chunk));
  await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${why}\n--- standard output\n${output}\n--- standard error\n${errors}`));
    const timer = setTimeout(() => fail(`the demo did not print its commands within ${READY_WITHIN_MS} ms`), READY_WITHIN_MS);
    demo.on('error', (error) => fail(error.message));
    demo.on('exit', (code) => fail(`the demo ended with ${code}`));
    demo.stdout.on('data', (chunk) => {
      output += chunk;
      service = parse(output);
      if (service.url && service.questions.length >= COMMANDS) resolve(clearTimeout(timer));
    });
  });
});

after(async () => {
  if (demo?.exitCode === null && demo.signalCode === null) {
    demo.kill('SIGKILL');
    await once(demo, 'exit');
  }
});

test('a login within the limit goes on untouched', { skip }, async (t) => {
  const { question } = await printed('allowed', (answer) => !answer.block);
  assert.deepEqual(await run(t, loginOf(question, { FAIL_MODE: 'deny' })), { done: [], lines: [] });
});

test('a login over the limit is denied with the message of the policy', { skip }, async (t) => {
  const { question, answer } = await printed('blocked', ({ block }) => block);
  const { done, lines } = await run(t, loginOf(question), { revoke: 'missing' });
  assert.deepEqual(done, [['deny', answer.message]]);
  assert.deepEqual(lines, [`session-limit: denied: ${answer.reason}`]);
});

test('the session that a refused login leaves behind is revoked', { skip }, async (t) => {
  const { question, answer } = await printed('blocked and to be revoked', (it) => it.block && it.revoke_session);
  assert.deepEqual((await run(t, loginOf(question))).done, [['revoke', answer.message]]);
});

test('a login without a session, as of a refresh token, goes on', { skip }, async (t) => {
  const { question } = await printed('blocked', ({ block }) => block);
  const { done, lines } = await run(t, loginOf({ ...question, sid: null }, { FAIL_MODE: 'deny' }));
  assert.deepEqual({ done, lines }, { done: [], lines: [] });
});

test('hostile context is refused by nobody', { skip }, async (t) => {
  const { question } = await printed('allowed', ({ block }) => !block);
  const event = loginOf(question, { FAIL_MODE: 'deny' });
  event.authorization.roles = Array(500).fill('ü'.repeat(300));
  event.transaction = { id: 'two\nlines', protocol: 'x'.repeat(1000), prompt: ['none', null, 'x'.repeat(1000)] };
  assert.deepEqual((await run(t, event)).done, []);
});

test('a token that the service does not know fails as FAIL_MODE says and names the secret', { skip }, async (t) => {
  const { question } = await printed('allowed', ({ block }) => !block);
  for (const FAIL_MODE of ['allow', 'deny']) {
    const { done, lines } = await run(t, loginOf(question, { FAIL_MODE, SESSION_CHECKER_TOKEN: 'a-token-of-somebody-else' }));
    assert.equal(done.length, FAIL_MODE === 'deny' ? 1 : 0);
    assert.match(lines[0], /answered 401, check the secret SESSION_CHECKER_TOKEN/);
  }
});

test('the call of the Node demo, three fields and axios, reads block as it always did', { skip }, async () => {
  const axios = { Accept: 'application/json, text/plain, */*', 'User-Agent': 'axios/1.7.9' };
  for (const block of [true, false]) {
    const { question } = await printed(block ? 'blocked' : 'allowed', (answer) => answer.block === block);
    const { user_id, client_id, sid } = question;
    const { status, answer } = await ask({ user_id, client_id, sid }, axios);
    assert.equal(status, 200);
    assert.equal(answer.block, block);
  }
});

test('a service that is gone fails as FAIL_MODE says', { skip }, async (t) => {
  const { question } = await printed('allowed', ({ block }) => !block);
  demo.kill('SIGKILL');
  await once(demo, 'exit');
  for (const FAIL_MODE of ['allow', 'deny']) {
    const { done, lines } = await run(t, loginOf(question, { FAIL_MODE }));
    assert.equal(done.length, FAIL_MODE === 'deny' ? 1 : 0);
    assert.match(lines[0], /could not be asked/);
  }
});
