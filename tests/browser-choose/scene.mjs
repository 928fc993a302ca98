// The scene of the tests: the service and the simulated tenant (scene.rs), the real Action, and Chromium.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

// The certificate of the scene is its own.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');

const require = createRequire(import.meta.url);
const action = require('../../examples/auth0-action/session-limit.js');

export const TENANT = 'https://acme.eu.auth0.com';
export const PAGE = 'https://sessions.test';
export const APP = 'http://app.test/callback';
export const CHROME =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36';
export const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0';
export const IPHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1';

/** Starts everything. `stop` ends it. */
export async function start() {
  const binary = process.env.CHOOSE_SCENE_BIN ?? new URL('../../target/debug/examples/choose-scene', import.meta.url).pathname;
  const child = spawn(binary, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value);
  const addresses = await next();
  const send = async (command) => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    return next();
  };

  const actions = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { handler, event } = JSON.parse(body);
    response.end(JSON.stringify(await runAction(handler, event, addresses.check)));
  });
  actions.listen(0, '127.0.0.1');
  await once(actions, 'listening');
  await send({ actions: `http://127.0.0.1:${actions.address().port}`, user: 'nobody' });

  // A redirect to the application is not seen by `route`, so it is a server.
  const application = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>App</title><p>The application</p>');
  });
  application.listen(0, '127.0.0.1');
  await once(application, 'listening');
  const rules = [
    `MAP acme.eu.auth0.com ${addresses.tenant}`,
    `MAP sessions.test ${addresses.page}`,
    `MAP app.test 127.0.0.1:${application.address().port}`,
  ];
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-features=HttpsUpgrades', `--host-resolver-rules=${rules.join(', ')}`],
  });
  const stop = async () => {
    await browser.close();
    for (const server of [actions, application]) {
      server.closeAllConnections();
      server.close();
    }
    child.stdin.end();
    await once(child, 'exit');
  };
  return { browser, send, stop };
}

/** Runs a handler of the Action, and says what it did with the login. */
async function runAction(handler, event, check) {
  const did = {};
  const api = {
    access: { deny: (message) => (did.deny = message) },
    session: { revoke: async (message) => (did.revoke = message) },
    redirect: { canRedirect: () => true, sendUserTo: (url) => (did.redirect = url) },
  };
  const secrets = { SESSION_CHECKER_URL: check, SESSION_CHECKER_TOKEN: 'a-token-of-the-browser-tests', TIMEOUT_MS: '15000' };
  await action[handler]({ ...event, secrets }, api);
  return did;
}

let users = 0;

/** A new user with sessions of an application: `[user agent, hours since it began]`. */
export async function user({ send }, ...sessions) {
  const name = `auth0|user-${(users += 1)}`;
  for (const [position, [userAgent, hours]] of sessions.entries()) {
    await send({ user: name, add: `${name.replace('|', '-')}-s${position}`, client: 'shop', user_agent: userAgent, hours });
  }
  return name;
}

/** The address at which the application begins a login. */
export function login(name, query = {}) {
  const all = { client_id: 'shop', redirect_uri: APP, state: 'of-the-app', user: name, mfa: '1', ...query };
  return `${TENANT}/authorize?${new URLSearchParams(all)}`;
}

/** A new browser profile. `callbacks` are the addresses at which the application was called back. */
export async function profile({ browser }, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const callbacks = [];
  context.on('request', (request) => {
    if (request.url().startsWith(APP)) callbacks.push(new URL(request.url()));
  });
  return { context, page: await context.newPage(), callbacks };
}
