import assert from "node:assert/strict";
import { test } from "node:test";

import { createClock } from "../../src/clock.js";
import { age, millis, number, percent, signal, value } from "../../src/format.js";

test("an age never sounds younger than it is", () => {
  assert.equal(age(0), "now");
  assert.equal(age(999), "now");
  assert.equal(age(1000), "1 s");
  assert.equal(age(3001), "4 s");
  assert.equal(age(119_001), "2 min");
  assert.equal(age(121_000), "3 min");
  assert.equal(age(7_200_001), "3 h");
});

test("an age that nobody knows is called unknown", () => {
  for (const ms of [Number.NaN, -1, Number.POSITIVE_INFINITY]) assert.equal(age(ms), "unknown");
});

test("values of every kind have a text, strange ones too", () => {
  assert.equal(value(true), "yes");
  assert.equal(value(12.3456), "12.35");
  assert.equal(value("D"), "D");
  for (const strange of [null, undefined, {}, [], Number.NaN]) assert.equal(value(strange), "unknown");
});

test("numbers have the decimals their size deserves", () => {
  assert.equal(number(50), "50");
  assert.equal(number(0.12345), "0.123");
  assert.equal(number(-123.456), "-123.5");
  assert.equal(millis(42.123), "42.1 ms");
  assert.equal(percent(0.0123), "1.2 %");
  assert.equal(percent(null), "unknown");
  assert.equal(signal("Vehicle.CurrentLocation.Latitude", 52.514512345), "52.51451");
  assert.equal(signal("Vehicle.CurrentLocation.Latitude", null), "unknown");
  assert.equal(signal("Vehicle.Speed", 42.314), "42.31");
});

test("the clock believes whichever of its two moved further", () => {
  let [steady, wall] = [0, 1_000_000];
  const now = createClock(() => steady, () => wall);
  steady += 100;
  wall += 100;
  assert.equal(now(), 100);
  wall += 60_000; // The computer slept, and the steady clock with it.
  assert.equal(now(), 60_100);
  wall -= 3_600_000; // Somebody set the wall clock back.
  steady += 50;
  assert.equal(now(), 60_150);
});
