// How numbers, units, times and ages are written. A value never goes without its unit.

const LANGUAGE = document.documentElement.lang || "en";
// Below this, a number with a prefix would be longer than the one without.
const KILO = 1000;
const NARROW = "\u202f";
const MISSING = "–";

const formats = new Map();

function number(value, digits) {
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat(LANGUAGE, {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }));
  }
  // -0 would be written with its sign; a hyphen is no minus.
  return formats.get(digits).format(value).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
}

// Decimals that leave about three figures: 3.41, 34.1, 341.
function figures(value) {
  const size = Math.abs(value);
  if (size === 0 || size >= 100) return 0;
  return size >= 10 ? 1 : 2;
}

const FIXED = { V: 1, Hz: 2, "%": 0, "°C": 1 };

/** [number, unit] as people read them: 3412 W -> ["3.41", "kW"]. */
export function parts(value, unit) {
  if (value === null || value === undefined) return [MISSING, unit === "1" ? "" : unit];
  if (unit === "Wh" || unit === "varh" || unit === "VAh") {
    return [number(value / KILO, Math.abs(value) >= 1e6 ? 1 : 2), `k${unit}`];
  }
  if ((unit === "W" || unit === "var" || unit === "VA")) {
    if (Math.abs(value) < KILO) return [number(value, value !== 0 && Math.abs(value) < 10 ? 1 : 0), unit];
    return [number(value / KILO, figures(value / KILO)), `k${unit}`];
  }
  if (unit === "s") return [duration(value), ""];
  if (unit === "1") return [number(value, 2), ""];
  return [number(value, FIXED[unit] ?? figures(value)), unit];
}

/** One string: "3.41 kW". */
export function text(value, unit) {
  const [shown, prefixed] = parts(value, unit);
  return prefixed ? `${shown}${NARROW}${prefixed}` : shown;
}

/** Several values of one unit with the unit once: "229.8 · 230.4 · 231.2 V". */
export function list(values, unit) {
  const known = values.filter((value) => value !== null);
  const largest = Math.max(0, ...known.map(Math.abs));
  const [, prefixed] = parts(largest, unit);
  const scale = prefixed.startsWith("k") && !unit.startsWith("k") ? KILO : 1;
  const digits = FIXED[unit] ?? figures(largest / scale);
  const shown = values.map((value) => (value === null ? MISSING : number(value / scale, digits)));
  return `${shown.join(" · ")}${prefixed ? NARROW + prefixed : ""}`;
}

/** "45 s", "19 min", "2 h 5 min", "3 d 4 h". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}${NARROW}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}${NARROW}min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}${NARROW}h ${minutes % 60}${NARROW}min`;
  return `${Math.floor(hours / 24)}${NARROW}d ${hours % 24}${NARROW}h`;
}

export function ago(seconds) {
  return `${duration(seconds)} ago`;
}

/** The time of day in the site's own zone. */
export function clock(date, timezone) {
  const wanted = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  try {
    return date.toLocaleTimeString(LANGUAGE, { ...wanted, timeZone: timezone });
  } catch {
    return date.toLocaleTimeString(LANGUAGE, wanted);
  }
}
