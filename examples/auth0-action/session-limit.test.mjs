// Tests of the Action with a scripted server: what it sends, whether it asks, and what it never does.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, allowed, blocked, closedPort, inTurn, login, requestFor, run, serve, TOKEN, UNDECIDED } from './actions-api.mjs';

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
    skip_protocols: ['oauth2-refresh-token'],
  });
});

test('login without a session is sent with sid null', async (t) => {
  const { json, headers } = await requestFor(
    t,
    login({ session: undefined, organization: undefined, authorization: undefined, authentication: undefined, transaction: { protocol: 'oauth2-password' } }),
  );
  assert.deepEqual(json, {
    user_id: 'auth0|ada',
    client_id: 'shop',
    sid: null,
    protocol: 'oauth2-password',
    connection: 'employees',
    mfa: false,
    skip_protocols: ['oauth2-refresh-token'],
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

test('dates and applications of the session are sent, and nothing else of it', async (t) => {
  const session = {
    id: 'sid-of-ada',
    created_at: '2026-01-01T00:00:00.000Z',
    authenticated_at: new Date(0),
    updated_at: new Date(NaN),
    expires_at: null,
    clients: [{ client_id: 'shop', name: 'Shop' }, null, { client_id: 7 }],
    device: { initial_ip: '192.0.2.1' },
    session_metadata: { note: 'private' },
  };
  const { json, body } = await requestFor(t, login({ session, stats: { logins_count: 12 } }));
  assert.deepEqual(json.session, {
    created_at: '2026-01-01T00:00:00.000Z',
    authenticated_at: '1970-01-01T00:00:00.000Z',
    clients: [{ client_id: 'shop' }],
  });
  assert.equal(json.logins_count, 12);
  assert.doesNotMatch(body, /192|private/);
  for (const logins of [undefined, null, -1, 1.5, '12', NaN]) {
    assert.ok(!('logins_count' in (await requestFor(t, login({ stats: { logins_count: logins } }))).json));
  }
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

test('cached token that the service does not accept is replaced at once', async (t) => {
  const rejected = answer(401, { error: 'unauthorized' });
  for (const [then, done] of [[allowed, []], [blocked(), [['deny', 'Too many.']]]]) {
    const service = await serve(t, inTurn(rejected, then));
    const auth0 = await serve(t, answer(200, { access_token: 'a.fresh.token', expires_in: 86400 }));
    redirectTokens(t, auth0.url);
    const cache = new Map([['session-checker-token', { value: 'a.stale.token' }]]);
    const secrets = { ...APPLICATION, SESSION_CHECKER_URL: service.url, FAIL_MODE: 'deny' };
    const result = await run(t, login({ secrets }), { cache });
    assert.deepEqual(result.done, done);
    assert.equal(result.lines[0], 'session-limit: the service answered 401 to the cached token; the second try succeeded');
    const sent = service.requests.map((request) => request.headers.authorization);
    assert.deepEqual(sent, ['Bearer a.stale.token', 'Bearer a.fresh.token']);
    assert.equal(auth0.requests.length, 1);
    assert.equal(cache.get('session-checker-token').value, 'a.fresh.token');
    t.mock.restoreAll();
  }
});

test('there are two tries at most, whatever token they send', async (t) => {
  const rejected = answer(401, { error: 'unauthorized' });
  for (const [first, stale, tokens, line] of [
    // The fresh token is not accepted either.
    [rejected, 'a.stale.token', 1, /answered 401 to the cached token; second try: the service answered 401, .*; using FAIL_MODE allow/],
    // The first try did not reach the service, so the second one is the last.
    [answer(502, ''), 'a.stale.token', 0, /answered 502; second try: the service answered 401 to the cached token; using/],
    [answer(502, ''), undefined, 1, /answered 502; second try: the service answered 401 to the cached token; using/],
  ]) {
    const service = await serve(t, inTurn(first, rejected));
    const auth0 = await serve(t, answer(200, { access_token: 'a.fresh.token', expires_in: 86400 }));
    redirectTokens(t, auth0.url);
    const cache = new Map(stale && [['session-checker-token', { value: stale }]]);
    const secrets = { ...APPLICATION, SESSION_CHECKER_URL: service.url, TIMEOUT_MS: '9000' };
    const { done, lines } = await run(t, login({ secrets }), { cache });
    assert.deepEqual([done, service.requests.length, auth0.requests.length], [[], 2, tokens]);
    assert.match(lines[0], line);
    assert.equal(cache.size, 0, 'the next login gets a new token');
    t.mock.restoreAll();
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

test('context that is too long is left out, and the console says so', async (t) => {
  const long = 'x'.repeat(301);
  const { url, requests } = await serve(t, allowed);
  const { lines } = await run(
    t,
    login({
      secrets: { SESSION_CHECKER_URL: url },
      transaction: { protocol: long, prompt: 'none' },
      organization: { id: long },
      connection: { name: 7 },
      authorization: { roles: [long, null, ...Array.from({ length: 200 }, (_, i) => `role ${i}`)] },
    }),
  );
  assert.deepEqual(lines, ['session-limit: context is too long for the service; left out protocol, organization_id, roles (73 of 201)']);
  const [{ json }] = requests;
  assert.deepEqual(Object.keys(json), ['user_id', 'client_id', 'sid', 'prompt', 'roles', 'mfa', 'skip_protocols']);
  assert.deepEqual(json.prompt, ['none']);
  assert.equal(json.roles.length, 128);
  assert.equal(json.roles[0], 'role 0');
});

test('protocols that the Action does not ask about are sent', async (t) => {
  const { url, requests } = await serve(t, allowed);
  const sent = async (SKIP_PROTOCOLS) => {
    const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, SKIP_PROTOCOLS } }));
    return [requests.at(-1).json.skip_protocols, lines];
  };
  for (const [secret, protocols] of [
    [undefined, ['oauth2-refresh-token']],
    [' ', ['oauth2-refresh-token']],
    ['samlp, wsfed', ['samlp', 'wsfed']],
    ['none', []],
    ['none,samlp', ['samlp']],
    [',', []],
  ]) {
    assert.deepEqual(await sent(secret), [protocols, []], secret);
  }
  const line = (cut) => [`session-limit: context is too long for the service; left out skip_protocols (${cut})`];
  const many = Array.from({ length: 17 }, (_, i) => `protocol-${i}`);
  assert.deepEqual(await sent(many.join()), [many.slice(0, 16), line('1 of 17')]);
  assert.deepEqual(await sent(`samlp ${'x'.repeat(101)}`), [['samlp'], line('1 of 2')]);
  assert.deepEqual(await sent('x'.repeat(101)), [undefined, line('1 of 1')], 'an empty list would say that it skips none');
  assert.deepEqual(await sent('x'.repeat(100)), [['x'.repeat(100)], []]);
});

test('context that fits writes no console line', async (t) => {
  const { url } = await serve(t, allowed);
  const fits = { roles: ['', null, 7, ...Array(128).fill('reader')] };
  const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url }, authorization: fits, connection: { name: 'x'.repeat(300) } }));
  assert.deepEqual(lines, []);
});

test('applications of the session beyond the limit are in the line', async (t) => {
  const { url, requests } = await serve(t, allowed);
  const session = { id: 'sid-of-ada', clients: Array.from({ length: 130 }, (_, i) => ({ client_id: `app ${i}` })) };
  const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url }, session }));
  assert.deepEqual(lines, ['session-limit: context is too long for the service; left out clients (2 of 130)']);
  assert.equal(requests[0].json.session.clients.length, 128);
});

test('request is never larger than 16 KiB', async (t) => {
  const { url, requests } = await serve(t, allowed);
  const secrets = { SESSION_CHECKER_URL: url, SKIP_PROTOCOLS: Array(16).fill('€'.repeat(100)).join() };
  const { lines } = await run(t, login({ secrets, organization: { id: 'x'.repeat(301) }, authorization: { roles: Array(200).fill('ü'.repeat(300)) } }));
  assert.deepEqual(lines, ['session-limit: context is too long for the service; left out roles, prompt, amr, session, organization_id']);
  const [{ json, body }] = requests;
  assert.ok(Buffer.byteLength(body) <= 16384);
  assert.ok(!('roles' in json));
  assert.equal(json.connection, 'employees');
  assert.equal(json.skip_protocols.length, 16);
});

// Whether the service is asked

test('protocol that the policy skips continues without a request', async (t) => {
  const { url, requests } = await serve(t, blocked());
  const secrets = { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny' };
  const done = async (protocol, more) => (await run(t, login({ transaction: { protocol }, secrets: { ...secrets, ...more } }))).done.length;
  assert.equal(await done('oauth2-refresh-token'), 0);
  assert.equal(await done('samlp', { SKIP_PROTOCOLS: 'samlp, wsfed' }), 0);
  assert.equal(requests.length, 0);
  assert.equal(await done('oidc-basic-profile'), 1);
  assert.equal(await done(undefined), 1);
  assert.equal(await done('oauth2-refresh-token', { SKIP_PROTOCOLS: 'samlp' }), 1);
  assert.equal(await done('oauth2-refresh-token', { SKIP_PROTOCOLS: 'none' }), 1);
  assert.equal(requests.length, 4);
});

test('refresh token is not blocked while the service is down', async (t) => {
  const secrets = { SESSION_CHECKER_URL: await closedPort(), FAIL_MODE: 'deny' };
  const event = login({ session: undefined, transaction: { protocol: 'oauth2-refresh-token' }, secrets });
  assert.deepEqual(await run(t, event), { done: [], lines: [] });
});

test('only the listed applications are limited', async (t) => {
  const { url } = await serve(t, blocked());
  const isBlocked = async (client, APPLICATIONS) =>
    (await run(t, login({ client, secrets: { SESSION_CHECKER_URL: url, APPLICATIONS } }))).done.length === 1;
  const marked = (value, client_id = 'shop') => ({ client_id, metadata: { session_limit: value } });
  for (const [client, applications, expected] of [
    [{ client_id: 'shop' }, undefined, true],
    [{ client_id: 'shop' }, ' ', true],
    [{ client_id: 'shop' }, 'bank, shop', true],
    [{ client_id: 'shop' }, 'bank\nshop', true],
    [{ client_id: 'shop' }, 'bank,shopping', false],
    [{ client_id: 'shop' }, 'none', false],
    [marked('off'), undefined, false],
    [marked('off'), 'shop', false],
    [marked('on'), 'none', true],
    [{ client_id: 'shop', metadata: null }, 'shop', true],
    [undefined, 'shop', false],
  ]) {
    assert.equal(await isBlocked(client, applications), expected, JSON.stringify([client, applications]));
  }
  const { done, lines } = await run(t, login({ client: marked('yes'), secrets: { SESSION_CHECKER_URL: url } }));
  assert.equal(done.length, 1);
  assert.match(lines[0], /session_limit .* is neither on nor off/);
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
