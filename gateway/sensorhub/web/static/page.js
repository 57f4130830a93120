// The gateway's page: polls the API, draws one chart. No framework: three tables and a plot.
import uPlot from "./vendor/uPlot.esm.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000;
const state = { channels: new Map(), nodes: [], node: null, channel: null, plot: null, key: "" };

const number = new Intl.NumberFormat("en");
const clock = (seconds) =>
  seconds == null ? "–" : new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16);

async function get(path) {
  const response = await fetch(path, { cache: "no-store" });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `${response.status} ${response.statusText}`);
  return body;
}

function cell(text, className = "") {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className;
  return td;
}

function fact(value, label, note = "") {
  const div = document.createElement("div");
  div.className = "fact";
  const b = document.createElement("b");
  b.textContent = value;
  const span = document.createElement("span");
  span.textContent = label;
  const small = document.createElement("small");
  small.textContent = note;
  div.append(b, span, small);
  return div;
}

function showStatus(status) {
  document.title = `${status.gateway.site} · sensorhub`;
  $("origin").textContent = status.gateway.origin;
  const lag = Object.entries(status.followers).map(([name, f]) => `${name} ${number.format(f.lag)}`).join(" · ");
  const worst = Math.max(0, ...Object.values(status.followers).map((f) => f.lag));
  const trusted = status.store.readings ? Math.round((100 * status.store.trusted) / Math.max(1, status.store.judged)) : 0;
  const post = status.chain.last;
  $("facts").replaceChildren(
    fact(number.format(status.store.nodes), "nodes"),
    fact(number.format(status.store.readings), "readings", `${number.format(Math.round(status.ingest.rate_readings ?? 0))} a second`),
    fact(`${trusted} %`, "of judged readings trusted", `${number.format(status.store.judged)} judged`),
    fact(number.format(status.log.size), "log entries", status.log.root ? `root ${status.log.root.slice(0, 12)}…` : ""),
    fact(post ? `#${post.seq}` : "–", "last checkpoint on chain", post ? `covers ${number.format(post.size)} entries, ${number.format(post.gas)} gas` : status.chain.configured ? "none yet" : "no chain configured"),
    fact(number.format(worst), "entries behind (slowest follower)", lag),
  );
  $("warnings").hidden = status.warnings.length === 0;
  $("warnings").textContent = status.warnings.join("\n");
  const rows = [["origin", status.gateway.origin], ["size", number.format(status.log.size)], ["root", status.log.root ?? "–"]];
  if (status.log.key) rows.push(["note key", status.log.key]);
  if (post) rows.push(["contract", status.chain.contract ?? "–"], ["last transaction", post.tx], ["block", number.format(post.block)]);
  $("log").replaceChildren(...rows.flatMap(([name, value]) => {
    const dt = document.createElement("dt");
    dt.textContent = name;
    const dd = document.createElement("dd");
    dd.textContent = value;
    return [dt, dd];
  }));
  $("pulse").className = "pulse";
  $("pulse").textContent = `updated ${new Date().toISOString().slice(11, 19)} UTC`;
}

function showNodes(nodes) {
  state.nodes = nodes;
  if (!nodes.some((n) => n.node === state.node)) state.node = nodes[0]?.node ?? null;
  $("nodes").tBodies[0].replaceChildren(...nodes.map((n) => {
    const tr = document.createElement("tr");
    tr.setAttribute("aria-selected", String(n.node === state.node));
    const button = document.createElement("button");
    button.textContent = n.node;
    const name = document.createElement("td");
    name.append(button);
    const meter = document.createElement("meter");
    meter.max = 1;
    meter.low = 0.5;
    meter.optimum = 1;
    meter.value = n.trusted_share ?? 0;
    meter.title = n.trusted_share == null ? "not judged yet" : `${Math.round(n.trusted_share * 100)} % trusted`;
    const share = document.createElement("td");
    share.append(meter);
    tr.append(name, cell(n.kind ?? "–"), cell(clock(n.last_time)), cell(number.format(n.readings), "number"), share);
    tr.addEventListener("click", () => select(n.node));
    return tr;
  }));
}

function showLatest(rows) {
  $("latest-node").textContent = state.node ? `of ${state.node}` : "";
  $("latest").tBodies[0].replaceChildren(...rows.map((r) => {
    const channel = state.channels.get(r.channel);
    const tr = document.createElement("tr");
    const score = cell(r.score == null ? "not yet" : r.score.toFixed(2), `score ${r.score == null ? "none" : r.score < 0.5 ? "low" : ""}`);
    const flags = document.createElement("td");
    flags.append(...r.flags.map((name) => {
      const span = document.createElement("span");
      span.className = "flag";
      span.textContent = name;
      return span;
    }));
    const proof = document.createElement("td");
    const link = document.createElement("a");
    link.href = `api/v1/proof/${r.message}`;
    link.download = `proof-${r.message}.json`;
    link.textContent = `entry ${r.message}`;
    proof.append(link);
    const value = r.value == null ? "–" : `${r.value.toFixed(channel?.decimals ?? 2)} ${channel?.unit ?? ""}`;
    tr.append(cell(channel?.title ?? r.channel), cell(value, "number"), cell(clock(r.time)), score, flags, proof);
    return tr;
  }));
  const names = rows.filter((r) => state.channels.get(r.channel)?.kind === "number").map((r) => r.channel);
  if (!names.includes(state.channel)) state.channel = names.includes("pm2_5") ? "pm2_5" : names[0] ?? null;
  const select = $("channel");
  if ([...select.options].map((o) => o.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => new Option(state.channels.get(name)?.title ?? name, name)));
  }
  select.value = state.channel ?? "";
}

function showChart(series, channel) {
  const key = [state.node, channel.name, $("span").value].join();
  $("chart-title").textContent = `${channel.title} at ${state.node} (${channel.unit})`;
  if (series.time.length === 0) {
    state.plot?.destroy();
    state.plot = null;
    const p = document.createElement("p");
    p.className = "empty";
    p.textContent = "no readings in this span";
    $("chart").replaceChildren(p);
    return;
  }
  const bad = series.mean.map((value, i) => (series.flagged[i] ? value : null));
  const data = [series.time, series.mean, series.min, series.max, bad];
  if (state.plot && state.key === key) {
    state.plot.setData(data);
    return;
  }
  state.plot?.destroy();
  $("chart").replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => {
    // light-dark() only resolves on a real element's colour
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value || style.color;
  };
  const accent = colour("--accent");
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const fade = accent.replace("rgb(", "rgba(").replace(")", ", .22)");
  const points = channel.style === "direction";
  state.key = key;
  state.plot = new uPlot({
    width: $("chart").clientWidth,
    height: 300,
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
    legend: { live: true },
    scales: points ? { y: { range: [0, 360] } } : {},
    axes: [axis, { ...axis, size: 64 }],
    bands: points ? [] : [{ series: [3, 2], fill: fade }],
    series: [
      { label: "time (UTC)" },
      { label: channel.title, stroke: points ? "transparent" : accent, width: 1.6, points: { show: points, size: 5, stroke: accent, fill: accent }, spanGaps: false },
      { label: "lowest", stroke: "transparent", points: { show: false } },
      { label: "highest", stroke: "transparent", points: { show: false } },
      { label: "flagged", stroke: "transparent", points: { show: true, size: 7, stroke: colour("--bad"), fill: colour("--bad") } },
    ],
  }, data, $("chart"));
}

async function chart() {
  const channel = state.channels.get(state.channel);
  if (!state.node || !channel) return;
  const span = Number($("span").value);
  const last = state.nodes.find((n) => n.node === state.node)?.last_time;
  const query = new URLSearchParams({ node: state.node, channel: channel.name });
  if (span && last != null) query.set("start", String(Math.floor(last - span)));
  showChart(await get(`api/v1/series?${query}`), channel);
}

async function select(node) {
  state.node = node;
  showNodes(state.nodes);
  showLatest(await get(`api/v1/nodes/${encodeURIComponent(node)}/latest`));
  await chart();
}

async function poll() {
  try {
    showStatus(await get("api/v1/status"));
    showNodes(await get("api/v1/nodes"));
    if (state.node) {
      showLatest(await get(`api/v1/nodes/${encodeURIComponent(state.node)}/latest`));
      await chart();
    }
  } catch (error) {
    $("pulse").className = "pulse off";
    $("pulse").textContent = `no answer from the gateway: ${error.message}`;
  }
  setTimeout(poll, POLL_MS);
}

$("channel").addEventListener("change", (event) => {
  state.channel = event.target.value;
  chart();
});
$("span").addEventListener("change", chart);
new ResizeObserver(() => state.plot?.setSize({ width: $("chart").clientWidth, height: 300 })).observe($("chart"));

for (const channel of await get("api/v1/channels")) state.channels.set(channel.name, channel);
await poll();
