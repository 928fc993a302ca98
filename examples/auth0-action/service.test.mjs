// Tests of the Action with the real service and its simulated tenant: `session-checker demo`, started from the binary
// in SESSION_CHECKER_BIN. Without it these tests are skipped; in CI they fail.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { login, run } from './actions-api.mjs';

const BIN = process.env.SESSION_CHECKER_BIN;
const skip = !BIN && process.env.CI !== 'true' && 'set SESSION_CHECKER_BIN to the session-checker binary';
if (skip) console.error(`service.test.mjs: SKIPPED, ${skip}`);

// ---- The output of `session-checker demo`. Only this part knows it. -------------------------------------------------
// When the demo is ready, it prints at least COMMANDS commands to try to standard output:
//
//   curl … http://127.0.0.1:PORT/check … -H 'authorization: Bearer TOKEN' … -d '{"user_id":"…","client_id":"…","sid":"…"}'
//
// One is allowed, one is blocked, and one is blocked with `revoke_session: true`: the tenant lists the session of that
// one without a client, like the session of a login that is not complete. The header is missing if the demo needs no
// token.
const COMMANDS = 3;
const READY_WITHIN_MS = 30_000;

function parse(output) {
  const bodies = [...output.matchAll(/\s(?:-d|--data(?:-raw)?|--json)\s+'(\{[^']*\})'/g)].map(([, body]) => JSON.parse(body));
  return {
    url: output.match(/https?:\/\/[^\s'"]+\/check\b/)?.[0],
    token: output.match(/authorization:\s*bearer\s+([^\s'"]+)/i)?.[1] ?? '',
    requests: bodies.filter((body) => body.user_id && body.client_id),
  };
}
// --------------------------------------------------------------------------------------------------------------------

let demo;
let service;

/** Sends a check as `curl` does, without the Action. */
async function send(request, headers = {}) {
  const response = await fetch(service.url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(service.token && { Authorization: `Bearer ${service.token}` }), ...headers },
    body: JSON.stringify(request),
  });
  return { status: response.status, answer: await response.json() };
}

/** The first printed request whose answer matches, with the answer. */
async function printed(what, matches) {
  for (const request of service.requests) {
    const { status, answer } = await send(request);
    assert.equal(status, 200, `a printed command answers: ${JSON.stringify(answer)}`);
    if (matches(answer)) return { request, answer };
  }
  return assert.fail(`the demo prints no command for a login that is ${what}`);
}

/** The login event of a printed request. */
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
      if (service.url && service.requests.length >= COMMANDS) resolve(clearTimeout(timer));
    });
  });
});

after(async () => {
  if (demo?.exitCode === null && demo.signalCode === null) {
    demo.kill('SIGKILL');
    await once(demo, 'exit');
  }
});

test('login within the limit continues', { skip }, async (t) => {
  const { request } = await printed('allowed', (answer) => !answer.block);
  assert.deepEqual(await run(t, loginOf(request, { FAIL_MODE: 'deny' })), { done: [], lines: [] });
});

test("login over the limit is blocked with the policy's message", { skip }, async (t) => {
  const { request, answer } = await printed('blocked', ({ block }) => block);
  const { done, lines } = await run(t, loginOf(request), { revoke: 'missing' });
  assert.deepEqual(done, [['deny', answer.message]]);
  assert.deepEqual(lines, [`session-limit: blocked (${answer.reason}), request transaction-1`]);
});

test('session of a blocked login is revoked', { skip }, async (t) => {
  const { request, answer } = await printed('blocked with revoke_session: true', (it) => it.block && it.revoke_session);
  assert.deepEqual((await run(t, loginOf(request))).done, [['revoke', answer.message]]);
});

test('login without a session continues', { skip }, async (t) => {
  const { request } = await printed('blocked', ({ block }) => block);
  const { done, lines } = await run(t, loginOf({ ...request, sid: null }, { FAIL_MODE: 'deny' }));
  assert.deepEqual({ done, lines }, { done: [], lines: [] });
});

test('hostile context does not block an allowed login', { skip }, async (t) => {
  const { request } = await printed('allowed', ({ block }) => !block);
  const event = loginOf(request, { FAIL_MODE: 'deny' });
  event.authorization.roles = Array(500).fill('ü'.repeat(300));
  event.transaction = { id: 'two\nlines', protocol: 'x'.repeat(1000), prompt: ['none', null, 'x'.repeat(1000)] };
  assert.deepEqual((await run(t, event)).done, []);
});

test('unknown token leads to FAIL_MODE and names the secret', { skip }, async (t) => {
  const { request } = await printed('allowed', ({ block }) => !block);
  for (const FAIL_MODE of ['allow', 'deny']) {
    const { done, lines } = await run(t, loginOf(request, { FAIL_MODE, SESSION_CHECKER_TOKEN: 'a-token-of-somebody-else' }));
    assert.equal(done.length, FAIL_MODE === 'deny' ? 1 : 0);
    assert.match(lines[0], /answered 401, check the secret SESSION_CHECKER_TOKEN/);
  }
});

test("Node demo's request still gets block in the answer", { skip }, async () => {
  const axios = { Accept: 'application/json, text/plain, */*', 'User-Agent': 'axios/1.7.9' };
  for (const block of [true, false]) {
    const { request } = await printed(block ? 'blocked' : 'allowed', (answer) => answer.block === block);
    const { user_id, client_id, sid } = request;
    const { status, answer } = await send({ user_id, client_id, sid }, axios);
    assert.equal(status, 200);
    assert.equal(answer.block, block);
  }
});

/**
 * Serves a proxy that passes the first request on and resets the connection: when the service has answered (`answered`),
 * or at once, so that the service may still decide. It passes every later request on, with its answer.
 */
async function losesTheFirstAnswer(t, { answered }) {
  const passed = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { authorization, 'content-type': type, 'x-request-id': id } = request.headers;
    const headers = { 'content-type': type, ...(authorization && { authorization }), ...(id && { 'x-request-id': id }) };
    const first = passed.length === 0;
    const forwarded = fetch(service.url, { method: 'POST', headers, body: Buffer.concat(chunks) }).then((it) => it.json());
    passed.push(forwarded);
    if (first && !answered) return response.socket.resetAndDestroy();
    const answer = await forwarded;
    if (first) return response.socket.resetAndDestroy();
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    await Promise.allSettled(passed);
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, passed };
}

test('check that is repeated after a lost answer gets the same decision', { skip }, async (t) => {
  for (const answered of [true, false]) {
    for (const [what, matches] of [
      ['allowed', ({ block }) => !block],
      ['blocked', ({ block }) => block],
      ['blocked with revoke_session: true', (it) => it.block && it.revoke_session],
    ]) {
      const { request } = await printed(what, matches);
      const { url, passed } = await losesTheFirstAnswer(t, { answered });
      const { done, lines } = await run(t, loginOf(request, { SESSION_CHECKER_URL: url, TIMEOUT_MS: '9000', FAIL_MODE: 'deny' }));
      const [lost, repeated, ...more] = await Promise.all(passed);
      assert.deepEqual(more, []);
      const facts = ({ block, reason, revoke_session, message }) => ({ block, reason, revoke_session, message });
      assert.deepEqual(facts(repeated), facts(lost), what);
      assert.ok(matches(repeated), JSON.stringify(repeated));
      const expected = repeated.block ? [[repeated.revoke_session ? 'revoke' : 'deny', repeated.message]] : [];
      assert.deepEqual(done, expected, what);
      assert.match(lines[0], /; the second try succeeded$/);
    }
  }
});

test('login of a new session that is repeated does not count twice', { skip }, async (t) => {
  // A user whom the tenant does not list yet: only the service's memory knows the first try.
  const { request } = await printed('allowed', ({ block }) => !block);
  const login = { ...request, user_id: 'auth0|repeats', sid: 'repeats-phone' };
  const { url, passed } = await losesTheFirstAnswer(t, { answered: true });
  const { done } = await run(t, loginOf(login, { SESSION_CHECKER_URL: url, TIMEOUT_MS: '9000', FAIL_MODE: 'deny' }));
  const answers = await Promise.all(passed);
  assert.deepEqual([done, answers.map(({ block }) => block)], [[], [false, false]]);
  // The limit counts the repeated login once: it is the other session of the next login.
  const { answer } = await send({ ...login, sid: 'repeats-laptop' });
  assert.equal(answer.active_sessions, 1, JSON.stringify(answer));
});

test('service that is down leads to FAIL_MODE', { skip }, async (t) => {
  const { request } = await printed('allowed', ({ block }) => !block);
  demo.kill('SIGKILL');
  await once(demo, 'exit');
  for (const FAIL_MODE of ['allow', 'deny']) {
    const { done, lines } = await run(t, loginOf(request, { FAIL_MODE }));
    assert.equal(done.length, FAIL_MODE === 'deny' ? 1 : 0);
    assert.match(lines[0], /request to the service failed/);
  }
});
