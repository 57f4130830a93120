// How numbers, times and units are written. Times are always UTC: nodes stand in many places, and a log has one clock.

const UNITS = { "Cel": "°C", "ug/m3": "µg/m³", "deg": "°", "%RH": "% RH", "/": "", "count": "" };
const WINDS = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const grouped = new Intl.NumberFormat("en");

export const NONE = "–";

export const count = (value) => (value == null ? NONE : grouped.format(value));

export const unit = (channel) => UNITS[channel.unit] ?? channel.unit;

export function value(number, channel) {
  if (number == null) return NONE;
  const text = number.toLocaleString("en", { minimumFractionDigits: channel.decimals, maximumFractionDigits: channel.decimals });
  if (channel.style === "direction") return `${text}° ${WINDS[Math.round(number / 22.5) % 16]}`;
  return `${text} ${unit(channel)}`.trim();
}

export const percent = (share) => (share == null ? NONE : share > 0.999 && share < 1 ? "99.9 %" : `${(100 * share).toFixed(share < 1 && share > 0.9 ? 1 : 0)} %`);

export const score = (number) => (number == null ? "not judged yet" : number.toFixed(2));

const two = (number) => String(number).padStart(2, "0");

export function clock(seconds, { withSeconds = false } = {}) {
  if (seconds == null) return NONE;
  const time = new Date(seconds * 1000);
  if (Number.isNaN(time.getTime())) return NONE;
  return time.toISOString().replace("T", " ").slice(0, withSeconds ? 19 : 16);
}

export function ago(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 2) return "now";
  for (const [length, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${name} ago`;
  }
  return `${Math.round(seconds)} s ago`;
}

// Labels of a time axis: the hour alone, with the day below it where a day begins.
export function ticks(splits, step) {
  let day = "";
  let year = "";
  return splits.map((seconds) => {
    const time = new Date(seconds * 1000);
    const date = `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]}`;
    const hour = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
    const turned = String(time.getUTCFullYear()) !== year ? ` ${time.getUTCFullYear()}` : "";
    const fresh = date !== day;
    day = date;
    year = String(time.getUTCFullYear());
    if (step >= 86400) return turned ? `${date}\n${turned.trim()}` : date;
    return fresh || turned ? `${hour}\n${date}${turned}` : hour;
  });
}
