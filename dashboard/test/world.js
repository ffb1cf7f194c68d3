// A real gateway and real simulated vehicles on free loopback ports, in a folder of their own. Whatever
// was started is ended by its own handle, also when a test fails.

import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The folder with the built binaries. */
export const BIN = process.env.CARRIAGEWAY_BIN ?? path.resolve(import.meta.dirname, "../../target/debug");

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */

/** Vehicles in the world. */
export const VEHICLES = 3;

export class World {
  /** @type {ChildProcess | null} */
  gateway = null;
  /** @type {ChildProcess | null} */
  vehicles = null;
  /** @type {string[]} */
  said = [];

  /**
   * @param {string} dir
   * @param {{ tcp: number, udp: number, internal: number }} ports
   */
  constructor(dir, ports) {
    this.dir = dir;
    this.ports = ports;
  }

  /** Certificates, a configuration and ports; nothing runs yet. */
  static async create() {
    const dir = await mkdtemp(path.join(tmpdir(), "carriageway-page-"));
    const [tcp, internal, udp] = await Promise.all([freeTcp(), freeTcp(), freeUdp()]);
    const world = new World(dir, { tcp, udp, internal });
    const certs = world.file("certs");
    await world.tool("certs", "init", "--dir", certs);
    await world.tool("certs", "vehicles", "sim", String(VEHICLES), "--dir", certs);
    await writeFile(world.file("gateway.toml"), world.#configuration());
    return world;
  }

  /** @param {string} name */
  file(name) {
    return path.join(this.dir, name);
  }

  get url() {
    return `https://127.0.0.1:${this.ports.tcp}/`;
  }

  /** A token for everything, or for what `scope` says. @param {string} [scope] */
  async token(scope = "observe command:*") {
    const key = path.join("certs", "operator.key");
    return (await this.tool("token", "new", "--key", this.file(key), "--sub", "page", "--scope", scope, "--vehicles", "*"))
      .trim();
  }

  /** Starts the gateway and waits until it is ready. */
  async startGateway() {
    this.gateway = this.#start("carriageway-gateway", ["serve", "--config", this.file("gateway.toml")]);
    await until("the gateway is ready", 20_000, () => answers(this.ports.internal, "/readyz"));
  }

  /** Kills it as a crash would. */
  async killGateway() {
    await end(this.gateway, "SIGKILL");
    this.gateway = null;
  }

  startVehicles() {
    const { tcp, udp } = this.ports;
    this.vehicles = this.#start("carriageway-agent", [
      "simulate", "--vehicles", String(VEHICLES), "--certs", this.file("certs"), "--journal", this.file("journal"),
      "--set", "gateway.host=127.0.0.1", "--set", `gateway.udp_port=${udp}`, "--set", `gateway.tcp_port=${tcp}`,
    ]);
  }

  /** Ends whatever runs and removes the folder. */
  async end() {
    await Promise.all([end(this.vehicles, "SIGTERM"), end(this.gateway, "SIGTERM")]);
    await rm(this.dir, { recursive: true, force: true });
  }

  /** What the processes said last, for whoever reads a failure. */
  words() {
    return this.said.slice(-20).join("");
  }

  /** @param {string[]} args */
  async tool(...args) {
    const { stdout } = await run(path.join(BIN, "carriageway-gateway"), args, { timeout: 20_000 });
    return stdout;
  }

  /**
   * @param {string} program
   * @param {string[]} args
   */
  #start(program, args) {
    const child = spawn(path.join(BIN, program), args, {
      cwd: this.dir,
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const keep = (/** @type {Buffer} */ words) => {
      this.said.push(words.toString());
      if (this.said.length > 500) this.said.shift();
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error) => this.said.push(String(error)));
    return child;
  }

  #configuration() {
    const { tcp, udp, internal } = this.ports;
    const certs = this.file("certs");
    return `
[listen]
udp = ["127.0.0.1:${udp}"]
tcp = "127.0.0.1:${tcp}"
internal = "127.0.0.1:${internal}"
[tls]
cert = "${certs}/server.pem"
key = "${certs}/server.key"
ca = "${certs}/ca.pem"
[auth]
public_key = "${certs}/operator.pub"
[quic]
secret = "${certs}/quic.secret"
`;
  }
}

/**
 * Waits for a condition under a deadline.
 * @param {string} what
 * @param {number} ms
 * @param {() => Promise<boolean>} holds
 */
export async function until(what, ms, holds) {
  const deadline = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/**
 * Ends a process that this world started, by force if it lingers.
 * @param {ChildProcess | null} child
 * @param {NodeJS.Signals} signal
 */
async function end(child, signal) {
  if (!child || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = new Promise((done) => child.once("exit", done));
  child.kill(signal);
  const force = setTimeout(() => child.kill("SIGKILL"), 12_000);
  await gone;
  clearTimeout(force);
}

/**
 * @param {number} port
 * @param {string} path
 * @returns {Promise<boolean>} whether it answers 200
 */
function answers(port, path) {
  return new Promise((done) => {
    const request = http.get({ host: "127.0.0.1", port, path, timeout: 1000 }, (response) => {
      response.resume();
      done(response.statusCode === 200);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => done(false));
  });
}

/** @returns {Promise<number>} */
function freeTcp() {
  return new Promise((done, fail) => {
    const server = createServer().once("error", fail).listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** @returns {Promise<number>} */
function freeUdp() {
  return new Promise((done, fail) => {
    const socket = createSocket("udp4").once("error", fail);
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => done(port));
    });
  });
}
