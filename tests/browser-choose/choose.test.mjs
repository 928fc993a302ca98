// The page for choosing sessions in Chromium, from the application's login to its callback.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { CHROME, FIREFOX, IPHONE, PAGE, login, profile, start, user } from './scene.mjs';

const axe = createRequire(import.meta.url)('axe-core').source;
const IMAGES = new URL('../../docs/images/', import.meta.url).pathname;
let scene;

before(async () => (scene = await start()));
after(async () => scene?.stop());

const two = () => user(scene, [CHROME, 3]);
const atThePage = (page) => page.waitForURL(`${PAGE}/choose?**`);
const atTheApp = (page) => page.waitForURL('http://app.test/**');

/** A user who is blocked in a new browser profile, at the page. */
async function blocked() {
  const name = await two();
  const browser = await profile(scene);
  await browser.page.goto(login(name));
  await atThePage(browser.page);
  return { name, ...browser };
}

const sessions = async (name) => (await scene.send({ user: name })).map(({ id, clients }) => [id, clients.length]);

test('a blocked user is signed in after two clicks', async () => {
  const { name, context, page, callbacks } = await blocked();
  assert.equal(await page.title(), 'You are already signed in elsewhere');
  assert.match(await page.locator('label').innerText(), /Chrome on Windows\s+Last used 3 hours ago/);
  await page.getByRole('radio').click();
  await page.getByRole('button', { name: 'End and sign in' }).click();
  await atTheApp(page);
  assert.ok(callbacks[0].searchParams.has('code'), callbacks[0].href);
  assert.equal(callbacks[0].searchParams.get('state'), 'of-the-app');
  const left = await sessions(name);
  assert.equal(left.length, 1);
  assert.equal(left[0][1], 1, 'the application has joined the session');
  await context.close();
});

test('a user who cancels is blocked, and no session ends', async () => {
  const { name, context, page, callbacks } = await blocked();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await atTheApp(page);
  assert.equal(callbacks[0].searchParams.get('error'), 'access_denied');
  assert.deepEqual(await sessions(name), [[`${name.replace('|', '-')}-s0`, 1]]);
  await context.close();
});

test('the page works without scripts, with a keyboard, and calls a custom scheme', async () => {
  const name = await two();
  const { context, page } = await profile(scene, { javaScriptEnabled: false });
  const continued = page.waitForRequest((request) => request.url().includes('/continue?state='));
  await page.goto(login(name, { redirect_uri: 'myapp://callback' }));
  await atThePage(page);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await continued;
  // The browser hands the callback over to the system, which knows no such application here: the session shows the login.
  let left;
  do left = await sessions(name);
  while (left.length !== 1 || left[0][1] !== 1);
  await context.close();
});

test('a double click ends one session and signs in once', async () => {
  const { name, context, page, callbacks } = await blocked();
  await page.getByRole('radio').click();
  // The second click ends the navigation of the first one, which `waitForURL` takes for a failure.
  const arrived = page.waitForEvent('framenavigated', (frame) => frame.url().startsWith('http://app.test/'));
  await page.getByRole('button', { name: 'End and sign in' }).dblclick();
  await arrived;
  assert.ok(callbacks[0].searchParams.has('code'));
  assert.equal((await sessions(name)).length, 1);
  await context.close();
});

test('the address works in no other browser, and not when it was changed', async () => {
  const { name, ...mine } = await blocked();
  const other = await profile(scene);
  const address = mine.page.url();
  assert.equal((await other.page.goto(address)).status(), 403);
  assert.match(await other.page.locator('main').innerText(), /go back to the application/);
  for (const wrong of [
    address.replace('ticket=', 'ticket=A'),
    address.replace(/ticket=[^&]+/, (ticket) => `${ticket.slice(0, -2)}xx`),
    address.replace(/state=.*/, ''),
    `${PAGE}/choose`,
  ]) {
    assert.equal((await mine.page.goto(wrong)).status(), 400, wrong);
  }
  assert.equal((await mine.page.goto(`${address}x`)).status(), 403, 'another state');
  assert.equal((await sessions(name)).length, 2);
  await Promise.all([mine.context.close(), other.context.close()]);
});

test('two tabs are each their own login, and a used page shows no choices', async () => {
  const { name, context, page, callbacks } = await blocked();
  const second = await context.newPage();
  await second.goto(login(name));
  await atThePage(second);
  const used = page.url();
  await page.getByRole('radio').click();
  await page.getByRole('button', { name: 'End and sign in' }).click();
  await atTheApp(page);
  assert.ok(callbacks[0].searchParams.has('code'));
  await page.goto(used);
  assert.equal(await page.getByRole('radio').count(), 0);
  assert.match(await page.locator('main').innerText(), /already used/);
  await context.close();
});

test('a page of another site cannot send the form or show the page', async () => {
  const { name, context, page } = await blocked();
  const form = await page.locator('form').evaluate((element) => element.outerHTML);
  await context.route('https://evil.test/**', (route) =>
    route.fulfill({ contentType: 'text/html', body: form.replace('action="/choose"', `action="${PAGE}/choose"`) }),
  );
  const evil = await context.newPage();
  await evil.goto('https://evil.test/');
  await evil.getByRole('radio').click();
  const [response] = await Promise.all([
    evil.waitForResponse(`${PAGE}/choose`),
    evil.getByRole('button', { name: 'End and sign in' }).click(),
  ]);
  assert.equal(response.status(), 403);
  assert.equal((await sessions(name)).length, 2);
  await context.close();
});

test('a silent login ends with interaction_required and evicts nobody', async () => {
  const name = await two();
  const { context, page, callbacks } = await profile(scene);
  await page.goto(login(name, { prompt: 'none' }));
  await atTheApp(page);
  assert.equal(callbacks[0].searchParams.get('error'), 'interaction_required');
  assert.equal((await sessions(name)).length, 2);
  await context.close();
});

test('an expired page says what to do, and ends nothing', async () => {
  const { name, context, page } = await blocked();
  const address = page.url();
  await scene.send({ pass: 301, user: name });
  await page.getByRole('radio').click();
  const [response] = await Promise.all([
    page.waitForResponse(`${PAGE}/choose`),
    page.getByRole('button', { name: 'End and sign in' }).click(),
  ]);
  assert.equal(response.status(), 410);
  assert.match(await page.locator('main').innerText(), /expired\. Please go back to the application/);
  assert.equal((await page.goto(address)).status(), 410);
  assert.equal((await sessions(name)).length, 2);
  assert.deepEqual(await findings(page), []);
  await context.close();
});

test('the Back button after the sign-in shows no sessions and ends nothing', async () => {
  const { name, context, page, callbacks } = await blocked();
  await page.getByRole('radio').click();
  await page.getByRole('button', { name: 'End and sign in' }).click();
  await atTheApp(page);
  const signedIn = await sessions(name);
  await page.goBack();
  await atThePage(page);
  assert.equal(await page.getByRole('radio').count(), 0);
  assert.match(await page.locator('main').innerText(), /already used/);
  assert.deepEqual(await sessions(name), signedIn);
  assert.equal(callbacks.length, 1);
  await context.close();
});

/** What axe-core finds. `evaluate` works under the page's own policy, which allows no scripts. */
async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
}

test('twelve languages, 320 pixels, light and dark: axe-core finds nothing', async () => {
  const name = await user(scene, [CHROME, 3], [IPHONE, 50], ['', 900]);
  for (const language of ['en', 'de', 'fr', 'es', 'pt', 'it', 'nl', 'pl', 'sv', 'tr', 'ja', 'zh']) {
    const colorScheme = language === 'en' || language === 'ja' ? 'dark' : 'light';
    const { context, page } = await profile(scene, { viewport: { width: 320, height: 800 }, colorScheme });
    await page.goto(login(name, { ui_locales: language }));
    await atThePage(page);
    assert.equal(await page.locator('html').getAttribute('lang'), language);
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(widths[0] <= widths[1], `${language}: ${widths}`);
    assert.deepEqual(await findings(page), [], language);
    await context.close();
  }
});

test('pictures of the documentation', { skip: !process.env.SCREENSHOTS && 'set SCREENSHOTS=1' }, async () => {
  const name = await user(scene, [CHROME, 3], [IPHONE, 50], [FIREFOX, 30]);
  for (const colorScheme of ['light', 'dark']) {
    for (const [suffix, viewport] of [['', { width: 760, height: 640 }], ['-narrow', { width: 320, height: 640 }]]) {
      const { context, page } = await profile(scene, { viewport, colorScheme, deviceScaleFactor: 2 });
      await page.goto(login(name, { client_id: 'crm', ui_locales: 'en' }));
      await atThePage(page);
      await page.getByRole('radio').last().click();
      await page.evaluate(() => document.activeElement.blur());
      await page.screenshot({ path: `${IMAGES}choose-${colorScheme}${suffix}.png`, fullPage: true });
      await context.close();
    }
  }
});
