"""What a node draws on average, and the battery and panel that are enough for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .schema import Current, Node, Part, Rail, Site

SOLAR_CONSTANT_W_M2: Final = 1367.0
MEAN_DAYS: Final = (17, 47, 75, 105, 135, 162, 198, 228, 258, 288, 318, 344)
"""Day of the year that stands for each month (Klein 1977; Duffie and Beckman, table 1.6.1)."""
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
BOOST: Final = 0.88
"""Efficiency of the converter between a battery and a supply rail of another voltage."""
_ERBS_WINTER: Final = (1.391, -3.560, 4.189, -2.137)
_ERBS: Final = (1.311, -3.022, 3.427, -1.821)
_ERBS_SUNSET_DEG: Final = 81.4


def share_of(current: Current, node: Node) -> float:
    """Share of the time in a state, 0 to 1; `rest` counts as 0 here."""
    if current.seconds_per_interval:
        return current.seconds_per_interval / node.node.interval_s
    if current.seconds_per_publish:
        return current.seconds_per_publish / node.node.publish_s
    return current.share


def average_ma(part: Part, node: Node) -> float:
    """Mean current of one such part, in mA at its rail."""
    shares = [share_of(current, node) for current in part.currents]
    rest = max(0.0, 1.0 - sum(shares))
    return sum(
        current.typical_ma * (rest if current.rest else share)
        for current, share in zip(part.currents, shares, strict=True)
    )


def peak_ma(part: Part) -> float:
    """Highest current of one such part: its worst state, beside those that are always on."""
    always = sum(current.typical_ma for current in part.currents if current.share == 1)
    others = [max(current.peak_ma, current.typical_ma) for current in part.currents if current.share != 1]
    return always + max(others, default=0.0)


@dataclass(frozen=True, slots=True)
class RailLoad:
    """Currents that a rail delivers, in mA."""

    average_ma: float
    peak_ma: float


def rail_loads(node: Node) -> dict[str, RailLoad]:
    """What each rail delivers, to its parts and to the rails made from it."""
    done: dict[str, RailLoad] = {}

    def load(rail: Rail) -> RailLoad:
        if rail.name not in done:
            own = [part for part in node.parts if part.rail == rail.name]
            fed = [(child, load(child)) for child in node.rails if child.source == rail.name]
            done[rail.name] = RailLoad(
                sum(average_ma(part, node) * part.quantity for part in own)
                + sum(drawn(child, rail, below.average_ma) for child, below in fed),
                sum(peak_ma(part) * part.quantity for part in own)
                + sum(drawn(child, rail, below.peak_ma) for child, below in fed),
            )
        return done[rail.name]

    for rail in node.rails:
        load(rail)
    return done


def drawn(rail: Rail, source: Rail, delivered_ma: float) -> float:
    """What a rail draws from its source in mA: a linear regulator the same current, a converter the same power."""
    if rail.kind == "switching":
        return delivered_ma * rail.volts / source.volts / rail.efficiency + rail.quiescent_ma
    return delivered_ma + rail.quiescent_ma


def extraterrestrial_wh(latitude: float, day: int) -> float:
    """Wh/m2 on a horizontal plane outside the atmosphere on a day of the year (Duffie and Beckman, eq. 1.10.3)."""
    phi, delta = math.radians(latitude), declination(day)
    sunset = sunset_angle(phi, delta)
    distance = 1 + 0.033 * math.cos(2 * math.pi * day / 365)
    slope = math.cos(phi) * math.cos(delta) * math.sin(sunset) + sunset * math.sin(phi) * math.sin(delta)
    return 24 / math.pi * SOLAR_CONSTANT_W_M2 * distance * slope


def declination(day: int) -> float:
    """Declination of the sun in radians (Cooper 1969; Duffie and Beckman, eq. 1.6.1a)."""
    return math.radians(23.45) * math.sin(2 * math.pi * (284 + day) / 365)


def sunset_angle(phi: float, delta: float) -> float:
    """Hour angle of sunset in radians (Duffie and Beckman, eq. 1.6.10)."""
    return math.acos(min(1.0, max(-1.0, -math.tan(phi) * math.tan(delta))))


def tilted_wh(site: Site, tilt_deg: float, day: int, latitude: float | None = None) -> float:
    """Wh/m2 in a day on a panel that faces the equator.

    Liu and Jordan (1960) as in Duffie and Beckman, eq. 2.19.1 to 2.19.3; diffuse share by Erbs et al. (1982), eq. 2.12.1.
    """
    degrees = site.latitude if latitude is None else latitude
    phi, delta, beta = math.radians(abs(degrees)), declination(day), math.radians(tilt_deg)
    if degrees < 0:
        delta = -delta  # the other hemisphere's season
    total = site.clearness * extraterrestrial_wh(degrees, day)
    sunset = sunset_angle(phi, delta)
    factors = _ERBS_WINTER if math.degrees(sunset) <= _ERBS_SUNSET_DEG else _ERBS
    clearness = min(0.8, max(0.3, site.clearness))
    diffuse = sum(factor * clearness**power for power, factor in enumerate(factors))
    seen = min(sunset, sunset_angle(phi - beta, delta))
    onto = math.cos(phi - beta) * math.cos(delta) * math.sin(seen) + seen * math.sin(phi - beta) * math.sin(
        delta
    )
    flat = math.cos(phi) * math.cos(delta) * math.sin(sunset) + sunset * math.sin(phi) * math.sin(delta)
    beam = (1 - diffuse) * max(0.0, onto / flat)
    sky = diffuse * (1 + math.cos(beta)) / 2
    ground = site.albedo * (1 - math.cos(beta)) / 2
    return total * (beam + sky + ground)


def worst_month(site: Site, tilt_deg: float, latitude: float | None = None) -> tuple[str, float]:
    """Month with the least sun on the panel, and its Wh/m2 in a day."""
    values = [tilted_wh(site, tilt_deg, day, latitude) for day in MEAN_DAYS]
    least = min(range(12), key=values.__getitem__)
    return MONTHS[least], values[least]


@dataclass(frozen=True, slots=True)
class Budget:
    """The power of a node.

    Attributes:
        rails: what each delivers.
        average_ma: drawn from the supply.
        daily_wh: energy a day, from the battery.
        hours: life on one pack of the battery, or on all the node has, without sun.
        battery_wh: battery that carries the node through the site's days without sun.
        month: worst month of the site.
        sun_wh: Wh/m2 in a day on the panel in that month.
        panel_w: panel that is enough in that month.
        packs, panels: how many of the battery and the panel that is; 0 for none.
    """

    rails: Mapping[str, RailLoad]
    average_ma: float
    daily_wh: float
    hours: float
    battery_wh: float
    month: str
    sun_wh: float
    panel_w: float
    packs: int
    panels: int


def count(node: Node, ref: str) -> float:
    """How many of a part the node has; 1 for an empty reference."""
    return node.part(ref).quantity if ref else 1


def winter_tilt(latitude: float) -> float:
    """Tilt in degrees for the worst month: 15 more than the latitude (Duffie and Beckman, section 1.8), 10 at least."""
    return min(90.0, max(10.0, abs(latitude) + 15))


def budget(node: Node, latitude: float | None = None) -> Budget:
    """The power budget, at the node's site, or at another latitude with the tilt that suits it."""
    rails = rail_loads(node)
    supply = node.rail(node.power.rail)
    average = rails[supply.name].average_ma + (supply.quiescent_ma if supply.kind == "input" else 0)
    daily = average * supply.volts * 24 / 1000
    site, battery, panel = node.power.site, node.power.battery, node.power.panel
    if supply.volts != battery.volts:
        daily /= BOOST
    tilt = panel.tilt_deg if latitude is None else winter_tilt(latitude)
    month, sun = worst_month(site, tilt, latitude)
    pack_wh = battery.volts * battery.amp_hours
    battery_wh = daily * site.autonomy_days / battery.usable
    # peak sun hours: Wh/m2 a day over the 1000 W/m2 at which a panel is rated
    panel_w = (
        daily / battery.charge_efficiency / (sun / 1000 * panel.performance_ratio) if sun > 1 else math.inf
    )
    return Budget(
        rails,
        average,
        daily,
        pack_wh * count(node, battery.ref) * battery.usable / daily * 24,
        battery_wh,
        month,
        sun,
        panel_w,
        math.ceil(battery_wh / pack_wh),
        math.ceil(panel_w / panel.watts) if math.isfinite(panel_w) else 0,
    )
