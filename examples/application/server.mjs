// A small web application that shows why a login was blocked. It needs only Node 18 or later:
//
//   AUTH0_DOMAIN=acme.eu.auth0.com AUTH0_CLIENT_ID=… node server.mjs
//
// Allow http://127.0.0.1:8080/callback as a callback URL of the application in Auth0. What follows a login that succeeds
// (the exchange of the code for tokens) is left out: use a library for it.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { blockedLogin } from './login-error.mjs';

const COOKIE = 'login-state';

const TITLES = {
  'sign-out-elsewhere': 'Too many devices',
  'sign-in-again': 'Please sign in again',
  'try-later': 'We could not sign you in',
};

const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

function send(response, status, title, body) {
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  });
  response.end(`<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1>${body}</html>\n`);
}

/** The listener of the application. `origin` is its own address. */
export function application({ domain, clientId, origin }) {
  const routes = {
    '/': (_, response) => send(response, 200, 'Welcome', '<p><a href="/login">Sign in</a></p>'),

    '/login'(url, response) {
      const state = randomBytes(16).toString('base64url');
      const authorize = new URL(`https://${domain}/authorize`);
      authorize.search = new URLSearchParams({
        response_type: 'code',
        client_id: clientId,
        redirect_uri: `${origin}/callback`,
        scope: 'openid',
        state,
        // Without it, Auth0 would use the same session again, and the login would be blocked again.
        ...(url.searchParams.has('again') && { prompt: 'login' }),
      });
      response.writeHead(302, { location: authorize.href, 'set-cookie': `${COOKIE}=${state}; HttpOnly; SameSite=Lax; Path=/callback` });
      response.end();
    },

    '/callback'(url, response, cookies) {
      const parameters = url.searchParams;
      // Anybody can make a link to this page with a text of their own. Only an answer to this browser's login is shown.
      if (!cookies[COOKIE] || parameters.get('state') !== cookies[COOKIE]) {
        return send(response, 400, 'This link is not valid', '<p><a href="/login">Sign in</a></p>');
      }
      const blocked = blockedLogin(parameters);
      if (blocked) {
        const again = '<p><a href="/login?again">Try again</a></p>';
        return send(response, 403, TITLES[blocked.action], `<p data-code="${blocked.code}">${escapeHtml(blocked.text)}</p>${again}`);
      }
      if (parameters.has('error')) return send(response, 403, 'Sign-in failed', '<p><a href="/login?again">Try again</a></p>');
      return send(response, 200, 'Signed in', '<p>Exchange the code for tokens here.</p>');
    },
  };

  return (request, response) => {
    const url = new URL(request.url, origin);
    const cookies = Object.fromEntries((request.headers.cookie ?? '').split(/; */).map((pair) => pair.split('=', 2)));
    const route = Object.hasOwn(routes, url.pathname) ? routes[url.pathname] : undefined;
    if (route) return route(url, response, cookies);
    return send(response, 404, 'Not found', '');
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { AUTH0_DOMAIN: domain, AUTH0_CLIENT_ID: clientId, PORT = '8080' } = process.env;
  if (!domain || !clientId) {
    console.error('set AUTH0_DOMAIN and AUTH0_CLIENT_ID');
    process.exit(64);
  }
  const origin = `http://127.0.0.1:${PORT}`;
  createServer(application({ domain, clientId, origin })).listen(Number(PORT), '127.0.0.1', () => console.log(origin));
}
