// Middle: what happened, and the sessions that Auth0 has.
import { html } from './html.js';
import { applicationsOf, duration, fullTime, outcome, sessionName, sessionState, time } from './text.js';

/** Places times on the axis. A long gap takes little more room than a short one. */
function scale(run) {
  const points = [run.start, ...run.steps.map((step) => step.at), run.now].map((at) => Date.parse(at));
  const stops = [...new Set(points)].sort((a, b) => a - b);
  const widths = stops.slice(1).map((stop, index) => 1 + Math.log2(1 + (stop - stops[index]) / 60000));
  const total = widths.reduce((sum, width) => sum + width, 0) || 1;
  const starts = [0];
  for (const width of widths) starts.push(starts.at(-1) + (100 * width) / total);
  const at = (moment) => {
    const ms = Math.min(Math.max(Date.parse(moment), stops[0]), stops.at(-1));
    const index = Math.max(stops.findIndex((stop) => stop >= ms), 1);
    if (stops.length < 2) return 0;
    const share = (ms - stops[index - 1]) / (stops[index] - stops[index - 1]);
    return starts[index - 1] + share * (starts[index] - starts[index - 1]);
  };
  const gaps = widths.map((width, index) => ({
    text: duration(stops[index + 1] - stops[index]),
    left: starts[index],
    width: starts[index + 1] - starts[index],
  }));
  return { at, gaps };
}

const percent = (value) => `${value.toFixed(2)}%`;

function Lane({ run, lane, axis }) {
  const state = sessionState(run, lane);
  const left = axis.at(lane.began);
  const until = lane.ended ?? (state === 'expired' ? lane.expires : run.now);
  const applications = applicationsOf(lane) || 'no application';
  const end = {
    ended: () => `ended ${time(lane.ended)}: ${lane.endedBy}`,
    expired: () => `expired ${fullTime(lane.expires)}`,
    live: () => (lane.expires ? `ends ${fullTime(lane.expires)} unless used` : 'does not end by itself'),
  }[state]();
  return html`
    <li class=${`lane ${state}`}>
      <div class="lane-text"><strong>${sessionName(run, lane.id)}</strong>
        <span> from ${time(lane.began)} · ${applications} · ${end}</span></div>
      <div class="track" aria-hidden="true">
        <div class="bar" style=${{ left: percent(left), width: percent(Math.max(axis.at(until) - left, 0.8)) }}></div>
        ${lane.clients.map(([client, at]) => html`
          <div class="mark" key=${client} title=${client} style=${{ left: percent(axis.at(at)) }}></div>`)}
      </div>
      <details><summary>Entry of the Management API</summary><pre tabindex="0">${JSON.stringify(lane.entry, null, 2)}</pre></details>
    </li>`;
}

export function Sessions({ run }) {
  const axis = scale(run);
  return html`
    <section class="panel" aria-labelledby="sessions-title">
      <h2 id="sessions-title">Sessions at Auth0</h2>
      <p class="now">It is <strong>${fullTime(run.now)}</strong> UTC.</p>
      ${run.sessions.length === 0 && html`<p class="note">Nobody has a session. Sign somebody in.</p>`}
      <ol class="lanes">
        ${run.sessions.map((lane) => html`<${Lane} key=${lane.id} run=${run} lane=${lane} axis=${axis} />`)}
      </ol>
      ${run.sessions.length > 0 && html`
        <div class="axis" aria-hidden="true">
          ${axis.gaps.map((gap, index) => html`
            <span key=${index} style=${{ left: percent(gap.left), width: percent(gap.width) }}>${gap.width > 7 && gap.text}</span>`)}
        </div>`}
    </section>`;
}

function Badge({ login }) {
  const { word, kind, sign } = outcome(login);
  return html`<span class=${`badge ${kind}`}><span aria-hidden="true">${sign}</span> ${word}</span>`;
}

export function Steps({ run, selected, select, differences }) {
  return html`
    <section class="panel" aria-labelledby="steps-title">
      <h2 id="steps-title">What happened</h2>
      ${differences.length > 0 && html`
        <p class="note changed" role="note">With this policy ${differences.length} of
          ${' '}${run.steps.reduce((sum, step) => sum + step.logins.length, 0)} logins end differently.</p>`}
      ${run.steps.length === 0 && html`<p class="note">Nothing yet.</p>`}
      <ol class="steps">
        ${run.steps.map((step, index) => html`
          <li key=${index} class=${index === selected ? 'selected' : ''}>
            <time datetime=${step.at}>${time(step.at)}</time>
            <span class="step-text">
              ${step.logins.length > 0
                ? html`<button type="button" class="link" aria-pressed=${index === selected ? 'true' : 'false'}
                    onClick=${() => select(index)}>${step.sentence}</button>`
                : step.sentence}
              ${step.note && html`<span class="note"> ${step.note}</span>`}
              ${step.met === false && html`<span class="unmet"> Expected: ${step.expected}.</span>`}
              ${differences.filter((difference) => difference.step === index).map((difference) => html`
                <span class="changed" key=${difference.login}> Before: ${difference.before}.</span>`)}
            </span>
            <span class="badges">${step.logins.map((login, position) => html`<${Badge} key=${position} login=${login} />`)}</span>
          </li>`)}
      </ol>
    </section>`;
}
