// What can be asked of a vehicle, and the ledger of what was asked. Pure.

import { Failure } from "./api.js";
import { shortPath, value } from "./format.js";

/** @typedef {import("./api.js").CommandRecord} CommandRecord */
/** @typedef {import("./api.js").CommandRequest} CommandRequest */
/** @typedef {{ name: string, label: string, request: CommandRequest }} Action */

const DOOR = "Vehicle.Cabin.Door.Row1.DriverSide";
const LOW_BEAM = "Vehicle.Body.Lights.Beam.Low.IsOn";

/** Target states, never toggles: pressing twice asks for the same thing twice. */
/** @type {Action[]} */
export const ACTIONS = [
  body("open-window", "Open window", `${DOOR}.Window.Position`, 100),
  body("close-window", "Close window", `${DOOR}.Window.Position`, 0),
  body("lock", "Lock door", `${DOOR}.IsLocked`, true),
  body("unlock", "Unlock door", `${DOOR}.IsLocked`, false),
  body("lights-on", "Lights on", LOW_BEAM, true),
  body("lights-off", "Lights off", LOW_BEAM, false),
];

/** The emergency stop: class safety, nothing between the press and the gateway. @type {Action} */
export const EMERGENCY_STOP = {
  name: "emergency-stop",
  label: "Emergency stop",
  request: { class: "safety", path: "Vehicle.Carriageway.EmergencyStop", value: true, ttl_ms: 2000 },
};

/**
 * @param {string} name
 * @param {string} label
 * @param {string} path
 * @param {boolean | number} value
 * @returns {Action}
 */
function body(name, label, path, value) {
  return { name, label, request: { class: "body", path, value, ttl_ms: 5000 } };
}

/**
 * One command as the page shows it. `told`: the gateway's word on it, once there is one. `failure`: why
 * there is none.
 * @typedef {{ key: string, vehicle: string, label: string, mine: boolean, told: CommandRecord | null,
 *   failure: Failure | null }} Entry
 */

const MAX_ENTRIES = 30;

/** The newest commands, newest first. */
export class Ledger {
  /** @type {Entry[]} */
  entries = [];

  /**
   * A command of this page, about to be sent.
   * @param {string} key
   * @param {string} vehicle
   * @param {string} label
   */
  begin(key, vehicle, label) {
    this.#add({ key, vehicle, label, mine: true, told: null, failure: null });
  }

  /**
   * The gateway's word on a command, of this page or of another operator.
   * @param {CommandRecord} told
   */
  tell(told) {
    const entry = this.#find(told.vehicle, told.key);
    if (!entry) {
      const label = `${shortPath(told.path)} to ${value(told.value)}`;
      this.#add({ key: told.key, vehicle: told.vehicle, label, mine: false, told, failure: null });
    } else if (!entry.told || told.timeline.length >= entry.told.timeline.length) {
      // Answers and events travel apart; a longer timeline is the later word.
      [entry.told, entry.failure] = [told, null];
    }
  }

  /**
   * No word came, and why.
   * @param {string} vehicle
   * @param {string} key
   * @param {Failure} failure
   */
  fail(vehicle, key, failure) {
    const entry = this.#find(vehicle, key);
    if (entry && !entry.told) entry.failure = failure;
  }

  /**
   * Whether a command has had its last word.
   * @param {string} vehicle
   * @param {string} key
   */
  settled(vehicle, key) {
    return this.#find(vehicle, key)?.told?.terminal ?? true;
  }

  /**
   * @param {string} vehicle
   * @param {string} key
   */
  #find(vehicle, key) {
    return this.entries.find((entry) => entry.key === key && entry.vehicle === vehicle);
  }

  /** @param {Entry} entry */
  #add(entry) {
    this.entries = [entry, ...this.entries].slice(0, MAX_ENTRIES);
  }
}

/**
 * @typedef {"good" | "bad" | "open" | "warn"} Mood
 */

/** What each phase means to whoever waits for it. @type {Record<string, { mood: Mood, means: string }>} */
const PHASES = {
  CREATED: { mood: "open", means: "accepted by the gateway" },
  QUEUED: { mood: "open", means: "waiting for the vehicle" },
  DISPATCHED: { mood: "open", means: "sent to the vehicle" },
  RECEIVED: { mood: "open", means: "in the vehicle's journal" },
  EXECUTING: { mood: "open", means: "the vehicle is doing it" },
  SUCCEEDED: { mood: "good", means: "done; the vehicle confirmed it" },
  FAILED: { mood: "bad", means: "the vehicle tried and could not" },
  REJECTED: { mood: "bad", means: "refused; not done" },
  EXPIRED: { mood: "bad", means: "too late; certainly not done" },
  SUPERSEDED: { mood: "warn", means: "a newer command for the same thing took its place" },
  CANCELED: { mood: "warn", means: "withdrawn; not done" },
  UNKNOWN: { mood: "warn", means: "the vehicle may have acted; look before you repeat it" },
};

/**
 * What became of a command: its phase, what that means, and what was said about it.
 * @param {Entry} entry
 * @returns {{ phase: string, mood: Mood, means: string, detail: string }}
 */
export function verdict({ told, failure }) {
  if (told) {
    const { mood, means } = PHASES[told.phase] ?? { mood: "warn", means: "a phase this page does not know" };
    const detail = [told.reason, told.detail].filter((part) => part !== "").join(": ");
    return { phase: told.phase, mood, means, detail };
  }
  if (!failure) return { phase: "SENDING", mood: "open", means: "on its way to the gateway", detail: "" };
  const detail = [failure.detail, waiting(failure)].filter((part) => part !== "").join("; ");
  // 503 as a problem document is the gateway's own refusal; from anybody in between it says nothing.
  const refused = failure.status < 500 || (failure.status === 503 && failure.type !== "");
  if (failure.kind === "answered" && refused) {
    return { phase: "REFUSED", mood: "bad", means: `${failure.message}; not sent to the vehicle`, detail };
  }
  if (failure.kind === "unsent") return { phase: "REFUSED", mood: "bad", means: failure.message, detail };
  // No answer, or an error of the gateway's own: the command may have gone through.
  return { phase: "UNKNOWN", mood: "warn", means: `${failure.message}; the vehicle may have acted`, detail };
}

/** @param {Failure} failure */
function waiting({ retryAfter }) {
  return retryAfter === "" ? "" : `try again in ${retryAfter} s`;
}
