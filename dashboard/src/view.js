// The document: reads what is known and shows it. Whatever the gateway said is set as text only.

import { ACTIONS, EMERGENCY_STOP, verdict } from "./commands.js";
import { positionOf, presenceOf } from "./fleet.js";
import { STALE_MS, age, millis, percent, shortPath, signal as signalText, value } from "./format.js";
import { object, text } from "./api.js";

/**
 * @typedef {import("./fleet.js").Vehicle} Vehicle
 * @typedef {import("./commands.js").Action} Action
 * @typedef {import("./commands.js").Entry} Entry
 */

/** Above so many vehicles only the selected one draws its trail. */
const MAX_TRAILS = 20;

/** Vehicles listed at most; a larger fleet needs a search, which is not this page's. */
const MAX_ROWS = 300;

/**
 * The element of this id; the page cannot work without it.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function part(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/**
 * @param {string} name
 * @param {string} [content]
 * @param {string} [className]
 */
function make(name, content = "", className = "") {
  const element = document.createElement(name);
  if (content !== "") element.textContent = content;
  if (className !== "") element.className = className;
  return element;
}

/**
 * Sets a text only where it changed: a live region then speaks no more than it has to.
 * @param {Element} element
 * @param {string} content
 */
function say(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

/**
 * Brings a parent's children in line with a list, reusing them by key.
 * @template T
 * @param {HTMLElement} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => HTMLElement} create
 * @param {(element: HTMLElement, item: T) => void} update
 */
function reconcile(parent, items, key, create, update) {
  const children = /** @type {HTMLElement[]} */ ([...parent.children]);
  const known = new Map(children.map((child) => [child.dataset.key ?? "", child]));
  items.forEach((item, index) => {
    const element = known.get(key(item)) ?? create(item);
    element.dataset.key = key(item);
    known.delete(key(item));
    update(element, item);
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}

/**
 * How present a vehicle is, in words.
 * @param {Vehicle} vehicle
 * @param {number} now
 * @param {boolean} connected
 */
function presenceText(vehicle, now, connected) {
  const presence = presenceOf(vehicle, now, connected);
  const heard = age(now - vehicle.heardAt);
  const last = heard === "now" || heard === "unknown" ? heard : `${heard} ago`;
  if (presence === "online") return { presence, words: `online${vehicle.transport && `, ${vehicle.transport}`}` };
  if (presence === "unknown") return { presence, words: `not known; last heard ${last}` };
  return { presence, words: `${presence}, last heard ${last}` };
}

/**
 * @param {Vehicle[]} vehicles
 * @param {{ now: number, connected: boolean, selected: string | null, onSelect: (id: string) => void }} view
 */
export function showFleet(vehicles, { now, connected, selected, onSelect }) {
  const list = part("vehicles", HTMLUListElement);
  const online = vehicles.filter((vehicle) => presenceOf(vehicle, now, connected) === "online").length;
  const beyond = vehicles.length > MAX_ROWS ? `, the first ${MAX_ROWS} shown` : "";
  const count = connected ? `${online} of ${vehicles.length} online` : `${vehicles.length}, presence not known`;
  say(part("fleet-count", HTMLSpanElement), vehicles.length ? count + beyond : "");
  part("no-vehicles", HTMLParagraphElement).hidden = vehicles.length > 0;
  reconcile(list, vehicles.slice(0, MAX_ROWS), (vehicle) => vehicle.id, ({ id }) => {
    const [row, button] = [make("li"), make("button")];
    button.setAttribute("type", "button");
    button.append(make("span", "", "dot"), make("span", id, "name"), make("span", "", "words"));
    button.addEventListener("click", () => onSelect(id));
    row.append(button);
    return row;
  }, (row, vehicle) => {
    const { presence, words } = presenceText(vehicle, now, connected);
    const button = /** @type {HTMLElement} */ (row.firstElementChild);
    button.dataset.presence = presence;
    button.setAttribute("aria-pressed", String(vehicle.id === selected));
    say(/** @type {Element} */ (button.lastElementChild), words);
  });
}

/**
 * The map's markers, and in words what it shows.
 * @param {Vehicle[]} vehicles
 * @param {{ now: number, connected: boolean, selected: string | null }} view
 */
export function markersOf(vehicles, { now, connected, selected }) {
  return vehicles.flatMap((vehicle) => {
    const position = positionOf(vehicle, now);
    if (!position) return [];
    const live = !position.stale && presenceOf(vehicle, now, connected) === "online";
    const chosen = vehicle.id === selected;
    const trail = chosen || vehicles.length <= MAX_TRAILS ? vehicle.trail : [];
    return [{ id: vehicle.id, position, live, selected: chosen, trail }];
  });
}

/** @param {import("./map.js").Marker[]} markers */
export function showMapNote(markers) {
  const live = markers.filter((marker) => marker.live).length;
  const old = markers.length - live;
  const note = markers.length === 0 ? "" : old === 0 ? `${live} live` : `${live} live, ${old} last known`;
  say(part("map-note", HTMLSpanElement), note);
  const label = markers.length === 0 ? "Map without vehicles" : `Map of ${note} positions`;
  part("map", HTMLCanvasElement).setAttribute("aria-label", label);
}

/**
 * Fills the row of buttons, once.
 * @param {(action: Action) => void} onAction
 */
export function makeControls(onAction) {
  const controls = part("controls", HTMLDivElement);
  for (const action of [...ACTIONS, EMERGENCY_STOP]) {
    const button = make("button", action.label, action === EMERGENCY_STOP ? "stop" : "");
    button.setAttribute("type", "button");
    button.dataset.action = action.name;
    button.addEventListener("click", () => onAction(action));
    controls.append(button);
  }
}

/**
 * @param {Vehicle | undefined} vehicle
 * @param {{ now: number, connected: boolean }} view
 */
export function showVehicle(vehicle, { now, connected }) {
  say(part("detail-title", HTMLHeadingElement), vehicle?.id ?? "No vehicle selected");
  const presence = part("presence", HTMLParagraphElement);
  const told = vehicle ? presenceText(vehicle, now, connected) : { presence: "unknown", words: "" };
  presence.dataset.presence = told.presence;
  say(presence, told.words);
  for (const button of part("controls", HTMLDivElement).querySelectorAll("button")) button.disabled = !vehicle;
  showSignals(vehicle, now);
}

/**
 * @param {Vehicle | undefined} vehicle
 * @param {number} now
 */
function showSignals(vehicle, now) {
  const rows = [...(vehicle?.signals ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
  const body = part("signals", HTMLTableSectionElement);
  reconcile(body, rows, ([path]) => `${vehicle?.id} ${path}`, ([path]) => {
    const [row, name] = [make("tr"), make("th", shortPath(path))];
    name.setAttribute("scope", "row");
    name.title = path;
    row.append(name, make("td"), make("td"));
    return row;
  }, (row, [path, signal]) => {
    const old = now - signal.sampledAt;
    const [, shown, since] = row.children;
    row.classList.toggle("stale", old > STALE_MS);
    if (shown) say(shown, signalText(path, signal.value));
    if (since) say(since, old > STALE_MS ? `stale, ${age(old)}` : age(old));
  });
}

/**
 * @param {unknown} body of GET /v1/vehicles/{id}/link; null while unknown
 * @param {number} told how long ago it was told, in milliseconds
 */
export function showLink(body, told) {
  const link = object(body);
  const list = part("link", HTMLDListElement);
  list.classList.toggle("stale", told > STALE_MS);
  const rows = body === null ? [] : [
    ["Transport", text(link.transport) || "none"],
    ["Why", text(link.why) || "not said"],
    ["Round trip", millis(link.rtt_ms)],
    ["Loss to the vehicle", percent(link.loss)],
    ["Resumes", value(link.resumes)],
    ["Last heard", age(Number(link.heard_age_ms ?? Number.NaN) + told)],
    ["Newest signal", age(Number(object(link.signals).newest_age_ms ?? Number.NaN) + told)],
    ["This view", told > STALE_MS ? `stale, ${age(told)} old` : "current"],
  ];
  reconcile(list, rows, ([name = ""]) => name, ([name = ""]) => {
    const group = make("div");
    group.append(make("dt", name), make("dd"));
    return group;
  }, (group, [, words = ""]) => say(/** @type {Element} */ (group.lastElementChild), words));
}

/** @param {Entry[]} entries */
export function showOutcomes(entries) {
  part("no-outcomes", HTMLParagraphElement).hidden = entries.length > 0;
  const list = part("outcomes", HTMLOListElement);
  reconcile(list, entries, (entry) => `${entry.vehicle} ${entry.key}`, (entry) => {
    const item = make("li");
    const who = entry.mine ? entry.vehicle : `${entry.vehicle}, by ${entry.told?.operator || "another operator"}`;
    const head = make("p", "", "what");
    head.append(make("strong", entry.label), make("span", who, "who"), make("span", "", "phase"));
    item.append(head, make("p", "", "means"), make("p", "", "timeline"));
    return item;
  }, (item, entry) => {
    const { phase, mood, means, detail } = verdict(entry);
    item.dataset.mood = mood;
    item.dataset.phase = phase;
    const [head, meaning, timeline] = item.children;
    if (head?.lastElementChild) say(head.lastElementChild, phase);
    if (meaning) say(meaning, detail === "" ? means : `${means} (${detail})`);
    if (timeline) say(timeline, timelineText(entry));
  });
}

/** @param {Entry} entry */
function timelineText({ told }) {
  const steps = told?.timeline ?? [];
  return steps.map(({ phase, afterMs }) => (Number.isNaN(afterMs) ? phase : `${phase} ${afterMs} ms`)).join(" → ");
}

/** @param {{ main: string, rest: string } | null} words */
export function showDrain(words) {
  part("drain", HTMLParagraphElement).hidden = words === null;
  // As with the stream, the countdown is not read aloud.
  say(part("drain-state", HTMLSpanElement), words?.main ?? "");
  say(part("drain-left", HTMLSpanElement), words?.rest ?? "");
}

/**
 * @param {import("./events.js").StreamState} state
 * @param {number} now
 */
export function showStream(state, now) {
  const { main, rest } = streamText(state, now);
  part("stream", HTMLParagraphElement).dataset.state = state.name;
  // Only the first is read aloud: nobody wants to hear a countdown.
  say(part("stream-state", HTMLSpanElement), main);
  say(part("stream-retry", HTMLSpanElement), rest);
}

/**
 * @param {import("./events.js").StreamState} state
 * @param {number} now
 */
function streamText(state, now) {
  switch (state.name) {
    case "connecting":
      return state.again ? { main: "Connection lost", rest: ", trying again" } : { main: "Connecting", rest: "" };
    case "open":
      return { main: "Connected", rest: "" };
    case "waiting": {
      const seconds = Math.max(1, Math.ceil((state.untilMs - now) / 1000));
      return { main: "Connection lost", rest: `, retrying in ${seconds} s. ${state.why}.` };
    }
    case "ended":
      return { main: "Not connected", rest: "" };
  }
}
