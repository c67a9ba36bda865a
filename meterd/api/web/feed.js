// What the server says, as it says it: from the stream of changes, else by asking each second.

import { byQuantity } from "./reading.js";

// Beside this file's folder, wherever a proxy has put meterd.
const API = new URL("../api/v1/", import.meta.url);
const PATIENCE = 4000; // ms that an answer may take before the server counts as away
const HEARTBEAT = 20_000; // ms: on a stream that is open, something comes more often than that
const REOPEN = 10_000; // ms until a stream that was refused is tried again

export async function get(path) {
  const url = new URL(path, API);
  const reply = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return reply.json();
}

function grouped(samples) {
  const groups = new Map();
  for (const sample of samples) {
    if (!groups.has(sample.device)) groups.set(sample.device, []);
    groups.get(sample.device).push(sample);
  }
  return new Map([...groups].map(([device, list]) => [device, byQuantity(list)]));
}

function fromState(device) {
  return byQuantity(Object.entries(device.samples)
    .map(([quantity, sample]) => ({ quantity, ...sample })));
}

export class Feed {
  constructor() {
    this.devices = [];
    this.samples = new Map();
    this.alerts = [];
    this.heard = null; // performance.now() of the last word of the server
    this.ahead = 0; // ms that the server's clock is ahead of this browser's
    this.stream = null;
    this.tried = -Infinity;
  }

  now() {
    return Date.now() + this.ahead;
  }

  get isOpen() {
    return this.stream?.readyState === EventSource.OPEN && this.silence < HEARTBEAT;
  }

  get silence() {
    return this.heard === null ? 0 : performance.now() - this.heard;
  }

  get isLost() {
    return this.heard !== null && this.silence > (this.isOpen ? HEARTBEAT : PATIENCE);
  }

  /** Open the stream if there is none, and ask where it does not flow. */
  async look() {
    const closed = !this.stream || this.stream.readyState === EventSource.CLOSED;
    if (closed && performance.now() - this.tried > REOPEN) this.#open();
    if (!this.isOpen) await this.#ask();
  }

  /** What the stream does not tell: how devices are configured. */
  async refresh() {
    this.devices = (await get("devices")).devices;
  }

  #open() {
    this.tried = performance.now();
    this.stream?.close();
    this.stream = new EventSource(new URL("stream", API));
    const on = (kind, take) => this.stream.addEventListener(kind, (event) => {
      const said = JSON.parse(event.data);
      this.#hear(said);
      take(said);
    });
    on("state", (said) => this.#adopt(said));
    on("changes", (said) => this.#apply(said));
    on("beat", () => {});
  }

  #hear(said) {
    this.heard = performance.now();
    this.ahead = Date.parse(said.time) - Date.now();
  }

  async #ask() {
    const [devices, latest, alerts] = await Promise.all(["devices", "latest", "alerts"].map(get));
    // The stream may have begun meanwhile, and knows better.
    if (this.isOpen && this.samples.size) return;
    this.devices = devices.devices;
    this.samples = grouped(latest.samples);
    this.alerts = alerts.alerts;
    this.#hear(latest);
  }

  #adopt(state) {
    this.samples = new Map(state.devices.map((device) => [device.device, fromState(device)]));
    this.alerts = state.alerts;
    state.devices.forEach((device) => this.#note(device));
    this.refresh().catch((error) => console.warn(String(error)));
  }

  #apply(changes) {
    for (const device of changes.devices) {
      const samples = this.samples.get(device.device) ?? new Map();
      this.samples.set(device.device, samples);
      if (!device.up) for (const sample of samples.values()) sample.quality = "stale";
      for (const [quantity, sample] of Object.entries(device.samples)) {
        samples.set(quantity, { quantity, ...sample, time: device.time });
      }
      for (const quantity of device.same) {
        if (samples.has(quantity)) samples.get(quantity).time = device.time;
      }
      this.#note(device);
    }
    this.#alerted(changes.alerts ?? [], changes.alerts_gone ?? []);
  }

  /** Alerts that came or are others now, and the ids of those that went; the newest is first. */
  #alerted(moved, gone) {
    if (!moved.length && !gone.length) return;
    const over = new Set([...gone, ...moved.map((alert) => alert.id)]);
    this.alerts = [...moved, ...this.alerts.filter((alert) => !over.has(alert.id))];
  }

  #note({ device, time, up, since, error }) {
    const known = this.devices.find((one) => one.id === device);
    if (!known) return;
    Object.assign(known, { up, since });
    if (error) known.last_error = { ...error, time };
  }
}
