/* Viridis, at equal steps. */
const COLOURS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"]
  .map((text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)));
const STATUS_COLOURS = ["#2e9e5b", "#e0a100", "#b9c0c8", "#c4161c"];
const UNKNOWN = "#b9c0c8";

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
  const mix = COLOURS[low].map((value, i) => Math.round(value + (place - low) * (COLOURS[low + 1][i] - value)));
  return `rgb(${mix.join(",")})`;
}

/* Extremes over all maps at the last time, so that colours mean the same at each; logarithmic over two decades. */
function scaleOf(arrays, times) {
  let low = Infinity, high = -Infinity;
  for (const array of arrays) for (let i = times - 1; i < array.length; i += times)
    if (Number.isFinite(array[i])) [low, high] = [Math.min(low, array[i]), Math.max(high, array[i])];
  if (!(low <= high)) return { low: 0, high: 1, logarithmic: false };
  return { low, high, logarithmic: low > 0 && high > 100 * low };
}

function shareOf(value, scale) {
  const f = scale.logarithmic ? Math.log : (x) => x;
  return scale.high > scale.low ? (f(value) - f(scale.low)) / (f(scale.high) - f(scale.low)) : 0.5;
}

/* The grid of cells. `look(cell)` says {fill, all failed, some failed, none there, unconverged: "all", "some" or ""}. */
function drawMap(box, data, look, words, chosen, { onChoose, onPoint }) {
  box.replaceChildren();
  const rows = data.rows.labels.length, columns = data.columns.labels.length;
  const width = Math.max(300, box.clientWidth), left = 44, right = 12, top = 4, bottom = 38;
  const tall = Math.max(12, Math.min(52, 300 / rows)), wide = (width - left - right) / columns;
  const height = top + rows * tall + bottom;
  const svg = draw(box, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "grid", "aria-labelledby": "map-title" });
  const hatch = draw(draw(svg, "defs"), "pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  draw(hatch, "rect", { class: "hatch-back", width: 6, height: 6 });
  draw(hatch, "path", { class: "hatch-line", d: "M0 0V6" });
  const cells = [];
  // The first row is the lowest, as on an axis.
  const rowTop = (row) => top + (rows - 1 - row) * tall;
  for (let row = rows - 1; row >= 0; row--) {
    const group = draw(svg, "g", { role: "row" });
    const name = draw(group, "text", { x: left - 8, y: rowTop(row) + tall / 2 + 4, "text-anchor": "end", role: "rowheader" }, data.rows.name ? data.rows.labels[row] : "");
    name.setAttribute("aria-label", `${data.rows.name} ${data.rows.labels[row]}`);
    for (let column = 0; column < columns; column++) {
      const cell = row * columns + column, seen = look(cell);
      const x = left + column * wide, y = rowTop(row);
      const rect = draw(group, "rect", {
        class: `cell ${seen.missing ? "missing" : seen.failed === "all" ? "failed" : ""}`, role: "gridcell", x, y, width: wide, height: tall, "shape-rendering": "crispEdges", tabindex: cell === chosen ? 0 : -1,
        "aria-label": words(cell), "aria-selected": cell === chosen,
      });
      if (!seen.missing && seen.failed !== "all") rect.setAttribute("fill", seen.fill);
      cells[cell] = rect;
      const r = Math.max(1.5, Math.min(4, wide / 2 - 0.5)), middle = { cx: x + wide / 2, cy: y + tall / 2 };
      const passive = { "pointer-events": "none" };
      if (seen.unconverged === "all") draw(group, "circle", { class: "ring", ...middle, r, ...passive });
      if (seen.unconverged === "some") {
        draw(group, "circle", { class: "some", ...middle, r, ...passive });
        draw(group, "circle", { class: "some-inside", ...middle, r, ...passive });
      }
      if (seen.failed === "some") draw(group, "path", { class: "failed", d: `M${x} ${y}h${Math.min(wide, 8)}l${-Math.min(wide, 8)} 8z`, ...passive });
    }
  }
  const short = data.columns.labels.map((label) => (label.includes(".") && !label.includes(" ") ? String(Number(Number(label).toPrecision(2))) : label));
  const every = Math.max(1, Math.ceil((Math.max(...short.map((label) => label.length)) * 7 + 10) / wide));
  short.forEach((label, column) => {
    if (column % every === 0)
      draw(svg, "text", { x: left + (column + 0.5) * wide, y: height - 22, "text-anchor": "middle" }, label);
  });
  draw(svg, "text", { class: "muted", x: left + (columns * wide) / 2, y: height - 5, "text-anchor": "middle" }, data.columns.name);
  if (data.rows.name) draw(svg, "text", { class: "muted", transform: `translate(11 ${top + (rows * tall) / 2}) rotate(-90)`, "text-anchor": "middle" }, data.rows.name);
  const frame = ["chosen", "chosen-inside"].map((name) => draw(svg, "rect", { class: name, height: tall, width: wide }));
  const mark = (cell) => {
    for (const part of frame) {
      part.setAttribute("x", left + (cell % columns) * wide);
      part.setAttribute("y", rowTop(Math.floor(cell / columns)));
    }
  };
  mark(chosen);
  const choose = (cell) => {
    for (const rect of [cells[chosen], cells[cell]]) {
      rect.setAttribute("tabindex", rect === cells[cell] ? 0 : -1);
      rect.setAttribute("aria-selected", rect === cells[cell]);
    }
    chosen = cell;
    mark(cell);
    onChoose(cell);
  };
  const pointed = (event) => cells.indexOf(event.target);
  svg.addEventListener("click", (event) => { if (pointed(event) >= 0) { choose(pointed(event)); cells[chosen].focus(); } });
  svg.addEventListener("pointermove", (event) => { if (pointed(event) >= 0) onPoint(pointed(event)); });
  svg.addEventListener("pointerleave", () => onPoint(chosen));
  svg.addEventListener("keydown", (event) => {
    const column = chosen % columns, row = Math.floor(chosen / columns);
    const to = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row + 1, column], ArrowDown: [row - 1, column],
      Home: [row, 0], End: [row, columns - 1],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    if (to[0] < 0 || to[0] >= rows || to[1] < 0 || to[1] >= columns) return;
    choose(to[0] * columns + to[1]);
    cells[chosen].focus();
  });
}

function drawKey(box, quantity, scale, seen, beyond) {
  box.replaceChildren();
  const entry = (width, paint, text) => {
    const div = document.createElement("div"), svg = draw(div, "svg", { width, height: 14, viewBox: `0 0 ${width} 14`, "aria-hidden": true });
    paint(svg);
    div.append(text);
    box.append(div);
    return div;
  };
  if (quantity.kind === "status") {
    quantity.words.forEach((word, i) => { if (word) entry(14, (svg) => draw(svg, "rect", { width: 14, height: 14, fill: STATUS_COLOURS[i] }), word); });
  } else {
    const bar = entry(120, (svg) => { for (let i = 0; i < 60; i++) draw(svg, "rect", { x: 2 * i, width: 2.3, height: 14, fill: colour(i / 59) }); }, (beyond.high ? "≥ " : "") + number(scale.high));
    bar.prepend((beyond.low ? "≤ " : "") + number(scale.low));
    bar.append(scale.logarithmic ? " (log)" : "");
    bar.id = "bar";
  }
  if (seen.has("failed all")) entry(14, (svg) => draw(svg, "rect", { class: "failed", width: 14, height: 14 }), "failed");
  if (seen.has("failed some")) entry(14, (svg) => draw(svg, "path", { class: "failed", d: "M0 0h12l-12 12z" }), "some failed");
  const ring = (classes) => (svg) => {
    draw(svg, "rect", { width: 18, height: 14, fill: colour(0.4) });
    for (const name of classes) draw(svg, "circle", { class: name, cx: 9, cy: 7, r: 4 });
  };
  if (seen.has("unconverged all")) entry(18, ring(["ring"]), "not converged at this time");
  if (seen.has("unconverged some")) entry(18, ring(["some", "some-inside"]), "some not converged at this time");
  if (seen.has("missing")) entry(14, (svg) => draw(svg, "rect", { class: "missing", x: 1, y: 1, width: 12, height: 12 }), "not computed yet");
}
