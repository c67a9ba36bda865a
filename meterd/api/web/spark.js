// The line of the last quarter of an hour. A gap in the data is a gap in the line.

import { text } from "./format.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 100;
// Room for half a stroke at both ends, so that a flat line is not cut off.
const MARGIN = 6;

/** Cut points [[ms, value], …] where more than one bucket is missing between two of them. */
export function segments(points, step) {
  const found = [];
  let current = [];
  for (const point of points) {
    const before = current[current.length - 1];
    if (point[1] === null || (before && point[0] - before[0] > step * 1.5)) {
      if (current.length) found.push(current);
      current = [];
    }
    if (point[1] !== null) current.push(point);
  }
  if (current.length) found.push(current);
  return found;
}

// Of these the size is what matters, so the axis begins at 0. A voltage or a temperature moves about
// a value far from it.
const FROM_ZERO = ["W", "VA", "var", "A", "%", "Wh", "varh", "VAh"];

function bounds(values, unit) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (FROM_ZERO.includes(unit)) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  // Noise of a thousandth must not look like a mountain range.
  const least = Math.max(Math.abs(high), Math.abs(low), 1) * 0.02;
  if (high - low < least) {
    const middle = (high + low) / 2;
    [low, high] = [middle - least / 2, middle + least / 2];
  }
  return [low, high];
}

function scale([low, high]) {
  return (value) => HEIGHT - MARGIN - ((value - low) / (high - low)) * (HEIGHT - 2 * MARGIN);
}

function path(className, d) {
  const element = document.createElementNS(NAMESPACE, "path");
  element.setAttribute("class", className);
  element.setAttribute("d", d);
  return element;
}

/** Draw into `svg`; {words, low, high}: what it says, and its axis; null where there is nothing. */
export function draw(svg, series, { start, end, step }) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const cut = series ? segments(series.points, step) : [];
  const values = cut.flat().map((point) => point[1]);
  if (!values.length) {
    svg.replaceChildren();
    return null;
  }
  const axis = bounds(values, series.unit);
  const [bottom, top] = axis;
  const y = scale(axis);
  const hasZero = FROM_ZERO.includes(series.unit);
  const zero = hasZero ? y(0).toFixed(1) : null;
  const x = (ms) => ((ms - start) / (end - start)) * WIDTH;
  const shapes = [];
  for (const segment of cut) {
    const line = segment.map(([ms, value]) => `${x(ms).toFixed(1)} ${y(value).toFixed(1)}`);
    // A lone point would have no length: it becomes a dot.
    const drawn = line.length > 1 ? `M${line.join("L")}` : `M${line[0]}h.01`;
    if (hasZero && line.length > 1) {
      const [first, last] = [segment[0], segment[segment.length - 1]].map(([ms]) => x(ms).toFixed(1));
      shapes.push(path("area", `M${first} ${zero}L${line.join("L")}L${last} ${zero}Z`));
    }
    shapes.push(path("line", drawn));
  }
  if (hasZero) shapes.unshift(path("zero", `M0 ${zero}H${WIDTH}`));
  svg.replaceChildren(...shapes);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const words = `${text(low, series.unit)} to ${text(high, series.unit)}`;
  return { words, low: text(bottom, series.unit), high: text(top, series.unit) };
}
