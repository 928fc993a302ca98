// Tests of the Action with a scripted server: every kind of answer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, allowed, BLOCKED, blocked, closedPort, inTurn, login, run, serve, UNDECIDED } from './actions-api.mjs';

// What the Action does with an answer

test('allowed login continues without a console line', async (t) => {
  const { url } = await serve(t, allowed);
  assert.deepEqual(await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny' } })), { done: [], lines: [] });
});

test("blocked login shows the policy's message", async (t) => {
  const { url } = await serve(t, blocked());
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
  assert.deepEqual(done, [['deny', 'Too many.']]);
  assert.deepEqual(lines, ['session-limit: blocked (limit_exceeded), request r']);
});

test('blocked login without a message gets the default message', async (t) => {
  for (const message of [undefined, '', 7]) {
    const { url } = await serve(t, blocked({ message }));
    assert.deepEqual((await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }))).done, [['deny', BLOCKED]]);
  }
});

test('session of a blocked login is revoked if the service says so', async (t) => {
  const { url } = await serve(t, blocked({ revoke_session: true }));
  const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
  assert.deepEqual(done, [['revoke', 'Too many.']]);
});

test('login is only blocked if the plan cannot revoke sessions', async (t) => {
  const { url } = await serve(t, blocked({ revoke_session: true }));
  for (const revoke of ['missing', 'throws']) {
    const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }), { revoke });
    assert.deepEqual(done, [['deny', 'Too many.']], revoke);
  }
});

test('session of an allowed login is never revoked', async (t) => {
  const { url } = await serve(t, answer(200, { block: false, revoke_session: true }));
  assert.deepEqual((await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }))).done, []);
});

test('console says what the answer does not show to the user', async (t) => {
  for (const [fields, line] of [
    [{ reason: 'audit', audited_reason: 'limit_exceeded' }, 'would block (limit_exceeded), request r'],
    [{ reason: 'audit', audited_reason: 'evicted' }, 'would end other sessions (evicted), request r'],
    [{ reason: 'audit' }, 'would block (unknown), request r'],
    [{ reason: 'no_policy' }, 'allowed without a limit (no_policy), request r'],
    [{ reason: 'tenant_unknown' }, 'allowed without a limit (tenant_unknown), request r'],
    [{ reason: 'upstream_timeout' }, 'allowed without a limit (upstream_timeout), request r'],
    [{ reason: 'evicted', revoked_sessions: 2 }, 'ended other sessions (evicted 2), request r'],
    [{ reason: 'no_policy', request_id: 'two\nlines' }, 'allowed without a limit (no_policy)'],
    ...[{ reason: 'within_limit' }, { reason: 'exempt' }, { reason: 'skipped_protocol' }, { reason: 'no_session' }].map((it) => [it]),
    ...[{ reason: undefined }, { reason: 7 }, { reason: 'A Reason\nof two lines' }].map((it) => [it]),
  ]) {
    const { url } = await serve(t, answer(200, { block: false, request_id: 'r', ...fields }));
    const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
    assert.deepEqual([done, lines], [[], line ? [`session-limit: ${line}`] : []], JSON.stringify(fields));
  }
});

test('longest lines of a login are kept whole by Auth0', async (t) => {
  const id = 'x'.repeat(64);
  const { url } = await serve(t, inTurn(answer(502, ''), answer(401, '')));
  t.mock.method(Math, 'random', () => 0);
  // `run` checks the length.
  const { lines } = await run(t, login({ transaction: { id }, secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '9000' } }));
  assert.match(lines[0], new RegExp(`second try: .*, request ${id}$`));
});

// The code in front of the text

test('code is in front of the text if ERROR_CODE is on', async (t) => {
  const shown = async (handler, ERROR_CODE, options) => {
    const url = handler ? (await serve(t, handler)).url : await closedPort();
    return (await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny', ERROR_CODE } }), options)).done[0];
  };
  for (const on of ['on', ' ON\n']) {
    assert.deepEqual(await shown(blocked(), on), ['deny', 'session_limit.limit_exceeded: Too many.']);
    assert.deepEqual(await shown(blocked({ reason: 'upstream_error' }), on), ['deny', 'session_limit.upstream_error: Too many.']);
    assert.deepEqual(await shown(blocked({ revoke_session: true }), on), ['revoke', 'session_limit.limit_exceeded: Too many.']);
    assert.deepEqual(await shown(blocked({ revoke_session: true }), on, { revoke: 'throws' }), ['deny', 'session_limit.limit_exceeded: Too many.']);
    assert.deepEqual(await shown(blocked({ reason: 'No: word', message: '' }), on), ['deny', `session_limit.blocked: ${BLOCKED}`]);
    assert.deepEqual(await shown(undefined, on), ['deny', `session_limit.not_checked: ${UNDECIDED}`]);
  }
  for (const off of [undefined, '', 'off', 'OFF', 'yes']) assert.deepEqual(await shown(blocked(), off), ['deny', 'Too many.']);
  const { url } = await serve(t, allowed);
  const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, ERROR_CODE: 'yes' } }));
  assert.deepEqual(lines, ['session-limit: secret ERROR_CODE is neither on nor off; using off']);
});

// The page for choosing sessions

const PAGE = 'https://sessions.example.com/choose?ticket=abc';
const asks = (fields = {}) =>
  answer(200, { block: true, reason: 'limit_exceeded', message: 'Full.', revoke_session: false, request_id: 'r', choose: { url: PAGE }, ...fields });

test('a login that is asked is sent to the page and not blocked', async (t) => {
  const { url, requests } = await serve(t, asks());
  const secrets = { SESSION_CHECKER_URL: url };
  const event = login({ secrets, request: { hostname: 'login.acme.com' } });
  const { done, lines } = await run(t, event, { redirect: true });
  assert.deepEqual(done, [['redirect', PAGE]]);
  assert.deepEqual(lines, ['session-limit: the user chooses which sessions to end, request r']);
  const { can_redirect: canRedirect, hostname, continued } = requests[0].json;
  assert.deepEqual([canRedirect, hostname, continued], [true, 'login.acme.com', undefined]);
});

test('a login that comes back is checked again and never sent to the page', async (t) => {
  const { url, requests } = await serve(t, asks({ revoke_session: true }));
  const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }), { redirect: true, continued: true });
  assert.deepEqual(done, [['revoke', 'Full.']]);
  assert.equal(requests[0].json.continued, true);
  const allowed = await serve(t, answer(200, { block: false, reason: 'within_limit' }));
  const { done: nothing } = await run(t, login({ secrets: { SESSION_CHECKER_URL: allowed.url } }), { continued: true });
  assert.deepEqual(nothing, []);
});

test('a login that cannot be sent to the page is blocked', async (t) => {
  for (const [redirect, fields] of [
    ['missing', {}],
    ['throws', {}],
    [true, { choose: { url: 'http://sessions.example.com/choose' } }],
    [true, { choose: { url: 'javascript:alert(1)' } }],
    [true, { choose: { url: 7 } }],
    [true, { choose: 'x' }],
    [true, { choose: null }],
  ]) {
    const { url } = await serve(t, asks(fields));
    const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }), { redirect });
    assert.deepEqual(done, [['deny', 'Full.']], JSON.stringify([redirect, fields]));
  }
});

test('a login that cannot be redirected says nothing of redirects', async (t) => {
  const { url, requests } = await serve(t, answer(200, { block: false, reason: 'within_limit' }));
  for (const redirect of [false, 'missing']) await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }), { redirect });
  for (const { json } of requests) assert.deepEqual(Object.keys(json).filter((key) => /redirect|hostname|continued/.test(key)), []);
});
