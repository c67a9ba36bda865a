// The loop of the page: shows each second what the server says, and says when it is silent.

import { clock, duration, text } from "./format.js";
import { Feed, get } from "./feed.js";
import { firing, headlineQuantity, isNew } from "./reading.js";
import { Tile, element, icon } from "./tile.js";

const EVERY = 1000; // ms between two looks at what is known
const HISTORY_EVERY = 10_000;
const HISTORY_MINUTES = 15;
const STEP = 15; // s, a bucket of the history, unless a device is polled less often

const page = Object.fromEntries(["site", "summary", "connection", "clock", "alerts", "devices", "disabled"]
  .map((id) => [id, document.getElementById(id)]));

const tiles = new Map();
const feed = new Feed();
let site = { name: "meterd", timezone: "UTC" };

function arrange() {
  const wanted = feed.devices.filter((device) => device.enabled).map((device) => device.id);
  const off = feed.devices.filter((device) => !device.enabled).map((device) => device.id);
  page.disabled.textContent = off.length ? `Disabled: ${off.join(", ")}` : "";
  page.disabled.hidden = !off.length;
  if ([...tiles.keys()].join() === wanted.join()) return;
  for (const id of wanted) if (!tiles.has(id)) tiles.set(id, new Tile(id));
  for (const id of tiles.keys()) if (!wanted.includes(id)) tiles.delete(id);
  const ordered = wanted.map((id) => tiles.get(id));
  tiles.clear();
  ordered.forEach((tile) => tiles.set(tile.id, tile));
  page.devices.dataset.count = String(Math.min(wanted.length, 7));
  page.devices.replaceChildren(...ordered.map((tile) => tile.root));
  if (!wanted.length) page.devices.append(element("p", "empty", feed.devices.length
    ? "Every device is disabled." : "No device is configured."));
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

const NARROW = matchMedia("(max-width: 620px)");
const MEDIUM = matchMedia("(max-width: 900px), (max-height: 520px)");
let isOpen = false;

/** So many alerts are on the page before somebody asks for more. */
function mostAlerts() {
  return MEDIUM.matches && !NARROW.matches ? 2 : 3;
}

function alertLine(alert) {
  const known = alert.ack ? `acknowledged${alert.ack.by ? ` by ${alert.ack.by}` : ""}` : "silenced";
  const line = element("p", "alert", icon(isNew(alert) ? "bell" : alert.ack ? "up" : "silent"),
    element("strong", "", alert.rule), element("span", "device", alert.device),
    element("span", "words", alert.quantity === "device.up" && alert.value === 0
      ? "no answer" : alert.text ?? text(alert.value, alert.unit)));
  if (!isNew(alert)) line.append(element("span", "known", known));
  const lasting = element("span", "for");
  // Read out when the alert comes, not each second anew.
  lasting.setAttribute("aria-live", "off");
  lasting.dataset.since = alert.since;
  line.append(lasting);
  line.dataset.severity = isNew(alert) ? alert.severity : "known";
  line.title = `${alert.rule} on ${alert.device}: ${alert.text ?? ""}`;
  return line;
}

function showAlerts() {
  const found = firing(feed.alerts);
  const most = mostAlerts();
  const many = found.length > most;
  const shown = many && !isOpen ? found.slice(0, most) : found;
  const key = [found.length, isOpen, ...shown.map((alert) =>
    [alert.id, alert.value, alert.text, alert.ack?.time, alert.silenced_by].join(" "))].join();
  if (page.alerts.dataset.shown !== key) {
    page.alerts.dataset.shown = key;
    page.alerts.hidden = found.length === 0;
    page.alerts.dataset.open = String(many && isOpen);
    const had = page.alerts.contains(document.activeElement);
    page.alerts.replaceChildren(...shown.map(alertLine));
    if (many) {
      const button = element("button", "more", isOpen ? "Fewer" : `+ ${found.length - most} more`);
      button.type = "button";
      button.ariaExpanded = String(isOpen);
      button.addEventListener("click", () => { isOpen = !isOpen; showAlerts(); });
      page.alerts.append(button);
      if (had) button.focus();
    }
  }
  for (const lasting of page.alerts.querySelectorAll(".for")) {
    lasting.textContent = `for ${duration((feed.now() - Date.parse(lasting.dataset.since)) / 1000)}`;
  }
}

function showSummary() {
  const tones = [...tiles.values()].map((tile) => tile.tone);
  const counts = ["up", "stale", "down", "waiting"]
    .map((tone) => [tones.filter((one) => one === tone).length, tone])
    .filter(([count]) => count > 0)
    .map(([count, tone]) => `${count} ${feed.isLost ? "unknown" : tone}`);
  const fresh = firing(feed.alerts).filter(isNew).length;
  const off = feed.devices.filter((device) => !device.enabled).length;
  if (off) counts.push(`${off} disabled`);
  if (fresh) counts.push(`${fresh} ${fresh === 1 ? "alert" : "alerts"}`);
  page.summary.textContent = counts.join(" · ");
  page.site.textContent = site.name;
  document.title = `${site.name} · meterd`;
}

function show() {
  arrange();
  const now = feed.now();
  const alerts = firing(feed.alerts).filter(isNew);
  for (const device of feed.devices.filter((one) => tiles.has(one.id))) {
    const samples = feed.samples.get(device.id) ?? new Map();
    for (const sample of samples.values()) {
      sample.age_s = Math.max(0, now - Date.parse(sample.time)) / 1000;
    }
    const own = alerts.filter((alert) => alert.device === device.id);
    tiles.get(device.id).update(device, samples, now, { alerts: own, lost: feed.isLost });
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
addEventListener("resize", showAlerts);
loop();
