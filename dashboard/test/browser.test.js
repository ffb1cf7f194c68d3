// The page in a real browser, against a real gateway and real simulated vehicles.
//
// CARRIAGEWAY_BIN: the folder with the built binaries (default: target/debug of this repository).
// CHROMIUM: the browser (default: /usr/bin/chromium).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axe from "axe-core";
import { chromium } from "playwright-core";

import { VEHICLES, World } from "./world.js";

/** @typedef {import("playwright-core").Page} Page */

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const TIMEOUT = 120_000;
const WINDOW = "Cabin.Door.Row1.DriverSide.Window.Position";

/** @type {World} */
let world;
/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Page} */
let page;
/** @type {string[]} */
const complaints = [];

before(async () => {
  world = await World.create();
  await world.startGateway();
  world.startVehicles();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  page = await open(await world.token());
}, { timeout: TIMEOUT });

after(async () => {
  await browser?.close();
  await world?.end();
}, { timeout: 30_000 });

/**
 * A page of its own tab and storage, opened with this token.
 * @param {string} token
 */
async function open(token) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1360, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (/Content.Security.Policy|Refused to/i.test(message.text())) complaints.push(message.text());
  });
  await page.goto(`${world.url}#token=${token}`);
  return page;
}

/**
 * A step of the story; a failure tells what the processes said.
 * @param {string} name
 * @param {() => Promise<void>} body
 */
function step(name, body) {
  test(name, { timeout: TIMEOUT }, async () => {
    await body().catch(async (/** @type {unknown} */ error) => {
      const shown = error instanceof Error ? error.stack : String(error);
      const seen = await page.innerText("main:not([hidden])").catch(() => "nothing");
      throw new Error(`${shown}\n--- the page showed:\n${seen}\n--- the processes said:\n${world.words()}`);
    });
  });
}

/** Waits until a text matches. @param {string} selector @param {RegExp} wanted */
async function says(selector, wanted) {
  await page.waitForFunction(
    ({ selector, source }) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? ""),
    { selector, source: wanted.source },
  );
}

/** The shown value of a signal. @param {string} name */
async function signal(name) {
  return page.locator(`#signals tr[data-key$=".${name}"] td`).first().textContent();
}

/** Waits until a signal's value differs from `before`. @param {string} name @param {string | null} before */
async function changes(name, before) {
  await page.waitForFunction(
    ({ name, before }) => {
      const shown = document.querySelector(`#signals tr[data-key$=".${name}"] td`)?.textContent;
      return shown !== undefined && shown !== before;
    },
    { name, before },
  );
}

async function allOnline() {
  const online = '#vehicles button[data-presence="online"]';
  await page.waitForFunction(
    ({ online, count }) => document.querySelectorAll(online).length === count,
    { online, count: VEHICLES },
  );
}

/** Every axe finding that keeps people out, in both colour schemes. */
async function barriers() {
  const found = [];
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    // Through the debugger, which the page's policy does not bind.
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => /** @type {any} */ (window).axe.run());
    const grave = violations.filter((/** @type {any} */ one) => ["serious", "critical"].includes(one.impact));
    found.push(...grave.map((/** @type {any} */ one) => `${colorScheme}: ${one.id}: ${one.nodes[0]?.html}`));
  }
  return found;
}

step("the token leaves the address bar and stays in this tab", async () => {
  await page.waitForSelector("#console:not([hidden])");
  assert.equal(page.url(), world.url);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  assert.equal(await page.evaluate(() => document.cookie), "");
});

step("every vehicle is there, online and moving", async () => {
  await allOnline();
  await says("#map-note", new RegExp(`^${VEHICLES} live$`));
  const drawn = () => page.evaluate(() => document.querySelector("canvas")?.toDataURL() ?? "");
  const [latitude, picture] = [await signal("Latitude"), await drawn()];
  assert.ok(latitude);
  await changes("Latitude", latitude);
  // It is drawn in a frame of its own, which a busy machine may give it later.
  await page.waitForFunction((picture) => document.querySelector("canvas")?.toDataURL() !== picture, picture);
});

step("the link says what carries it and why", async () => {
  await says('#link div[data-key="Transport"] dd', /^(quic|websocket)$/);
  await says('#link div[data-key="Round trip"] dd', /^[\d.]+ ms$/);
});

step("a window opens, and its timeline tells how", async () => {
  assert.notEqual(await signal(WINDOW), "100");
  await page.click('[data-action="open-window"]');
  await page.waitForSelector('#outcomes li[data-phase="SUCCEEDED"]');
  await says('#outcomes li[data-phase="SUCCEEDED"] .timeline', /^CREATED 0 ms .*DISPATCHED.*SUCCEEDED \d+ ms$/);
  await says(`#signals tr[data-key$=".${WINDOW}"] td`, /^100$/);
});

step("an emergency stop brings the vehicle to a halt", async () => {
  await page.click('[data-action="emergency-stop"]');
  await page.waitForSelector('#outcomes li:first-child[data-phase="SUCCEEDED"]');
  await says('#signals tr[data-key$=" Vehicle.Speed"] td', /^0$/);
});

step("another vehicle can be chosen by keyboard", async () => {
  await page.focus("#vehicles li:nth-child(2) button");
  await page.keyboard.press("Enter");
  await says("#detail-title", /^sim-2$/);
});

step("nothing keeps people out", async () => {
  assert.deepEqual(await barriers(), []);
});

step("a lost gateway is said at once, and nothing old is shown as current", async () => {
  await world.killGateway();
  await says("#stream", /^Connection lost, retrying in \d+ s/);
  await says("#map-note", new RegExp(`^0 live, ${VEHICLES} last known$`));
  await says("#presence", /^not known; last heard \d+ s ago$/);
  await page.waitForFunction(() => document.querySelectorAll("#signals tr:not(.stale)").length === 0);
  await page.click('[data-action="open-window"]');
  await page.waitForSelector('#outcomes li:first-child[data-phase="UNKNOWN"]');
  assert.deepEqual(await barriers(), []);
});

step("the page is back by itself when the gateway is", async () => {
  await world.startGateway();
  await says("#stream", /^Connected$/);
  await allOnline();
  await changes("Latitude", await signal("Latitude"));
});

step("a token that is no good leads back to the form, which says why", async () => {
  const other = await open("not.a.token");
  await other.waitForSelector("#login:not([hidden])");
  assert.match((await other.textContent("#login-error")) ?? "", /token/i);
  assert.equal(await other.evaluate(() => sessionStorage.length), 0);
  await other.context().close();
});

step("a token without the right is told so", async () => {
  const watcher = await open(await world.token("observe"));
  await watcher.waitForSelector('#vehicles button[data-presence="online"]');
  await watcher.click('[data-action="open-window"]');
  await watcher.waitForSelector('#outcomes li:first-child[data-phase="REFUSED"]');
  await watcher.context().close();
});

step("the browser had nothing to complain of", async () => {
  assert.deepEqual(complaints, []);
});
