const data = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const columns = data.columns.labels.length;
const times = data.times && data.times.map((time) => (time === null ? Infinity : time));
for (const plane of data.planes) {
  plane.values = plane.values.map((text, i) => decode(text, data.quantities[i].kind === "status" ? Int8Array : Float32Array));
  plane.unconverged = plane.unconverged && decode(plane.unconverged, Int32Array);
}
const scales = data.quantities.map((quantity, i) => (quantity.kind === "status" ? null : scaleOf(data.planes.map((plane) => plane.values[i]), quantity.over_time ? data.saves : 1)));
const state = { quantity: 0, plane: 0, time: data.saves - 1, cell: 0, sample: null, coordinate: 0 };
let cursors = [];

const valueAt = (cell, q = state.quantity) =>
  data.planes[state.plane].values[q][data.quantities[q].over_time ? cell * data.saves + state.time : cell];
const timeText = (i) => (times ? `t = ${number(times[i])}` : `save ${i}`);
const feature = (i) => data.features[i] ?? `theta_${i}`;

function look(cell) {
  const plane = data.planes[state.plane], lanes = plane.lanes[cell], gone = plane.missing[cell];
  const on = plane.unconverged ? plane.unconverged[cell * data.saves + state.time] : 0;
  const share = (count) => (count === 0 ? "" : count >= lanes - gone ? "all" : "some");
  const value = valueAt(cell), quantity = data.quantities[state.quantity];
  let fill = UNKNOWN;
  if (quantity.kind === "status") fill = STATUS_COLOURS[value] ?? UNKNOWN;
  else if (Number.isFinite(value)) fill = colour(shareOf(value, scales[state.quantity]));
  return { fill, missing: gone === lanes, failed: share(plane.failed[cell]), unconverged: share(on) };
}

function words(cell) {
  const plane = data.planes[state.plane], quantity = data.quantities[state.quantity];
  const place = [[data.rows.name, data.rows.labels[Math.floor(cell / columns)]], [data.columns.name, data.columns.labels[cell % columns]]];
  const where = place.filter(([name]) => name).map(([name, label]) => `${name} ${label}`).join(", ");
  const value = valueAt(cell), seen = look(cell), lanes = plane.lanes[cell];
  const on = plane.unconverged ? plane.unconverged[cell * data.saves + state.time] : 0;
  const text = quantity.kind === "status" ? (quantity.words[value] ?? "not computed") : number(value);
  const when = quantity.over_time ? `${where ? ", " : ""}${timeText(state.time)}` : "";
  const several = lanes > 1 ? (quantity.kind === "status" ? `, worst of ${lanes} flows` : `, median of ${lanes} flows`) : "";
  const counts = [ [plane.failed[cell], "failed"], [on, "not converged then"], [plane.missing[cell], "missing"]];
  const told = counts.filter(([count]) => count).map(([count, what]) => (lanes > 1 ? `${count} ${what}` : what));
  return `${where}${when}: ${quantity.label}${several}: ${seen.missing ? "not computed" : text}${told.length ? `; ${told.join(", ")}` : ""}`;
}

function showMap() {
  const handlers = { onChoose: (cell) => { state.cell = cell; showCell(); part("readout").textContent = words(cell); }, onPoint: (cell) => { part("readout").textContent = words(cell); } };
  drawMap(part("map"), data, look, words, state.cell, handlers);
  const seen = new Set(), scale = scales[state.quantity], beyond = {};
  for (let cell = 0; cell < data.planes[0].lanes.length; cell++) {
    const one = look(cell);
    if (scale && valueAt(cell) < scale.low) beyond.low = true;
    if (scale && valueAt(cell) > scale.high) beyond.high = true;
    if (one.missing) seen.add("missing");
    if (one.failed) seen.add(`failed ${one.failed}`);
    if (one.unconverged) seen.add(`unconverged ${one.unconverged}`);
  }
  drawKey(part("key"), data.quantities[state.quantity], scale, seen, beyond);
  part("readout").textContent = words(state.cell);
  part("time-text").textContent = timeText(state.time) + (state.time === data.saves - 1 ? " (end)" : "");
  part("time").value = state.time;
  part("time").setAttribute("aria-valuetext", part("time-text").textContent);
  if (part("table-part").open) showTable();
}

function showTable() {
  const rows = data.rows.labels, table = part("table");
  const row = (cells) => { const line = document.createElement("tr"); line.append(...cells); return line; };
  const cell = (name, text, scope) => { const one = document.createElement(name); one.textContent = text; if (scope) one.scope = scope; return one; };
  const head = row([cell("th", data.columns.name, "col"), ...rows.map((label) => cell("th", `${data.rows.name} ${label}`, "col"))]);
  const body = data.columns.labels.map((label, column) => row([cell("th", label, "row"), ...rows.map((_, i) => {
    const place = i * columns + column, seen = look(place), value = valueAt(place);
    const text = data.quantities[state.quantity].kind === "status" ? (data.quantities[state.quantity].words[value] ?? "–") : number(value);
    const mark = seen.missing ? "missing" : seen.failed === "all" ? "failed" : text + (seen.unconverged ? " (not converged)" : "");
    return cell("td", mark);
  })]));
  table.replaceChildren(head, ...body);
}

function nameOf(sample) {
  const rest = Object.entries(sample.where).filter(([name]) => name !== data.rows.name && name !== data.columns.name);
  const state = !sample.okay ? "failed" : sample.unconverged ? "not converged" : "";
  const name = rest.map(([dim, label]) => `${dim} ${label}`).join(", ") || Object.entries(sample.where).map(([dim, label]) => `${dim} ${number(label)}`).join(", ");
  return name + (state ? ` (${state})` : "");
}

function showCell() {
  const found = data.samples.filter((sample) => sample.cell === state.cell);
  const same = found.find((sample) => state.sample && nameOf(sample).split(" (")[0] === nameOf(state.sample).split(" (")[0]);
  state.sample = same ?? found[0] ?? null;
  part("sample").replaceChildren(...found.map((sample) => new Option(nameOf(sample), sample.lane, false, sample === state.sample)));
  const all = data.planes[0].lanes[state.cell];
  part("sample-part").hidden = found.length === 0 || (found.length < 2 && all < 2);
  part("sample-part").lastElementChild.title = `${found.length} of ${all} flows of this cell are in the page`;
  showSample();
}

function unpack(sample) {
  if (sample.ready) return;
  sample.loss = decode(sample.loss, Float32Array);
  for (const name of ["gap", "bound", "times"]) if (sample[name]) sample[name] = decode(sample[name], Float32Array);
  if (sample.theta) sample.theta = decodeRows(sample.theta);
  for (const one of sample.layers ?? []) one.paths = decodeRows(one.paths);
  for (const label of Object.keys(sample.over_time)) sample.over_time[label] = decode(sample.over_time[label], Float32Array);
  sample.ready = true;
}

function last(values) {
  for (let i = values.length - 1; i >= 0; i--) if (Number.isFinite(values[i])) return values[i];
  return 0;
}

function showSample() {
  const sample = state.sample;
  for (const id of ["coefficients", "loss", "layers"]) part(id).replaceChildren();
  for (const id of ["charts", "tables"]) part(id).hidden = !sample;
  if (!sample) {
    part("flow-title").textContent = "Flow";
    part("result").textContent = "No flow of this cell is computed yet.";
    showNumbers();
    return;
  }
  unpack(sample);
  part("flow-title").textContent = Object.entries(sample.where).map(([dim, label]) => `${dim} ${number(label)}`).join(", ");
  const [kind, text] = !sample.okay ? ["failure", `Failed: ${sample.result}`] : sample.unconverged
    ? ["unconverged", `Not converged at its end: still more than ${data.threshold} above the least training error.`]
    : ["holds", sample.unconverged === false ? "Converged." : "Did not fail."];
  part("result").className = kind;
  part("result").textContent = text;
  showCharts();
  showNumbers();
}

function signChanges(at, values) {
  const found = [];
  let before = -1;
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]) || values[i] === 0 || !(at[i] > 0)) continue;
    // Between two saves, as a part of the way from one to the other.
    if (before >= 0 && values[before] * values[i] < 0) found.push([before, i, values[before] / (values[before] - values[i])]);
    before = i;
  }
  return found;
}

function showCharts() {
  const sample = state.sample, own = [...(sample.times ?? times)].map((time) => (Number.isFinite(time) ? time : NaN));
  const settings = { times: own, cursor: state.time, onTime: setTime };
  cursors = [];
  const several = own.filter((time) => time > 0).length > 1;
  // Before anything is drawn: it decides how wide the others are.
  part("layers-part").hidden = !(sample.layers && sample.layers.length && several);
  if (sample.theta && sample.theta[0].length > 1 && several) {
    const order = sample.theta.map((_, i) => i).sort((a, b) => Math.abs(last(sample.theta[b])) - Math.abs(last(sample.theta[a])));
    const curves = order.map((i, rank) => ({
      values: sample.theta[i], look: rank < 7 ? `c${rank} d${rank}` : "grey thin", label: rank < 7 ? feature(sample.coordinates[i]) : "",
    })).reverse();
    const all = data.features.length;
    part("coefficients-title").textContent = `Coefficients theta_i(t)${all > order.length ? `, the ${order.length} largest of ${all}` : ""}`;
    cursors.push(chart(part("coefficients"), { ...settings, curves, words: "Coefficients over time" }));
  } else if (sample.theta) {
    part("coefficients-title").textContent = `Largest coefficients at the end`;
    const list = document.createElement("dl");
    list.className = "pairs";
    sample.coordinates.forEach((i, k) => list.append(pair(feature(i), number(last(sample.theta[k])))));
    part("coefficients").append(list);
  } else part("coefficients-title").textContent = "Coefficients were not kept.";
  if (several) {
    const curves = [{ values: sample.gap ?? sample.loss, look: "c0", label: sample.gap ? "L − L*" : "L" }];
    if (sample.bound) curves.push({ values: sample.bound, look: "c1 bound", label: "Theorem 2" });
    part("loss-title").textContent = sample.gap ? "Training loss above the least one, L − L*" : "Training loss L(theta(t))";
    cursors.push(chart(part("loss"), { ...settings, curves, logarithmic: true, words: "Training loss over time" }));
  }
  if (!part("layers-part").hidden) {
    state.coordinate = Math.min(state.coordinate, sample.layers.length - 1);
    part("coordinate").replaceChildren(...sample.layers.map((one, i) => new Option(feature(one.coordinate), i, false, i === state.coordinate)));
    const paths = sample.layers[state.coordinate].paths;
    const start = paths.map((path) => Math.abs(path[0])), smallest = start.indexOf(Math.min(...start));
    const curves = paths.map((values, i) => ({ values, look: `c${i % 7} ${i === smallest ? "bold" : `d${i % 7}`}`, label: `u${GROUPS[i + 1] ?? i + 1}${i === smallest ? " (smallest)" : ""}` }));
    const marks = paths.flatMap((path) => signChanges(own, path));
    cursors.push(chart(part("layers"), { ...settings, curves, marks, words: `Layers over time, ${marks.length} changes of sign` }));
  }
}

function pair(name, text, kind = "") {
  const row = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
  [term.textContent, value.textContent, value.className] = [name, text, kind];
  row.append(term, value);
  return row;
}

function showNumbers() {
  const sample = state.sample, rows = [];
  if (sample) {
    const own = sample.times ?? times;
    rows.push(pair("time", number(own ? own[state.time] : NaN)), pair("training loss", number(sample.loss[state.time])));
    for (const [label, values] of Object.entries(sample.over_time)) rows.push(pair(label, number(values[state.time])));
    for (const [label, value] of Object.entries(sample.numbers)) if (!label.startsWith("margin: ")) rows.push(pair(label, number(value)));
  }
  part("numbers").replaceChildren(...rows);
  const checks = sample ? Object.entries(sample.checks) : [];
  part("checks-part").hidden = checks.length === 0;
  part("checks").replaceChildren(...checks.map(([name, code]) => {
    const margin = sample.numbers[`margin: ${name}`], word = data.statuses[code] ?? "not computed";
    return pair(name, margin === undefined ? word : `${word}, margin ${number(margin)}`, data.statuses[code] ?? "");
  }));
}

function setTime(time) {
  if (time === state.time) return;
  state.time = time;
  for (const move of cursors) move(time);
  showMap();
  showNumbers();
}

function fill(select, names, change) {
  select.replaceChildren(...names.map((name, i) => new Option(name, i)));
  select.addEventListener("change", () => change(Number(select.value)));
}

document.querySelector("main").hidden = false;
fill(part("quantity"), data.quantities.map((quantity) => quantity.label), (i) => { state.quantity = i; showMap(); });
fill(part("plane"), data.planes.map((plane) => plane.name), (i) => { state.plane = i; showMap(); });
part("plane-part").hidden = data.planes[0].lanes.every((count) => count < 2);
part("time").max = data.saves - 1;
part("time-part").hidden = data.saves < 2;
part("time").addEventListener("input", () => setTime(Number(part("time").value)));
part("sample").addEventListener("change", () => { state.sample = data.samples.find((one) => one.lane === Number(part("sample").value)); showSample(); });
part("coordinate").addEventListener("change", () => { state.coordinate = Number(part("coordinate").value); showCharts(); });
part("table-part").addEventListener("toggle", () => { if (part("table-part").open) showTable(); });
const middle = columns * Math.floor(data.rows.labels.length / 2);
state.cell = (data.samples.find((sample) => sample.cell >= middle) ?? data.samples[0])?.cell ?? 0;
let drawn = 0;
new ResizeObserver(() => {
  if (part("map").clientWidth === drawn) return;
  drawn = part("map").clientWidth;
  showMap();
  showCell();
}).observe(part("map"));
