import assert from "node:assert/strict";
import { test } from "node:test";

import { Api, Failure, record } from "../../src/api.js";
import { ACTIONS, EMERGENCY_STOP, Ledger, verdict } from "../../src/commands.js";

const OPEN = ACTIONS.find((action) => action.name === "open-window") ?? EMERGENCY_STOP;

const SUCCEEDED = {
  id: "ab", vehicle: "one", key: "k", path: "Vehicle.A", value: 100, operator: "ada",
  phase: "SUCCEEDED", terminal: true, reason: null, detail: "",
  timeline: [{ phase: "CREATED", after_ms: 0 }, { phase: "SUCCEEDED", after_ms: 80 }],
};

/** @param {() => Response | Promise<Response>} answer */
function world(answer) {
  /** @type {{ url: string, init: RequestInit }[]} */
  const asked = [];
  const api = new Api({
    token: "secret",
    fetch: async (url, init = {}) => {
      asked.push({ url, init });
      return answer();
    },
  });
  const send = () => api.command("one", OPEN.request, "k");
  return { asked, send, api };
}

/**
 * @param {number} status
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 */
function problem(status, body, headers = {}) {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });
}

/** @param {() => Promise<unknown>} send */
async function failure(send) {
  const error = await send().then(() => null, (/** @type {unknown} */ error) => error);
  assert.ok(error instanceof Failure, String(error));
  return error;
}

/** @param {Failure} failed */
function judged(failed) {
  return verdict({ key: "k", vehicle: "one", label: "", mine: true, told: null, failure: failed });
}

test("a command goes out once, with key and token", async () => {
  const { asked, send } = world(() => Response.json(SUCCEEDED));
  const told = await send();
  assert.equal(told.phase, "SUCCEEDED");
  assert.deepEqual(told.timeline.map((step) => step.afterMs), [0, 80]);
  assert.equal(asked.length, 1);
  assert.equal(asked[0]?.url, "/v1/vehicles/one/commands");
  const headers = new Headers(asked[0]?.init.headers);
  assert.equal(headers.get("idempotency-key"), "k");
  assert.equal(headers.get("authorization"), "Bearer secret");
  assert.deepEqual(JSON.parse(String(asked[0]?.init.body)), OPEN.request);
});

test("a refusal says what the gateway said, and that nothing was done", async () => {
  const offline = { type: "/problems/vehicle-offline", title: "The vehicle is offline", detail: "for 12 s" };
  const failed = await failure(world(() => problem(404, offline)).send);
  assert.deepEqual([failed.kind, failed.status, failed.detail], ["answered", 404, "for 12 s"]);
  const { phase, means } = judged(failed);
  assert.equal(phase, "REFUSED");
  assert.match(means, /The vehicle is offline; not sent/);
});

test("too many at once says when to try again", async () => {
  const failed = await failure(world(() => problem(429, { title: "Too fast" }, { "retry-after": "2" })).send);
  assert.match(judged(failed).detail, /try again in 2 s/);
});

test("silence is never called failure: the vehicle may have acted", async () => {
  const silent = [
    () => Promise.reject(new TypeError("network")),
    () => Promise.reject(new DOMException("late", "TimeoutError")),
    () => new Response("<html>", { status: 200 }),
    () => Response.json({ no: "phase" }),
    () => new Response("bad gateway", { status: 502 }),
    () => problem(500, { title: "Oops" }),
    () => new Response("", { status: 503 }),
  ];
  for (const answer of silent) {
    const { asked, send } = world(answer);
    const { phase, means } = judged(await failure(send));
    assert.equal(phase, "UNKNOWN");
    assert.match(means, /may have acted/);
    assert.equal(asked.length, 1, "and it is not sent again");
  }
});

test("the gateway's own 503 is a refusal", async () => {
  const failed = await failure(world(() => problem(503, { type: "/problems/draining", title: "Stopping" })).send);
  assert.equal(judged(failed).phase, "REFUSED");
});

test("an emergency stop finds a free connection, however slow the others are", async () => {
  const { asked, send, api } = world(() => new Promise(() => undefined));
  const stop = () => api.command("one", EMERGENCY_STOP.request, "stop");
  for (let n = 0; n < 10; n += 1) void api.vehicles().catch(() => undefined);
  for (let n = 0; n < 10; n += 1) void send().catch(() => undefined);
  assert.ok(asked.length <= 4, "with the event stream, five of six");
  const failed = await failure(send);
  assert.equal(judged(failed).phase, "REFUSED", "a command that is not sent is not kept for later either");
  const before = asked.length;
  void stop();
  assert.equal(asked.length, before + 1);
});

test("a vehicle's id cannot leave its place in the address", async () => {
  const { asked, api } = world(() => Response.json({}));
  await api.link("../x?y#z");
  assert.equal(asked[0]?.url, "/v1/vehicles/..%2Fx%3Fy%23z/link");
});

test("every phase has a mood and a meaning, UNKNOWN and EXPIRED the true ones", () => {
  /** @param {string} phase */
  const of = (phase) => verdict({
    key: "k", vehicle: "one", label: "", mine: true, failure: null, told: record({ ...SUCCEEDED, phase }),
  });
  for (const phase of ["CREATED", "QUEUED", "DISPATCHED", "RECEIVED", "EXECUTING"]) assert.equal(of(phase).mood, "open");
  assert.equal(of("SUCCEEDED").mood, "good");
  assert.match(of("UNKNOWN").means, /may have acted/);
  assert.match(of("EXPIRED").means, /certainly not done/);
  assert.notEqual(of("SOMETHING_NEW").mood, "good");
});

test("the ledger keeps the later word, whichever way it came", () => {
  const ledger = new Ledger();
  ledger.begin("k", "one", "Open window");
  ledger.tell(record(SUCCEEDED));
  ledger.tell(record({ ...SUCCEEDED, phase: "CREATED", terminal: false, timeline: [SUCCEEDED.timeline[0]] }));
  ledger.fail("one", "k", new Failure("silent", "late"));
  assert.equal(ledger.entries.length, 1);
  assert.equal(ledger.entries[0]?.told?.phase, "SUCCEEDED");
  assert.equal(ledger.entries[0]?.failure, null);
});

test("another operator's command is shown as theirs, and the ledger is bounded", () => {
  const ledger = new Ledger();
  ledger.tell(record(SUCCEEDED));
  assert.deepEqual([ledger.entries[0]?.mine, ledger.entries[0]?.label], [false, "A to 100"]);
  for (let n = 0; n < 100; n += 1) ledger.begin(`k${n}`, "one", "x");
  assert.equal(ledger.entries.length, 30);
});

test("every action is a target state, and the stop is of class safety", () => {
  for (const { request } of ACTIONS) assert.ok(request.class === "body" && request.ttl_ms > 0);
  assert.equal(EMERGENCY_STOP.request.class, "safety");
});
