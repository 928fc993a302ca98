/**
 * Session limit: asks session-checker whether this login exceeds a limit, and blocks the login if so. Under a policy with
 * strategy Ask, the user first chooses which sessions to end, on a page of session-checker.
 *
 * Paste this whole file into a custom Action of the post-login trigger (Node 18 or 22, no dependencies). Put the Action
 * last in the flow, and set its secrets:
 *
 *   SESSION_CHECKER_URL    the address of the service: https://sessions.example.com, with or without /check
 *   SESSION_CHECKER_TOKEN  the bearer token: a value of the policy's callers' Secret
 *   FAIL_MODE              what to do when the service gives no valid answer: allow (default) or deny
 *   TIMEOUT_MS             how long to wait for the answer, a second try included: 100 to 9000, default 4000
 *   TENANT_DOMAIN          only if the token is for policies of several tenants: acme.eu.auth0.com
 *   APPLICATIONS           only if not all applications have a limit: the client ids of those that have one
 *   SKIP_PROTOCOLS         the policy's skipProtocols, if it has its own; none checks every protocol
 *   ERROR_CODE             on writes a code for the application in front of the text for the user (default off)
 *
 * In place of SESSION_CHECKER_TOKEN the Action can send a signed token that Auth0 issues to an application for it. Then
 * set TENANT_DOMAIN, and:
 *
 *   SESSION_CHECKER_CLIENT_ID, SESSION_CHECKER_CLIENT_SECRET   the machine-to-machine application
 *   SESSION_CHECKER_AUDIENCE                                   the API, as in the service's --caller-jwt-audience
 *
 * It never throws: if an Action throws, Auth0 blocks the login and shows the error to the user.
 */

const BLOCKED = 'You are already signed in elsewhere. Sign out there and try again.';
const UNDECIDED = 'Your sign-in could not be checked. Please try again in a moment.';
const LOCAL = ['localhost', '127.0.0.1', '[::1]']; // plain http is for tests on one machine
const MAX_BYTES = 16384; // for the request (the service accepts no more) and for the answer
const MAX_TIMEOUT_MS = 9000; // all Actions of a login together have 20 s, and Auth0 advises less than 10 for a request

exports.onExecutePostLogin = (event, api) => limit(event, api, false);

// The user comes back from the page. The login is checked again, and not sent to the page a second time.
exports.onContinuePostLogin = (event, api) => limit(event, api, true);

/** Checks the login. `continued` says that it comes back from the page. */
async function limit(event, api, continued) {
  try {
    const settings = readSettings(event?.secrets ?? {});
    if (!isLimited(event, settings)) return;
    let answer;
    try {
      answer = await check(event, api, settings, redirection(event, api, continued));
    } catch (error) {
      log(`${describe(error, settings)}; using FAIL_MODE ${settings.failMode}`, requestId(event));
      if (settings.failMode === 'deny') await block(api, { message: UNDECIDED }, codeOf('not_checked', settings));
      return;
    }
    if (!answer.block) {
      log(allowed(answer), answer.request_id);
    } else if (continued || !ask(api, answer)) {
      const reason = word(answer.reason) ?? 'blocked';
      log(`blocked (${reason})`, answer.request_id);
      await block(api, answer, codeOf(reason, settings));
    }
  } catch (error) {
    log(`unexpected error (${error?.name}); the login continues`);
  }
}

/**
 * Whether to ask the service. Without it, FAIL_MODE would block refresh tokens and other applications while the service is
 * down. An application says so for itself in its metadata (`session_limit`, `on` or `off`).
 */
function isLimited(event, { skipProtocols, applications }) {
  if (skipProtocols.includes(event?.transaction?.protocol)) return false;
  const own = event?.client?.metadata?.session_limit;
  if (own === 'on' || own === 'off') return own === 'on';
  if (own !== undefined) log('session_limit in the metadata of the application is neither on nor off');
  return applications.length === 0 || applications.includes(event?.client?.client_id);
}

// The login is within its limits, or the policy says that it has none.
const EXPECTED = ['within_limit', 'exempt', 'skipped_protocol', 'no_session'];

/** What the console says of an allowed login: nothing if a limit holds for it, or is not meant to. */
function allowed(answer) {
  const reason = word(answer.reason);
  if (!reason || EXPECTED.includes(reason)) return undefined;
  if (reason === 'evicted') return `ended other sessions (evicted ${count(answer.revoked_sessions) ?? 0})`;
  if (reason === 'audit') {
    const audited = word(answer.audited_reason) ?? 'unknown';
    return audited === 'evicted' ? 'would end other sessions (evicted)' : `would block (${audited})`;
  }
  return `allowed without a limit (${reason})`;
}

/** What the service has to know about redirects: whether Auth0 can redirect this login, and where it returns to. */
function redirection({ request }, api, continued) {
  let canRedirect = false;
  try {
    canRedirect = api.redirect.canRedirect() === true;
  } catch {
    // A tenant without redirects.
  }
  return { can_redirect: canRedirect || undefined, continued: continued || undefined, hostname: text(request?.hostname) };
}

/** Sends the user to the page that the answer names. Returns false if there is none, and the login has to be blocked. */
function ask(api, { choose, request_id: id }) {
  if (typeof choose?.url !== 'string' || typeof api.redirect?.sendUserTo !== 'function') return false;
  try {
    if (!isSafe(new URL(choose.url))) return false;
    api.redirect.sendUserTo(choose.url);
    log('the user chooses which sessions to end', id);
    return true;
  } catch (error) {
    log(`cannot send the user to the page (${error?.name}); blocking the login`);
    return false;
  }
}

/** Reads the secrets. Logs an invalid value and replaces it. `endpoint` checks the URL. */
function readSettings(secrets) {
  const secret = (name) => String(secrets[name] ?? '').trim();

  let failMode = secret('FAIL_MODE').toLowerCase() || 'allow';
  if (failMode !== 'allow' && failMode !== 'deny') {
    failMode = 'allow';
    log('secret FAIL_MODE is neither allow nor deny; using allow');
  }

  const wanted = Number(secret('TIMEOUT_MS') || 4000);
  const timeoutMs = Math.min(Math.max(wanted || 4000, 100), MAX_TIMEOUT_MS);
  if (timeoutMs !== wanted) log(`secret TIMEOUT_MS is not a number from 100 to ${MAX_TIMEOUT_MS}; using ${timeoutMs}`);

  let tenant = secret('TENANT_DOMAIN') || undefined;
  if (tenant && !/^[a-z0-9.-]{1,253}$/i.test(tenant)) {
    tenant = undefined;
    log('secret TENANT_DOMAIN is not a bare domain; sending no tenant');
  }

  const errorCode = secret('ERROR_CODE').toLowerCase() || 'off';
  if (errorCode !== 'on' && errorCode !== 'off') log('secret ERROR_CODE is neither on nor off; using off');

  const list = (name) => secret(name).split(/[\s,]+/).filter(Boolean);
  const application = {
    client_id: secret('SESSION_CHECKER_CLIENT_ID'),
    client_secret: secret('SESSION_CHECKER_CLIENT_SECRET'),
    audience: secret('SESSION_CHECKER_AUDIENCE'),
  };
  return {
    failMode,
    timeoutMs,
    tenant,
    url: secret('SESSION_CHECKER_URL'),
    token: secret('SESSION_CHECKER_TOKEN'),
    application,
    applications: list('APPLICATIONS'),
    // No protocol is called none, so that this word alone skips nothing.
    skipProtocols: secret('SKIP_PROTOCOLS') ? list('SKIP_PROTOCOLS').filter((name) => name !== 'none') : ['oauth2-refresh-token'],
    hasErrorCode: errorCode === 'on',
  };
}

/**
 * Sends the check and returns the answer. Throws if there is no valid one within the time limit.
 *
 * A failure that may be over in a moment is tried again once, and so is a token from the cache that the service does not
 * accept. That is safe, also when the service has received the first try: a check that is repeated gets the same decision.
 */
async function check(event, api, settings, redirect) {
  const endsAt = Date.now() + settings.timeoutMs;
  const url = endpoint(settings.url);
  const body = requestBody(event, settings, redirect);
  const signal = AbortSignal.timeout(settings.timeoutMs); // for both tries together
  const attempt = async () => {
    const { token, isCached } = await callerToken(api, settings, signal);
    try {
      return await send(url, { body, headers: headers(event, token), signal });
    } catch (error) {
      if (!settings.application.client_id || error?.response?.status !== 401) throw error;
      // A signed token that the service does not accept is not kept. A fresh one may be accepted where one from the cache is
      // not: the tenant has another key by now, or the API another identifier.
      api.cache?.delete(CACHE_KEY);
      throw isCached ? new StaleTokenError() : error;
    }
  };
  let failure;
  try {
    return await attempt();
  } catch (error) {
    const pause = pauseMs(error);
    // The second try gets at least as long as the pause. A server that asks for more time is not ready in time.
    if (pause === undefined || pause > (endsAt - Date.now()) / 2) throw error;
    failure = describe(error, settings);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  let answer;
  try {
    answer = await attempt();
  } catch (error) {
    throw new CheckError(`${failure}; second try: ${describe(error, settings)}`);
  }
  log(`${failure}; the second try succeeded`);
  return answer;
}

/** Sends one request. Throws on anything but a 200 with a boolean `block`. */
async function send(url, request) {
  const answer = await post(url, request, 'the service', { 401: ', check the secret SESSION_CHECKER_TOKEN' });
  if (typeof answer?.block !== 'boolean') throw new CheckError('the answer has no boolean "block"');
  return answer;
}

/** Posts JSON and returns the JSON of the answer. Throws on anything but a 200. */
async function post(url, request, peer, hints = {}) {
  // A token must not go to another address.
  const response = await fetch(url, { ...request, method: 'POST', redirect: 'manual' });
  if (response.status !== 200) {
    await response.body?.cancel().catch(() => {});
    throw new CheckError(`${peer} answered ${response.status}${hints[response.status] ?? ''}`, response);
  }
  return JSON.parse(await read(response.body));
}

// Auth0 bills machine-to-machine tokens, and a login should not wait for one. Auth0 keeps the cache for a day at most.
const CACHE_KEY = 'session-checker-token';
const DAY_S = 86400;

/** The caller's token: the secret, or a signed one that Auth0 issues to the Action's application, now or before. */
async function callerToken(api, { token, tenant, application }, signal) {
  if (!application.client_id) return { token };
  const cached = api.cache?.get(CACHE_KEY)?.value;
  if (cached) return { token: cached, isCached: true };
  if (!tenant || !application.client_secret || !application.audience) {
    throw new CheckError('a secret for signed tokens is missing (TENANT_DOMAIN, …_CLIENT_SECRET, …_AUDIENCE)');
  }
  const body = JSON.stringify({ grant_type: 'client_credentials', ...application });
  const headers = { 'Content-Type': 'application/json', Accept: 'application/json' };
  const issued = await post(new URL(`https://${tenant}/oauth/token`), { body, headers, signal }, 'Auth0');
  if (typeof issued?.access_token !== 'string') throw new CheckError('Auth0 issued no token');
  // It is renewed before it expires, in milliseconds.
  const ttl = Math.min(Number(issued.expires_in) || 300, DAY_S) * 900;
  api.cache?.set(CACHE_KEY, issued.access_token, { ttl });
  return { token: issued.access_token };
}

// A connection that could not be made or ended early: a proxy or a Pod that restarts.
const BROKEN = ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'];
// What a proxy answers when it did not reach the service (520 to 523 are Cloudflare's), and 503 of a starting Pod.
const UNREACHED = [408, 502, 503, 504, 520, 521, 522, 523];
// A proxy needs less time to choose another Pod. The pause is random, so that failed logins do not come back together.
const PAUSE_MS = 100;

/** How long to wait before the second try. Undefined if a second try cannot change the result. */
function pauseMs(error) {
  if (error instanceof StaleTokenError) return 0;
  const pause = Math.floor(Math.random() * PAUSE_MS);
  if (!(error instanceof CheckError)) return BROKEN.includes(error?.cause?.code) ? pause : undefined;
  const { status, headers } = error.response ?? {};
  if (status !== 429 && !UNREACHED.includes(status)) return undefined;
  const wanted = retryAfterMs(headers);
  if (wanted === undefined && status === 429) return undefined; // nothing says that the limit ends soon
  return wanted ?? pause;
}

/** `Retry-After` in milliseconds. A date is compared with the `Date` of the same answer, because clocks differ. */
function retryAfterMs(headers) {
  const value = headers.get('retry-after')?.trim();
  if (!value) return undefined;
  if (/^[0-9]+$/.test(value)) return Number(value) * 1000;
  const ms = /[a-z]{3}/i.test(value) ? Date.parse(value) - (Date.parse(headers.get('date')) || Date.now()) : NaN;
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}

/** The URL of `/check`. It must use HTTPS, except on loopback. */
function endpoint(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new CheckError('secret SESSION_CHECKER_URL is missing or not a URL');
  }
  if (!isSafe(url)) throw new CheckError('secret SESSION_CHECKER_URL is not an https URL');
  url.pathname = `${url.pathname.replace(/\/+$/, '').replace(/\/check$/, '')}/check`;
  return url;
}

/** Whether a URL uses HTTPS, or http on one machine. */
const isSafe = ({ protocol, hostname }) => protocol === 'https:' || (protocol === 'http:' && LOCAL.includes(hostname));

function headers(event, token) {
  const result = { 'Content-Type': 'application/json', Accept: 'application/json' };
  if (token) result.Authorization = `Bearer ${token}`;
  const id = requestId(event);
  if (id) result['X-Request-Id'] = id;
  return result;
}

/** The id of the request, if Auth0 has one that the service accepts. The service uses it in its log line and its trace. */
function requestId({ transaction }) {
  return [transaction?.id, transaction?.correlation_id].find(isRequestId);
}

const isRequestId = (value) => typeof value === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(value);

/** The body of the request: the login, and the context that selectors and overrides use. */
function requestBody(event, { tenant, skipProtocols }, redirect) {
  const methods = [event.authentication?.methods].flat().map((method) => method?.name);
  const context = {
    protocol: event.transaction?.protocol,
    prompt: event.transaction?.prompt,
    organization_id: event.organization?.id,
    connection: event.connection?.name,
    roles: event.authorization?.roles,
    // What the user's identity provider says, if its connection maps the claim to the profile. It is of this login only if
    // the provider did this login.
    amr: methods.includes('federated') ? event.user?.amr : undefined,
    clients: [event.session?.clients].flat().map((client) => client?.client_id),
    skip_protocols: skipProtocols,
  };
  const fields = {
    user_id: event.user?.user_id,
    client_id: event.client?.client_id,
    sid: event.session?.id ?? null, // a refresh-token exchange and a password grant have none
    protocol: text(context.protocol),
    prompt: texts(context.prompt),
    organization_id: text(context.organization_id),
    connection: text(context.connection),
    roles: texts(context.roles),
    mfa: methods.includes('mfa') || methods.includes('passkey'), // a passkey asks for a PIN, a finger or a face
    amr: texts(context.amr),
    actor: event.session?.actor ? true : undefined, // somebody else acts as the user
    session_transfer_token: openedBy(event.session_transfer_token), // an app opened this login as a web view
    locale: locale(event),
    session: sessionOf(event.session, texts(context.clients)),
    logins_count: count(event.stats?.logins_count),
    ...redirect,
    tenant, // not event.tenant.id, which is a name and not a domain
    // The service reports a protocol that is in this list and that the policy limits.
    skip_protocols: skipProtocols.length > 0 ? texts(skipProtocols, BOUNDS.skip_protocols) : [],
  };
  const body = JSON.stringify(fields);
  const long = Buffer.byteLength(body) > MAX_BYTES ? ['roles', 'prompt', 'amr', 'session'] : [];
  const others = Object.entries(context).filter(([name]) => !long.includes(name));
  const cut = [...long, ...others.flatMap(([name, values]) => cutOf(name, values))];
  if (cut.length > 0) log(`context is too long for the service; left out ${cut.join(', ')}`);
  return JSON.stringify({ ...fields, ...Object.fromEntries(long.map((name) => [name, undefined])) });
}

const DATES = ['created_at', 'authenticated_at', 'updated_at', 'last_interacted_at', 'idle_expires_at', 'expires_at'];

/** When the session was used, and by which applications. Its addresses, devices and metadata stay here. */
function sessionOf(session, ids) {
  const dates = DATES.map((name) => [name, text(session?.[name] instanceof Date ? session[name].toJSON() : session?.[name])]);
  const fields = { ...Object.fromEntries(dates), clients: ids?.map((id) => ({ client_id: id })) };
  return Object.values(fields).some(Boolean) ? fields : undefined;
}

const count = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : undefined);

/** The application that opened the login. The token's request, with its address and browser, stays here. */
function openedBy(token) {
  const clientId = text(token?.client_id);
  return clientId && { client_id: clientId };
}

/** The user's language: of the login page, else the first one that the application or the browser asks for. */
function locale({ transaction, request }) {
  const wanted = [transaction?.locale, transaction?.ui_locales, request?.language].flat();
  return wanted.flatMap((value) => text(value)?.match(/[^ ]+/g) ?? [])[0];
}

// The service rejects context that is too long. Without it the limit still applies, and no login is blocked for it.
const MAX_CHARS = 300;
const MAX_TEXTS = 128;
// Protocols are few and short. Within these bounds their list leaves room for the other context.
const BOUNDS = { skip_protocols: { maxTexts: 16, maxChars: 100 } };
const text = (value, maxChars = MAX_CHARS) => (typeof value === 'string' && value.length > 0 && value.length <= maxChars ? value : undefined);
const texts = (values, { maxTexts, maxChars } = { maxTexts: MAX_TEXTS, maxChars: MAX_CHARS }) => {
  const kept = [values].flat().filter((value) => text(value, maxChars));
  return kept.length > 0 ? kept.slice(0, maxTexts) : undefined;
};

/** Says how many of these `text` or `texts` leave out because they are too long or too many, and not what they are. */
const cutOf = (name, values) => {
  const given = [values].flat().filter((value) => typeof value === 'string' && value.length > 0);
  const cut = given.length - (texts(given, BOUNDS[name])?.length ?? 0);
  return cut > 0 ? [Array.isArray(values) ? `${name} (${cut} of ${given.length})` : name] : [];
};

/** Reads the body of the answer. Throws if it is longer than MAX_BYTES. */
async function read(body) {
  const chunks = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > MAX_BYTES) throw new CheckError('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Blocks the login. Ends its new session if the service says so and the plan has `api.session.revoke`. */
async function block(api, { message, revoke_session: revokeSession }, code) {
  const shown = code + (typeof message === 'string' && message.trim() ? message : BLOCKED);
  if (revokeSession === true && typeof api.session?.revoke === 'function') {
    try {
      await api.session.revoke(shown);
      return;
    } catch (error) {
      log(`cannot revoke the session (${error?.name}); only blocking the login`);
    }
  }
  api.access.deny(shown);
}

/** What stands in front of the text for the user: the code that an application reads, if ERROR_CODE is on. */
const codeOf = (reason, { hasErrorCode }) => (hasErrorCode ? `session_limit.${reason}: ` : '');

/** A machine word of an answer. */
const word = (value) => (typeof value === 'string' && /^[a-z_]{1,40}$/.test(value) ? value : undefined);

/** An error whose message is safe to log. Other messages can contain the address or the token. */
class CheckError extends Error {
  constructor(message, response) {
    super(message);
    this.response = response;
  }
}

/** The service does not accept a token that comes from the cache. */
class StaleTokenError extends CheckError {
  constructor() {
    super('the service answered 401 to the cached token');
  }
}

function describe(error, { timeoutMs }) {
  if (error instanceof CheckError) return error.message;
  if (error?.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  if (error?.name === 'SyntaxError') return 'the answer is not JSON';
  return `the request to the service failed (${error?.cause?.code ?? error?.name})`;
}

/** Auth0 keeps 256 characters of an Action's output, so lines are short. They never contain the user. */
function log(line, id) {
  if (line) console.log(`session-limit: ${line}${isRequestId(id) ? `, request ${id}` : ''}`);
}
