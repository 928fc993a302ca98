/**
 * Session limit: asks session-checker whether this login is one session too many.
 *
 * Paste this whole file into a custom Action of the post-login trigger (Node 18 or 22, no dependencies), put it last
 * in the flow, and set its secrets:
 *
 *   SESSION_CHECKER_URL    where the service is: https://sessions.example.com, with or without /check
 *   SESSION_CHECKER_TOKEN  the bearer token that the service knows this tenant by
 *   FAIL_MODE              what to do when the service gives no proper answer: allow (default) or deny
 *   TIMEOUT_MS             how long to wait for the answer: 100 to 15000, default 4000
 *   TENANT_DOMAIN          only where one service limits several tenants: acme.eu.auth0.com
 *
 * It never throws: an Action that throws denies the login and shows its error to the user.
 */

const DENIED = 'You are already signed in elsewhere. Sign out there and try again.';
const UNANSWERED = 'Your sign-in could not be checked just now. Please try again in a moment.';
const MAX_BYTES = 16384; // of a question (the service's own bound) and of an answer

exports.onExecutePostLogin = async (event, api) => {
  try {
    const settings = readSettings(event?.secrets ?? {});
    let answer;
    try {
      answer = await ask(event, settings);
    } catch (error) {
      log(`${describe(error, settings)}; FAIL_MODE: ${settings.failMode}`);
      answer = { block: settings.failMode === 'deny', message: UNANSWERED };
    }
    if (answer.block) await refuse(api, answer);
  } catch (error) {
    log(`cannot go on (${error?.name})`);
  }
};

/** Reads the secrets. A bad value is told and replaced by its default; a bad URL is for `ask` to refuse. */
function readSettings(secrets) {
  const secret = (name) => String(secrets[name] ?? '').trim();

  let failMode = secret('FAIL_MODE').toLowerCase() || 'allow';
  if (failMode !== 'allow' && failMode !== 'deny') {
    failMode = 'allow';
    log('secret FAIL_MODE is neither allow nor deny; using allow');
  }

  const wanted = Number(secret('TIMEOUT_MS') || 4000);
  const timeoutMs = Math.min(Math.max(wanted || 4000, 100), 15000); // all Actions together have 20 s
  if (timeoutMs !== wanted) log(`secret TIMEOUT_MS is not 100 to 15000; using ${timeoutMs}`);

  let tenant = secret('TENANT_DOMAIN') || undefined;
  if (tenant && !/^[a-z0-9.-]{1,253}$/i.test(tenant)) {
    tenant = undefined;
    log('secret TENANT_DOMAIN is not a bare domain; left out');
  }

  return { failMode, timeoutMs, tenant, url: secret('SESSION_CHECKER_URL'), token: secret('SESSION_CHECKER_TOKEN') };
}

/** Asks the service, and returns its answer; throws on anything but a 200 with a boolean `block`. */
async function ask(event, settings) {
  const response = await fetch(endpoint(settings.url), {
    method: 'POST',
    headers: headers(event, settings.token),
    body: question(event, settings.tenant),
    redirect: 'manual', // the token is for this address and no other
    signal: AbortSignal.timeout(settings.timeoutMs),
  });
  if (response.status !== 200) {
    await response.body?.cancel().catch(() => {});
    const hint = response.status === 401 ? ', check the secret SESSION_CHECKER_TOKEN' : '';
    throw new Trouble(`the service answered ${response.status}${hint}`);
  }
  const answer = JSON.parse(await read(response.body));
  if (typeof answer?.block !== 'boolean') throw new Trouble('the answer does not say whether to block');
  return answer;
}

/** The address of the check: HTTPS, except towards this very machine. */
function endpoint(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new Trouble('secret SESSION_CHECKER_URL is missing or not a URL');
  }
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local)) {
    throw new Trouble('secret SESSION_CHECKER_URL is not an https URL');
  }
  url.pathname = `${url.pathname.replace(/\/+$/, '').replace(/\/check$/, '')}/check`;
  return url;
}

function headers(event, token) {
  const result = { 'Content-Type': 'application/json', Accept: 'application/json' };
  if (token) result.Authorization = `Bearer ${token}`;
  // Ties the login to the service's log line and trace.
  const { id, correlation_id: correlationId } = event.transaction ?? {};
  const requestId = [id, correlationId].find((value) => /^[A-Za-z0-9._-]{1,64}$/.test(value ?? ''));
  if (requestId) result['X-Request-Id'] = requestId;
  return result;
}

/** The body of the question: what the login is, and the context that a policy may select or make an exception by. */
function question(event, tenant) {
  const fields = {
    user_id: event.user?.user_id,
    client_id: event.client?.client_id,
    sid: event.session?.id ?? null, // refresh-token and password grants have no session
    protocol: text(event.transaction?.protocol),
    prompt: texts(event.transaction?.prompt),
    organization_id: text(event.organization?.id),
    connection: text(event.connection?.name),
    roles: texts(event.authorization?.roles),
    mfa: [event.authentication?.methods].flat().some((method) => method?.name === 'mfa'),
    tenant, // never from event.tenant.id, which is a name and not a domain
  };
  const body = JSON.stringify(fields);
  if (Buffer.byteLength(body) <= MAX_BYTES) return body;
  log('roles and prompt are too long together; left out');
  return JSON.stringify({ ...fields, roles: undefined, prompt: undefined });
}

// Context that the service would refuse as too long is left out: the limit still holds, and nobody is locked out by it.
const text = (value) => (typeof value === 'string' && value.length > 0 && value.length <= 300 ? value : undefined);
const texts = (values) => {
  const kept = [values].flat().filter((value) => text(value));
  return kept.length > 0 ? kept.slice(0, 128) : undefined;
};

/** Reads a small body. */
async function read(body) {
  const chunks = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > MAX_BYTES) throw new Trouble('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Denies the login, and ends its new session where the service asks for that and the plan has it. */
async function refuse(api, { message, reason, revoke_session: revokeSession }) {
  if (reason) log(`denied: ${String(reason).slice(0, 40)}`);
  const words = typeof message === 'string' && message.trim() ? message : DENIED;
  if (revokeSession === true && typeof api.session?.revoke === 'function') {
    try {
      await api.session.revoke(words);
      return;
    } catch (error) {
      log(`cannot revoke the session (${error?.name}); denying the login`);
    }
  }
  api.access.deny(words);
}

/** A problem in words of our own. Those of other errors may hold the address or the token, and are never shown. */
class Trouble extends Error {}

function describe(error, { timeoutMs }) {
  if (error instanceof Trouble) return error.message;
  if (error?.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  if (error?.name === 'SyntaxError') return 'the answer is not JSON';
  return `the service could not be asked (${error?.cause?.code ?? error?.name})`;
}

/** Auth0 keeps 256 characters of an Action's output: short lines, and never who logs in. */
function log(line) {
  console.log(`session-limit: ${line}`);
}
