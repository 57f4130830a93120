// The parts of the page that are text: facts, warnings, nodes, newest readings, the log's head.
import { byId, element, keyed, text } from "./dom.js";
import * as format from "./format.js";

function facts(status) {
  const { store, log, ingest, chain, followers } = status;
  const reading = Object.entries(followers).filter(([name]) => name !== "chain");
  const behind = Math.max(0, ...reading.map(([, follower]) => follower.lag));
  const post = chain.last;
  const rate = ingest.rate_readings;
  return [
    ["Nodes", format.count(store.nodes), store.cloned ? `${format.count(store.cloned)} messages with a cloned key` : ""],
    ["Readings", format.count(store.readings), rate == null ? "" : `${format.count(Math.round(rate))} a second`],
    ["Trusted", store.judged ? format.percent(store.trusted / store.judged) : format.NONE, `${format.count(store.judged)} judged`],
    ["Log entries", format.count(log.size), log.root ? `root ${log.root.slice(0, 12)}…` : "nothing signed yet"],
    ["Anchored on the chain", post ? format.percent(Math.min(1, post.size / log.size)) : format.NONE,
      post ? `checkpoint ${format.count(post.seq)}, block ${format.count(post.block)}` : chain.configured ? "no checkpoint yet" : "no chain configured"],
    ["Entries behind", format.count(behind), reading.map(([name, follower]) => `${name} ${format.count(follower.lag)}`).join(" · ")],
  ];
}

export function showStatus(status) {
  document.title = `${status.gateway.site} · sensorhub`;
  text(byId("site"), status.gateway.site);
  text(byId("gateway"), status.gateway.name);
  keyed(byId("facts"), facts(status), ([name]) => name,
    ([name]) => element("div", { className: "fact" }, element("dt", { textContent: name }), element("dd", { className: "value" }), element("dd", { className: "note" })),
    (fact, [, value, note]) => {
      text(fact.children[1], value);
      text(fact.children[2], note);
    });
  byId("warnings").hidden = status.warnings.length === 0;
  keyed(byId("warnings").firstElementChild, status.warnings, (warning) => warning, () => element("li"), text);

  const post = status.chain.last;
  const rows = [
    ["Origin", status.gateway.origin],
    ["Signed size", format.count(status.log.checkpoint_size)],
    ["Root", status.log.root ?? format.NONE],
    ["Note key", status.log.key],
  ];
  if (status.chain.contract) rows.push(["Contract", `${status.chain.contract} on chain ${status.chain.chain_id ?? format.NONE}`]);
  if (post) rows.push(["Last transaction", post.tx], ["Gas", `${format.count(post.gas)}, mean of ${format.count(status.chain.posted)} posts ${format.count(status.chain.gas_mean)}`]);
  const { judge, model } = status.quality;
  if (judge) rows.push(["Judge", model ? `${judge} with model ${model.slice(0, 16)}…` : judge]);
  const flags = Object.entries(status.flags).map(([name, number]) => `${name} ${format.count(number)}`);
  rows.push(["Flags set", flags.join(" · ") || "none"]);
  keyed(byId("log"), rows.flatMap(([name, value]) => [["dt", name, name], ["dd", `${name} is`, value]]), ([, key]) => key,
    ([tag]) => element(tag), (child, [, , value]) => text(child, value));
}

// What a node says of itself while it is not there; anything else it may say is no word for this page.
const AWAY = ["offline", "asleep"];

export function showNodes(nodes, chosen, now, onChoose) {
  byId("no-nodes").hidden = nodes.length > 0;
  byId("nodes").hidden = nodes.length === 0;
  keyed(byId("nodes").tBodies[0], nodes, (node) => node.node,
    (node) => {
      const button = element("button", { type: "button" }, node.node, element("small"), element("small", { className: "trouble" }));
      const share = element("span", { className: "share" }, element("span"), element("i", {}, element("b")));
      const row = element("tr", {}, element("td", {}, button), element("td", {}, element("span"), element("small")),
        element("td", { className: "number wide" }), element("td", { className: "number" }, share));
      row.addEventListener("click", () => onChoose(node.node));
      return row;
    },
    (row, node) => {
      const [name, newest, readings, trusted] = row.children;
      const button = name.firstElementChild;
      row.classList.toggle("chosen", node.node === chosen);
      button.setAttribute("aria-pressed", String(node.node === chosen));
      const { state, troubles = [] } = node.said ?? {};
      const away = AWAY.includes(state) ? state : "";
      text(button.children[0], [node.kind, node.revoked ? "revoked" : away].filter(Boolean).join(" · "));
      const [, trouble] = button.children;
      trouble.hidden = node.revoked || troubles.length === 0;
      text(trouble, troubles.join(" · "));
      text(newest.firstElementChild, format.clock(node.last_time));
      text(newest.lastElementChild, node.last_received == null ? "" : `received ${format.ago(Math.max(0, now - node.last_received))}`);
      text(readings, format.count(node.readings));
      const share = trusted.firstElementChild;
      share.classList.toggle("low", node.trusted_share != null && node.trusted_share < 0.5);
      share.lastElementChild.hidden = node.trusted_share == null;
      share.querySelector("b").style.width = `${100 * (node.trusted_share ?? 0)}%`;
      text(share.firstElementChild, node.trusted_share == null ? "not yet" : format.percent(node.trusted_share));
    });
}

export function flagChips(names, table, muted = false) {
  return names.map((name) => {
    const flag = table.find((known) => known.name === name);
    return element("span", { className: muted || (flag && !flag.fault) ? "flag harmless" : "flag", textContent: name, title: flag?.meaning ?? "" });
  });
}

// The value and the entry of a reading both lead to its proof; the channel leads to the chart.
export function showLatest(rows, { node, channel, channels, flags, onProof, onChannel, onExplain }) {
  text(byId("latest-node"), node ? `of ${node}` : "");
  keyed(byId("latest").tBodies[0], rows, (row) => row.channel,
    (row) => {
      const links = [element("a", { className: "value", tabIndex: -1 }), element("a")];
      for (const link of links) link.addEventListener("click", (event) => onProof(event, link));
      const button = element("button", { type: "button", textContent: channels.get(row.channel)?.title ?? row.channel, title: "Show it in the chart" });
      button.addEventListener("click", () => onChannel(row.channel));
      return element("tr", {}, element("td", {}, button), element("td", { className: "number" }, links[0]),
        element("td", { className: "wide" }), element("td", { className: "score" }), element("td", { className: "proof" }, links[1]));
    },
    (tr, row) => {
      const [name, value, time, score, proof] = tr.children;
      tr.classList.toggle("chosen", row.channel === channel);
      name.firstElementChild.setAttribute("aria-pressed", String(row.channel === channel));
      text(value.firstElementChild, format.value(row.value, channels.get(row.channel) ?? { unit: "", decimals: 2 }));
      text(time, format.clock(row.time));
      const mark = [row.score, row.flags, row.muted_until, row.time].join();
      if (score.dataset.mark !== mark) {
        score.dataset.mark = mark;
        const muted = row.muted_until != null;
        const why = element("button", { type: "button", title: "Why it was judged so", textContent: format.score(row.score),
          className: row.score == null ? "none" : row.score < 0.5 && !muted ? "low" : "" });
        why.addEventListener("click", () => onExplain(row.time, row.channel));
        score.replaceChildren(why, ...flagChips(row.flag_names, flags, muted));
        if (muted) score.append(element("span", { className: "flag harmless", textContent: `muted until ${format.clock(row.muted_until)}` }));
      }
      for (const link of [value.firstElementChild, proof.firstElementChild]) {
        link.href = `api/v1/proof/${row.message}`;
        link.download = `proof-${row.message}.json`;
        link.title = `Download the proof of log entry ${row.message}`;
      }
      text(proof.firstElementChild, format.count(row.message));
    });
}
