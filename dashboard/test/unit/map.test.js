import assert from "node:assert/strict";
import { test } from "node:test";

import { grow, projection, scaleBar } from "../../src/map.js";

const BERLIN = { x: 13.4, y: 52.5 };

/** @param {number} a @param {number} b @param {number} within */
function near(a, b, within) {
  assert.ok(Math.abs(a - b) <= within, `${a} is not within ${within} of ${b}`);
}

test("bounds grow around what they hold and never shrink", () => {
  assert.equal(grow(null, []), null);
  const one = grow(null, [BERLIN]);
  assert.deepEqual(one, { minX: 13.4, maxX: 13.4, minY: 52.5, maxY: 52.5 });
  const two = grow(one, [{ x: 13.5, y: 52.4 }]);
  assert.deepEqual(grow(two, [BERLIN]), two);
});

test("north is up, east is right, and the middle is in the middle", () => {
  const bounds = { minX: 13.3, maxX: 13.5, minY: 52.4, maxY: 52.6 };
  const { project } = projection(bounds, 800, 600);
  const middle = project(BERLIN);
  near(middle.x, 400, 1e-6);
  near(middle.y, 300, 1e-6);
  assert.ok(project({ x: 13.4, y: 52.55 }).y < 300);
  assert.ok(project({ x: 13.45, y: 52.5 }).x > 400);
});

test("a metre east is as long as a metre north", () => {
  const { project, perMetre } = projection({ minX: 13.39, maxX: 13.41, minY: 52.49, maxY: 52.51 }, 800, 600);
  const middle = project(BERLIN);
  const north = project({ x: 13.4, y: 52.5 + 100 / 111_320 });
  const east = project({ x: 13.4 + 100 / (111_320 * Math.cos((52.5 * Math.PI) / 180)), y: 52.5 });
  near(middle.y - north.y, 100 * perMetre, 0.01);
  near(east.x - middle.x, 100 * perMetre, 0.01);
});

test("everything fits, even on a canvas without room, and one point is no division by zero", () => {
  const bounds = { minX: 13.3, maxX: 13.5, minY: 52.4, maxY: 52.6 };
  for (const [width, height] of /** @type {[number, number][]} */ ([[800, 600], [200, 900], [1, 1], [0, 0]])) {
    const { project } = projection(bounds, width, height);
    for (const point of [{ x: 13.3, y: 52.4 }, { x: 13.5, y: 52.6 }]) {
      const { x, y } = project(point);
      assert.ok(x >= Math.min(0, width / 2 - 1) && x <= width + 1 && y >= -1 && y <= height + 1, `${x} ${y}`);
    }
  }
  const { project } = projection({ minX: 13.4, maxX: 13.4, minY: 52.5, maxY: 52.5 }, 800, 600);
  assert.deepEqual(project(BERLIN), { x: 400, y: 300 });
  assert.ok(Number.isFinite(projection({ minX: 0, maxX: 0, minY: 90, maxY: 90 }, 10, 10).project({ x: 1, y: 90 }).x));
});

test("the scale bar has a round length that fits", () => {
  assert.deepEqual(scaleBar(1, 120), { metres: 100, pixels: 100, label: "100 m" });
  assert.deepEqual(scaleBar(0.05, 120), { metres: 2000, pixels: 100, label: "2 km" });
  for (let perMetre = 0.001; perMetre < 100; perMetre *= 1.3) {
    const { pixels } = scaleBar(perMetre, 120);
    assert.ok(pixels <= 120 && pixels > 40, `${perMetre}: ${pixels}`);
  }
});
