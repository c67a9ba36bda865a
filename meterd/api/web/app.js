// The loop of the page: asks the server each second, shows what it says, and says when it is silent.

import { clock, duration, text } from "./format.js";
import { byQuantity, headlineQuantity } from "./reading.js";
import { Tile, element, icon } from "./tile.js";

const EVERY = 1000; // ms between looks at the newest samples
const HISTORY_EVERY = 10_000;
const HISTORY_MINUTES = 15;
const STEP = 15; // s, a bucket of the history, unless a device is polled less often
const PATIENCE = 4000; // ms that the server may take before it counts as away

const page = Object.fromEntries(["site", "summary", "connection", "clock", "alerts", "devices"]
  .map((id) => [id, document.getElementById(id)]));

const tiles = new Map();
let site = { name: "meterd", timezone: "UTC" };
let heard = null; // performance.now() of the last full answer
let ahead = 0; // ms that the server's clock is ahead of this browser's
let answer = { devices: [], samples: new Map(), alerts: [] };

async function get(path) {
  const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return reply.json();
}

function grouped(samples) {
  const groups = Map.groupBy
    ? Map.groupBy(samples, (sample) => sample.device)
    : samples.reduce((map, s) => map.set(s.device, [...(map.get(s.device) ?? []), s]), new Map());
  return new Map([...groups].map(([device, list]) => [device, byQuantity(list)]));
}

async function look() {
  const [devices, latest, alerts] = await Promise.all(
    ["devices", "latest", "alerts"].map((name) => get(`/api/v1/${name}`)));
  answer = { devices: devices.devices, samples: grouped(latest.samples), alerts: alerts.alerts };
  ahead = Date.parse(latest.time) - Date.now();
  heard = performance.now();
}

function serverNow() {
  return Date.now() + ahead;
}

function arrange() {
  const wanted = answer.devices.map((device) => device.id);
  if ([...tiles.keys()].join() === wanted.join()) return;
  for (const id of wanted) if (!tiles.has(id)) tiles.set(id, new Tile(id));
  for (const id of tiles.keys()) if (!wanted.includes(id)) tiles.delete(id);
  const ordered = wanted.map((id) => tiles.get(id));
  tiles.clear();
  ordered.forEach((tile) => tiles.set(tile.id, tile));
  page.devices.dataset.count = String(Math.min(wanted.length, 7));
  page.devices.replaceChildren(...ordered.map((tile) => tile.root));
  if (!wanted.length) page.devices.append(element("p", "empty", "No device is configured."));
}

function showConnection(silence) {
  const lost = heard !== null && silence > PATIENCE;
  const tone = heard === null ? "waiting" : lost ? "down" : "up";
  const words = { waiting: "Connecting", down: `Connection lost, ${duration(silence / 1000)}`, up: "Live" };
  document.body.classList.toggle("lost", lost);
  if (page.connection.dataset.words === words[tone]) return;
  page.connection.dataset.words = words[tone];
  page.connection.dataset.tone = tone;
  page.connection.replaceChildren(icon(tone), element("span", "", words[tone]));
}

const CONDITIONS = { "device.up": () => "no answer" };

function alertLine(alert) {
  const isFlag = alert.quantity.startsWith("ups.status.");
  const what = CONDITIONS[alert.quantity]?.() ?? (isFlag ? "" : text(alert.value, alert.unit));
  const line = element("p", "alert", icon("bell"),
    element("strong", "", alert.rule), element("span", "", alert.device));
  if (what) line.append(element("span", "", what));
  const lasting = element("span", "for");
  // Read out when the alert comes, not each second anew.
  lasting.setAttribute("aria-live", "off");
  lasting.dataset.since = alert.since;
  line.append(lasting);
  line.dataset.severity = alert.severity;
  return line;
}

function showAlerts() {
  const firing = answer.alerts.filter((alert) => alert.state === "firing");
  const rank = { critical: 0, warning: 1 };
  firing.sort((a, b) => (rank[a.severity] ?? 2) - (rank[b.severity] ?? 2));
  const shown = firing.map((alert) => `${alert.id} ${alert.value}`).join();
  if (page.alerts.dataset.shown !== shown) {
    page.alerts.dataset.shown = shown;
    page.alerts.hidden = firing.length === 0;
    page.alerts.replaceChildren(...firing.map(alertLine));
  }
  for (const lasting of page.alerts.querySelectorAll(".for")) {
    lasting.textContent = `for ${duration((serverNow() - Date.parse(lasting.dataset.since)) / 1000)}`;
  }
}

function showSummary() {
  const tones = [...tiles.values()].map((tile) => tile.tone);
  const counts = ["up", "stale", "down", "waiting"]
    .map((tone) => [tones.filter((one) => one === tone).length, tone])
    .filter(([count]) => count > 0);
  page.summary.textContent = counts.map(([count, tone]) => `${count} ${tone}`).join(" · ");
  page.site.textContent = site.name;
  document.title = `${site.name} · meterd`;
}

function show() {
  const silence = heard === null ? 0 : performance.now() - heard;
  arrange();
  for (const device of answer.devices) {
    const samples = answer.samples.get(device.id) ?? new Map();
    tiles.get(device.id).update(device, samples, silence / 1000, serverNow());
  }
  showSummary();
  showAlerts();
  showConnection(silence);
  page.clock.textContent = clock(new Date(serverNow()), site.timezone);
}

function step() {
  return Math.max(STEP, ...answer.devices.map((device) => Math.ceil(device.interval)));
}

async function recall() {
  site = await get("/api/v1/site");
  const headlines = new Map([...answer.samples].map(([id, samples]) => [id, headlineQuantity(samples)]));
  const quantities = [...new Set(headlines.values())].filter(Boolean);
  if (!quantities.length) return;
  const width = step();
  const query = new URLSearchParams(quantities.map((name) => ["quantity", name]));
  query.append("start", `now-${HISTORY_MINUTES}m`);
  query.append("step", `${width}s`);
  const range = await get(`/api/v1/range?${query}`);
  const end = serverNow();
  const window = { start: end - HISTORY_MINUTES * 60_000, end, step: range.step_ms };
  for (const [id, tile] of tiles) {
    const wanted = (one) => one.device === id && one.quantity === headlines.get(id);
    tile.history(range.series.find(wanted), window);
  }
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    // The page itself says that the server is silent; the console keeps the reason.
    console.warn(String(error));
  }
}

async function loop() {
  let remembered = -Infinity;
  for (;;) {
    const started = performance.now();
    await attempt(look);
    show();
    if (heard !== null && started - remembered >= HISTORY_EVERY) {
      remembered = started;
      await attempt(recall);
    }
    const rest = EVERY - (performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, rest)));
  }
}

// Ages go on counting while an answer is awaited.
setInterval(show, EVERY);
loop();
