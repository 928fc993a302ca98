// Right: the policy, as a form for the fields that people try most and as YAML for all of them.
import { html } from './html.js';

/** Fields of the form: where they are in the YAML, and what they can be. */
const FIELDS = [
  { key: 'perClient', parent: 'limits', label: 'Sessions per application', kind: 'number' },
  { key: 'perUser', parent: 'limits', label: 'Sessions per user', kind: 'number' },
  { key: 'activeWithin', label: 'Counts when used within', kind: 'text', hint: 'such as 2h; empty: always' },
  { key: 'strategy', label: 'Over the limit', options: ['Deny', 'RevokeOldest', 'RevokeLeastRecentlyUsed', 'RevokeNextToExpire'] },
  { key: 'mode', label: 'Mode', options: ['Enforce', 'Audit'] },
  { key: 'failurePolicy', label: 'When undecided', options: ['Deny', 'Allow'] },
];

const pattern = (key, parent) => new RegExp(`^${parent ? '[ ]+' : ''}${key}:[ ]*([^#\\n]*?)[ ]*(#.*)?$`, 'm');

/** The value of a field, as it is written. Empty when it is not. */
export const read = (yaml, { key, parent }) => pattern(key, parent).exec(yaml)?.[1] ?? '';

/** The YAML with another value of a field. Empty removes it. Comments and all other lines stay. */
export function write(yaml, { key, parent }, value) {
  const found = pattern(key, parent).exec(yaml);
  if (found) {
    const indent = /^ */.exec(found[0])[0];
    const line = value ? `${indent}${key}: ${value}${found[2] ? ` ${found[2]}` : ''}` : null;
    const [before, after] = [yaml.slice(0, found.index), yaml.slice(found.index + found[0].length)];
    return line === null ? before + after.replace(/^\n/, '') : before + line + after;
  }
  if (!value) return yaml;
  const end = yaml === '' || yaml.endsWith('\n') ? yaml : `${yaml}\n`;
  if (!parent) return `${end}${key}: ${value}\n`;
  const opened = new RegExp(`^${parent}:[ ]*(#.*)?$`, 'm');
  return opened.test(end)
    ? end.replace(opened, (line) => `${line}\n  ${key}: ${value}`)
    : `${end}${parent}:\n  ${key}: ${value}\n`;
}

function Field({ field, yaml, change }) {
  const id = `field-${field.key}`;
  const value = read(yaml, field);
  const set = (event) => change(write(yaml, field, event.target.value.trim()));
  return html`
    <div class="field">
      <label for=${id}>${field.label}</label>
      ${field.options
        ? html`<select id=${id} value=${value || field.options[0]} onChange=${set}>
            ${[...new Set([...field.options, ...(value ? [value] : [])])].map((option) => html`<option key=${option} value=${option}>${option}</option>`)}
          </select>`
        : html`<input id=${id} type=${field.kind} min="1" value=${value} placeholder=${field.hint ?? 'no limit'} onInput=${set} />`}
    </div>`;
}

export function Policy({ run, draft, messages, busy, change, apply, discard }) {
  const yaml = draft ?? run.policy;
  const changed = draft !== null && draft !== run.policy;
  const problems = messages?.problems ?? [];
  const warnings = changed ? (messages?.warnings ?? []) : run.warnings;
  return html`
    <section class="panel" aria-labelledby="policy-title">
      <h2 id="policy-title">The policy</h2>
      <div class="form">
        ${FIELDS.map((field) => html`<${Field} key=${field.key} field=${field} yaml=${yaml} change=${change} />`)}
      </div>
      <label for="yaml">As YAML: the <code>spec</code> of a SessionPolicy</label>
      <textarea id="yaml" spellcheck="false" autocapitalize="off" autocomplete="off" rows=${Math.min(Math.max(yaml.split('\n').length + 1, 6), 18)}
        value=${yaml} aria-invalid=${problems.length > 0 ? 'true' : 'false'} aria-describedby="policy-messages"
        onInput=${(event) => change(event.target.value)}></textarea>
      <div id="policy-messages" role="status">
        <ul class="messages">
          ${problems.map((problem, index) => html`<li key=${`p${index}`} class="problem">${problem.line && `Line ${problem.line}: `}${problem.message}</li>`)}
          ${warnings.map((warning, index) => html`<li key=${`w${index}`} class="warning">Warning: ${warning}</li>`)}
          ${changed && problems.length === 0 && messages && html`<li class="valid">The policy is valid.</li>`}
        </ul>
      </div>
      <div class="buttons">
        <button type="button" class="primary" disabled=${busy || !changed || problems.length > 0} onClick=${apply}>Replay with this policy</button>
        <button type="button" disabled=${busy || !changed} onClick=${discard}>Discard changes</button>
      </div>
      <p class="note">All steps are played again from the start, and what changes is marked.</p>
    </section>`;
}
