// The page: takes the token, keeps one event stream, and redraws.

import { Api, Failure, object, record, text } from "./api.js";
import { createClock } from "./clock.js";
import { Ledger } from "./commands.js";
import { EventStream } from "./events.js";
import { Drain, Fleet, Lateness, sentAt } from "./fleet.js";
import { TrackMap } from "./map.js";
import * as tokens from "./token.js";
import {
  makeControls, markersOf, part, showDrain, showFleet, showLink, showMapNote, showOutcomes, showStream, showVehicle,
} from "./view.js";

/** @typedef {import("./commands.js").Action} Action */
/** @typedef {import("./events.js").StreamState} StreamState */

/** How often presence and link are asked for, and texts with ages redrawn, in milliseconds. */
const POLL_MS = 1000;
const REDRAW_MS = 250;
/** How often, and how many times, a command whose last word did not come by event is asked after. */
const FOLLOW_MS = 1000;
const FOLLOW_TIMES = 40;

const now = createClock(() => performance.now(), () => Date.now());
const request = window.fetch.bind(window);

/** Everything that lives as long as one token. */
class Console {
  fleet = new Fleet();
  ledger = new Ledger();
  lateness = new Lateness();
  drain = new Drain();
  map = new TrackMap(part("map", HTMLCanvasElement));
  /** @type {StreamState} */
  stream = { name: "connecting", again: false };
  /** @type {string | null} */
  selected = null;
  /** @type {{ id: string, body: unknown, at: number } | null} */
  link = null;
  /** @type {ReturnType<typeof setInterval>[]} */
  timers = [];
  /** Whether the map shows less than is known. */
  outdated = true;

  /** @param {string} token */
  constructor(token) {
    this.api = new Api({ fetch: request, token });
    this.events = new EventStream({
      url: "/v1/events",
      token,
      fetch: request,
      now,
      chance: Math.random,
      onEvent: (event) => this.#happened(event),
      onState: (state) => this.#moved(state),
    });
  }

  start() {
    this.timers = [setInterval(() => this.#poll(), POLL_MS), setInterval(() => this.#words(), REDRAW_MS)];
    requestAnimationFrame(() => this.#frame());
    void this.events.run();
  }

  stop() {
    this.timers.forEach(clearInterval);
    this.timers = [];
    this.events.stop();
  }

  get running() {
    return this.timers.length > 0;
  }

  get connected() {
    return this.stream.name === "open";
  }

  /** @param {string} id */
  select(id) {
    this.selected = id;
    this.#poll();
    this.#words();
  }

  /**
   * Sends a command once. There is no second try by itself: it could act twice as late.
   * @param {Action} action
   */
  async command(action) {
    const vehicle = this.selected;
    if (vehicle === null) return;
    const key = crypto.randomUUID();
    this.ledger.begin(key, vehicle, action.label);
    showOutcomes(this.ledger.entries);
    try {
      const told = await this.api.command(vehicle, action.request, key);
      this.#told(told);
      void this.#follow(told);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.ledger.fail(vehicle, key, error);
    }
    showOutcomes(this.ledger.entries);
  }

  /** @param {import("./api.js").CommandRecord} command */
  async #follow({ id, vehicle, key }) {
    for (let time = 0; time < FOLLOW_TIMES && this.running; time += 1) {
      await new Promise((done) => setTimeout(done, FOLLOW_MS));
      if (this.ledger.settled(vehicle, key)) return;
      const told = await this.api.outcome(id).catch(() => null);
      if (told) this.#told(told);
    }
  }

  /** @param {import("./api.js").CommandRecord} told */
  #told(told) {
    this.ledger.tell(told);
    showOutcomes(this.ledger.entries);
  }

  /** @param {StreamState} state */
  #moved(state) {
    this.stream = state;
    if (state.name === "open") {
      this.lateness = new Lateness();
      this.#poll();
    }
    if (state.name === "ended") leave(state.why);
    else this.#words();
  }

  /** @param {import("./sse.js").ServerEvent} event */
  #happened(event) {
    const body = parse(event.data);
    this.outdated = true;
    if (event.type === "vehicles") {
      // A stream begins with it: whatever was said before was another gateway's.
      this.drain.clear();
      this.fleet.list(body, now());
    }
    if (event.type === "drain") this.drain.tell(body, now());
    if (event.type === "presence") this.fleet.presence(body);
    if (event.type === "signals") this.fleet.signals(body, now(), this.lateness.of(sentAt(body), now()));
    if (event.type === "command" && text(object(body).phase) !== "") this.#told(record(body));
    if (event.type === "link" || event.type === "session") this.#poll();
  }

  /** Asks for what the stream does not tell: presence with its age, and the selected vehicle's link. */
  #poll() {
    // While the gateway cannot be heard the event stream alone tries again.
    if (!this.connected) return;
    const id = this.selected;
    void this.api.vehicles().then((body) => this.fleet.list(body, now()), () => undefined);
    if (id === null) return;
    void this.api.link(id).then((body) => {
      this.link = { id, body, at: now() };
    }, () => undefined);
  }

  /** Redraws every text that holds an age. */
  #words() {
    const vehicles = this.fleet.all();
    this.selected ??= vehicles[0]?.id ?? null;
    const view = { now: now(), connected: this.connected, selected: this.selected };
    showStream(this.stream, view.now);
    showDrain(this.drain.words(view.now));
    showFleet(vehicles, { ...view, onSelect: (id) => this.select(id) });
    showVehicle(this.selected === null ? undefined : this.fleet.get(this.selected), view);
    const link = this.link?.id === this.selected ? this.link : null;
    showLink(link?.body ?? null, link ? view.now - link.at : 0);
    showMapNote(markersOf(vehicles, view));
    this.outdated = true;
  }

  #frame() {
    if (!this.running) return;
    if (this.outdated) {
      const view = { now: now(), connected: this.connected, selected: this.selected };
      this.map.draw(markersOf(this.fleet.all(), view));
      this.outdated = false;
    }
    requestAnimationFrame(() => this.#frame());
  }
}

/** @type {Console | null} */
let current = null;

/** @param {string} token */
function enter(token) {
  current?.stop();
  current = new Console(token);
  show("console");
  current.start();
}

/**
 * Back to the form, and why.
 * @param {string} why
 */
function leave(why) {
  current?.stop();
  current = null;
  tokens.forget(sessionStorage);
  show("login");
  showDrain(null);
  part("login-error", HTMLParagraphElement).textContent = why;
  showStream({ name: "ended", why }, now());
  part("token", HTMLTextAreaElement).focus();
}

/** @param {"login" | "console"} which */
function show(which) {
  part("login", HTMLElement).hidden = which !== "login";
  part("console", HTMLElement).hidden = which !== "console";
  part("leave", HTMLButtonElement).hidden = which !== "console";
}

/** @param {string} json */
function parse(json) {
  try {
    return /** @type {unknown} */ (JSON.parse(json));
  } catch {
    return null;
  }
}

makeControls((action) => void current?.command(action));
part("leave", HTMLButtonElement).addEventListener("click", () => leave(""));
part("login-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const field = part("token", HTMLTextAreaElement);
  const token = field.value.trim();
  field.value = "";
  if (token === "") return;
  tokens.keep(sessionStorage, token);
  part("login-error", HTMLParagraphElement).textContent = "";
  enter(token);
});

const token = tokens.take(window);
if (token === null) show("login");
else enter(token);
