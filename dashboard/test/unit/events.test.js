import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStream, backoffMs } from "../../src/events.js";
import { fromFragment, take } from "../../src/token.js";

test("waits grow to a limit, are spread by chance, and are never nothing", () => {
  assert.equal(backoffMs(1, 1, null), 500);
  assert.equal(backoffMs(3, 1, null), 2_000);
  assert.equal(backoffMs(50, 1, null), 10_000);
  assert.equal(backoffMs(50, 0.5, null), 5_000);
  assert.equal(backoffMs(5, 0, null), 250);
  assert.equal(backoffMs(1, 0, 3_000), 3_000, "the server's wish holds");
  assert.equal(backoffMs(1, 0, 1e9), 10_000, "within reason");
});

/** A gateway that answers from a list, and a stream that ends with it. @param {(() => Response)[]} answers */
async function run(...answers) {
  /** @type {{ headers: Headers }[]} */
  const asked = [];
  /** @type {string[]} */
  const told = [];
  const stream = new EventStream({
    url: "/v1/events",
    token: "secret",
    now: () => 0,
    chance: () => 0,
    fetch: async (_url, init) => {
      asked.push({ headers: new Headers(init?.headers) });
      const answer = answers.shift();
      if (answer) return answer();
      stream.stop();
      throw new TypeError("no more");
    },
    onEvent: ({ type, data }) => told.push(`${type} ${data}`),
    onState: (state) => told.push(`<${state.name}>`),
  });
  await stream.run();
  return { asked, told };
}

test("after a break the stream goes on where it left", async () => {
  const { asked, told } = await run(
    () => new Response("id: r-1\nevent: command\ndata: a\n\n"),
    () => new Response("id: r-2\nevent: command\ndata: b\n\n"),
  );
  assert.deepEqual(told, [
    "<connecting>", "<open>", "command a", "<waiting>",
    "<connecting>", "<open>", "command b", "<waiting>",
    "<connecting>",
  ]);
  assert.deepEqual(asked.map(({ headers }) => headers.get("last-event-id")), [null, "r-1", "r-2"]);
  assert.equal(asked[0]?.headers.get("authorization"), "Bearer secret");
});

test("a token that is refused ends it; a gateway in trouble does not", async () => {
  const trouble = () => new Response("", { status: 503 });
  const refused = () => new Response("{\"title\":\"The token has ended\"}", {
    status: 401,
    headers: { "content-type": "application/problem+json" },
  });
  const { told, asked } = await run(trouble, refused);
  assert.deepEqual(told, ["<connecting>", "<waiting>", "<connecting>", "<ended>"]);
  assert.equal(asked.length, 2);
});

test("a token leaves the address bar at once and stays in this tab", () => {
  assert.equal(fromFragment("#token=a.b-c_d"), "a.b-c_d");
  for (const none of ["", "#", "#other=1", "#token=", "#token=%20"]) assert.equal(fromFragment(none), null);

  const kept = new Map();
  const shown = /** @type {string[]} */ ([]);
  const browser = /** @type {any} */ ({
    location: { hash: "#token=a.b.c", pathname: "/", search: "?x=1" },
    history: { replaceState: (/** @type {unknown[]} */ ...[, , url]) => shown.push(String(url)) },
    sessionStorage: { setItem: kept.set.bind(kept), getItem: (/** @type {string} */ key) => kept.get(key) ?? null },
  });
  assert.equal(take(browser), "a.b.c");
  assert.deepEqual(shown, ["/?x=1"]);
  browser.location.hash = "";
  assert.equal(take(browser), "a.b.c");
});
