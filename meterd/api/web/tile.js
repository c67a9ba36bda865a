// One device on the page: built once, then only its texts and classes change.

import { ago, duration } from "./format.js";
import { freshness, headline, headlineQuantity, rows } from "./reading.js";
import { draw } from "./spark.js";

const NAMESPACE = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  const use = document.createElementNS(NAMESPACE, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function put(node, words) {
  // Untouched text keeps screen readers and the browser's layout quiet.
  if (node.textContent !== words) node.textContent = words;
}

export class Tile {
  constructor(id) {
    this.id = id;
    this.name = element("h2", "name", id);
    this.name.id = `device-${id}`;
    this.badgeIcon = icon("waiting");
    this.badgeWord = element("span", "", "Waiting");
    this.badge = element("p", "badge", this.badgeIcon, this.badgeWord);
    this.state = element("p", "state");
    this.number = element("span", "number", "–");
    this.unit = element("span", "unit");
    this.label = element("p", "label");
    this.age = element("p", "age");
    this.svg = document.createElementNS(NAMESPACE, "svg");
    this.svg.setAttribute("class", "spark");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.span = element("figcaption", "span");
    this.high = element("span", "high");
    this.low = element("span", "low");
    this.low.ariaHidden = this.high.ariaHidden = "true";
    this.rows = element("dl", "rows");
    this.reason = element("p", "reason");
    const value = element("p", "value", this.number, this.unit);
    const side = element("div", "side", this.label, this.age);
    this.root = element("article", "tile",
      element("div", "top", this.name, this.badge),
      element("div", "head", element("div", "big", this.state, value), side),
      element("figure", "history",
        element("div", "plot", element("div", "axis", this.high, this.low), this.svg), this.span), this.reason, this.rows);
    this.root.setAttribute("aria-labelledby", this.name.id);
    this.shownRows = "";
  }

  /** up, down, stale or waiting, as last shown; alerts go before. */
  get tone() {
    return this.root.dataset.tone;
  }

  /** The newest of everything; `now` is the server's clock. */
  update(device, samples, now, { alerts, lost }) {
    const fresh = freshness(device, samples, lost);
    // A device that is down says so first: what else it is warned of is older than that.
    const [worst] = fresh.tone === "down" ? [] : alerts;
    const head = headline(samples);
    const [number, unit] = head.big;
    this.root.dataset.tone = fresh.tone;
    this.root.dataset.alert = worst?.severity ?? "";
    this.badgeIcon.firstChild.setAttribute("href", `#icon-${worst ? "bell" : fresh.tone}`);
    const more = alerts.length > 1 ? ` +${alerts.length - 1}` : "";
    put(this.badgeWord, worst ? `${worst.rule}${more}` : fresh.word);
    put(this.state, fresh.tone === "down" ? "" : head.state ?? "");
    this.state.dataset.tone = fresh.tone === "stale" ? "stale" : head.tone;
    put(this.number, number);
    put(this.unit, unit);
    put(this.label, fresh.tone === "down" ? "last known" : head.label);
    put(this.age, this.#age(samples));
    put(this.reason, lost ? "meterd does not answer." : this.#reason(device, fresh, now));
    this.#list(fresh.tone === "down" ? [] : rows(samples));
  }

  #age(samples) {
    const sample = samples.get(headlineQuantity(samples));
    return sample ? ago(sample.age_s) : "";
  }

  #reason(device, fresh, now) {
    if (fresh.tone === "down") {
      const since = (now - Date.parse(device.since)) / 1000;
      const error = device.last_error;
      return `No answer for ${duration(since)}. ${error ? `${error.code}: ${error.text}` : ""}`;
    }
    if (fresh.tone === "stale") return `A value is due every ${duration(device.interval)}.`;
    if (fresh.word === "Waiting") return "Not polled yet.";
    return "";
  }

  #list(wanted) {
    const shown = JSON.stringify(wanted);
    if (shown === this.shownRows) return;
    this.shownRows = shown;
    this.rows.replaceChildren(...wanted.map(([word, text]) => element("div", "",
      element("dt", "", word), element("dd", "", text))));
  }

  /** The history of this device's headline quantity. */
  history(series, window) {
    const drawn = draw(this.svg, series, window);
    put(this.high, drawn?.high ?? "");
    put(this.low, drawn?.low ?? "");
    put(this.span, drawn ? `15 min: ${drawn.words}` : "No history yet");
    this.svg.setAttribute("aria-label", `Last 15 minutes: ${drawn?.words ?? "no values"}`);
  }
}
