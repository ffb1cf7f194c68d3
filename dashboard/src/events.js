// The event stream over fetch: an Authorization header, resumed by Last-Event-ID, one owner of retries.

import { Failure, refusal } from "./api.js";
import { SseParser } from "./sse.js";

/**
 * @typedef {{ name: "connecting", again: boolean } | { name: "open" } | { name: "ended", why: string }
 *   | { name: "waiting", why: string, untilMs: number }} StreamState
 * @typedef {import("./sse.js").ServerEvent} ServerEvent
 */

/** The first wait doubles with each failure up to the longest. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** A stream on which nothing, not even a keep-alive, came for this long is dead. */
const SILENCE_MS = 20_000;

/**
 * The wait before the next attempt: exponential with full jitter, but never no wait at all.
 * @param {number} failures in a row, from 1
 * @param {number} chance from 0 to 1
 * @param {number | null} asked the server's own wish, in milliseconds
 */
export function backoffMs(failures, chance, asked) {
  const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1));
  const floor = Math.min(asked ?? 0, LONGEST_WAIT_MS);
  return Math.round(Math.max(FIRST_WAIT_MS / 2, floor, ceiling * chance));
}

export class EventStream {
  #failures = 0;
  #lastId = "";
  /** @type {number | null} */
  #asked = null;
  #stop = new AbortController();

  /**
   * @param {{ url: string, token: string, fetch: import("./api.js").Fetch, now: () => number,
   *   chance: () => number, onEvent: (event: ServerEvent) => void, onState: (state: StreamState) => void,
   * }} world
   */
  constructor(world) {
    this.world = world;
  }

  /** Runs until `stop` is called or the gateway refuses for good. */
  async run() {
    while (!this.#stop.signal.aborted) {
      this.world.onState({ name: "connecting", again: this.#failures > 0 });
      const why = await this.#once().catch((error) => error);
      if (this.#stop.signal.aborted) return;
      const final = why instanceof Failure && (why.status === 401 || why.status === 403);
      if (final) return this.world.onState({ name: "ended", why: sentence(why) });
      await this.#wait(sentence(why));
    }
  }

  /** Ends the stream for good. */
  stop() {
    this.#stop.abort();
  }

  /** @param {string} why */
  async #wait(why) {
    this.#failures += 1;
    const wait = backoffMs(this.#failures, this.world.chance(), this.#asked);
    this.world.onState({ name: "waiting", why, untilMs: this.world.now() + wait });
    await pause(wait, this.#stop.signal);
  }

  /** One connection, from its request to its end. */
  async #once() {
    const watch = new Watch(this.#stop.signal);
    try {
      const response = await this.world.fetch(this.world.url, {
        headers: this.#headers(),
        signal: watch.signal,
        cache: "no-store",
      });
      if (!response.ok) throw await refusal(response);
      if (!response.body) throw new Failure("silent", "The gateway sent no events");
      this.world.onState({ name: "open" });
      await this.#read(response.body, watch);
      return new Failure("silent", "The gateway ended the connection");
    } finally {
      watch.end();
    }
  }

  #headers() {
    /** @type {Record<string, string>} */
    const headers = { accept: "text/event-stream", authorization: `Bearer ${this.world.token}` };
    if (this.#lastId !== "") headers["last-event-id"] = this.#lastId;
    return headers;
  }

  /**
   * @param {ReadableStream<Uint8Array>} body
   * @param {Watch} watch
   */
  async #read(body, watch) {
    const parser = new SseParser();
    parser.lastId = this.#lastId;
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      watch.heard();
      this.#failures = 0;
      const events = parser.push(decoder.decode(next.value, { stream: true }));
      this.#asked = parser.retryMs;
      for (const event of events) this.world.onEvent(event);
      this.#lastId = parser.lastId;
    }
  }
}

/** Aborts a connection that fell silent, or whose owner stopped. */
class Watch {
  #abort = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {AbortSignal} owner */
  constructor(owner) {
    this.owner = owner;
    this.onStop = () => this.#abort.abort();
    owner.addEventListener("abort", this.onStop, { once: true });
    this.heard();
  }

  get signal() {
    return this.#abort.signal;
  }

  heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(), SILENCE_MS);
  }

  end() {
    clearTimeout(this.#timer);
    this.owner.removeEventListener("abort", this.onStop);
    this.#abort.abort();
  }
}

/** @param {unknown} error */
function sentence(error) {
  if (!(error instanceof Failure)) return "The gateway could not be reached";
  return error.detail === "" ? error.message : `${error.message}: ${error.detail}`;
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      done(undefined);
    }, { once: true });
  });
}
