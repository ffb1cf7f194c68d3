import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_EVENT, SseParser } from "../../src/sse.js";

/** @param {string[]} pieces */
function events(...pieces) {
  const parser = new SseParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

const STREAM = "\uFEFF: hello\nid: 7-1\nevent: signals\ndata: {\"a\":1}\ndata: tail\n\ndata:x\n\n";
const EXPECTED = [
  { type: "signals", data: "{\"a\":1}\ntail", id: "7-1" },
  { type: "message", data: "x", id: "7-1" },
];

test("events come out whole, however the stream is cut", () => {
  assert.deepEqual(events(STREAM), EXPECTED);
  assert.deepEqual(events(...STREAM), EXPECTED);
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    assert.deepEqual(events(STREAM.slice(0, cut), STREAM.slice(cut)), EXPECTED, `cut at ${cut}`);
  }
});

test("lines may end in CR, LF or both", () => {
  for (const end of ["\r\n", "\n"]) assert.deepEqual(events(STREAM.replaceAll("\n", end)), EXPECTED);
  assert.deepEqual(events("data: a\r", "\ndata: b\r\n", "\r\n"), [{ type: "message", data: "a\nb", id: "" }]);
  assert.deepEqual(events("data: a\r\r", "data: b\r\r:"), [
    { type: "message", data: "a", id: "" },
    { type: "message", data: "b", id: "" },
  ]);
});

test("an event without data is none, but its id counts", () => {
  const parser = new SseParser();
  assert.deepEqual(parser.push("event: x\nid: 9\n\n: keep-alive\n\n"), []);
  assert.equal(parser.lastId, "9");
  parser.push("id: bad\0id\nid\n");
  assert.equal(parser.lastId, "", "an empty id clears, one with NUL is ignored");
});

test("the server's wish for a pause is read, nonsense is not", () => {
  const parser = new SseParser();
  parser.push("retry: 1500\nretry: soon\nretry: -1\n");
  assert.equal(parser.retryMs, 1500);
});

test("an event that never ends is refused, not kept", () => {
  const parser = new SseParser();
  assert.throws(() => {
    for (let n = 0; n < 3; n += 1) parser.push("x".repeat(MAX_EVENT / 2));
  }, /larger/);
  const lines = new SseParser();
  assert.throws(() => {
    for (let n = 0; n < 3; n += 1) lines.push(`data: ${"x".repeat(MAX_EVENT / 2)}\n`);
  }, /larger/);
});
