// The loop of the page: shows each second what the server says, and says when it is silent.

import { clock, duration, text } from "./format.js";
import { Feed, get } from "./feed.js";
import { headlineQuantity } from "./reading.js";
import { Tile, element, icon } from "./tile.js";

const EVERY = 1000; // ms between two looks at what is known
const HISTORY_EVERY = 10_000;
const HISTORY_MINUTES = 15;
const STEP = 15; // s, a bucket of the history, unless a device is polled less often

const page = Object.fromEntries(["site", "summary", "connection", "clock", "alerts", "devices"]
  .map((id) => [id, document.getElementById(id)]));

const tiles = new Map();
const feed = new Feed();
let site = { name: "meterd", timezone: "UTC" };

function arrange() {
  const wanted = feed.devices.map((device) => device.id);
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

function showConnection() {
  const { silence, isLost: lost } = feed;
  const tone = feed.heard === null ? "waiting" : lost ? "down" : "up";
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
  const firing = feed.alerts.filter((alert) => alert.state === "firing");
  const rank = { critical: 0, warning: 1 };
  firing.sort((a, b) => (rank[a.severity] ?? 2) - (rank[b.severity] ?? 2));
  const shown = firing.map((alert) => `${alert.id} ${alert.value}`).join();
  if (page.alerts.dataset.shown !== shown) {
    page.alerts.dataset.shown = shown;
    page.alerts.hidden = firing.length === 0;
    page.alerts.replaceChildren(...firing.map(alertLine));
  }
  for (const lasting of page.alerts.querySelectorAll(".for")) {
    lasting.textContent = `for ${duration((feed.now() - Date.parse(lasting.dataset.since)) / 1000)}`;
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
  arrange();
  const now = feed.now();
  for (const device of feed.devices) {
    const samples = feed.samples.get(device.id) ?? new Map();
    for (const sample of samples.values()) {
      sample.age_s = Math.max(0, now - Date.parse(sample.time)) / 1000;
    }
    tiles.get(device.id).update(device, samples, now);
  }
  showSummary();
  showAlerts();
  showConnection();
  page.clock.textContent = clock(new Date(feed.now()), site.timezone);
}

function step() {
  return Math.max(STEP, ...feed.devices.map((device) => Math.ceil(device.interval)));
}

async function recall() {
  site = await get("site");
  await feed.refresh();
  show();
  const headlines = new Map([...feed.samples].map(([id, samples]) => [id, headlineQuantity(samples)]));
  const quantities = [...new Set(headlines.values())].filter(Boolean);
  if (!quantities.length) return;
  const width = step();
  const query = new URLSearchParams(quantities.map((name) => ["quantity", name]));
  query.append("start", `now-${HISTORY_MINUTES}m`);
  query.append("step", `${width}s`);
  const range = await get(`range?${query}`);
  const end = feed.now();
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
    await attempt(() => feed.look());
    show();
    if (feed.heard !== null && started - remembered >= HISTORY_EVERY) {
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
