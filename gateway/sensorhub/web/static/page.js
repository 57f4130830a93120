// The gateway's page: asks the API every two seconds and shows what it says. No framework: tables and one chart.
import * as chart from "./chart.js";
import { byId, text } from "./dom.js";
import * as format from "./format.js";
import * as quality from "./quality.js";
import { showLatest, showNodes, showStatus } from "./tables.js";

const POLL_MS = 2000;
const SLOW_MS = 8000;
const POINTS = 3000; // rows of a chart; beyond them the store answers with a coarser resolution
const MOST_POINTS = 50_000; // hours of years, when even hours are more than POINTS
const CALM = 5; // polls
const DAYS_EVERY = 15; // polls: how days were judged changes slowly, and asking sums up a month
const EXPLAIN_MS = 90_000;
const FIRST_CHOICE = "pm2_5";

const state = { channels: null, flags: [], status: null, nodes: [], latest: [], node: null, channel: null, drawn: "", calm: 0, failures: 0, polls: 0, answered: null };

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function get(path, patience = 20_000) {
  const response = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(patience) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, body.error ?? `${response.status} ${response.statusText}`);
  return body;
}

// What is looked at stands in the address, so that a reload or a link shows the same.
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  state.node = wanted.get("node") ?? state.node;
  state.channel = wanted.get("channel") ?? state.channel;
  const span = byId("span");
  if ([...span.options].some((option) => option.value === wanted.get("span"))) span.value = wanted.get("span");
}

function writeAddress() {
  const wanted = new URLSearchParams({ node: state.node ?? "", channel: state.channel ?? "", span: byId("span").value });
  history.replaceState(null, "", `#${wanted}`);
}

async function saveProof(event, link) {
  event.preventDefault();
  const notice = byId("notice");
  const say = (words, bad) => {
    notice.hidden = false;
    notice.className = bad ? "notice bad" : "notice";
    text(notice, words);
  };
  const { href, download: name } = link;
  try {
    const response = await fetch(href, { cache: "no-store" });
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? response.statusText);
    const url = URL.createObjectURL(await response.blob());
    const saving = document.createElement("a");
    saving.href = url;
    saving.download = name;
    saving.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    say(`Saved ${name}. Check it with: tools/verify proof ${name}`, false);
  } catch (error) {
    say(`No proof of this reading: ${error.message}`, true);
  }
}

function showChannels() {
  const names = state.latest.map((row) => row.channel).filter((name) => state.channels.get(name)?.kind === "number");
  if (!names.includes(state.channel)) state.channel = names.includes(FIRST_CHOICE) ? FIRST_CHOICE : names[0] ?? null;
  const select = byId("channel");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => new Option(state.channels.get(name).title, name)));
  }
  select.value = state.channel ?? "";
  byId("bar").hidden = byId("newest").hidden = names.length === 0;
}

async function askSeries(node, channel, span) {
  const query = new URLSearchParams({ node: node.node, channel: channel.name, limit: POINTS });
  if (span && node.last_time != null) query.set("start", String(Math.floor(node.last_time - span)));
  const series = await get(`api/v1/series?${query}`);
  if (!series.truncated) return series;
  query.set("resolution", "1h");
  query.set("limit", MOST_POINTS);
  const hours = await get(`api/v1/series?${query}`);
  return hours.time.length ? hours : series;
}

async function drawChart() {
  const node = state.nodes.find((known) => known.node === state.node);
  const channel = state.channels.get(state.channel);
  if (!node || !channel) {
    text(byId("chart-title"), "Chart");
    chart.showNothing(state.nodes.length ? "This node has sent no readings yet." : "Readings will be drawn here.");
    state.drawn = "";
    return;
  }
  const span = Number(byId("span").value);
  const key = [node.node, channel.name, span].join();
  // A node without new readings or verdicts is looked at a few times more, because the store's rollups come
  // after the readings they summarise, and then no longer.
  const drawn = [key, node.readings, node.judged, node.last_time].join();
  state.calm = state.drawn === drawn ? state.calm + 1 : 0;
  if (state.calm > CALM) return;
  const series = await askSeries(node, channel, span);
  if (state.node !== node.node || state.channel !== channel.name) return; // chosen anew meanwhile
  state.drawn = drawn;
  const unit = format.unit(channel);
  text(byId("chart-title"), `${channel.title}${unit && channel.style !== "direction" ? ` in ${unit}` : ""} at ${node.node}`);
  chart.show({ key, channel, series, flags: state.flags, onProof: saveProof, onExplain: explain });
}

function drawNodes() {
  showNodes(state.nodes, state.node, state.status.time_ms / 1000, choose);
}

function drawLatest() {
  showLatest(state.latest, { ...state, onProof: saveProof, onChannel: chooseChannel, onExplain: explain });
}

function explain(time, channel = state.channel) {
  quality.showWhy((path) => get(path, EXPLAIN_MS), state.node, state.channels.get(channel), time);
}

async function drawDays() {
  const span = quality.span(state.nodes);
  if (!span) return;
  const { days } = await get(`api/v1/quality?${new URLSearchParams(span)}`);
  quality.showDays(state.nodes, days, span, choose);
}

async function refreshNode() {
  const node = state.node;
  const latest = node ? await get(`api/v1/nodes/${encodeURIComponent(node)}/latest`) : [];
  if (state.node !== node) return;
  state.latest = latest;
  showChannels();
  drawLatest();
  await drawChart();
}

async function refresh() {
  if (!state.channels) {
    state.flags = await get("api/v1/flags");
    state.channels = new Map((await get("api/v1/channels")).map((channel) => [channel.name, channel]));
  }
  [state.status, state.nodes] = await Promise.all([get("api/v1/status"), get("api/v1/nodes")]);
  if (!state.nodes.some((known) => known.node === state.node)) state.node = state.nodes[0]?.node ?? null;
  byId("content").hidden = false; // before the chart is drawn, which needs its width
  byId("waiting").hidden = true;
  showStatus(state.status);
  drawNodes();
  await refreshNode();
  if (state.polls % DAYS_EVERY === 0) await drawDays();
  state.polls += 1;
}

function pulse(kind, words) {
  byId("pulse").className = `pulse ${kind}`;
  text(byId("pulse"), words);
}

function showTrouble(error) {
  const starting = error.status === 503;
  pulse(starting ? "waiting" : "off", starting ? "starting" : state.answered
    ? `no answer since ${format.clock(state.answered, { withSeconds: true }).slice(11)} UTC`
    : "no answer");
  document.body.classList.toggle("stale", !starting);
  if (state.answered) return; // the last picture stays, dimmed
  byId("waiting").hidden = false;
  text(byId("waiting-title"), starting ? "Not ready yet" : "The gateway does not answer");
  text(byId("waiting-text"), `${error.message[0].toUpperCase()}${error.message.slice(1)}. This page goes on by itself.`);
}

async function attempt(work) {
  try {
    await work();
    state.failures = 0;
    state.answered = Date.now() / 1000;
    document.body.classList.remove("stale");
    pulse("", `live · ${format.clock(state.status.time_ms / 1000, { withSeconds: true }).slice(11)} UTC`);
  } catch (error) {
    state.failures += 1;
    showTrouble(error);
  }
}

let timer = 0;

async function poll() {
  clearTimeout(timer);
  if (!document.hidden) await attempt(refresh);
  clearTimeout(timer);
  timer = setTimeout(poll, state.failures > 3 ? SLOW_MS : POLL_MS);
}

async function choose(node) {
  if (node !== state.node) quality.hideWhy();
  state.node = node;
  drawNodes();
  writeAddress();
  await attempt(refreshNode);
}

function chooseChannel(channel) {
  state.channel = byId("channel").value = channel;
  drawLatest();
  writeAddress();
  attempt(drawChart);
}

byId("why-close").addEventListener("click", quality.hideWhy);
byId("channel").addEventListener("change", (event) => chooseChannel(event.target.value));
byId("span").addEventListener("change", () => {
  writeAddress();
  attempt(drawChart);
});
addEventListener("hashchange", () => {
  readAddress();
  poll();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

readAddress();
await chart.load().catch(() => {}); // without it the tables still work, and the chart says what is missing
await poll();
