// A parser for text/event-stream (WHATWG HTML, section 9.2.6), fed in whatever pieces arrive. Pure.

/** @typedef {{ type: string, data: string, id: string }} ServerEvent */

/** The longest line or event taken, in characters; a server that sends more is broken. */
export const MAX_EVENT = 1 << 20;

export class SseParser {
  #rest = "";
  #started = false;
  #type = "";
  /** @type {string[]} */
  #data = [];
  #size = 0;

  /** The id of the last event, for `Last-Event-ID`. */
  lastId = "";

  /** The wait that the server asked for before a reconnect, in milliseconds. @type {number | null} */
  retryMs = null;

  /**
   * Takes the next piece of the stream.
   * @param {string} text
   * @returns {ServerEvent[]} the events that it completed
   */
  push(text) {
    this.#rest += text;
    if (!this.#started && this.#rest.length > 0) {
      this.#started = true;
      this.#rest = this.#rest.replace(/^\uFEFF/, "");
    }
    /** @type {ServerEvent[]} */
    const events = [];
    for (let line = this.#line(); line !== null; line = this.#line()) {
      const event = line === "" ? this.#dispatch() : this.#field(line);
      if (event) events.push(event);
    }
    if (this.#rest.length + this.#size > MAX_EVENT) throw new Error("an event is larger than 1 MiB");
    return events;
  }

  /** The next whole line, without its end; null while there is none. */
  #line() {
    const end = this.#rest.search(/[\r\n]/);
    if (end < 0) return null;
    // A CR at the very end may be the first half of CRLF: wait for what follows.
    if (this.#rest[end] === "\r" && end + 1 === this.#rest.length) return null;
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(this.#rest.startsWith("\r\n", end) ? end + 2 : end + 1);
    return line;
  }

  /**
   * @param {string} line
   * @returns {null}
   */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#type = value;
    if (name === "data") {
      this.#data.push(value);
      this.#size += value.length;
    }
    if (name === "id" && !value.includes("\0")) this.lastId = value;
    if (name === "retry" && /^\d{1,9}$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  /** @returns {ServerEvent | null} */
  #dispatch() {
    const [type, data] = [this.#type || "message", this.#data];
    [this.#type, this.#data, this.#size] = ["", [], 0];
    return data.length === 0 ? null : { type, data: data.join("\n"), id: this.lastId };
  }
}
