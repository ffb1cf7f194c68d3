// The gateway's HTTP API: one function per request, every failure a `Failure` with a sentence.

/**
 * What went wrong with a request.
 * `answered`: the gateway refused it and said so. `silent`: no answer came, so a command may have been
 * carried out all the same. `unsent`: the browser certainly sent nothing.
 */
export class Failure extends Error {
  /**
   * @param {"answered" | "silent" | "unsent"} kind
   * @param {string} title a short sentence
   * @param {{ status?: number, type?: string, detail?: string, retryAfter?: string }} [more]
   */
  constructor(kind, title, more = {}) {
    super(title);
    this.kind = kind;
    this.status = more.status ?? 0;
    this.type = more.type ?? "";
    this.detail = more.detail ?? "";
    this.retryAfter = more.retryAfter ?? "";
  }
}

/**
 * @typedef {{ id: string, vehicle: string, key: string, path: string, value: unknown, operator: string,
 *   phase: string, terminal: boolean, reason: string, detail: string,
 *   timeline: { phase: string, afterMs: number }[] }} CommandRecord
 * @typedef {{ class: string, path: string, value: boolean | number | string, ttl_ms: number }} CommandRequest
 * @typedef {(input: string, init?: RequestInit) => Promise<Response>} Fetch
 */

/** How long an answer is waited for, in milliseconds. */
const PATIENCE_MS = 8_000;

/**
 * A browser opens six connections to one gateway, and a request beyond them waits in a queue that nobody
 * sees. The event stream holds one. Questions and ordinary commands keep to their share of the rest, so
 * that an emergency stop always finds a free one.
 */
const QUESTIONS = 2;
const COMMANDS = 2;

export class Api {
  #questions = 0;
  #commands = 0;

  /** @param {{ fetch: Fetch, token: string }} world */
  constructor({ fetch, token }) {
    this.fetch = fetch;
    this.token = token;
  }

  /** @returns {Promise<unknown>} */
  vehicles() {
    return this.#get("/v1/vehicles");
  }

  /**
   * @param {string} id
   * @returns {Promise<unknown>}
   */
  link(id) {
    return this.#get(`/v1/vehicles/${encodeURIComponent(id)}/link`);
  }

  /**
   * @param {string} id
   * @returns {Promise<unknown>}
   */
  signals(id) {
    return this.#get(`/v1/vehicles/${encodeURIComponent(id)}/signals`);
  }

  /**
   * Sends a command once; the answer is how far it came at once. Never repeats it: a copy that arrives
   * late would begin a new life. Never queues it: time in a queue here would be on nobody's clock.
   * @param {string} id the vehicle
   * @param {CommandRequest} request
   * @param {string} key
   * @returns {Promise<CommandRecord>}
   */
  async command(id, request, key) {
    const urgent = request.class === "safety";
    if (!urgent && this.#commands >= COMMANDS) {
      throw new Failure("unsent", "Earlier commands have not reached the gateway yet");
    }
    this.#commands += 1;
    try {
      return record(await json(await this.#send(`/v1/vehicles/${encodeURIComponent(id)}/commands`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": key },
        body: JSON.stringify(request),
        priority: urgent ? "high" : "auto",
      })));
    } finally {
      this.#commands -= 1;
    }
  }

  /**
   * A command's record as it stands.
   * @param {string} id as the gateway gave it
   * @returns {Promise<CommandRecord>}
   */
  async outcome(id) {
    return record(await this.#get(`/v1/commands/${encodeURIComponent(id)}`));
  }

  /** @param {string} path */
  async #get(path) {
    if (this.#questions >= QUESTIONS) throw new Failure("unsent", "Earlier questions are still open");
    this.#questions += 1;
    try {
      return await json(await this.#send(path, {}));
    } finally {
      this.#questions -= 1;
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit & { headers?: Record<string, string> }} init
   */
  async #send(path, init) {
    const headers = { accept: "application/json", ...init.headers, authorization: `Bearer ${this.token}` };
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const request = { ...init, headers, signal, cache: /** @type {const} */ ("no-store") };
    const response = await this.fetch(path, request).catch((error) => {
      throw unanswered(error);
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

/**
 * What a refusal's body says (RFC 9457, application/problem+json); whatever else came instead.
 * @param {Response} response
 */
export async function refusal(response) {
  const status = response.status;
  const retryAfter = response.headers.get("retry-after") ?? "";
  const kind = response.headers.get("content-type") ?? "";
  const body = await response.text().catch(() => "");
  const problem = kind.startsWith("application/problem+json") ? object(parse(body)) : {};
  const { title, detail, type } = problem;
  const sentence = typeof title === "string" && title !== "" ? title : `The gateway answered ${status}`;
  return new Failure("answered", sentence, { status, type: text(type), detail: text(detail), retryAfter });
}

/** @param {unknown} error */
function unanswered(error) {
  const late = error instanceof DOMException && error.name === "TimeoutError";
  const title = late ? "The gateway did not answer in time" : "The gateway could not be reached";
  return new Failure("silent", title);
}

/** @param {Response} response */
async function json(response) {
  const body = await response.text().catch((error) => {
    throw unanswered(error);
  });
  const parsed = parse(body);
  if (parsed === undefined) throw new Failure("silent", "The gateway's answer cannot be read");
  return parsed;
}

/** @param {string} text */
function parse(text) {
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    return undefined;
  }
}

/**
 * A command's record as the gateway tells it.
 * @param {unknown} body
 * @returns {CommandRecord}
 */
export function record(body) {
  const told = object(body);
  if (text(told.phase) === "") throw new Failure("silent", "The gateway's answer names no phase");
  const steps = (Array.isArray(told.timeline) ? told.timeline : []).map(object);
  return {
    id: text(told.id),
    vehicle: text(told.vehicle),
    key: text(told.key),
    path: text(told.path),
    value: told.value,
    operator: text(told.operator),
    phase: text(told.phase),
    terminal: told.terminal === true,
    reason: text(told.reason),
    detail: text(told.detail),
    timeline: steps.map((step) => ({ phase: text(step.phase), afterMs: number(step.after_ms) })),
  };
}

/**
 * An object's fields; of anything else, none.
 * @param {unknown} value
 * @returns {Record<string, unknown>}
 */
export function object(value) {
  const is = typeof value === "object" && value !== null && !Array.isArray(value);
  return is ? /** @type {Record<string, unknown>} */ (value) : {};
}

/** @param {unknown} value */
export function text(value) {
  return typeof value === "string" ? value : "";
}

/** @param {unknown} value */
export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : Number.NaN;
}
