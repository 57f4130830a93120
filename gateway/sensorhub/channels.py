"""The channel table: every quantity a node may measure, in one place.

Wire checks units against it, quality takes its limits from it, the store and the dashboards take titles,
styles and decimals from it. Units are SenML units (RFC 8428, section 12.1) or secondary units of the
IANA SenML registry (RFC 8798); wind direction alone is in degrees (`deg`), as every weather station
reports it, rather than in radians. Ranges are what the quantity can be at the Earth's surface in the open,
not what one sensor can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

STORE: Final = "store"
DASHBOARD: Final = "dashboard"


@dataclass(frozen=True, slots=True)
class Channel:
    """One measurable quantity.

    Attributes:
        name: SenML record name, `[a-z][a-z0-9_]*`.
        unit: SenML unit symbol; empty for data channels.
        title: what people call it.
        low: smallest plausible value, in `unit`.
        high: largest plausible value, in `unit`.
        step: largest believable change within 10 minutes, in `unit`; None means no rule.
        persist: minutes for which an exactly unchanged value is believable; None means no rule.
        kind: `number` (SenML `v`) or `data` (SenML `vd`).
        style: how a chart draws it.
        decimals: digits after the point that are worth showing.
        projections: which projections use it (`store`, `dashboard`).
    """

    name: str
    unit: str
    title: str
    low: float
    high: float
    step: float | None = None
    persist: float | None = None
    kind: Literal["number", "data"] = "number"
    style: Literal["line", "bar", "direction"] = "line"
    decimals: int = 1
    projections: frozenset[str] = frozenset({STORE, DASHBOARD})


_STORED = frozenset({STORE})
_LOGGED = frozenset[str]()

CHANNELS: Final[tuple[Channel, ...]] = (
    # air quality; persist is generous because real monitors repeat rounded values through calm nights
    Channel("pm1", "ug/m3", "PM1", 0, 2000, step=400, persist=360),
    Channel("pm2_5", "ug/m3", "PM2.5", 0, 2000, step=400, persist=360),
    Channel("pm4", "ug/m3", "PM4", 0, 3000, step=600, persist=360),
    Channel("pm10", "ug/m3", "PM10", 0, 5000, step=1000, persist=360),
    Channel("so2", "ug/m3", "Sulphur dioxide", 0, 2000, step=400, persist=1440),
    Channel("no2", "ug/m3", "Nitrogen dioxide", 0, 1000, step=200, persist=720),
    Channel("co", "ug/m3", "Carbon monoxide", 0, 50_000, step=8000, persist=720, decimals=0),
    Channel("o3", "ug/m3", "Ozone", 0, 1000, step=200, persist=1440),
    Channel("co2", "ppm", "Carbon dioxide", 300, 40_000, step=4000, persist=360, decimals=0),
    Channel("voc_raw", "count", "VOC sensor ticks", 0, 65_535, decimals=0, projections=_STORED),
    Channel("nox_raw", "count", "NOx sensor ticks", 0, 65_535, decimals=0, projections=_STORED),
    # weather
    Channel("temperature", "Cel", "Air temperature", -60, 60, step=8, persist=720),
    Channel("dew_point", "Cel", "Dew point", -70, 40, step=10, persist=720),
    Channel("humidity", "%RH", "Relative humidity", 0, 100, step=35, persist=1440),
    Channel("pressure", "hPa", "Air pressure", 500, 1090, step=5, persist=1440),
    Channel("rain", "mm", "Rain", 0, 200, step=60, style="bar"),
    Channel("wind_speed", "m/s", "Wind speed", 0, 75, step=25, persist=1440),
    Channel("wind_gust", "m/s", "Wind gust", 0, 110, step=50, persist=1440),
    Channel("wind_direction", "deg", "Wind direction", 0, 360, style="direction", decimals=0),
    Channel("illuminance", "lx", "Illuminance", 0, 200_000, decimals=0),
    # camera
    Channel("luminance", "/", "Picture luminance", 0, 1, decimals=3),
    Channel("contrast", "/", "Picture contrast", 0, 1, decimals=3),
    Channel("sharpness", "/", "Picture sharpness", 0, 1, decimals=3),
    Channel("overexposed", "/", "Over-exposed share of the picture", 0, 1, decimals=3),
    Channel("motion", "/", "Moving share of the picture", 0, 1, decimals=3),
    *(
        Channel(f"motion_{zone}", "/", f"Moving share of zone {zone}", 0, 1, decimals=3)
        for zone in range(1, 10)
    ),
    Channel("objects", "count", "Moving objects", 0, 10_000, decimals=0),
    Channel("frame_sha256", "", "SHA-256 of the frame", 0, 0, kind="data", projections=_LOGGED),
    # the node itself
    Channel("battery_voltage", "V", "Battery voltage", 0, 60, decimals=2),
    Channel("solar_voltage", "V", "Solar voltage", 0, 100, decimals=2),
    Channel("rssi", "dBm", "Wi-Fi signal", -130, 0, decimals=0),
    Channel(
        "spool_dropped", "count", "Messages dropped by a full spool", 0, 1e9, decimals=0, projections=_STORED
    ),
    Channel("sensor_errors", "count", "Failed sensor reads", 0, 1e9, decimals=0, projections=_STORED),
)

BY_NAME: Final = MappingProxyType({channel.name: channel for channel in CHANNELS})

#: SenML units as people write them, the same as on the page; others are the same in both.
_UNITS: Final = MappingProxyType(
    {"Cel": "°C", "ug/m3": "µg/m³", "deg": "°", "%RH": "% RH", "/": "", "count": ""}
)
_HUGE: Final = 1e15


def unit_written(channel: Channel) -> str:
    """The unit of a channel as people read it; empty for a bare number."""
    return _UNITS.get(channel.unit, channel.unit)


def written(value: float, channel: Channel, *, plain: bool = False) -> str:
    """A value of a number channel as people read it: its decimals and its unit; `plain` for ASCII, with the SenML unit."""
    text = f"{value:,.{channel.decimals}f}" if abs(value) < _HUGE else f"{value:g}"
    unit = channel.unit if plain else unit_written(channel)
    beside = not plain and unit in ("", "°")  # written without a space
    return text + (unit if beside else f" {unit}")


def document() -> str:
    """The channel reference as Markdown; `gateway/CHANNELS.md` is this text."""
    lines = [
        "# Channels",
        "",
        "Written by `sensorhub channels --markdown`; a test keeps it true. `step` is the largest believable change",
        "within 10 minutes, `persist` the minutes for which an exactly unchanged value is believable.",
        "",
        "| channel | unit | what | range | step | persist | used by |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in CHANNELS:
        span = f"{c.low:g} to {c.high:g}" if c.kind == "number" else "bytes"
        rules = ["-" if rule is None else f"{rule:g}" for rule in (c.step, c.persist)]
        used = ", ".join(sorted(c.projections)) or "log only"
        lines.append(
            f"| `{c.name}` | {c.unit or '-'} | {c.title} | {span} | {rules[0]} | {rules[1]} | {used} |"
        )
    return "\n".join(lines) + "\n"
