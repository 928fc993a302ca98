// The page is one function of what the demo sends and of a few choices made here. Nothing is kept in the browser.
import { html, render } from './html.js';
import { fromFragment, toFragment } from './link.js';
import { Decision } from './decision.js';
import { People } from './people.js';
import { Policy } from './policy.js';
import { Sessions, Steps } from './timeline.js';
import { outcome } from './text.js';

const VALIDATE_AFTER_MS = 250; // of no typing

let shown = null; // what the demo sent last
const ui = {
  pending: false, connected: true, error: null, notice: null, announced: '',
  mfa: false, chosen: null, draft: null, messages: null, scenes: [], scene: 0, link: undefined,
};

function update(change) {
  Object.assign(ui, change);
  draw();
}

const post = (path, body) => fetch(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
});

/** Sends a change. Returns whether it was done. */
async function send(path, body, after = {}) {
  if (ui.pending) return false;
  update({ pending: true, error: null, notice: null });
  try {
    const response = await post(path, body);
    const answer = await response.json();
    if (!response.ok) {
      update({ pending: false, error: answer.error, messages: answer.messages ?? ui.messages });
      return false;
    }
    take(answer, after);
    update({ pending: false });
    return true;
  } catch {
    update({ pending: false, error: 'The demo does not answer. Is it still running?' });
    return false;
  }
}

/** Takes a new state and announces its last decision. */
function take(state, after = {}) {
  const before = shown?.run.steps.length ?? 0;
  shown = state;
  const steps = state.run.steps;
  const last = steps.at(-1);
  if (!state.busy && steps.length !== before && last) {
    const outcomes = last.logins.map((login) => `${outcome(login).word}: ${login.reason}.`).join(' ');
    Object.assign(ui, { announced: `${last.sentence}. ${outcomes}`, chosen: null });
  }
  update(after);
}

const act = (step) => send('/api/step', step);
const open = (text) => send('/api/scenario', { text }, { draft: null, messages: null, chosen: null, link: undefined });

/** The same scenario with another FAIL_MODE, from its start. */
function setFailMode(mode) {
  const rest = shown.run.scenario.replace(/^failMode: .*\n/m, '');
  return open(rest.replace(/^policy:/m, `failMode: ${mode}\npolicy:`));
}

let timer;
function changePolicy(draft) {
  clearTimeout(timer);
  timer = setTimeout(() => validate(draft), VALIDATE_AFTER_MS);
  update({ draft });
}

async function validate(draft) {
  const response = await post('/api/validate', { text: draft }).catch(() => null);
  if (response?.ok && ui.draft === draft) update({ messages: await response.json() });
}

const applyPolicy = () => send('/api/policy', { text: ui.draft }, { draft: null, messages: null, chosen: null });

async function copy(text, notice) {
  try {
    await navigator.clipboard.writeText(text);
    update({ notice });
  } catch {
    update({ error: 'The browser does not allow copying. The link is in the address bar.' });
  }
}

async function copyLink() {
  const fragment = await toFragment(shown.run.scenario);
  history.replaceState(null, '', fragment);
  await copy(location.href, 'The link is copied and in the address bar. It holds the policy and all steps.');
}

function Toolbar({ run, busy }) {
  return html`
    <div class="toolbar">
      <label for="scene">Scenario</label>
      <select id="scene" value=${String(ui.scene)} onChange=${(event) => update({ scene: Number(event.target.value) })}>
        ${ui.scenes.map((scene, index) => html`<option key=${index} value=${String(index)}>${scene.title}</option>`)}
      </select>
      <button type="button" disabled=${busy || !ui.scenes.length} onClick=${() => open(ui.scenes[ui.scene].text)}>Open</button>
      <button type="button" disabled=${busy || run.steps.length === 0} onClick=${() => send('/api/back', {})}>Back one step</button>
      <button type="button" onClick=${copyLink}>Copy link</button>
      <button type="button" onClick=${() => copy(run.expectations, 'The scenario is copied as YAML. Each login is expected to end as it did.')}>Copy YAML</button>
    </div>`;
}

function LinkBanner({ busy }) {
  const { link } = ui;
  if (!link) return null;
  if (link.error) return html`<p class="banner problem" role="alert">${link.error}</p>`;
  return html`
    <section class="banner" aria-label="Scenario of the link">
      <p>This link holds a scenario. It replaces what is shown, for all tabs.</p>
      <details><summary>Show it</summary><pre tabindex="0">${link.yaml}</pre></details>
      <div class="buttons">
        <button type="button" class="primary" disabled=${busy} onClick=${() => open(link.yaml)}>Play it</button>
        <button type="button" onClick=${() => update({ link: undefined })}>Ignore it</button>
      </div>
    </section>`;
}

function App() {
  const { run } = shown;
  const busy = ui.pending || shown.busy;
  const withLogins = run.steps.map((step, index) => (step.logins.length ? index : -1)).filter((index) => index >= 0);
  const selected = ui.chosen !== null && run.steps[ui.chosen]?.logins.length ? ui.chosen : (withLogins.at(-1) ?? -1);
  return html`
    <header>
      <h1>session-checker playground</h1>
      <p class="honest">Tenant and people are simulated. The service is the real one, version ${shown.version}; each click is a login over its socket.</p>
      <${Toolbar} run=${run} busy=${busy} />
    </header>
    <main aria-busy=${busy ? 'true' : 'false'}>
      <${LinkBanner} busy=${busy} />
      ${!ui.connected && html`<p class="banner problem" role="alert">The demo does not answer. Is it still running?</p>`}
      ${ui.error && html`<p class="banner problem" role="alert">${ui.error}</p>`}
      ${ui.notice && html`<p class="banner" role="status">${ui.notice}</p>`}
      <div class="intro">
        <h2 class="title">${run.title}</h2>
        ${run.hint && html`<p class="hint"><span aria-hidden="true">→</span> ${run.hint}</p>`}
        <p class="working" role="status">${busy && 'Working …'}</p>
      </div>
      <div class="columns">
        <div class="column people">
          <${People} run=${run} act=${act} busy=${busy} mfa=${ui.mfa} setMfa=${(mfa) => update({ mfa })} setFailMode=${setFailMode} />
        </div>
        <div class="column middle">
          <${Steps} run=${run} selected=${selected} select=${(chosen) => update({ chosen })} differences=${shown.differences} />
          <${Sessions} run=${run} />
        </div>
        <div class="column right">
          <${Decision} run=${run} selected=${selected} />
          <${Policy} run=${run} draft=${ui.draft} messages=${ui.messages} busy=${busy} change=${changePolicy}
            apply=${applyPolicy} discard=${() => update({ draft: null, messages: null })} />
        </div>
      </div>
    </main>
    <div class="visually-hidden" aria-live="polite">${ui.announced}</div>`;
}

function draw() {
  if (!shown) return;
  const page = document.getElementById('page');
  page.querySelector('.starting')?.remove();
  render(html`<${App} />`, page);
}

async function readLink() {
  update({ link: await fromFragment(location.hash) });
}

const events = new EventSource('/api/events');
events.onmessage = ({ data }) => {
  ui.connected = true;
  take(JSON.parse(data));
};
events.onerror = () => update({ connected: false });
window.addEventListener('hashchange', readLink);
readLink();
fetch('/api/scenes').then((response) => response.json()).then((scenes) => update({ scenes }));
