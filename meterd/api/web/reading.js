// What a tile says about a device: its headline, its rows, its state. Pure: no page, no network.

import { duration, list, parts, text } from "./format.js";

const HEADLINES = ["active_power", "active_power.l1", "ups.load", "apparent_power", "current",
  "current.l1", "voltage.l1", "input.voltage", "temperature"];
const WORDS = {
  active_power: "Active power", "active_power.l1": "Active power", "ups.load": "Load",
  apparent_power: "Apparent power", current: "Current", "current.l1": "Current",
  "voltage.l1": "Voltage", "input.voltage": "Input", temperature: "Temperature",
};
const PHASES = ["l1", "l2", "l3"];

// The first that holds says what the UPS does; the second word is how bad that is.
const UPS_STATES = [
  ["ups.status.fsd", "Shutting down", "down"],
  ["ups.status.off", "Output off", "down"],
  ["ups.status.over", "Overloaded", "down"],
  ["ups.status.lb", "Battery low", "down"],
  ["ups.status.ob", "On battery", "stale"],
  ["ups.status.bypass", "On bypass", "stale"],
  ["ups.status.test", "Battery test", "stale"],
  ["ups.status.cal", "Calibrating", "stale"],
  ["ups.status.boost", "Boosting", "up"],
  ["ups.status.trim", "Trimming", "up"],
  ["ups.status.ol", "On mains", "up"],
];

/** Samples of one device by quantity. */
export function byQuantity(samples) {
  return new Map(samples.map((sample) => [sample.quantity, sample]));
}

function isUps(samples) {
  return samples.has("ups.load") || samples.has("ups.status.ol");
}

/** The quantity whose value is large on the tile and whose history is drawn; null if none. */
export function headlineQuantity(samples) {
  return HEADLINES.find((name) => samples.has(name))
    ?? [...samples.keys()].find((name) => name !== "device.up" && !name.startsWith("ups.status."))
    ?? null;
}

/** {words, tone, big: [number, unit], label} */
export function headline(samples) {
  const quantity = headlineQuantity(samples);
  const sample = samples.get(quantity);
  const big = sample ? parts(sample.value, sample.unit) : ["–", ""];
  const exports = quantity?.startsWith("active_power") && sample.value < 0;
  // The word says the direction: a minus besides would say it twice.
  if (exports) big[0] = parts(-sample.value, sample.unit)[0];
  const label = exports ? "Exporting" : WORDS[quantity] ?? quantity ?? "No value yet";
  if (!isUps(samples)) return { state: null, tone: "plain", big, label };
  const found = UPS_STATES.find(([name]) => samples.get(name)?.value === 1);
  return { state: found?.[1] ?? "State unknown", tone: found?.[2] ?? "stale", big, label };
}

function phases(samples, family) {
  const found = PHASES.map((phase) => samples.get(`${family}.${phase}`)).filter(Boolean);
  if (found.length) return list(found.map((sample) => sample.value), found[0].unit);
  const whole = samples.get(family);
  return whole ? text(whole.value, whole.unit) : null;
}

function single(samples, quantity) {
  const sample = samples.get(quantity);
  return sample ? text(sample.value, sample.unit) : null;
}

function volts(samples) {
  const [input, output] = ["input.voltage", "output.voltage"].map((name) => samples.get(name));
  if (!input || !output) return single(samples, "input.voltage") ?? single(samples, "output.voltage");
  return `${text(input.value, "V")} → ${text(output.value, "V")}`;
}

function battery(samples) {
  const charge = single(samples, "battery.charge");
  return [charge, single(samples, "battery.voltage")].filter(Boolean).join(" · ") || null;
}

function runtime(samples) {
  const sample = samples.get("battery.runtime");
  return sample && sample.value !== null ? duration(sample.value) : null;
}

/** Of the counters, by what they count: the rows of energy, what counts at present first. */
function energies(samples) {
  const [imported, exported, total] = ["import", "export", "total"]
    .map((way) => samples.get(`active_energy.${way}`));
  const shown = (sample) => (sample ? text(sample.value, sample.unit) : null);
  const found = [["Imported", shown(imported)], ["Exported", exported?.value ? shown(exported) : null]];
  if (samples.get("active_power")?.value < 0) found.reverse();
  return imported || exported ? found : [["Energy", shown(total)]];
}

/** Rows under the headline, most important first: [[word, text], …]. */
export function rows(samples) {
  const wanted = isUps(samples)
    ? [["Voltage", volts(samples)], ["Battery", battery(samples)], ["Runtime", runtime(samples)],
      ["Frequency", single(samples, "input.frequency")],
      ["Temperature", single(samples, "ups.temperature")]]
    : [["Voltage", phases(samples, "voltage")], ["Current", phases(samples, "current")],
      ...energies(samples),
      ["Frequency", single(samples, "frequency")],
      ["Power factor", single(samples, "power_factor")]];
  return wanted.filter(([, shown]) => shown !== null);
}

/** Alerts of people's interest: firing, the new ones first, then the most severe. */
export function firing(alerts) {
  const rank = { critical: 0, warning: 1 };
  const order = (alert) => (isNew(alert) ? 0 : 10) + (rank[alert.severity] ?? 2);
  return alerts.filter((alert) => alert.state === "firing").sort((a, b) => order(a) - order(b));
}

/** Whether nobody has acknowledged or silenced it. */
export function isNew(alert) {
  return !alert.ack && !alert.silenced_by?.length;
}

/** {tone, word}: up, down, stale or waiting; nothing is fresh while the server is silent. */
export function freshness(device, samples, lost = false) {
  if (lost) return { tone: "stale", word: "Unknown" };
  if (device.up === null) return { tone: "waiting", word: "Waiting" };
  if (device.up === false) return { tone: "down", word: "Down" };
  const ages = [...samples.values()].map((sample) => sample.age_s);
  const old = ages.length && Math.min(...ages) > 3 * device.interval + 1;
  const said = samples.get(headlineQuantity(samples))?.quality === "stale";
  return old || said ? { tone: "stale", word: "Stale" } : { tone: "up", word: "Up" };
}
