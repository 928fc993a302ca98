// What Auth0 passes to a post-login Action, simulated for the tests: the event, and an `api` that records what the
// Action does with the login. And a scripted server in place of the service.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { onContinuePostLogin, onExecutePostLogin } from './session-limit.js';

export const BLOCKED = 'You are already signed in elsewhere. Sign out there and try again.';
export const UNDECIDED = 'Your sign-in could not be checked. Please try again in a moment.';
export const TOKEN = 'a-bearer-token-of-the-tests';

/** A login event with the fields that the Action reads. A test can replace each field. */
export function login({ secrets, ...fields } = {}) {
  return {
    secrets: { SESSION_CHECKER_TOKEN: TOKEN, ...secrets },
    user: { user_id: 'auth0|ada', email: 'ada@example.com' },
    client: { client_id: 'shop', name: 'Shop' },
    session: { id: 'sid-of-ada' },
    tenant: { id: 'acme' },
    transaction: { id: 'transaction-1', protocol: 'oidc-basic-profile', prompt: ['login'] },
    connection: { id: 'con_1', name: 'employees', strategy: 'auth0' },
    organization: { id: 'org_1', name: 'acme' },
    authorization: { roles: ['reader'] },
    authentication: { methods: [{ name: 'pwd', timestamp: '2026-01-01T00:00:00.000Z' }] },
    ...fields,
  };
}

/**
 * Runs the Action on a login. `revoke` is what `api.session.revoke` does: 'works' (as on an Enterprise plan), 'missing'
 * or 'throws'. `cache` is what `api.cache` holds. `redirect` is whether Auth0 can redirect the login, or 'throws', or
 * 'missing'. `continued` runs the handler for a user who comes back from a page. Returns what the Action did
 * (`[['deny', message]]`, `[['revoke', message]]`, `[['redirect', url]]` or `[]`) and its console lines.
 */
export async function run(t, event, { revoke = 'works', cache = new Map(), redirect = false, continued = false } = {}) {
  const done = [];
  const api = {
    cache: {
      get: (key) => cache.get(key),
      set: (key, value, { ttl }) => cache.set(key, { value, expires_at: Date.now() + ttl }),
      delete: (key) => cache.delete(key),
    },
    access: { deny: (...message) => (done.push(['deny', ...message]), api) },
    session: {
      revoke: (...message) => {
        if (revoke === 'throws') throw new Error('not in this plan');
        return done.push(['revoke', ...message]), api;
      },
    },
  };
  if (revoke === 'missing') delete api.session;
  api.redirect = {
    canRedirect: () => redirect === true || redirect === 'throws',
    sendUserTo: (...url) => {
      if (redirect === 'throws') throw new TypeError('not here');
      return done.push(['redirect', ...url]), api;
    },
  };
  if (redirect === 'missing') delete api.redirect;

  const lines = [];
  const console_ = t.mock.method(console, 'log', (line) => lines.push(line));
  try {
    const handler = continued ? onContinuePostLogin : onExecutePostLogin;
    assert.equal(await handler(event, api), undefined);
  } finally {
    console_.mock.restore();
  }

  const output = lines.join('\n');
  assert.ok(output.length <= 256, `Auth0 keeps 256 characters of output, not ${output.length}: ${output}`);
  for (const secret of [event?.user?.user_id, event?.session?.id, event?.secrets?.SESSION_CHECKER_TOKEN, event?.secrets?.SESSION_CHECKER_CLIENT_SECRET]) {
    // A shorter value can be part of an ordinary sentence.
    if (secret?.length >= 8) assert.ok(!output.includes(secret), `the output contains ${secret}: ${output}`);
  }
  return { done, lines };
}

/** Serves `handler(response)` on loopback until the test ends, and records the requests. */
export async function serve(t, handler) {
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

export const answer = (status, body, headers = {}) => (response) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
};
export const allowed = answer(200, { block: false, reason: 'within_limit', revoke_session: false, request_id: 'r' });
export const blocked = (fields) =>
  answer(200, { block: true, reason: 'limit_exceeded', revoke_session: false, request_id: 'r', message: 'Too many.', ...fields });

/** The request that the Action sends for a login. */
export async function requestFor(t, event) {
  const { url, requests } = await serve(t, allowed);
  event.secrets.SESSION_CHECKER_URL ??= url;
  await run(t, event);
  assert.equal(requests.length, 1);
  return requests[0];
}

/** The URL of a closed port on loopback. */
export async function closedPort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}

/** Answers the n-th request by the n-th handler, and every later one by the last. */
export const inTurn = (...handlers) => (response, requests) => handlers[Math.min(requests.length, handlers.length) - 1](response);
