// The Action against a scripted server: every answer that it can get, and none at all.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { login, run, TOKEN } from './actions-api.mjs';

const DENIED = 'You are already signed in elsewhere. Sign out there and try again.';
const UNANSWERED = 'Your sign-in could not be checked just now. Please try again in a moment.';

/** Serves `handler(response)` on loopback until the test ends, and writes down what it was asked. */
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

/** The question that a login becomes. */
async function asked(t, event) {
  const { url, requests } = await serve(t, allowed);
  event.secrets.SESSION_CHECKER_URL ??= url;
  await run(t, event);
  assert.equal(requests.length, 1);
  return requests[0];
}

/** A closed port of this machine. */
async function nobody() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}

// What the Action asks

test('the question holds what is known of the login, and the bearer token', async (t) => {
  const { method, url, headers, json } = await asked(t, login());
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

test('a login without a session, as of a refresh token, is asked with sid null', async (t) => {
  const { json, headers } = await asked(
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

test('mfa is true only when a second factor was completed', async (t) => {
  const mfa = async (methods) => (await asked(t, login({ authentication: { methods } }))).json.mfa;
  assert.equal(await mfa([{ name: 'pwd' }, { name: 'mfa' }]), true);
  assert.equal(await mfa([null, { name: 'passkey' }]), false);
  assert.equal(await mfa(null), false);
});

test('the URL may be the base or the check itself', async (t) => {
  for (const [given, path] of [['', '/check'], ['/', '/check'], ['/check', '/check'], ['/check/', '/check'], ['/limits', '/limits/check'], ['/limits/check', '/limits/check']]) {
    const { url, requests } = await serve(t, allowed);
    await run(t, login({ secrets: { SESSION_CHECKER_URL: ` ${url}${given}\n` } }));
    assert.deepEqual(requests.map((request) => request.url), [path], given);
  }
});

test('the tenant is what the secret says and never a guess', async (t) => {
  assert.equal((await asked(t, login({ secrets: { TENANT_DOMAIN: ' acme.eu.auth0.com ' } }))).json.tenant, 'acme.eu.auth0.com');
  assert.ok(!('tenant' in (await asked(t, login())).json));

  const { url, requests } = await serve(t, allowed);
  const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TENANT_DOMAIN: 'https://acme.eu.auth0.com/' } }));
  assert.ok(!('tenant' in requests[0].json));
  assert.match(lines[0], /TENANT_DOMAIN/);
});

test('without a token none is sent', async (t) => {
  const { headers } = await asked(t, login({ secrets: { SESSION_CHECKER_TOKEN: '' } }));
  assert.ok(!('authorization' in headers));
});

test('the request id is one that the service takes, or none', async (t) => {
  const id = async (transaction) => (await asked(t, login({ transaction }))).headers['x-request-id'];
  assert.equal(await id({ id: 'x'.repeat(65), correlation_id: 'order.66_b-1' }), 'order.66_b-1');
  assert.equal(await id({ id: 'two\r\nlines', correlation_id: 'né' }), undefined);
  assert.equal(await id(null), undefined);
});

test('over-long context is left out and the login is checked all the same', async (t) => {
  const long = 'x'.repeat(301);
  const { json } = await asked(
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

test('a question stays within the 16 KiB that the service reads', async (t) => {
  const { json, body } = await asked(t, login({ authorization: { roles: Array(128).fill('ü'.repeat(300)) } }));
  assert.ok(Buffer.byteLength(body) <= 16384);
  assert.ok(!('roles' in json));
  assert.equal(json.connection, 'employees');
});

// What the Action does with an answer

test('an allowed login goes on untouched and unmentioned', async (t) => {
  const { url } = await serve(t, allowed);
  assert.deepEqual(await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'deny' } })), { done: [], lines: [] });
});

test('a blocked login is denied with the message of the policy', async (t) => {
  const { url } = await serve(t, blocked());
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
  assert.deepEqual(done, [['deny', 'Too many.']]);
  assert.deepEqual(lines, ['session-limit: denied: limit_exceeded']);
});

test('a blocked login without a message is denied with a plain sentence', async (t) => {
  for (const message of [undefined, '', 7]) {
    const { url } = await serve(t, blocked({ message }));
    assert.deepEqual((await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }))).done, [['deny', DENIED]]);
  }
});

test('the session of a refused login is revoked where the service says so', async (t) => {
  const { url } = await serve(t, blocked({ revoke_session: true }));
  const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }));
  assert.deepEqual(done, [['revoke', 'Too many.']]);
});

test('a plan without revocation denies instead', async (t) => {
  const { url } = await serve(t, blocked({ revoke_session: true }));
  for (const revoke of ['missing', 'throws']) {
    const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }), { revoke });
    assert.deepEqual(done, [['deny', 'Too many.']], revoke);
  }
});

test('an allowed login is never revoked', async (t) => {
  const { url } = await serve(t, answer(200, { block: false, revoke_session: true }));
  assert.deepEqual((await run(t, login({ secrets: { SESSION_CHECKER_URL: url } }))).done, []);
});

// What the Action does without an answer

/** Both fail modes, on a service that gives no proper answer; `line` is what the console has to say. */
async function failsAsTold(t, url, line, secrets = {}) {
  const both = { allow: [], ALLOW: [], '': [], deny: [['deny', UNANSWERED]], ' Deny\n': [['deny', UNANSWERED]] };
  for (const [FAIL_MODE, expected] of Object.entries(both)) {
    const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE, ...secrets } }));
    assert.deepEqual(done, expected, `FAIL_MODE ${JSON.stringify(FAIL_MODE)}`);
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0], line);
  }
}

test('a service that is down', async (t) => failsAsTold(t, await nobody(), /could not be asked \(ECONNREFUSED\); FAIL_MODE: (allow|deny)$/));

test('a service that does not answer in time', async (t) => {
  const { url } = await serve(t, () => {});
  await failsAsTold(t, url, /no answer within 100 ms/, { TIMEOUT_MS: '100' });
});

test('a service that does not end its answer in time', async (t) => {
  const { url } = await serve(t, (response) => response.writeHead(200).write('{"block":'));
  await failsAsTold(t, url, /no answer within 100 ms/, { TIMEOUT_MS: '100' });
});

test('an answer cut short', async (t) => {
  const { url } = await serve(t, (response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('{"block":', () => response.destroy());
  });
  await failsAsTold(t, url, /could not be asked/);
});

test('a token that the service does not know names the secret to look at', async (t) => {
  const { url } = await serve(t, answer(401, { error: 'unauthorized', message: 'unknown caller', request_id: 'r' }));
  await failsAsTold(t, url, /answered 401, check the secret SESSION_CHECKER_TOKEN/);
});

for (const status of [201, 204, 400, 403, 404, 422, 500, 503]) {
  test(`an answer of ${status}, whatever it holds`, async (t) => {
    const { url } = await serve(t, answer(status, { block: true }));
    await failsAsTold(t, url, new RegExp(`answered ${status};`));
  });
}

test('a redirect is not followed', async (t) => {
  const elsewhere = await serve(t, blocked());
  const { url } = await serve(t, answer(307, '', { location: `${elsewhere.url}/check` }));
  await failsAsTold(t, url, /answered 307/);
  assert.equal(elsewhere.requests.length, 0);
});

test('a body that is not what the contract says', async (t) => {
  for (const [body, line] of [
    ['<html>', /not JSON/],
    ['', /not JSON/],
    ['null', /whether to block/],
    ['[]', /whether to block/],
    ['{}', /whether to block/],
    ['{"block":"true"}', /whether to block/],
    [`{"block":true,"message":"${'x'.repeat(20000)}"}`, /too long/],
  ]) {
    const { url } = await serve(t, answer(200, body));
    await failsAsTold(t, url, line);
  }
});

test('a token that no header can hold', async (t) => {
  const { url, requests } = await serve(t, allowed);
  await failsAsTold(t, url, /could not be asked/, { SESSION_CHECKER_TOKEN: 'two\nlines' });
  assert.equal(requests.length, 0);
});

test('an address that is missing, is none, or would send the token in the clear', async (t) => {
  for (const url of [undefined, '', 'sessions.example.com', 'http://sessions.example.com', 'ftp://127.0.0.1']) {
    await failsAsTold(t, url, /SESSION_CHECKER_URL/);
  }
  await failsAsTold(t, 'https://ada:secret-word@127.0.0.1/', /could not be asked \(TypeError\)/);
});

test('a bad FAIL_MODE allows, is told, and the limit still holds', async (t) => {
  const { done, lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: await nobody(), FAIL_MODE: 'closed' } }));
  assert.deepEqual(done, []);
  assert.match(lines[0], /FAIL_MODE is neither allow nor deny/);

  const { url } = await serve(t, blocked());
  const still = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, FAIL_MODE: 'closed' } }));
  assert.deepEqual(still.done, [['deny', 'Too many.']]);
});

test('a bad TIMEOUT_MS is told and replaced by one that fits', async (t) => {
  const { url } = await serve(t, allowed);
  for (const [given, used] of [['soon', 4000], ['0', 4000], ['4', 100], ['-1', 100], ['60000', 15000], ['Infinity', 15000]]) {
    const { lines } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, TIMEOUT_MS: given } }));
    assert.equal(lines[0], `session-limit: secret TIMEOUT_MS is not 100 to 15000; using ${used}`, given);
  }
});

// What the Action never does

test('no event makes it throw', async (t) => {
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
    assert.deepEqual(done, event?.secrets?.FAIL_MODE === 'deny' ? [['deny', UNANSWERED]] : []);
  }
});

test('no api makes it throw', async (t) => {
  const { onExecutePostLogin } = await import('./session-limit.js');
  const { url } = await serve(t, blocked({ revoke_session: true }));
  const lines = [];
  t.mock.method(console, 'log', (line) => lines.push(line));
  for (const api of [undefined, null, {}, { access: null, session: null }, { access: { deny() { throw new Error('no'); } } }]) {
    await onExecutePostLogin(login({ secrets: { SESSION_CHECKER_URL: url } }), api);
    assert.match(lines.at(-1), /cannot go on/);
  }
});
