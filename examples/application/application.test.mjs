// Tests of the example, with the Action itself: the text that it gives Auth0 comes back to the application.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { answer, login, run, serve } from '../auth0-action/actions-api.mjs';
import { blockedLogin } from './login-error.mjs';
import { application } from './server.mjs';

/** Starts the application until the test ends. Returns a function that requests a path of it, and follows no redirect. */
async function started(t) {
  const server = createServer(application({ domain: 'acme.eu.auth0.com', clientId: 'shop', origin: 'http://127.0.0.1:8080' }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => (server.closeAllConnections(), server.close()));
  return async (path, cookie) => {
    const headers = cookie ? { cookie } : {};
    const response = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers, redirect: 'manual' });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
}

/** What Auth0 sends to the callback when the service gives an answer and the Action blocks the login. */
async function callback(t, fields, secrets = {}) {
  const { url } = await serve(t, answer(200, { block: true, revoke_session: false, request_id: 'r', ...fields }));
  const { done } = await run(t, login({ secrets: { SESSION_CHECKER_URL: url, ERROR_CODE: 'on', ...secrets } }));
  return new URLSearchParams({ error: 'access_denied', error_description: done[0][1] });
}

test('code and text of the Action are told apart', async (t) => {
  for (const [reason, action] of [
    ['limit_exceeded', 'sign-out-elsewhere'],
    ['session_revoked', 'sign-in-again'],
    ['no_session', 'sign-in-again'],
    ['upstream_timeout', 'try-later'],
    ['constructor', 'try-later'],
  ]) {
    const message = 'Zu viele Geräte: 2 von 1.\nBitte melden Sie sich ab.';
    assert.deepEqual(blockedLogin(await callback(t, { reason, message })), { code: reason, text: message, action });
  }
});

test('other errors are not those of the Action', async (t) => {
  const other = (error, description) => blockedLogin(new URLSearchParams({ error, error_description: description }));
  assert.equal(other('access_denied', 'Access on weekdays only.'), undefined);
  assert.equal(other('login_required', 'session_limit.limit_exceeded: text'), undefined);
  assert.equal(blockedLogin(new URLSearchParams()), undefined);
  const off = await callback(t, { reason: 'limit_exceeded', message: 'Too many.' }, { ERROR_CODE: 'off' });
  assert.equal(blockedLogin(off), undefined);
});

test('blocked user reads the text, and signs in again with credentials', async (t) => {
  const get = await started(t);
  const first = await get('/login');
  const authorize = new URL(first.headers.get('location'));
  assert.equal(authorize.searchParams.has('prompt'), false);
  const cookie = first.headers.get('set-cookie').split(';')[0];

  const parameters = await callback(t, { reason: 'limit_exceeded', message: 'Sign out <b>elsewhere</b>.' });
  parameters.set('state', authorize.searchParams.get('state'));
  const { status, text } = await get(`/callback?${parameters}`, cookie);
  assert.equal(status, 403);
  assert.match(text, /<h1>Too many devices<\/h1><p data-code="limit_exceeded">Sign out &#60;b&#62;elsewhere&#60;\/b&#62;\.<\/p>/);
  assert.match(text, /href="\/login\?again"/);
  const again = new URL((await get('/login?again')).headers.get('location'));
  assert.equal(again.searchParams.get('prompt'), 'login');
});

test('text in a link that answers no login is not shown', async (t) => {
  const get = await started(t);
  const parameters = await callback(t, { reason: 'limit_exceeded', message: 'Call this number.' });
  for (const [state, cookie] of [[undefined, undefined], ['a', undefined], ['a', 'login-state=b'], ['', 'login-state=']]) {
    if (state !== undefined) parameters.set('state', state);
    const { status, text } = await get(`/callback?${parameters}`, cookie);
    assert.equal(status, 400);
    assert.doesNotMatch(text, /Call this number/);
  }
});
