// Right: the policy, as a form for the fields that people try most and as YAML for all of them.
import { html } from './html.js';

/** Fields of the form: where they are in the YAML, and what they can be. */
const FIELDS = [
  { key: 'perClient', parent: 'limits', label: 'Sessions per application', kind: 'number' },
  { key: 'perUser', parent: 'limits', label: 'Sessions per user', kind: 'number' },
  { key: 'activeWithin', label: 'Counts when used within', kind: 'text', hint: 'such as 2h; empty: always' },
  { key: 'strategy', label: 'Over the limit', options: ['Deny', 'RevokeOldest', 'RevokeLeastRecentlyUsed', 'RevokeNextToExpire', 'Ask'] },
  { key: 'mode', label: 'Mode', options: ['Enforce', 'Audit'] },
  { key: 'failurePolicy', label: 'When undecided', options: ['Deny', 'Allow'] },
];

/** A line `key: value # comment`, with this indent. */
const entry = (indent, key) => new RegExp(`^(${indent}${key}:[ ]*)([^#\\n]*?)([ ]*(?:#.*)?)$`, 'm');

/** Where the fields of `parent` are: the lines below it that are indented. Undefined when it has no such lines. */
function block(yaml, parent) {
  const opened = new RegExp(`^${parent}:[ ]*(?:#.*)?\\n`, 'm').exec(yaml);
  if (!opened) return undefined;
  const start = opened.index + opened[0].length;
  const length = /^(?:[ ]+.*\n?|#.*\n?|[ ]*\n)*/.exec(yaml.slice(start))[0].length;
  return { start, end: start + length };
}

/** The fields of `parent` in braces on its line: `limits: { perClient: 1 }`. */
const braces = (parent) => new RegExp(`^(${parent}:[ ]*\\{)([^{}\\n]*)(\\}.*)$`, 'm');

const pairs = (text) => text.split(',').map((pair) => pair.split(':').map((part) => part.trim())).filter(([key]) => key);

/** The value of a field, as it is written. Empty when it is not. */
export function read(yaml, { key, parent }) {
  if (!parent) return entry('', key).exec(yaml)?.[2] ?? '';
  const flow = braces(parent).exec(yaml);
  if (flow) return pairs(flow[2]).find(([name]) => name === key)?.[1] ?? '';
  const within = block(yaml, parent);
  return (within && entry('[ ]+', key).exec(yaml.slice(within.start, within.end))?.[2]) ?? '';
}

/** The YAML with another value of a field. Empty removes it. Comments and all other lines stay. */
export function write(yaml, { key, parent }, value) {
  if (!parent) return set(yaml, '', key, value);
  const flow = braces(parent).exec(yaml);
  if (flow) {
    const others = pairs(flow[2]).filter(([name]) => name !== key);
    const all = value ? [...others, [key, value]] : others;
    const text = all.map(([name, written]) => `${name}: ${written}`).join(', ');
    return yaml.replace(braces(parent), (line, before, fields, after) => `${before}${text ? ` ${text} ` : ''}${after}`);
  }
  const within = block(yaml, parent);
  if (!within) return value ? `${ended(yaml)}${parent}:\n  ${key}: ${value}\n` : yaml;
  const fields = yaml.slice(within.start, within.end);
  const indent = /^[ ]+(?=\S)/m.exec(fields)?.[0] ?? '  ';
  return yaml.slice(0, within.start) + set(fields, indent, key, value) + yaml.slice(within.end);
}

const ended = (text) => (text === '' || text.endsWith('\n') ? text : `${text}\n`);

/** The lines with another value of a key. A new one comes first below a parent, and last otherwise. */
function set(lines, indent, key, value) {
  const pattern = entry(indent, key);
  if (!pattern.test(lines)) {
    if (!value) return lines;
    return indent ? `${indent}${key}: ${value}\n${lines}` : `${ended(lines)}${key}: ${value}\n`;
  }
  if (value) return lines.replace(pattern, (line, before, written, after) => `${before}${value}${after}`);
  return lines.replace(new RegExp(`${pattern.source}\\n?`, 'm'), '');
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
