// One chart: a line with its lowest-to-highest band, bars, or points for directions; flagged readings on top.
import { byId, colour, element, text } from "./dom.js";
import * as format from "./format.js";

const HEIGHT = 320;
const BELIEVED = 0.5;
const GAP = 2.5; // a line is not drawn over a silence of more than so many usual steps

let uPlot = null;
let plot = null;
let shown = null; // what the plot shows: { key, channel, series, rows, flags, onProof, onExplain }

export async function load() {
  ({ default: uPlot } = await import("./vendor/uPlot.esm.js"));
}

export const harmlessBits = (flags) => flags.filter((flag) => !flag.fault).reduce((bits, flag) => bits | (1 << flag.bit), 0);

// A bucket counts as flagged when any reading in it has a fault flag; a single reading also for its low score.
function isFlagged(series, i, harmless) {
  const bits = series.flags[i] ?? 0;
  return (bits & ~harmless) !== 0 || (series.score?.[i] != null && series.score[i] < BELIEVED);
}

function usualStep(times) {
  const steps = times.slice(1).map((time, i) => time - times[i]).filter((step) => step > 0).sort((a, b) => a - b);
  return steps.length ? steps[Math.floor(steps.length / 2)] : 0;
}

// Columns for uPlot, with an empty row in each silence; `rows` leads from a point back to its place in the series.
function columns(series, flags) {
  const mean = series.value ?? series.mean;
  const harmless = harmlessBits(flags);
  const silence = GAP * usualStep(series.time);
  const data = [[], [], [], [], []];
  const rows = [];
  const push = (values, row) => {
    values.forEach((value, column) => data[column].push(value));
    rows.push(row);
  };
  series.time.forEach((time, i) => {
    const before = series.time[i - 1];
    if (silence > 0 && time - before > silence) push([(time + before) / 2, null, null, null, null], null);
    push([time, mean[i], series.min?.[i] ?? null, series.max?.[i] ?? null, isFlagged(series, i, harmless) ? mean[i] : null], i);
  });
  return { data, rows };
}

function yRange(channel) {
  if (channel.style === "direction") return [0, 360];
  return (_, low, high) => {
    if (low == null || high == null) return [0, 1];
    const room = 0.08 * (high - low) || Math.max(0.05 * Math.abs(high), 0.5);
    if (channel.style === "bar") return [Math.min(0, low), high + room];
    return [low >= 0 && low < room * 2 ? 0 : low - room, high + room];
  };
}

function options(channel, hasBand) {
  const [accent, soft, line, bad, card] = ["--accent", "--soft", "--line", "--bad", "--card"].map(colour);
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 5 } };
  const points = channel.style === "direction";
  const bars = channel.style === "bar";
  const none = { show: false };
  return {
    width: byId("chart").clientWidth,
    height: HEIGHT,
    padding: [10, 12, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: none,
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { show: (_, column) => (column === 1 ? element("div") : null), size: 10, width: 2, stroke: accent, fill: card },
    },
    scales: { y: { range: yRange(channel) } },
    axes: [
      { ...axis, space: 70, size: 44, values: (_, splits, __, ___, step) => format.ticks(splits, step) },
      { ...axis, size: (self, values) => 18 + 7 * Math.max(3, ...(values ?? []).map((v) => (v ?? "").length)),
        ...(points ? { splits: () => [0, 90, 180, 270, 360], values: () => ["N", "E", "S", "W", "N"] } : {}) },
    ],
    bands: hasBand ? [{ series: [3, 2], fill: accent.replace("rgb(", "rgba(").replace(")", ", 0.2)") }] : [],
    series: [
      {},
      { stroke: accent, width: points ? 0 : 1.7, fill: bars ? accent : undefined,
        paths: points ? () => null : bars ? uPlot.paths.bars({ size: [0.7, 24] }) : undefined,
        points: points ? { show: true, size: 5, width: 0, fill: accent } : { show: bars ? false : undefined, size: 5, fill: accent } },
      { show: hasBand, paths: uPlot.paths.linear(), width: 0, points: none },
      { show: hasBand, paths: uPlot.paths.linear(), width: 0, points: none },
      { stroke: bad, paths: () => null, points: { show: true, size: 8, width: 1.5, stroke: card, fill: bad } },
    ],
    hooks: { setCursor: [(self) => describe(self.cursor.idx)] },
  };
}

function legend(channel, series, flagged, hasBand) {
  const kind = channel.style === "direction" ? "" : channel.style === "bar" ? "bars" : "line";
  const raw = series.resolution === "raw";
  const bucket = series.resolution === "5m" ? "5 minutes" : "an hour";
  const entries = [[kind, raw ? "single readings" : `mean of ${bucket}`]];
  if (hasBand) entries.push(["band", "lowest to highest"]);
  if (flagged) {
    const names = shown.flags.filter((flag) => flag.fault && series.flags.some((bits) => (bits ?? 0) & (1 << flag.bit))).map((flag) => flag.name);
    const why = names.length ? `: ${names.join(", ")}` : "";
    entries.push(["bad", raw ? `${format.count(flagged)} flagged or scored below ${BELIEVED}${why}` : `${format.count(flagged)} with flagged readings${why}`]);
  }
  if (series.truncated) entries.push(["", "the newest part is left out: choose a shorter span"]);
  byId("legend").replaceChildren(...entries.map(([key, words]) => element("li", {}, element("span", { className: `key ${key}` }), words)));
}

// What stands below the chart: the point under the cursor, or how to get one.
function describe(index) {
  const readout = byId("readout");
  const row = index == null ? null : shown?.rows[index];
  if (row == null) {
    text(readout, shown?.series.time.length ? "Point at the chart, or use the arrow keys, to read single values; click or press Enter to see why one was judged as it was." : "");
    readout.className = "readout soft";
    return;
  }
  const { series, channel, flags } = shown;
  const bits = series.flags[row] ?? 0;
  const set = flags.filter((flag) => bits & (1 << flag.bit));
  readout.className = "readout";
  const parts = [`${format.clock(series.time[row])} UTC  `, element("b", { textContent: format.value((series.value ?? series.mean)[row], channel) })];
  if (series.resolution === "raw") {
    parts.push(series.score[row] == null ? " · not judged yet" : ` · score ${format.score(series.score[row])}`);
  } else {
    if (series.min?.[row] != null) parts.push(` · ${format.value(series.min[row], channel)} to ${format.value(series.max[row], channel)}`);
    parts.push(` · ${format.count(series.trusted_n[row])} of ${format.count(series.n[row])} trusted`);
  }
  const why = element("button", { type: "button", className: "why", textContent: "why?", title: "Why it was judged so" });
  why.addEventListener("click", () => shown.onExplain(series.time[row]));
  parts.push(" · ", why);
  if (series.message) {
    const link = element("a", { href: `api/v1/proof/${series.message[row]}`, download: `proof-${series.message[row]}.json`, textContent: "proof" });
    link.addEventListener("click", (event) => shown.onProof(event, link));
    parts.push(" · ", link);
  }
  for (const flag of set) {
    parts.push(element("br"), element("b", { className: flag.fault ? "low" : "soft", textContent: flag.name }), ` – ${flag.meaning}`);
  }
  readout.replaceChildren(...parts);
}

export function showNothing(words) {
  plot?.destroy();
  plot = shown = null;
  byId("chart").replaceChildren(element("p", { className: "empty", textContent: words }));
  byId("legend").replaceChildren();
  describe(null);
}

export function show({ key, channel, series, flags, onProof, onExplain }) {
  if (series.time.length === 0) return showNothing("No readings in this span.");
  if (!uPlot) return showNothing("The chart library is missing: run `npm ci && npm run vendor` in gateway/sensorhub/web and start the gateway again.");
  const { data, rows } = columns(series, flags);
  const hasBand = channel.style !== "direction" && series.min != null;
  const layout = [key, series.resolution].join();
  shown = { key, channel, series, rows, flags, onProof, onExplain };
  if (plot?.layout === layout) {
    plot.setData(data);
  } else {
    plot?.destroy();
    byId("chart").replaceChildren();
    plot = new uPlot(options(channel, hasBand), data, byId("chart"));
    plot.layout = layout;
  }
  legend(channel, series, data[4].filter((value) => value != null).length, hasBand);
  describe(plot.cursor.idx);
}

function redraw() {
  if (!shown) return;
  if (plot) plot.layout = null;
  show({ ...shown });
}

function explainPoint() {
  const row = plot?.cursor.idx == null ? null : shown?.rows[plot.cursor.idx];
  if (row != null) shown.onExplain(shown.series.time[row]);
}

function move(event) {
  if (event.key === "Enter" && event.target === byId("chart")) return explainPoint();
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -24, PageDown: 24, Home: -Infinity, End: Infinity }[event.key];
  if (!plot || step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const last = plot.data[0].length - 1;
  let index = Math.min(last, Math.max(0, (plot.cursor.idx ?? (step < 0 ? last + 1 : -1)) + step));
  while (shown.rows[index] == null && index > 0 && index < last) index += Math.sign(step); // over a silence
  plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.over.clientHeight / 2 });
}

byId("chart").addEventListener("keydown", move);
byId("chart").addEventListener("click", explainPoint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(() => plot?.setSize({ width: byId("chart").clientWidth, height: HEIGHT })).observe(byId("chart"));
