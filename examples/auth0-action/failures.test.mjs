// Tests of the Action with a scripted server: no answer, and none that is valid.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, allowed, blocked, closedPort, inTurn, login, run, serve, UNDECIDED } from './actions-api.mjs';

// What the Action does without a valid answer

/** Checks that FAIL_MODE decides, and that the console line matches `line`. */
async function failModeDecides(t, url, line, secrets = {}) {
  const both = { allow: [], ALLOW: [], '': [], deny: [['deny', UNDECIDED]], ' Deny\n': [['deny', UNDECIDED]] };
  for (const [FAIL_MODE, expected] of Object.entries(both)) {
    const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE, ...secrets } }));
    assert.deepEqual(done, expected, `FAIL_MODE ${JSON.stringify(FAIL_MODE)}`);
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0], line);
  }
}

test('service that is down leads to FAIL_MODE', async (t) =>
  failModeDecides(t, await closedPort(), /request to the service failed \(ECONNREFUSED\); using FAIL_MODE (allow|deny), request transaction-1$/));

test('service that does not answer in time leads to FAIL_MODE', async (t) => {
  const { url } = await serve(t, () => {});
  await failModeDecides(t, url, /no answer within 100 ms/, { TIMEOUT_MS: '100' });
});

test('answer that does not end in time leads to FAIL_MODE', async (t) => {
  const { url } = await serve(t, (response) => response.writeHead(200).write('{"block":'));
  await failModeDecides(t, url, /no answer within 100 ms/, { TIMEOUT_MS: '100' });
});

test('incomplete answer leads to FAIL_MODE', async (t) => {
  const { url } = await serve(t, (response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('{"block":', () => response.destroy());
  });
  await failModeDecides(t, url, /request to the service failed/);
});

test('unknown token leads to FAIL_MODE and names the secret', async (t) => {
  const { url } = await serve(t, answer(401, { error: 'unauthorized', message: 'unknown caller', request_id: 'r' }));
  await failModeDecides(t, url, /answered 401, check the secret SESSION_CHECKER_TOKEN/);
});

for (const status of [201, 204, 400, 403, 404, 422, 500, 503]) {
  test(`status ${status} leads to FAIL_MODE`, async (t) => {
    const { url } = await serve(t, answer(status, { block: true }));
    await failModeDecides(t, url, new RegExp(`answered ${status};`));
  });
}

test('redirect is not followed', async (t) => {
  const elsewhere = await serve(t, blocked());
  const { url } = await serve(t, answer(307, '', { location: `${elsewhere.url}/check` }));
  await failModeDecides(t, url, /answered 307/);
  assert.equal(elsewhere.requests.length, 0);
});

test('invalid body leads to FAIL_MODE', async (t) => {
  for (const [body, line] of [
    ['<html>', /not JSON/],
    ['', /not JSON/],
    ['null', /no boolean "block"/],
    ['[]', /no boolean "block"/],
    ['{}', /no boolean "block"/],
    ['{"block":"true"}', /no boolean "block"/],
    [`{"block":true,"message":"${'x'.repeat(20000)}"}`, /too long/],
  ]) {
    const { url } = await serve(t, answer(200, body));
    await failModeDecides(t, url, line);
  }
});

test('token that is no valid header value leads to FAIL_MODE', async (t) => {
  const { url, requests } = await serve(t, allowed);
  await failModeDecides(t, url, /request to the service failed/, { SESSION_CHECKER_TOKEN: 'two\nlines' });
  assert.equal(requests.length, 0);
});

test('missing, invalid or unencrypted URL leads to FAIL_MODE', async (t) => {
  for (const url of [undefined, '', 'sessions.example.com', 'http://sessions.example.com', 'ftp://127.0.0.1']) {
    await failModeDecides(t, url, /SESSION_CHECKER_URL/);
  }
  await failModeDecides(t, 'https://ada:secret-word@127.0.0.1/', /request to the service failed \(TypeError\)/);
});

test('invalid FAIL_MODE is logged and means allow', async (t) => {
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: await closedPort(), FAIL_MODE: 'closed' } }));
  assert.deepEqual(done, []);
  assert.match(lines[0], /FAIL_MODE is neither allow nor deny/);

  const { url } = await serve(t, blocked());
  const still = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'closed' } }));
  assert.deepEqual(still.done, [['deny', 'Too many.']]);
});

test('invalid TIMEOUT_MS is logged and replaced', async (t) => {
  const { url } = await serve(t, allowed);
  for (const [given, used] of [['soon', 4000], ['0', 4000], ['4', 100], ['-1', 100], ['60000', 9000], ['Infinity', 9000]]) {
    const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: given } }));
    assert.equal(lines[0], `session-limit: secret TIMEOUT_MS is not a number from 100 to 9000; using ${used}`, given);
  }
});

// What the Action does when the service cannot be reached for a moment

const reset = (response) => response.socket.resetAndDestroy();
const closed = (response) => response.socket.destroy();
const cutShort = (response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 });
  response.write('{"block":', () => response.socket.destroy());
};

/** Runs a login with a time limit that a busy machine keeps, and returns what was done, logged, requested and waited for. */
async function retried(t, handler, secrets = {}) {
  const waits = [];
  const real = globalThis.setTimeout;
  const timer = t.mock.method(globalThis, 'setTimeout', (callback, ms, ...rest) => {
    waits.push(ms);
    return real(callback, 0, ...rest);
  });
  try {
    const { url, requests } = await serve(t, handler);
    const result = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '9000', ...secrets } }));
    return { ...result, requests, waits };
  } finally {
    timer.mock.restore();
  }
}

for (const [what, failure, line] of [
  ['reset', reset, /request to the service failed \((ECONNRESET|UND_ERR_SOCKET)\)/],
  ['close without an answer', closed, /request to the service failed \(UND_ERR_SOCKET\)/],
  ['answer that is cut short', cutShort, /request to the service failed \(UND_ERR_SOCKET\)/],
  ['429 with a short Retry-After', answer(429, {}, { 'retry-after': '0' }), /answered 429/],
  ...[408, 502, 503, 504, 520, 523].map((status) => [`${status}`, answer(status, '<html>'), new RegExp(`answered ${status}`)]),
]) {
  test(`${what} is tried again once`, async (t) => {
    for (const FAIL_MODE of ['allow', 'deny']) {
      const blocks = await retried(t, inTurn(failure, blocked()), { FAIL_MODE });
      assert.deepEqual(blocks.done, [['deny', 'Too many.']]);
      assert.equal(blocks.requests.length, 2);
      const [first, second] = blocks.requests;
      assert.deepEqual([second.url, second.body, second.headers['x-request-id']], [first.url, first.body, 'transaction-1']);
      assert.match(blocks.lines[0], line);
      assert.match(blocks.lines[0], /; the second try succeeded$/);

      const allows = await retried(t, inTurn(failure, allowed), { FAIL_MODE });
      assert.deepEqual([allows.done, allows.requests.length], [[], 2]);
    }
  });

  test(`${what} at both tries leads to FAIL_MODE`, async (t) => {
    for (const [FAIL_MODE, expected] of [['allow', []], ['deny', [['deny', UNDECIDED]]]]) {
      const { done, lines, requests } = await retried(t, failure, { FAIL_MODE });
      assert.deepEqual([done, requests.length, lines.length], [expected, 2, 1]);
      assert.match(lines[0], line);
      assert.match(lines[0], /; second try: .*; using FAIL_MODE (allow|deny), request transaction-1$/);
    }
  });
}

test('second failure of another kind is in the line', async (t) => {
  const { lines } = await retried(t, inTurn(answer(502, ''), answer(401, '')));
  assert.match(lines[0], /answered 502; second try: .*answered 401, check the secret SESSION_CHECKER_TOKEN; using/);
});

test('Retry-After says how long the Action waits', async (t) => {
  const date = 'Wed, 21 Oct 2026 07:28:00 GMT';
  for (const [headers, pause] of [
    [{ 'retry-after': '2' }, 2000],
    // A date is compared with the clock of the same answer, not with ours.
    [{ 'retry-after': 'Wed, 21 Oct 2026 07:28:03 GMT', date }, 3000],
    [{ 'retry-after': 'Wed, 21 Oct 2026 07:27:00 GMT', date }, 0],
  ]) {
    for (const status of [429, 503]) {
      const { requests, waits } = await retried(t, inTurn(answer(status, '', headers), allowed));
      assert.equal(requests.length, 2, JSON.stringify(headers));
      assert.ok(waits.includes(pause), `${JSON.stringify(headers)}: ${waits}`);
    }
  }
});

test('without Retry-After the Action waits at most 100 ms', async (t) => {
  t.mock.method(Math, 'random', () => 0.999);
  const { waits } = await retried(t, inTurn(answer(502, ''), allowed));
  assert.ok(waits.includes(99), `${waits}`);
});

test('what is not over in time is not tried again', async (t) => {
  for (const [status, headers] of [
    [429, {}],
    [429, { 'retry-after': '' }],
    [429, { 'retry-after': 'soon' }],
    [429, { 'retry-after': '-1' }],
    [429, { 'retry-after': '5' }], // less time would be left for the answer than was waited
    [503, { 'retry-after': '99999999' }],
    [503, { 'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT' }],
  ]) {
    const { done, lines, requests } = await retried(t, inTurn(answer(status, '', headers), blocked()), { FAIL_MODE: 'deny' });
    assert.deepEqual([done, requests.length], [[['deny', UNDECIDED]], 1], JSON.stringify(headers));
    assert.match(lines[0], new RegExp(`answered ${status}; using FAIL_MODE deny, request transaction-1$`));
  }
});

test('only answers of a proxy that did not reach the service are tried again', async (t) => {
  // 421 says that the connection is the wrong one: fetch itself asks again on another.
  const again = [408, 421, 502, 503, 504, 520, 521, 522, 523];
  let status;
  const { url, requests } = await serve(t, (response) => answer(status, '<html>')(response));
  t.mock.method(Math, 'random', () => 0);
  for (status = 200; status < 600; status += 1) {
    requests.length = 0;
    await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '9000' } }));
    assert.equal(requests.length, again.includes(status) ? 2 : 1, `${status}`);
  }
});

test('second try ends at the time limit of the login', async (t) => {
  const silent = () => {};
  t.mock.method(Math, 'random', () => 0);
  const { url, requests } = await serve(t, inTurn(answer(502, ''), silent));
  // Long enough for a first answer on a busy machine.
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '3000', FAIL_MODE: 'deny' } }));
  assert.deepEqual([done, requests.length], [[['deny', UNDECIDED]], 2]);
  assert.match(lines[0], /answered 502; second try: no answer within 3000 ms; using FAIL_MODE deny, request transaction-1$/);
});
