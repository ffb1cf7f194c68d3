// Texts for people: ages, values, numbers. Pure.

/** Data older than this, in milliseconds, is never shown as current. */
export const STALE_MS = 3000;

/**
 * An age in words, rounded so that it never sounds younger than it is.
 * @param {number} ms milliseconds; negative and absent ages are unknown
 */
export function age(ms) {
  if (!Number.isFinite(ms) || ms < 0) return "unknown";
  if (ms < 1000) return "now";
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return `${Math.ceil(minutes / 60)} h`;
}

/**
 * A signal's value.
 * @param {unknown} value
 */
export function value(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value);
  if (typeof value === "string") return value;
  return "unknown";
}

/**
 * The value of the signal at this path. Coordinates keep a metre: two decimals of a degree are one
 * kilometre.
 * @param {string} path
 * @param {unknown} told
 */
export function signal(path, told) {
  const coordinate = /\.(Latitude|Longitude)$/.test(path) && typeof told === "number" && Number.isFinite(told);
  return coordinate ? told.toFixed(5) : value(told);
}

/**
 * A number with as many decimals as its size deserves.
 * @param {number} value
 */
export function number(value) {
  if (!Number.isFinite(value)) return "unknown";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

/**
 * Milliseconds with a unit.
 * @param {unknown} ms
 */
export function millis(ms) {
  return typeof ms === "number" && Number.isFinite(ms) ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : "unknown";
}

/**
 * A share of one as per cent.
 * @param {unknown} share
 */
export function percent(share) {
  return typeof share === "number" && Number.isFinite(share) ? `${(share * 100).toFixed(1)} %` : "unknown";
}

/**
 * The tail of a VSS path that still tells signals apart.
 * @param {string} path
 */
export function shortPath(path) {
  return path.replace(/^Vehicle\./, "");
}
