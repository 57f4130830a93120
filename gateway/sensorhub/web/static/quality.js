// How readings were judged: a strip of days for each node, and why one reading was judged as it was.
import { byId, element, keyed, text } from "./dom.js";
import * as format from "./format.js";

const DAYS = 28;
const DAY = 86400;

let asked = null; // the reading that is being explained, as "node channel time"

const dayOf = (seconds) => Math.floor(seconds / DAY) * DAY;

// The days that end with the newest reading of any node.
export function span(nodes) {
  const newest = Math.max(...nodes.map((node) => node.last_time ?? -Infinity));
  return Number.isFinite(newest) ? { start: dayOf(newest) - (DAYS - 1) * DAY, end: dayOf(newest) + DAY } : null;
}

function reasons(flags) {
  const listed = Object.entries(flags).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name} ${format.count(count)}`);
  return listed.length ? listed.join(", ") : "no flags";
}

function sentence(node, time, day) {
  const date = new Date(time * 1000).toISOString().slice(0, 10);
  if (!day) return `${node}, ${date}: no readings`;
  if (!day.judged) return `${node}, ${date}: ${format.count(day.readings)} readings, none judged yet`;
  return `${node}, ${date}: ${format.percent(day.trusted_share)} of ${format.count(day.judged)} trusted, mean score ${day.mean_score.toFixed(2)}; ${reasons(day.flags)}`;
}

export function showDays(nodes, days, { start, end }, onChoose) {
  const known = new Map(days.map((day) => [`${day.node} ${day.time}`, day]));
  const times = [];
  for (let time = start; time < end; time += DAY) times.push(time);
  const say = (words) => text(byId("day-words"), words);
  byId("days-card").hidden = days.length === 0;
  text(byId("days-span"), `${new Date(start * 1000).toISOString().slice(0, 10)} to ${new Date((end - 1) * 1000).toISOString().slice(0, 10)}`);
  keyed(byId("days").tBodies[0], nodes, (node) => node.node,
    (node) => element("tr", {}, element("th", { scope: "row", textContent: node.node })),
    (row, node) => {
      keyed(row, [{ head: true }, ...times.map((time) => ({ time }))], (cell) => (cell.head ? "name" : cell.time),
        (cell) => {
          if (cell.head) return element("th", { scope: "row", textContent: node.node });
          const button = element("button", { type: "button", className: "day" });
          for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => say(button.title));
          button.addEventListener("click", () => {
            say(button.title);
            onChoose(node.node, cell.time);
          });
          return element("td", {}, button);
        },
        (place, cell) => {
          if (cell.head) return;
          const button = place.firstElementChild;
          const day = known.get(`${node.node} ${cell.time}`);
          const words = sentence(node.node, cell.time, day);
          if (button.title === words) return;
          button.title = words;
          button.setAttribute("aria-label", words);
          button.classList.toggle("unknown", !day?.judged);
          // nobody would use a day of which a fifth is not trusted
          button.style.setProperty("--good", String(Math.round(100 * Math.max(0, 5 * (day?.trusted_share ?? 0) - 4))));
        });
    });
}

export function hideWhy() {
  asked = null;
  byId("why").hidden = true;
}

// The words come first, then the picture; a newer question makes an older answer void.
export async function showWhy(get, node, channel, time) {
  const query = new URLSearchParams({ node, channel: channel.name, time: String(time) });
  const mine = (asked = String(query));
  const panel = byId("why");
  const was = panel.hidden;
  panel.hidden = false;
  panel.setAttribute("aria-busy", "true");
  text(byId("why-title"), `Why? ${channel.title} of ${node}, ${format.clock(time)} UTC`);
  byId("why-words").replaceChildren(element("li", { className: "soft", textContent: "Judging the log again up to this reading …" }));
  byId("why-picture").hidden = true;
  if (was) panel.scrollIntoView({ block: "nearest" });
  try {
    const told = await get(`api/v1/explain?${query}`);
    if (asked !== mine) return;
    text(byId("why-title"), `Why? ${channel.title} of ${node}, ${format.clock(told.time)} UTC`);
    byId("why-words").replaceChildren(...told.words.map((words) => element("li", { textContent: words })));
    const picture = byId("why-picture");
    picture.src = `api/v1/explain.svg?${query}`;
    picture.alt = "The readings before, what neighbours let expect, the difference, and what the model takes it for";
    picture.hidden = false;
  } catch (error) {
    if (asked === mine) byId("why-words").replaceChildren(element("li", { className: "low", textContent: error.message }));
  } finally {
    if (asked === mine) panel.removeAttribute("aria-busy");
  }
}
