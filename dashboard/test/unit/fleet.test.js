import assert from "node:assert/strict";
import { test } from "node:test";

import { Drain, Fleet, Lateness, positionOf, presenceOf, sentAt } from "../../src/fleet.js";

/**
 * @param {number} latitude
 * @param {number} longitude
 * @param {number} age_ms
 */
function at(latitude, longitude, age_ms) {
  return {
    vehicle: "one",
    signals: [
      { path: "Vehicle.CurrentLocation.Latitude", value: latitude, age_ms },
      { path: "Vehicle.CurrentLocation.Longitude", value: longitude, age_ms },
    ],
  };
}

/** @param {Fleet} fleet */
function one(fleet) {
  const vehicle = fleet.get("one");
  assert.ok(vehicle);
  return vehicle;
}

/** @param {string} presence @param {number} heard_age_ms */
function listed(presence, heard_age_ms) {
  return { vehicles: [{ id: "one", presence, heard_age_ms, transport: "quic" }] };
}

test("an old position is never shown as current", () => {
  const fleet = new Fleet();
  fleet.signals(at(52, 13, 100), 10_000);
  assert.equal(positionOf(one(fleet), 10_000)?.stale, false);
  assert.equal(positionOf(one(fleet), 12_900)?.stale, false);
  assert.equal(positionOf(one(fleet), 12_901)?.stale, true);
});

test("a position is as old as the older of its two parts", () => {
  const fleet = new Fleet();
  fleet.signals(at(52, 13, 0), 1_000);
  fleet.signals({ vehicle: "one", signals: [at(52.1, 13, 0).signals[0]] }, 9_000);
  assert.equal(positionOf(one(fleet), 9_000)?.ageMs, 8_000);
});

test("an older value after a newer one changes nothing", () => {
  const fleet = new Fleet();
  fleet.signals(at(52, 13, 0), 5_000);
  fleet.signals(at(51, 13, 4_000), 5_100);
  assert.equal(positionOf(one(fleet), 5_100)?.y, 52);
});

test("values that were held up on the way are that much older", () => {
  const fleet = new Fleet();
  fleet.signals(at(52, 13, 0), 20_000, 8_000);
  assert.equal(positionOf(one(fleet), 20_000)?.stale, true);
});

test("the quickest way is no delay; what comes later than that is", () => {
  const lateness = new Lateness();
  const far = 1_790_000_000_000;
  assert.equal(lateness.of(far, 5_000), 0);
  assert.equal(Math.round(lateness.of(far + 1_000, 6_400)), 399);
  assert.equal(lateness.of(far + 2_000, 6_900), 0, "a quicker one is the new floor");
  assert.equal(lateness.of(Number.NaN, 7_000), 0);
});

test("a gateway whose clock was set back is forgiven in time", () => {
  const lateness = new Lateness();
  lateness.of(1_000_000, 0);
  assert.ok(lateness.of(990_000, 1_000) > 9_000);
  for (let now = 2_000; now < 12_000_000; now += 1_000) lateness.of(989_000 + now, now);
  assert.ok(lateness.of(989_000 + 12_000_000, 12_000_000) < 10);
});

test("an event tells when it was sent", () => {
  const body = { signals: [{ sampled_at: "2026-01-01T00:00:00.500Z", age_ms: 500 }] };
  assert.equal(sentAt(body), Date.parse("2026-01-01T00:00:01Z"));
  assert.ok(Number.isNaN(sentAt({ signals: [] })));
  assert.ok(Number.isNaN(sentAt(null)));
});

test("presence is only as good as what was heard last", () => {
  const fleet = new Fleet();
  fleet.list(listed("online", 200), 1_000);
  const vehicle = one(fleet);
  assert.equal(presenceOf(vehicle, 1_000, true), "online");
  assert.equal(presenceOf(vehicle, 3_900, true), "stale", "no news for longer than three seconds");
  assert.equal(presenceOf(vehicle, 1_000, false), "unknown", "nobody knows while the gateway is not heard");
  fleet.list(listed("offline", 10_000), 5_000);
  assert.equal(presenceOf(vehicle, 5_000, true), "offline");
  fleet.presence({ vehicle: "one", presence: "online" });
  assert.equal(presenceOf(vehicle, 5_000, true), "stale", "an event does not say when it was heard");
});

test("a vehicle that is no longer listed is gone", () => {
  const fleet = new Fleet();
  fleet.list(listed("online", 0), 0);
  fleet.list({ vehicles: [] }, 1);
  assert.deepEqual(fleet.all(), []);
});

test("nonsense from outside changes nothing and throws nothing", () => {
  const fleet = new Fleet();
  for (const body of [null, 7, "x", [], {}, { vehicles: 7 }, { vehicles: [null, {}, { id: 3 }] }]) fleet.list(body, 0);
  for (const body of [null, {}, { vehicle: "" }, { vehicle: "one", signals: [null, {}, { path: "A" }] }]) {
    fleet.signals(body, 0);
  }
  fleet.presence(null);
  fleet.signals(at(95, 200, 0), 0);
  assert.equal(positionOf(one(fleet), 0), null, "no such place on earth");
});

test("a trail keeps a lap, not a history", () => {
  const fleet = new Fleet();
  for (let step = 0; step < 5_000; step += 1) fleet.signals(at(52 + step / 1_000, 13, 0), step * 100);
  assert.ok(one(fleet).trail.length <= 1_200);
});

test("standing still adds nothing to a trail, and is no gap in it", () => {
  const fleet = new Fleet();
  for (let time = 0; time <= 60_000; time += 200) fleet.signals(at(52, 13, 0), time);
  assert.deepEqual(one(fleet).trail, [{ x: 13, y: 52, at: 60_000 }]);
});

test("a gateway that is about to end says so, of whom, and for how long", () => {
  const drain = new Drain();
  assert.equal(drain.words(0), null);
  drain.tell({ vehicle: "two", ends_in_ms: 8_500 }, 1_000);
  drain.tell({ vehicle: "one", ends_in_ms: 8_500 }, 1_000);
  const words = drain.words(1_600);
  assert.match(words?.main ?? "", /^The gateway is about to end .* one, two has to bring it to a stop$/);
  assert.equal(words?.rest, ", in 8 s at the latest.");
  assert.equal(drain.words(9_500), null, "by then it has");
});

test("what was said of one gateway's end is not said of the next", () => {
  const drain = new Drain();
  for (const strange of [null, {}, { vehicle: "one" }, { vehicle: "", ends_in_ms: 5 }]) drain.tell(strange, 0);
  assert.equal(drain.words(0), null);
  for (let n = 0; n < 9; n += 1) drain.tell({ vehicle: `v${n}`, ends_in_ms: 1_000 }, 0);
  assert.match(drain.words(0)?.main ?? "", /v3, v4 and 4 more/);
  drain.clear();
  assert.equal(drain.words(0), null);
});
