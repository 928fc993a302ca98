// Left: people, their devices, and what can go wrong.
import { html } from './html.js';
import { applicationsOf, findSession, sessionState } from './text.js';

const CONDITIONS = [['works', 'Works'], ['slow', 'Slow'], ['limited', 'Rate limited'], ['down', 'Down']];
const JUMPS = ['5m', '1h', '1d', '3d'];

function deviceStatus(run, device) {
  if (!device.sid) return { text: 'No session in this browser.', has: false };
  const lane = findSession(run, device.sid);
  const state = lane ? sessionState(run, lane) : 'ended';
  if (state !== 'live') return { text: `Its session has ${state}.`, has: false };
  const applications = applicationsOf(lane);
  return {
    text: applications ? `Signed in to ${applications}.` : 'Has a session, and no application.',
    has: true,
  };
}

function Device({ run, person, device, act, busy, mfa }) {
  const place = `${person.name} on ${device.name}`;
  const status = deviceStatus(run, device);
  const id = `status-${person.name}-${device.name}`;
  const button = (label, step, possible, name) => html`
    <button type="button" disabled=${busy || !possible} aria-describedby=${id} aria-label=${name}
      onClick=${() => act(step)}>${label}</button>`;
  const signIn = (application) => button(`Sign in to ${application}`,
    { 'sign in': `${place} to ${application}${mfa ? ' with mfa' : ''}` }, true,
    `Sign in to ${application}: ${place}`);
  return html`
    <li class="device">
      <div class="device-name"><strong>${device.name}</strong> <span id=${id} class=${status.has ? 'has' : 'none'}>${status.text}</span>
        ${device.page && html` A login waits. <a href=${device.page} aria-label=${`Choose sessions: ${place}`}>Choose sessions</a>`}</div>
      <div class="buttons">
        ${run.applications.map((application) => html`<span key=${application}>${signIn(application)}</span>`)}
        <span>${button('Sign out', { 'sign out': place }, status.has, `Sign out: ${place}`)}</span>
        <span>${button('Close browser', { 'close browser': place }, Boolean(device.sid), `Close browser: ${place}`)}</span>
      </div>
    </li>`;
}

function Person({ run, person, act, busy, mfa }) {
  const all = person.devices.map((device) => `${person.name} on ${device.name}${mfa ? ' with mfa' : ''}`);
  return html`
    <section class="person" aria-labelledby=${`person-${person.name}`}>
      <div class="person-head">
        <h3 id=${`person-${person.name}`}>${person.name} <small>${person.userId}</small></h3>
        ${all.length > 1 && html`
          <button type="button" class="quiet" disabled=${busy} aria-label=${`Sign ${person.name} in: all devices at once`}
            onClick=${() => act({ 'at once': all })}>All devices at once</button>`}
      </div>
      <ul>
        ${person.devices.map((device) => html`
          <${Device} key=${device.name} run=${run} person=${person} device=${device} act=${act} busy=${busy} mfa=${mfa} />`)}
      </ul>
    </section>`;
}

function Choice({ legend, options, value, busy, choose }) {
  return html`
    <fieldset>
      <legend>${legend}</legend>
      <div class="buttons">
        ${options.map(([key, label]) => html`
          <button type="button" key=${key} aria-pressed=${value === key ? 'true' : 'false'} disabled=${busy}
            onClick=${() => value !== key && choose(key)}>${label}</button>`)}
      </div>
    </fieldset>`;
}

/** In how many seconds the next session expires. Undefined when none is alive. */
function nextExpiry(run) {
  const now = Date.parse(run.now);
  const ends = run.sessions.filter((lane) => !lane.ended && lane.expires).map((lane) => Date.parse(lane.expires));
  const next = Math.min(...ends.filter((end) => end > now));
  return Number.isFinite(next) ? Math.ceil((next - now) / 1000) : undefined;
}

export function People({ run, act, busy, mfa, setMfa, setFailMode }) {
  const next = nextExpiry(run);
  return html`
    <section class="panel" aria-labelledby="people-title">
      <h2 id="people-title">People and devices</h2>
      ${run.people.map((person) => html`
        <${Person} key=${person.name} run=${run} person=${person} act=${act} busy=${busy} mfa=${mfa} />`)}
      <label class="check"><input type="checkbox" checked=${mfa} onChange=${(event) => setMfa(event.target.checked)} />
        Logins use a second factor</label>
    </section>
    <section class="panel" aria-labelledby="time-title">
      <h2 id="time-title">Let time pass</h2>
      <div class="buttons">
        ${JUMPS.map((jump) => html`
          <button type="button" key=${jump} disabled=${busy} onClick=${() => act({ pass: jump })}>${jump}</button>`)}
      </div>
      <div class="buttons">
        <button type="button" disabled=${busy || !next} onClick=${() => act({ pass: `${next}s` })}>Until the next session expires</button>
      </div>
      <p class="note">Moves the one clock of tenant and service.${!next && ' No session is alive.'}</p>
    </section>
    <section class="panel" aria-labelledby="accidents-title">
      <h2 id="accidents-title">Accidents</h2>
      <${Choice} legend="Auth0's Management API" options=${CONDITIONS} value=${run.auth0} busy=${busy}
        choose=${(condition) => act({ auth0: condition })} />
      <${Choice} legend="session-checker" options=${[['works', 'Works'], ['down', 'Down']]} busy=${busy}
        value=${run.service ? 'works' : 'down'} choose=${(condition) => act({ service: condition })} />
      <${Choice} legend="The Action's FAIL_MODE" options=${[['allow', 'allow'], ['deny', 'deny']]} busy=${busy}
        value=${run.failMode} choose=${setFailMode} />
    </section>`;
}
