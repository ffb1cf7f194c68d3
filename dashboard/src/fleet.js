// What the page knows of the vehicles, and how old each piece of it is. Pure: time is an argument.

import { number, object, text } from "./api.js";
import { STALE_MS } from "./format.js";

/**
 * @typedef {{ value: unknown, sampledAt: number }} Signal `sampledAt` on the page's clock
 * @typedef {{ x: number, y: number, at: number }} Place longitude, latitude, page's clock
 * @typedef {{ id: string, presence: string, transport: string, heardAt: number,
 *   signals: Map<string, Signal>, trail: Place[] }} Vehicle
 */

const LATITUDE = "Vehicle.CurrentLocation.Latitude";
const LONGITUDE = "Vehicle.CurrentLocation.Longitude";
const HEADING = "Vehicle.CurrentLocation.Heading";

/** Together some ten kilometres of trail: twelve metres, in degrees of latitude, between places. */
const TRAIL_PLACES = 1_200;
const TRAIL_STEP = 12 / 111_320;
const MAX_VEHICLES = 2_000;
const MAX_SIGNALS = 1_000;

export class Fleet {
  /** @type {Map<string, Vehicle>} */
  #vehicles = new Map();

  /** Vehicles in the order of their ids. */
  all() {
    return [...this.#vehicles.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** @param {string} id */
  get(id) {
    return this.#vehicles.get(id);
  }

  /**
   * Takes in the list of vehicles: those that are no longer in it are gone.
   * @param {unknown} body of GET /v1/vehicles
   * @param {number} now
   */
  list(body, now) {
    const told = object(body).vehicles;
    const rows = (Array.isArray(told) ? told : []).map(object).filter((row) => text(row.id) !== "");
    const ids = new Set(rows.map((row) => text(row.id)));
    for (const id of this.#vehicles.keys()) if (!ids.has(id)) this.#vehicles.delete(id);
    for (const row of rows) {
      const vehicle = this.#vehicle(text(row.id));
      if (!vehicle) continue;
      vehicle.presence = text(row.presence);
      vehicle.transport = text(row.transport);
      vehicle.heardAt = newer(vehicle.heardAt, now - number(row.heard_age_ms));
    }
  }

  /**
   * Takes in a change of one vehicle's presence. It says nothing of when the vehicle was heard.
   * @param {unknown} event `vehicle`, `presence`
   */
  presence(event) {
    const { vehicle: id, presence } = object(event);
    const vehicle = this.#vehicle(text(id));
    if (vehicle) vehicle.presence = text(presence);
  }

  /**
   * Takes in values of a vehicle; a value that is older than the one shown changes nothing.
   * @param {unknown} body `vehicle` and a list of `path`, `value`, `age_ms`
   * @param {number} now
   * @param {number} late how long the values were under way at least, in milliseconds
   */
  signals(body, now, late = 0) {
    const told = object(body);
    const vehicle = this.#vehicle(text(told.vehicle));
    if (!vehicle) return;
    for (const row of (Array.isArray(told.signals) ? told.signals : []).map(object)) {
      const [path, age] = [text(row.path), number(row.age_ms)];
      if (path === "" || Number.isNaN(age)) continue;
      show(vehicle, path, { value: row.value, sampledAt: now - late - Math.max(0, age) });
    }
    extend(vehicle);
  }

  /** @param {string} id */
  #vehicle(id) {
    const known = this.#vehicles.get(id);
    if (known || id === "" || this.#vehicles.size >= MAX_VEHICLES) return known;
    /** @type {Vehicle} */
    const vehicle = { id, presence: "", transport: "", heardAt: Number.NaN, signals: new Map(), trail: [] };
    this.#vehicles.set(id, vehicle);
    return vehicle;
  }
}

/** Vehicles named at most in a word about a drain. */
const MAX_NAMED = 5;

/** Whether the gateway is on its way out, and whose lease it renews no more. */
export class Drain {
  #untilMs = Number.NEGATIVE_INFINITY;
  /** @type {Set<string>} */
  #vehicles = new Set();

  /**
   * Takes in that a vehicle's lease is held while the gateway drains.
   * @param {unknown} event `vehicle`, `ends_in_ms`
   * @param {number} now
   */
  tell(event, now) {
    const told = object(event);
    const [vehicle, left] = [text(told.vehicle), number(told.ends_in_ms)];
    if (vehicle === "" || Number.isNaN(left)) return;
    this.#untilMs = now + left;
    if (this.#vehicles.size < MAX_VEHICLES) this.#vehicles.add(vehicle);
  }

  /** Another gateway, or the same one anew. */
  clear() {
    this.#untilMs = Number.NEGATIVE_INFINITY;
    this.#vehicles.clear();
  }

  /**
   * What to say of it, and how long is left at most; null where there is nothing.
   * @param {number} now
   */
  words(now) {
    if (now >= this.#untilMs) return null;
    const all = [...this.#vehicles].sort();
    const more = all.length > MAX_NAMED ? ` and ${all.length - MAX_NAMED} more` : "";
    const whose = all.slice(0, MAX_NAMED).join(", ") + more;
    const main = `The gateway is about to end and renews no lease: whoever drives ${whose} has to bring it to a stop`;
    return { main, rest: `, in ${Math.ceil((this.#untilMs - now) / 1000)} s at the latest.` };
  }
}

/**
 * How much later than the quickest an event came: what queues between gateway and page held it up.
 * The difference of two clocks that nobody synchronised is constant but for drift, so its floor is the
 * quickest way and the rest is delay.
 */
export class Lateness {
  #floor = Number.POSITIVE_INFINITY;
  #before = 0;

  /**
   * @param {number} sent by the gateway's wall clock, in milliseconds
   * @param {number} now by the page's clock
   */
  of(sent, now) {
    if (Number.isNaN(sent)) return 0;
    // Rises by a thousandth, more than clocks drift, so that a clock that was set is forgiven.
    const risen = this.#floor + (now - this.#before) / 1000;
    this.#floor = Math.min(risen, now - sent);
    this.#before = now;
    return now - sent - this.#floor;
  }
}

/**
 * When the gateway sent a `signals` event, by its wall clock in milliseconds; NaN where it cannot be
 * told.
 * @param {unknown} body
 */
export function sentAt(body) {
  const { signals } = object(body);
  const first = object(Array.isArray(signals) ? signals[0] : undefined);
  return Date.parse(text(first.sampled_at)) + number(first.age_ms);
}

/**
 * How present a vehicle is, as far as anybody can say now.
 * @param {Vehicle} vehicle
 * @param {number} now
 * @param {boolean} connected whether the page hears the gateway
 * @returns {"online" | "stale" | "offline" | "unknown"}
 */
export function presenceOf(vehicle, now, connected) {
  if (!connected) return "unknown";
  if (vehicle.presence === "offline") return "offline";
  if (vehicle.presence !== "online") return vehicle.presence === "stale" ? "stale" : "unknown";
  return now - vehicle.heardAt <= STALE_MS ? "online" : "stale";
}

/**
 * Where a vehicle is or was, with the age of that knowledge; null where it was never told.
 * @param {Vehicle} vehicle
 * @param {number} now
 */
export function positionOf(vehicle, now) {
  const [latitude, longitude] = [vehicle.signals.get(LATITUDE), vehicle.signals.get(LONGITUDE)];
  if (!latitude || !longitude) return null;
  const [y, x] = [number(latitude.value), number(longitude.value)];
  if (!(Math.abs(y) <= 90 && Math.abs(x) <= 180)) return null;
  const ageMs = now - Math.min(latitude.sampledAt, longitude.sampledAt);
  const heading = number(vehicle.signals.get(HEADING)?.value);
  return { x, y, heading, ageMs, stale: ageMs > STALE_MS };
}

/**
 * The later of two moments, either of which may be unknown.
 * @param {number} a
 * @param {number} b
 */
function newer(a, b) {
  return Number.isNaN(a) || b > a ? b : a;
}

/**
 * @param {Vehicle} vehicle
 * @param {string} path
 * @param {Signal} signal
 */
function show(vehicle, path, signal) {
  const shown = vehicle.signals.get(path);
  if (shown ? signal.sampledAt < shown.sampledAt : vehicle.signals.size >= MAX_SIGNALS) return;
  vehicle.signals.set(path, signal);
  vehicle.heardAt = newer(vehicle.heardAt, signal.sampledAt);
}

/** @param {Vehicle} vehicle */
function extend(vehicle) {
  const position = positionOf(vehicle, 0);
  if (!position) return;
  // Its age at the clock's zero is, negated, when it was sampled.
  const place = { x: position.x, y: position.y, at: -position.ageMs };
  const last = vehicle.trail.at(-1);
  if (last && Math.hypot(place.x - last.x, place.y - last.y) < TRAIL_STEP) {
    // Heard all the while: a stop at a light is no gap in the trail.
    last.at = place.at;
    return;
  }
  vehicle.trail.push(place);
  if (vehicle.trail.length > TRAIL_PLACES) vehicle.trail.shift();
}
