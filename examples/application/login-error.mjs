// Reads why session-checker blocked a login. The Action writes a code in front of the text when its secret ERROR_CODE is on:
//
//   /callback?error=access_denied&error_description=session_limit.limit_exceeded%3A%20You%20are%20already…&state=…

const DESCRIPTION = /^session_limit\.([a-z_]{1,40}): (.*)$/s;

// What the user can do. A code that is not here says that the login could not be checked, such as upstream_timeout.
const ACTIONS = {
  limit_exceeded: 'sign-out-elsewhere',
  session_revoked: 'sign-in-again',
  no_session: 'sign-in-again',
};

/**
 * The block of a login, from the parameters of the callback (URLSearchParams). Undefined if the error has another cause,
 * such as another Action.
 *
 * `code` is the reason of docs/reasons.md, or `not_checked` when the Action got no answer. `text` is what the policy says to
 * the user, in the user's language. `action` is what the user can do: `sign-out-elsewhere`, `sign-in-again` or `try-later`.
 */
export function blockedLogin(parameters) {
  const [, code, text] = parameters.get('error_description')?.match(DESCRIPTION) ?? [];
  if (parameters.get('error') !== 'access_denied' || !code) return undefined;
  return { code, text, action: Object.hasOwn(ACTIONS, code) ? ACTIONS[code] : 'try-later' };
}
