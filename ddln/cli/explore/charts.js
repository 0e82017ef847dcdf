"use strict";
const SVG = "http://www.w3.org/2000/svg";
const GROUPS = { 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹", "-": "⁻" };

function draw(parent, name, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== "") element.textContent = text;
  parent.append(element);
  return element;
}

function decode(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
}

/* Rows of integers times a unit; the smallest integer stands for no number. */
function decodeRows(packed) {
  const flat = decode(packed.data, Int16Array), size = flat.length / packed.rows;
  return Array.from({ length: packed.rows }, (_, row) =>
    Float64Array.from(flat.subarray(row * size, (row + 1) * size), (n) => (n === -32768 ? NaN : n * packed.unit)));
}

function power(exponent) {
  if (!Number.isInteger(exponent)) return number(Number((10 ** exponent).toPrecision(3)));
  return "10" + [...String(exponent)].map((letter) => GROUPS[letter]).join("");
}

function number(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (value === Infinity) return "∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    const short = mantissa.replace(/\.?0+$/, "").replace("-", "−");
    return short === "1" ? power(Number(exponent)) : `${short} · ${power(Number(exponent))}`;
  }
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/* Round numbers that divide an interval into a few parts. */
function ticks(low, high, count) {
  const raw = (high - low) / count, unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) found.push(n * step);
  return found;
}

/* Logarithms of round numbers in an interval of logarithms: powers of ten, and multiples of them if it is short. */
function decades(low, high, count) {
  if (high - low < 1.5) {
    const round = [];
    for (let n = Math.floor(low); n <= high; n++) for (const factor of [1, 2, 5]) round.push(n + Math.log10(factor));
    const inside = round.filter((place) => place >= low - 1e-9 && place <= high + 1e-9);
    return inside.length > 1 ? inside : [low, high];
  }
  const step = Math.max(1, Math.ceil((high - low) / count)), found = [];
  for (let n = Math.ceil(low - 1e-9); n <= high + 1e-9; n++) if (n % step === 0) found.push(n);
  return found;
}

/* Heights of labels, moved so that none overlap. */
function spread(wanted, spacing, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const placed = [...wanted];
  let floor = low;
  for (const i of order) floor = (placed[i] = Math.max(placed[i], floor)) + spacing;
  let roof = high;
  for (const i of order.reverse()) roof = (placed[i] = Math.min(placed[i], roof)) - spacing;
  return placed;
}

/* Curves over time, or over its logarithm where the times span two decades.
   curves: [{values, look, label, level}]; marks: changes of sign, as the saves
   before and after and the part of the way between them; cursor: index of the time. */
function chart(box, { times, curves, logarithmic = false, marks = [], cursor, words, onTime }) {
  box.replaceChildren();
  const width = Math.max(240, box.clientWidth), height = 230;
  const labelled = curves.filter((curve) => curve.label);
  const longest = Math.max(0, ...labelled.map((curve) => curve.label.length));
  const right = Math.min(18 + 6.8 * longest, 0.36 * width), left = 52, top = 10, bottom = 34;
  const svg = draw(box, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": words });
  const inner = { width: width - left - right, height: height - top - bottom };
  const positive = times.filter((time) => time > 0), far = Math.max(...positive) >= 100 * Math.min(...positive);
  const at = times.map((time) => (far ? (time > 0 ? Math.log10(time) : NaN) : time));
  const shown = at.map((x, i) => i).filter((i) => Number.isFinite(at[i]));
  const [x0, x1] = [at[shown[0]], at[shown[shown.length - 1]]];
  const x = (i) => left + (inner.width * (at[i] - x0)) / (x1 - x0 || 1);
  const height_of = (value) => (logarithmic ? (value > 0 ? Math.log10(value) : NaN) : value);
  let y0 = Infinity, y1 = -Infinity;
  for (const curve of curves) for (const i of shown) {
    const value = height_of(curve.values[i]);
    if (Number.isFinite(value)) [y0, y1] = [Math.min(y0, value), Math.max(y1, value)];
  }
  if (!(y0 <= y1)) [y0, y1] = [0, 1];
  if (y0 === y1) [y0, y1] = [y0 - 1, y1 + 1];
  if (!logarithmic) { const pad = 0.04 * (y1 - y0); y0 -= pad; y1 += pad; }
  const y = (value) => top + (inner.height * (y1 - height_of(value))) / (y1 - y0);
  for (const tick of logarithmic ? decades(y0, y1, 6) : ticks(y0, y1, 5)) {
    const place = top + (inner.height * (y1 - tick)) / (y1 - y0);
    draw(svg, "path", { class: "axis", d: `M${left - 4} ${place}h4` });
    draw(svg, "text", { x: left - 7, y: place + 4, "text-anchor": "end" }, logarithmic ? power(tick) : number(tick));
  }
  for (const tick of far ? decades(x0, x1, inner.width / 45) : ticks(x0, x1, inner.width / 60)) {
    const place = left + (inner.width * (tick - x0)) / (x1 - x0 || 1);
    draw(svg, "path", { class: "axis", d: `M${place} ${top + inner.height}v4` });
    draw(svg, "text", { x: place, y: top + inner.height + 17, "text-anchor": "middle" }, far ? power(tick) : number(tick));
  }
  draw(svg, "text", { class: "muted", x: left + inner.width, y: height - 3, "text-anchor": "end" }, "time t");
  draw(svg, "path", { class: "axis", d: `M${left} ${top}v${inner.height}h${inner.width}` });
  if (!logarithmic && y0 < 0 && y1 > 0) draw(svg, "path", { class: "zero", d: `M${left} ${y(0)}h${inner.width}` });
  for (const curve of curves) {
    let path = "", pen = "M";
    for (const i of shown) {
      const place = y(curve.values[i]);
      if (!Number.isFinite(place)) { pen = "M"; continue; }
      path += `${pen}${x(i).toFixed(1)} ${place.toFixed(1)}`;
      pen = "L";
    }
    draw(svg, "path", { class: `curve ${curve.look}`, d: path });
  }
  for (const [before, after, share] of marks)
    draw(svg, "circle", { class: "mark", cx: x(before) + share * (x(after) - x(before)), cy: y(0), r: 4 });
  const ends = labelled.map((curve) => {
    const known = shown.filter((i) => Number.isFinite(y(curve.values[i]))), end = known[known.length - 1];
    return known.length ? y(curve.values[end]) : top;
  });
  spread(ends, 13, top + 4, top + inner.height).forEach((place, i) => {
    draw(svg, "path", { class: `curve ${labelled[i].look}`, d: `M${left + inner.width + 2} ${ends[i]}L${left + inner.width + 10} ${place}` });
    const room = Math.floor((right - 13) / 6.7), label = labelled[i].label;
    const text = label.length > room ? label.slice(0, room - 1) + "…" : label;
    draw(draw(svg, "text", { x: left + inner.width + 13, y: place + 4 }, text), "title", {}, label);
  });
  const line = draw(svg, "path", { class: "cursor" });
  const move = (i) => line.setAttribute("d", Number.isFinite(at[i]) ? `M${x(i)} ${top}v${inner.height}` : "");
  move(cursor);
  const follow = (event) => {
    const place = event.clientX - svg.getBoundingClientRect().left;
    let nearest = shown[0];
    for (const i of shown) if (Math.abs(x(i) - place) < Math.abs(x(nearest) - place)) nearest = i;
    onTime(nearest);
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  return move;
}
