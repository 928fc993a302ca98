/**
 * Session limit: asks session-checker whether this login exceeds a limit, and blocks the login if so.
 *
 * Paste this whole file into a custom Action of the post-login trigger (Node 18 or 22, no dependencies). Put the Action
 * last in the flow, and set its secrets:
 *
 *   SESSION_CHECKER_URL    the address of the service: https://sessions.example.com, with or without /check
 *   SESSION_CHECKER_TOKEN  the bearer token: a value of the policy's callers' Secret
 *   FAIL_MODE              what to do when the service gives no valid answer: allow (default) or deny
 *   TIMEOUT_MS             how long to wait for the answer: 100 to 15000, default 4000
 *   TENANT_DOMAIN          only if the token is for policies of several tenants: acme.eu.auth0.com
 *
 * It never throws: if an Action throws, Auth0 blocks the login and shows the error to the user.
 */

const BLOCKED = 'You are already signed in elsewhere. Sign out there and try again.';
const UNDECIDED = 'Your sign-in could not be checked. Please try again in a moment.';
const MAX_BYTES = 16384; // for the request (the service accepts no more) and for the answer

exports.onExecutePostLogin = async (event, api) => {
  try {
    const settings = readSettings(event?.secrets ?? {});
    let answer;
    try {
      answer = await check(event, settings);
    } catch (error) {
      log(`${describe(error, settings)}; using FAIL_MODE ${settings.failMode}`);
      answer = { block: settings.failMode === 'deny', message: UNDECIDED };
    }
    if (answer.block) await block(api, answer);
  } catch (error) {
    log(`unexpected error (${error?.name}); the login continues`);
  }
};

/** Reads the secrets. Logs an invalid value and replaces it. `endpoint` checks the URL. */
function readSettings(secrets) {
  const secret = (name) => String(secrets[name] ?? '').trim();

  let failMode = secret('FAIL_MODE').toLowerCase() || 'allow';
  if (failMode !== 'allow' && failMode !== 'deny') {
    failMode = 'allow';
    log('secret FAIL_MODE is neither allow nor deny; using allow');
  }

  const wanted = Number(secret('TIMEOUT_MS') || 4000);
  const timeoutMs = Math.min(Math.max(wanted || 4000, 100), 15000); // all Actions of a login together have 20 s
  if (timeoutMs !== wanted) log(`secret TIMEOUT_MS is not a number from 100 to 15000; using ${timeoutMs}`);

  let tenant = secret('TENANT_DOMAIN') || undefined;
  if (tenant && !/^[a-z0-9.-]{1,253}$/i.test(tenant)) {
    tenant = undefined;
    log('secret TENANT_DOMAIN is not a bare domain; sending no tenant');
  }

  return { failMode, timeoutMs, tenant, url: secret('SESSION_CHECKER_URL'), token: secret('SESSION_CHECKER_TOKEN') };
}

/** Sends the check and returns the answer. Throws on anything but a 200 with a boolean `block`. */
async function check(event, settings) {
  const response = await fetch(endpoint(settings.url), {
    method: 'POST',
    headers: headers(event, settings.token),
    body: requestBody(event, settings.tenant),
    redirect: 'manual', // the token must not go to another address
    signal: AbortSignal.timeout(settings.timeoutMs),
  });
  if (response.status !== 200) {
    await response.body?.cancel().catch(() => {});
    const hint = response.status === 401 ? ', check the secret SESSION_CHECKER_TOKEN' : '';
    throw new CheckError(`the service answered ${response.status}${hint}`);
  }
  const answer = JSON.parse(await read(response.body));
  if (typeof answer?.block !== 'boolean') throw new CheckError('the answer has no boolean "block"');
  return answer;
}

/** The URL of `/check`. It must use HTTPS, except on loopback. */
function endpoint(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new CheckError('secret SESSION_CHECKER_URL is missing or not a URL');
  }
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local)) {
    throw new CheckError('secret SESSION_CHECKER_URL is not an https URL');
  }
  url.pathname = `${url.pathname.replace(/\/+$/, '').replace(/\/check$/, '')}/check`;
  return url;
}

function headers(event, token) {
  const result = { 'Content-Type': 'application/json', Accept: 'application/json' };
  if (token) result.Authorization = `Bearer ${token}`;
  // The service uses this id in its log line and its trace.
  const { id, correlation_id: correlationId } = event.transaction ?? {};
  const requestId = [id, correlationId].find((value) => /^[A-Za-z0-9._-]{1,64}$/.test(value ?? ''));
  if (requestId) result['X-Request-Id'] = requestId;
  return result;
}

/** The body of the request: the login, and the context that selectors and overrides use. */
function requestBody(event, tenant) {
  const fields = {
    user_id: event.user?.user_id,
    client_id: event.client?.client_id,
    sid: event.session?.id ?? null, // a refresh-token exchange and a password grant have none
    protocol: text(event.transaction?.protocol),
    prompt: texts(event.transaction?.prompt),
    organization_id: text(event.organization?.id),
    connection: text(event.connection?.name),
    roles: texts(event.authorization?.roles),
    mfa: [event.authentication?.methods].flat().some((method) => method?.name === 'mfa'),
    tenant, // not event.tenant.id, which is a name and not a domain
  };
  const body = JSON.stringify(fields);
  if (Buffer.byteLength(body) <= MAX_BYTES) return body;
  log('the request is too long; sending it without roles and prompt');
  return JSON.stringify({ ...fields, roles: undefined, prompt: undefined });
}

// The service rejects context that is too long. Without it the limit still applies, and no login is blocked for it.
const text = (value) => (typeof value === 'string' && value.length > 0 && value.length <= 300 ? value : undefined);
const texts = (values) => {
  const kept = [values].flat().filter((value) => text(value));
  return kept.length > 0 ? kept.slice(0, 128) : undefined;
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
async function block(api, { message, reason, revoke_session: revokeSession }) {
  if (reason) log(`blocked: ${String(reason).slice(0, 40)}`);
  const shown = typeof message === 'string' && message.trim() ? message : BLOCKED;
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

/** An error whose message is safe to log. Other messages can contain the address or the token. */
class CheckError extends Error {}

function describe(error, { timeoutMs }) {
  if (error instanceof CheckError) return error.message;
  if (error?.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  if (error?.name === 'SyntaxError') return 'the answer is not JSON';
  return `the request to the service failed (${error?.cause?.code ?? error?.name})`;
}

/** Auth0 keeps 256 characters of an Action's output, so lines are short. They never contain the user. */
function log(line) {
  console.log(`session-limit: ${line}`);
}
