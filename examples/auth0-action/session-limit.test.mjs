// Tests of the Action with a scripted server: every kind of answer, and no answer.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { login, run, TOKEN } from './actions-api.mjs';

const BLOCKED = 'You are already signed in elsewhere. Sign out there and try again.';
const UNDECIDED = 'Your sign-in could not be checked. Please try again in a moment.';

/** Serves `handler(response)` on loopback until the test ends, and records the requests. */
async function serve(t, handler) {
  const requests = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method, url, headers } = request;
    requests.push({ method, url, headers, body, json: JSON.parse(body) });
    handler(response, requests);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

const answer = (status, body, headers = {}) => (response) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
};
const allowed = answer(200, { block: false, reason: 'within_limit', revoke_session: false, request_id: 'r' });
const blocked = (fields) =>
  answer(200, { block: true, reason: 'limit_exceeded', revoke_session: false, request_id: 'r', message: 'Too many.', ...fields });

/** The request that the Action sends for a login. */
async function requestFor(t, event) {
  const { url, requests } = await serve(t, allowed);
  event.secrets.SESSION_CHECKER_URL ??= url;
  await run(t, event);
  assert.equal(requests.length, 1);
  return requests[0];
}

/** The URL of a closed port on loopback. */
async function closedPort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}

// What the Action sends

test('request contains the login and the bearer token', async (t) => {
  const { method, url, headers, json } = await requestFor(t, login());
  assert.equal(`${method} ${url}`, 'POST /check');
  assert.equal(headers.authorization, `Bearer ${TOKEN}`);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['x-request-id'], 'transaction-1');
  assert.deepEqual(json, {
    user_id: 'auth0|ada',
    client_id: 'shop',
    sid: 'sid-of-ada',
    protocol: 'oidc-basic-profile',
    prompt: ['login'],
    organization_id: 'org_1',
    connection: 'employees',
    roles: ['reader'],
    mfa: false,
  });
});

test('login without a session is sent with sid null', async (t) => {
  const { json, headers } = await requestFor(
    t,
    login({ session: undefined, organization: undefined, authorization: undefined, authentication: undefined, transaction: { protocol: 'oauth2-refresh-token' } }),
  );
  assert.deepEqual(json, {
    user_id: 'auth0|ada',
    client_id: 'shop',
    sid: null,
    protocol: 'oauth2-refresh-token',
    connection: 'employees',
    mfa: false,
  });
  assert.equal(headers['x-request-id'], undefined);
});

test('mfa is true only after a second factor or a passkey', async (t) => {
  const mfa = async (methods) => (await requestFor(t, login({ authentication: { methods } }))).json.mfa;
  assert.equal(await mfa([{ name: 'pwd' }, { name: 'mfa' }]), true);
  assert.equal(await mfa([null, { name: 'passkey' }]), true);
  assert.equal(await mfa([{ name: 'pwd' }, { name: 'sms' }]), false);
  assert.equal(await mfa(null), false);
});

test('amr is sent only for a login that the identity provider did', async (t) => {
  const amr = async (name, amr) => (await requestFor(t, login({ user: { user_id: 'waad|ada', amr }, authentication: { methods: [{ name }] } }))).json.amr;
  assert.deepEqual(await amr('federated', ['pwd', 'otp']), ['pwd', 'otp']);
  assert.deepEqual(await amr('federated', 'mfa'), ['mfa']);
  assert.equal(await amr('federated', [5, { a: 1 }]), undefined);
  assert.equal(await amr('pwd', ['mfa']), undefined);
});

test('actor and web view are sent without who and where', async (t) => {
  const event = login({ session: { id: 's', actor: { sub: 'auth0|agent' } }, session_transfer_token: { client_id: 'native', request: { ip: '192.0.2.1' } } });
  const { json, body } = await requestFor(t, event);
  assert.equal(json.actor, true);
  assert.deepEqual(json.session_transfer_token, { client_id: 'native' });
  assert.doesNotMatch(body, /agent|192/);
  for (const token of [undefined, null, {}, { client_id: '' }, 'native']) {
    const { json } = await requestFor(t, login({ session_transfer_token: token }));
    assert.ok(!('session_transfer_token' in json) && !('actor' in json));
  }
});

test('locale is that of the login page, else the first one asked for', async (t) => {
  const locale = async (transaction, request) => (await requestFor(t, login({ transaction, request }))).json.locale;
  assert.equal(await locale({ locale: 'de-CH', ui_locales: ['fr'] }, { language: 'en' }), 'de-CH');
  assert.equal(await locale({ ui_locales: ['fr', 'en'] }, { language: 'en' }), 'fr');
  assert.equal(await locale({ locale: '', ui_locales: 'pt-BR pt' }, undefined), 'pt-BR');
  assert.equal(await locale({}, { language: 'ja' }), 'ja');
  assert.equal(await locale({ locale: 5, ui_locales: [null, ' '] }, { language: 'x'.repeat(301) }), undefined);
});

test('URL works with and without /check', async (t) => {
  for (const [given, path] of [['', '/check'], ['/', '/check'], ['/check', '/check'], ['/check/', '/check'], ['/limits', '/limits/check'], ['/limits/check', '/limits/check']]) {
    const { url, requests } = await serve(t, allowed);
    await run(t, login({ secrets: { SESSION_CHECKER_URL: ` ${url}${given}\n` } }));
    assert.deepEqual(requests.map((request) => request.url), [path], given);
  }
});

/** Sends requests for tokens to `url` in place of the tenant. */
function redirectTokens(t, url) {
  const original = globalThis.fetch;
  t.mock.method(globalThis, 'fetch', (target, request) => {
    const token = 'https://acme.eu.auth0.com/oauth/token';
    return original(String(target) === token ? `${url}/oauth/token` : target, request);
  });
}

const APPLICATION = {
  SESSION_CHECKER_TOKEN: undefined,
  SESSION_CHECKER_CLIENT_ID: 'the-actions-application',
  SESSION_CHECKER_CLIENT_SECRET: 'a-client-secret-of-the-tests',
  SESSION_CHECKER_AUDIENCE: 'https://sessions.example.com',
  TENANT_DOMAIN: 'acme.eu.auth0.com',
};

test('signed token is issued once for many logins', async (t) => {
  const service = await serve(t, allowed);
  const auth0 = await serve(t, answer(200, { access_token: 'header.payload.signature', expires_in: 100000 }));
  redirectTokens(t, auth0.url);
  const cache = new Map();
  for (let logins = 1; logins <= 3; logins += 1) {
    const { lines } = await run(t, login({ secrets: { ...APPLICATION, SESSION_CHECKER_URL: service.url } }), { cache });
    assert.deepEqual(lines, []);
    assert.equal(service.requests.at(-1).headers.authorization, 'Bearer header.payload.signature');
  }
  assert.equal(auth0.requests.length, 1);
  assert.deepEqual(auth0.requests[0].json, {
    grant_type: 'client_credentials',
    client_id: 'the-actions-application',
    client_secret: 'a-client-secret-of-the-tests',
    audience: 'https://sessions.example.com',
  });
  const [{ expires_at: expiresAt }] = cache.values();
  assert.ok(expiresAt <= Date.now() + 86400 * 900, 'renewed before it expires, and kept no longer than Auth0 permits');
});

test('signed token that the service does not accept is not kept', async (t) => {
  const service = await serve(t, answer(401, { error: 'unauthorized' }));
  const auth0 = await serve(t, answer(200, { access_token: 'header.payload.signature', expires_in: 86400 }));
  redirectTokens(t, auth0.url);
  const cache = new Map();
  for (let logins = 1; logins <= 2; logins += 1) {
    const { done } = await run(t, login({ secrets: { ...APPLICATION, SESSION_CHECKER_URL: service.url } }), { cache });
    assert.deepEqual(done, []);
    assert.equal(auth0.requests.length, logins);
  }
});

test('token that Auth0 does not issue leads to FAIL_MODE', async (t) => {
  const service = await serve(t, allowed);
  for (const [handler, line] of [
    [answer(401, { error: 'access_denied' }), /Auth0 answered 401;/],
    [answer(200, { expires_in: 86400 }), /Auth0 issued no token;/],
    [answer(200, 'html'), /not JSON;/],
  ]) {
    const auth0 = await serve(t, handler);
    redirectTokens(t, auth0.url);
    const secrets = { ...APPLICATION, SESSION_CHECKER_URL: service.url, FAIL_MODE: 'deny' };
    const { done, lines } = await run(t, login({ secrets }));
    assert.equal(done[0][0], 'deny');
    assert.match(lines.join(), line);
    t.mock.restoreAll();
  }
  for (const missing of ['SESSION_CHECKER_CLIENT_SECRET', 'SESSION_CHECKER_AUDIENCE', 'TENANT_DOMAIN']) {
    const secrets = { ...APPLICATION, SESSION_CHECKER_URL: service.url, [missing]: '' };
    const { lines } = await run(t, login({ secrets }));
    assert.match(lines.join(), /a secret for signed tokens is missing/);
  }
  assert.equal(service.requests.length, 0);
});

test('tenant comes only from the secret', async (t) => {
  assert.equal((await requestFor(t, login({ secrets: { TENANT_DOMAIN: ' acme.eu.auth0.com ' } }))).json.tenant, 'acme.eu.auth0.com');
  assert.ok(!('tenant' in (await requestFor(t, login())).json));

  const { url, requests } = await serve(t, allowed);
  const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TENANT_DOMAIN: 'https://acme.eu.auth0.com/' } }));
  assert.ok(!('tenant' in requests[0].json));
  assert.match(lines[0], /TENANT_DOMAIN/);
});

test('request without a token has no Authorization header', async (t) => {
  const { headers } = await requestFor(t, login({ secrets: { SESSION_CHECKER_TOKEN: '' } }));
  assert.ok(!('authorization' in headers));
});

test('request id is one that the service accepts, or is missing', async (t) => {
  const id = async (transaction) => (await requestFor(t, login({ transaction }))).headers['x-request-id'];
  assert.equal(await id({ id: 'x'.repeat(65), correlation_id: 'order.66_b-1' }), 'order.66_b-1');
  assert.equal(await id({ id: 'two\r\nlines', correlation_id: 'né' }), undefined);
  assert.equal(await id(null), undefined);
});

test('context that is too long is left out', async (t) => {
  const long = 'x'.repeat(301);
  const { json } = await requestFor(
    t,
    login({
      transaction: { protocol: long, prompt: 'none' },
      organization: { id: long },
      connection: { name: 7 },
      authorization: { roles: [long, null, ...Array.from({ length: 200 }, (_, i) => `role ${i}`)] },
    }),
  );
  assert.deepEqual(Object.keys(json), ['user_id', 'client_id', 'sid', 'prompt', 'roles', 'mfa']);
  assert.deepEqual(json.prompt, ['none']);
  assert.equal(json.roles.length, 128);
  assert.equal(json.roles[0], 'role 0');
});

test('request is never larger than 16 KiB', async (t) => {
  const { json, body } = await requestFor(t, login({ authorization: { roles: Array(128).fill('ü'.repeat(300)) } }));
  assert.ok(Buffer.byteLength(body) <= 16384);
  assert.ok(!('roles' in json));
  assert.equal(json.connection, 'employees');
});

// What the Action does with an answer

test('allowed login continues without a console line', async (t) => {
  const { url } = await serve(t, allowed);
  assert.deepEqual(await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny' } })), { done: [], lines: [] });
});

test("blocked login shows the policy's message", async (t) => {
  const { url } = await serve(t, blocked());
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
  assert.deepEqual(done, [['deny', 'Too many.']]);
  assert.deepEqual(lines, ['session-limit: blocked: limit_exceeded']);
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
  failModeDecides(t, await closedPort(), /request to the service failed \(ECONNREFUSED\); using FAIL_MODE (allow|deny)$/));

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
  for (const [given, used] of [['soon', 4000], ['0', 4000], ['4', 100], ['-1', 100], ['60000', 15000], ['Infinity', 15000]]) {
    const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: given } }));
    assert.equal(lines[0], `session-limit: secret TIMEOUT_MS is not a number from 100 to 15000; using ${used}`, given);
  }
});

// What the Action does when the service cannot be reached for a moment

/** Answers the n-th request by the n-th handler, and every later one by the last. */
const inTurn = (...handlers) => (response, requests) => handlers[Math.min(requests.length, handlers.length) - 1](response);

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
    const result = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '15000', ...secrets } }));
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
      assert.match(lines[0], /; second try: .*; using FAIL_MODE (allow|deny)$/);
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
    [429, { 'retry-after': '14' }], // less time would be left for the answer than was waited
    [503, { 'retry-after': '99999999' }],
    [503, { 'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT' }],
  ]) {
    const { done, lines, requests } = await retried(t, inTurn(answer(status, '', headers), blocked()), { FAIL_MODE: 'deny' });
    assert.deepEqual([done, requests.length], [[['deny', UNDECIDED]], 1], JSON.stringify(headers));
    assert.match(lines[0], new RegExp(`answered ${status}; using FAIL_MODE deny$`));
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
    await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: '15000' } }));
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
  assert.match(lines[0], /answered 502; second try: no answer within 3000 ms; using FAIL_MODE deny$/);
});

// What the Action never does

test('Action never throws because of the event', async (t) => {
  const { url } = await serve(t, answer(422, { error: 'invalid_request' }));
  const secrets = { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny' };
  const fields = Object.keys(login()).filter((field) => field !== 'secrets');
  const hostile = [
    undefined,
    null,
    {},
    { secrets: null },
    { secrets },
    ...[null, undefined, 7, 'text', [], [null], {}, { id: {}, name: [], roles: null, methods: {}, prompt: 7 }].map((value) => ({
      ...Object.fromEntries(fields.map((field) => [field, value])),
      secrets,
    })),
    { ...login({ secrets }), organization: { id: 1n } },
    { ...login({ secrets }), client: { client_id: 1n } },
    { ...login({ secrets }), get connection() { throw new Error('not today'); } },
  ];
  for (const event of hostile) {
    const { done } = await run(t, event);
    assert.deepEqual(done, event?.secrets?.FAIL_MODE === 'deny' ? [['deny', UNDECIDED]] : []);
  }
});

test('Action never throws because of the api', async (t) => {
  const { onExecutePostLogin } = await import('./session-limit.js');
  const { url } = await serve(t, blocked({ revoke_session: true }));
  const lines = [];
  t.mock.method(console, 'log', (line) => lines.push(line));
  for (const api of [undefined, null, {}, { access: null, session: null }, { access: { deny() { throw new Error('no'); } } }]) {
    await onExecutePostLogin(login({ secrets: { SESSION_CHECKER_URL: url } }), api);
    assert.match(lines.at(-1), /unexpected error/);
  }
});

const PAGE = 'https://sessions.example.com/choose?ticket=abc';
const asks = (fields = {}) =>
  answer(200, { block: true, reason: 'limit_exceeded', message: 'Full.', revoke_session: false, choose: { url: PAGE }, ...fields });

test('a login that is asked is sent to the page and not blocked', async (t) => {
  const { url, requests } = await serve(t, asks());
  const secrets = { SESSION_CHECKER_URL: url };
  const event = login({ secrets, request: { hostname: 'login.acme.com' } });
  const { done, lines } = await run(t, event, { redirect: true });
  assert.deepEqual(done, [['redirect', PAGE]]);
  assert.deepEqual(lines, ['session-limit: the user chooses which sessions to end']);
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
