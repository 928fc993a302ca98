// The playground in a real Chromium: the page of `session-checker demo`, started from the binary in SESSION_CHECKER_BIN.
// Without it these tests are skipped; in CI they fail. With SCREENSHOTS=1 the pictures in docs/images are taken again.
//
// The page has a strict Content-Security-Policy, and `bypassCSP` is never set: it would hide the page's own faults. Every
// console message, page error, failed request and request to another host fails the test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const BIN = process.env.SESSION_CHECKER_BIN;
const skip = !BIN && process.env.CI !== 'true' && 'set SESSION_CHECKER_BIN to the session-checker binary';
if (skip) console.error(`playground.test.mjs: SKIPPED, ${skip}`);
const axe = createRequire(import.meta.url)('axe-core').source;
const IMAGES = new URL('../../docs/images/', import.meta.url).pathname;

let browser;
const demos = [];

before(async () => {
  if (skip) return;
  assert.ok(BIN, 'SESSION_CHECKER_BIN names the session-checker binary');
  // Chromium's own sandbox needs more than a container gives; the page under test is ours.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  for (const demo of demos.filter((demo) => demo.exitCode === null && demo.signalCode === null)) {
    demo.kill('SIGKILL');
    await once(demo, 'exit');
  }
});

/** Starts a demo, and returns the address that it prints first. */
async function demo() {
  const free = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--playground-listen', '127.0.0.1:0'];
  const child = spawn(BIN, ['demo', ...free], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, RUST_LOG: 'error' } });
  demos.push(child);
  const first = await new Promise((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
      if (output.includes('\n')) resolve(output.split('\n')[0]);
    });
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`the demo ended with ${code}: ${output}`)));
  });
  const address = /^Playground: (http:\/\/\S+)/.exec(first)?.[1];
  assert.ok(address, `the first line has the address: ${first}`);
  return address;
}

/** Opens the page in a browser of its own. `close` fails when anything went wrong unseen. */
async function open(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: new URL(address).origin });
  const page = await context.newPage();
  const wrong = [];
  const expected = []; // parts of messages that a test provokes
  const hosts = [new URL(address).host]; // those that the page may send requests to
  page.on('console', (message) => wrong.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => wrong.push(`error: ${error}`));
  page.on('request', (request) => {
    if (!hosts.includes(new URL(request.url()).host)) wrong.push(`foreign request: ${request.url()}`);
  });
  page.on('requestfailed', (request) => {
    if (!request.url().endsWith('/api/events')) wrong.push(`failed: ${request.url()} ${request.failure()?.errorText}`);
  });
  await page.goto(address);
  await page.getByRole('heading', { name: 'People and devices' }).waitFor();
  const close = async () => {
    await context.close();
    assert.deepEqual(wrong.filter((text) => !expected.some((part) => text.includes(part))), []);
  };
  return { page, close, expected, hosts };
}

const idle = (page) => page.locator('main[aria-busy="false"]').waitFor();

/** Clicks a button by its name, and waits until the step is done. */
async function click(page, name) {
  const steps = await page.locator('.steps > li').count();
  await page.getByRole('button', { name, exact: true }).click();
  await page.locator(`.steps > li:nth-child(${steps + 1})`).waitFor();
  await idle(page);
}

/** The outcome of the latest decision: `Blocked limit_exceeded`. */
async function outcome(page) {
  const text = await page.locator('.decision .outcome').last().innerText();
  return text.replace(/[^\w ,]+/g, ' ').replace(/\s+/g, ' ').trim();
}

async function openScene(page, title) {
  await page.getByLabel('Scenario', { exact: true }).selectOption({ label: title });
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await page.getByRole('heading', { name: title }).waitFor();
  await idle(page);
}

async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join(' | ')}`);
}

test('from the start of the demo to a blocked login by clicks in under a minute', { skip }, async () => {
  const began = Date.now();
  const { page, close } = await open(await demo());
  await page.getByText('Sign Carla in on her phone.').waitFor();
  await click(page, 'Sign in to shop: Carla on phone');
  assert.equal(await outcome(page), 'Blocked limit_exceeded');
  const decision = page.getByRole('region', { name: 'The decision' });
  await decision.getByText('You are signed in on another device. Sign out there, then try again.', { exact: true }).waitFor();
  await decision.getByText('1 other session of shop took a place; the limit is 1.').waitFor();
  await decision.getByText('Carla, laptop counts towards the client limit.').waitFor();
  await decision.getByText('api.session.revoke').waitFor();
  assert.ok(Date.now() - began < 60_000);
  await close();
});

const LOCKED_OUT = 'How does Carla get back in when she is locked out?';

/** Signs Carla in on her phone in the scene in which she is asked, and opens the page that she sees. */
async function openChoice({ page, hosts }) {
  await openScene(page, LOCKED_OUT);
  await click(page, 'Sign in to shop: Carla on phone');
  assert.equal(await outcome(page), 'Asked limit_exceeded');
  assert.deepEqual(await findings(page), []);
  const link = page.getByRole('link', { name: 'Open the page that Carla sees' });
  hosts.push(new URL(await link.getAttribute('href')).host);
  await link.click();
  await page.getByRole('heading', { name: 'You are already signed in elsewhere' }).waitFor();
}

test('a blocked person gets back in on the real page, by clicks in under a minute', { skip }, async () => {
  const began = Date.now();
  const opened = await open(await demo());
  const { page } = opened;
  const state = () => page.evaluate(async () => (await fetch('/api/state')).json());
  const { run } = await state();
  await openChoice(opened);
  const labels = await page.locator('label .device').allInnerTexts();
  assert.deepEqual(labels, ['Chrome on Windows', 'Chrome on Android'], 'the sessions of Carla, and not that of Bert');
  const html = await page.content();
  for (const { id } of run.sessions) assert.ok(!html.includes(id), 'the page shows no session ids');
  await page.getByLabel('Chrome on Android').check();
  await page.getByRole('button', { name: 'End and sign in' }).click();
  await page.getByRole('button', { name: 'Carla chooses on phone to end tablet' }).waitFor();
  assert.equal(await outcome(page), 'Allowed within_limit');
  await page.getByText('ended on the page for choosing sessions').waitFor();
  assert.ok(Date.now() - began < 60_000);
  await page.getByRole('button', { name: 'Back one step' }).click();
  await page.getByRole('link', { name: 'Choose sessions: Carla on phone' }).waitFor();
  await opened.close();
});

test('a person who cancels on the page is blocked, and the login is over', { skip }, async () => {
  const address = await demo();
  const opened = await open(address);
  const { page } = opened;
  await openChoice(opened);
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Carla cancels on phone' }).waitFor();
  assert.equal(await outcome(page), 'Blocked limit_exceeded');
  await page.getByText('Carla, tablet').first().waitFor();
  opened.expected.push('400');
  assert.equal((await page.goto(`${address}continue?state=unknown`)).status(), 400);
  await page.getByRole('link', { name: 'Open the playground' }).click();
  await page.getByRole('heading', { name: LOCKED_OUT }).waitFor();
  await opened.close();
});

test('every button does what it says', { skip }, async () => {
  const { page, close } = await open(await demo());
  const people = page.getByRole('region', { name: 'People and devices' });
  const signOut = page.getByRole('button', { name: 'Sign out: Carla on laptop' });
  assert.ok(await page.getByRole('button', { name: 'Sign out: Carla on phone' }).isDisabled(), 'there is nothing to sign out of');
  assert.equal(await people.getByText('No session in this browser.').count(), 4);
  await click(page, 'Close browser: Carla on laptop');
  await page.getByText('The session stays at Auth0.').waitFor();
  assert.ok(await signOut.isDisabled());
  await click(page, 'Sign in to crm: Carla on phone');
  assert.equal(await outcome(page), 'Allowed within_limit', 'another application');
  await click(page, 'Sign in to shop: Carla on phone');
  assert.equal(await outcome(page), 'Blocked limit_exceeded', 'the closed browser counts');
  await click(page, '3d');
  await page.getByText(/expired Thu 5 Mar/).first().waitFor();
  await click(page, 'Sign in to shop: Carla on phone');
  assert.equal(await outcome(page), 'Allowed within_limit', 'the session has expired');
  await click(page, 'Until the next session expires');
  await page.getByRole('region', { name: 'People and devices' }).getByText('Its session has expired.').first().waitFor();
  await click(page, 'Sign in to shop: Carla on phone');
  await click(page, 'Sign out: Carla on phone');
  await click(page, 'Sign Anna in: all devices at once');
  const badges = await page.locator('.steps > li').last().locator('.badge').allInnerTexts();
  assert.deepEqual(badges.map((badge) => badge.replace(/\W/g, '')).sort(), ['Allowed', 'Blocked']);
  const before = await page.locator('.steps > li').count();
  await page.getByRole('button', { name: 'Back one step' }).click();
  await page.locator(`.steps > li:nth-child(${before})`).waitFor({ state: 'detached' });
  await close();
});

test('every accident shows its outcome', { skip }, async () => {
  const { page, close } = await open(await demo());
  const button = (group, name) => page.getByRole('group', { name: group }).getByRole('button', { name, exact: true });
  const set = async (group, name) => {
    await button(group, name).click();
    await page.locator('button[aria-pressed="true"]', { hasText: name }).first().waitFor();
    await idle(page);
  };
  const api = "Auth0's Management API";
  for (const [accident, reason] of [['Slow', 'upstream_timeout'], ['Rate limited', 'rate_limited'], ['Down', 'upstream_error']]) {
    await set(api, accident);
    await click(page, 'Sign in to shop: Carla on phone');
    assert.equal(await outcome(page), `Allowed ${reason}`);
    await set(api, 'Works');
    await click(page, 'Sign out: Carla on phone');
  }
  await set('session-checker', 'Down');
  await click(page, 'Sign in to shop: Carla on phone');
  assert.equal(await outcome(page), 'Allowed no_answer');
  await set("The Action's FAIL_MODE", 'deny');
  assert.equal(await outcome(page), 'Blocked no_answer', 'all steps were played again');
  await set('session-checker', 'Works');
  await close();
});

test('policy is validated, changed in form and YAML, replayed and compared', { skip }, async () => {
  const { page, close } = await open(await demo());
  await click(page, 'Sign in to shop: Carla on phone');
  const yaml = page.getByLabel('As YAML: the spec of a SessionPolicy');
  const replay = page.getByRole('button', { name: 'Replay with this policy' });
  assert.ok(await replay.isDisabled(), 'nothing is changed');
  await yaml.fill('limits:\n  perClient: 0\n');
  await page.getByText(/^Line 2: spec\.limits\.perClient/).waitFor();
  assert.ok(await replay.isDisabled(), 'it is invalid');
  await page.getByRole('button', { name: 'Discard changes' }).click();
  assert.match(await yaml.inputValue(), /# One session per application/);
  await page.getByLabel('Mode').selectOption('Audit');
  assert.match(await yaml.inputValue(), /# One session per application[^]*mode: Audit\n/, 'comments stay');
  await page.getByText('The policy is valid.').waitFor();
  await replay.click();
  await page.getByText('With this policy 1 of 3 logins end differently.').waitFor();
  assert.equal(await outcome(page), 'Allowed, audited within_limit'.replace('within_limit', await page.locator('.decision .outcome code').innerText()));
  await page.getByLabel('Sessions per application').fill('2');
  assert.match(await yaml.inputValue(), /\n {2}perClient: 2\n/);
  await page.getByText('The policy is valid.').waitFor();
  await replay.click();
  await idle(page);
  assert.equal(await outcome(page), 'Allowed within_limit');
  await close();
});

test('link that is copied opens in another browser and is played on demand', { skip }, async () => {
  const address = await demo();
  const first = await open(address);
  await openScene(first.page, 'What if two devices sign in at the same moment?');
  await click(first.page, '1h');
  await first.page.getByRole('button', { name: 'Copy link' }).click();
  await first.page.getByText('The link is copied').waitFor();
  const link = await first.page.evaluate(() => navigator.clipboard.readText());
  const sentences = await first.page.locator('.steps .step-text').allInnerTexts();
  await first.close();
  assert.ok(link.startsWith(`${address}#v1.`) && link.length < 2_000, link);
  const other = await demo();
  const second = await open(link.replace(address, other));
  await second.page.getByRole('region', { name: 'Scenario of the link' }).waitFor();
  assert.equal(await second.page.getByRole('heading', { name: 'Why is Carla blocked on her phone?' }).count(), 1, 'nothing is played yet');
  await second.page.getByRole('button', { name: 'Play it' }).click();
  await second.page.getByRole('heading', { name: 'What if two devices sign in at the same moment?' }).waitFor();
  await idle(second.page);
  assert.deepEqual(await second.page.locator('.steps .step-text').allInnerTexts(), sentences);
  for (const [fragment, text] of [['#v9.abc', 'another version'], ['#v1.x', 'cannot be read'], ['#nonsense', 'no scenario']]) {
    await second.page.evaluate((hash) => { location.hash = hash; }, fragment);
    await second.page.getByRole('alert').filter({ hasText: text }).waitFor();
  }
  await second.close();
});

test('two tabs show the same, and the keyboard is enough', { skip }, async () => {
  const address = await demo();
  const [one, two] = [await open(address), await open(address)];
  const button = one.page.getByRole('button', { name: 'Sign in to shop: Carla on phone' });
  await button.focus();
  await one.page.keyboard.press('Enter');
  await two.page.getByRole('button', { name: 'Carla signs in to shop on phone' }).waitFor();
  await idle(two.page);
  assert.equal(await outcome(two.page), 'Blocked limit_exceeded');
  await idle(one.page);
  assert.equal(await one.page.locator('[aria-live="polite"].visually-hidden').innerText(), 'Carla signs in to shop on phone. Blocked: limit_exceeded.');
  assert.ok(await one.page.locator('details').first().evaluate((element) => element.closest('body') !== null));
  await one.page.getByText('Entry of the Management API').first().focus();
  await one.page.keyboard.press('Enter');
  await one.page.getByText('"last_interacted_at"').first().waitFor();
  await one.close();
  await two.close();
});

test('axe finds nothing and nothing is cut off: light, dark, narrow, wide, forced colours', { skip }, async () => {
  const address = await demo();
  for (const options of [
    { colorScheme: 'light' },
    { colorScheme: 'dark' },
    { colorScheme: 'light', viewport: { width: 320, height: 700 } },
    { colorScheme: 'dark', viewport: { width: 320, height: 700 }, reducedMotion: 'reduce' },
    { colorScheme: 'dark', forcedColors: 'active' },
  ]) {
    const { page, close } = await open(address, options);
    await openScene(page, 'Which session ends when the newest login wins?');
    await click(page, 'Sign in to crm: Carla on tablet');
    await page.getByLabel('As YAML: the spec of a SessionPolicy').fill('limits: {}\nmode: Audi');
    await page.locator('.messages .problem').first().waitFor();
    for (const summary of await page.locator('summary').all()) await summary.click();
    assert.deepEqual(await findings(page), [], JSON.stringify(options));
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= (options.viewport?.width ?? 1280), `${width} in ${JSON.stringify(options)}`);
    await close();
  }
});

test('pictures of the documentation', { skip: skip || (!process.env.SCREENSHOTS && 'set SCREENSHOTS=1') }, async () => {
  for (const colorScheme of ['light', 'dark']) {
    const address = await demo();
    const { page, close } = await open(address, { colorScheme, viewport: { width: 1360, height: 900 } });
    await click(page, 'Sign in to shop: Carla on phone');
    await page.mouse.move(0, 0);
    await page.evaluate(() => document.activeElement.blur());
    await page.screenshot({ path: `${IMAGES}playground-${colorScheme}.png` });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.locator('.column.right').scrollIntoViewIfNeeded();
    await page.evaluate(() => document.querySelector('.column.right').scrollIntoView());
    await page.screenshot({ path: `${IMAGES}playground-${colorScheme}-narrow.png` });
    await close();
  }
});
