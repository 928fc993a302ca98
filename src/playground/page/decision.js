// Right: why a login was allowed or blocked, and what it cost.
import { html } from './html.js';
import { outcome, sessionName } from './text.js';

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** What decided, as a sentence. */
function why(login, answer) {
  if (!answer) return `The Action got no answer (${login.error}), so its FAIL_MODE decided.`;
  if (answer.limit === undefined) return `The service decided without counting sessions: ${answer.reason}.`;
  const others = count(answer.active_sessions, 'other session', 'other sessions');
  const what = {
    client: `${others} of ${login.application}`,
    group: `${others} of the applications that the policy selects`,
    user: `${others} of ${login.person}`,
  }[answer.limit_scope] ?? others;
  const revoked = answer.revoked_sessions ? ` ${count(answer.revoked_sessions, 'session was', 'sessions were')} ended for it.` : '';
  return `${what} took a place; the limit is ${answer.limit}.${revoked}`;
}

function Counted({ run, login }) {
  const { limits, chosenBy, sessions } = login.explanation;
  return html`
    <h3>Sessions just before the decision</h3>
    <p class="note">Limits: ${limits}${chosenBy && `, by the override ${chosenBy}`}.</p>
    <ul class="counted">
      ${sessions.map((session) => html`
        <li key=${session.id} class=${session.counts ? 'counts' : 'not'}>
          <span aria-hidden="true">${session.counts ? '●' : '○'}</span>
          <span><strong>${session.id === login.sid ? 'This login' : sessionName(run, session.id)}</strong> ${session.role}${session.wouldEnd && ' and is ended'}.</span>
        </li>`)}
    </ul>`;
}

/** Where the person goes from here, under `strategy: Ask`. */
function Asked({ run, login }) {
  const person = run.people.find(({ name }) => name === login.person);
  const page = person?.devices.find(({ name }) => name === login.device)?.page;
  if (!page) return html`<p class="note">This login does not wait any more.</p>`;
  return html`
    <p>${login.person} is sent to a page of session-checker, and chooses there which sessions to end. The login waits.</p>
    <p><a class="primary" href=${page}>Open the page that ${login.person} sees</a></p>`;
}

function curl(run, login) {
  return `curl -s ${run.checkUrl} \\\n  -H 'Authorization: Bearer demo-caller-token' -H 'Content-Type: application/json' \\\n`
    + `  -d '${JSON.stringify(login.request).replaceAll("'", "'\\''")}'`;
}

function Login({ run, step, login }) {
  const { word, kind, sign } = outcome(login);
  const { answer } = login;
  return html`
    <article class="decision">
      <p class=${`outcome ${kind}`}><span aria-hidden="true">${sign}</span> <strong>${word}</strong> <code>${login.reason}</code></p>
      <p>${step.sentence}.</p>
      ${login.message && html`
        <figure class="reads"><figcaption>${login.person} reads</figcaption><blockquote>${login.message}</blockquote></figure>`}
      <p>${why(login, answer)}</p>
      ${login.asked && html`<${Asked} run=${run} login=${login} />`}
      ${answer?.audited_reason && html`<p>The policy only audits. Enforce would have answered <code>${answer.audited_reason}</code>.</p>`}
      ${login.explanation && html`<${Counted} run=${run} login=${login} />`}
      ${login.explanation && answer && answer.active_sessions > login.explanation.sessions.filter((session) => session.counts).length && html`
        <p class="note">More sessions counted than Auth0's list shows: session-checker's ledger remembers logins that the list does not have yet.</p>`}
      <h3>What the Action did</h3>
      <ul class="calls">${login.action.map((call, index) => html`<li key=${index}><code>${call}</code></li>`)}</ul>
      <p class="note">Requests to Auth0 for ${step.logins.length > 1 ? 'these logins' : 'this login'}:
        ${' '}${count(step.lists, 'list', 'lists')}, ${count(step.revocations, 'revocation', 'revocations')}.
        ${step.lists === 0 && answer && ' No list was needed, or none could be sent.'}</p>
      <details><summary>Request and answer</summary>
        <pre tabindex="0">POST /check${'\n'}${JSON.stringify(login.request, null, 2)}${'\n\n'}${answer ? JSON.stringify(answer, null, 2) : login.error}</pre>
      </details>
      <details><summary>Send it again with curl</summary><pre tabindex="0">${curl(run, login)}</pre></details>
    </article>`;
}

export function Decision({ run, selected }) {
  const step = run.steps[selected];
  return html`
    <section class="panel" aria-labelledby="decision-title">
      <h2 id="decision-title">The decision</h2>
      ${step
        ? step.logins.map((login) => html`<${Login} key=${`${selected}-${login.sid}`} run=${run} step=${step} login=${login} />`)
        : html`<p class="note">No login yet.</p>`}
    </section>`;
}
