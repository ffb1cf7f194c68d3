// The operator's token: it comes in the address's fragment or is pasted once, and stays in this tab.

const KEY = "carriageway.token";

/**
 * The token in a fragment such as `#token=...`.
 * @param {string} fragment
 */
export function fromFragment(fragment) {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token")?.trim() || null;
}

/**
 * Takes the token out of the address bar, or else what this tab has kept.
 * @param {{ location: Location, history: History, sessionStorage: Storage }} browser
 */
export function take({ location, history, sessionStorage: storage }) {
  const token = fromFragment(location.hash);
  if (token === null) return storage.getItem(KEY);
  // At once, so that it lands in no bookmark, history entry or screenshot.
  history.replaceState(null, "", location.pathname + location.search);
  storage.setItem(KEY, token);
  return token;
}

/**
 * @param {Storage} storage
 * @param {string} token
 */
export function keep(storage, token) {
  storage.setItem(KEY, token);
}

/** @param {Storage} storage */
export function forget(storage) {
  storage.removeItem(KEY);
}
