"""Faults put into clean readings: the families that the flags name, in many shapes.

A family that no flag names is trained as the one it resembles most, and stays a name of its own in the
tables of the model card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.quality import profiles
from sensorhub.quality.model import CLASSES, LOCAL
from sensorhub.quality.profiles import Profile
from sensorhub.quality.training.events import local_events, of_one_place
from sensorhub.quality.training.grids import Grid

#: Family of sound readings between those of a dropout: few, and each of them could be a false alarm.
BETWEEN: Final = -2
HOUR: Final = 3600.0
_DAY: Final = 86_400.0

_Values = NDArray[np.float64]
_Shape = Callable[[np.random.Generator, _Values, Profile, float], _Values]


@dataclass(frozen=True, slots=True)
class Family:
    """One sort of fault.

    Attributes:
        name: its name in the card.
        label: the class it is trained as.
        hours: shortest and longest duration.
        shape: gives the faulty values of a stretch.
        least: deviation from the truth, in units, from which a reading counts as faulty.
    """

    name: str
    label: str
    hours: tuple[float, float]
    shape: _Shape
    least: float = 1.0


def _sign(rng: np.random.Generator, profile: Profile) -> float:
    # sensors of concentrations fail upwards more often: dust, moisture and heat add counts
    return 1.0 if rng.random() < (0.75 if profile.offset else 0.5) else -1.0


def _spike(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    size: float = _sign(rng, p) * rng.uniform(3, 15) * p.unit
    return x + size * rng.uniform(0.8, 1.2, x.size)


def _stuck(rng: np.random.Generator, x: _Values, _p: Profile, _: float) -> _Values:
    flicker = rng.choice([-0.1, 0.0, 0.1], x.size, p=[0.05, 0.9, 0.05]) if rng.random() < 0.3 else 0.0
    return np.full(x.size, x[0]) + flicker


def _drift(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    ramp: _Values = np.linspace(0, 1, x.size) ** rng.choice([1.0, 1.0, 0.6, 1.6])
    if not p.offset:
        size: float = _sign(rng, p) * rng.uniform(2.5, 8) * p.unit
        return x + size * ramp
    gain = rng.uniform(0.25, 0.55) if rng.random() < 0.5 else 1 + rng.uniform(0.7, 2.0)
    factor: _Values = 1 + (gain - 1) * ramp
    return x * factor


def _offset(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    if not p.offset:
        return x + _sign(rng, p) * rng.uniform(2.2, 7) * p.unit
    if rng.random() < 0.5:
        return x + rng.uniform(2.2, 7) * p.unit
    return x * (rng.uniform(0.2, 0.5) if rng.random() < 0.5 else 1 + rng.uniform(0.9, 2.5))


def _noise(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    return x + rng.normal(0, rng.uniform(1.2, 5) * p.unit, x.size)


def _dropout(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    dead = rng.choice(p.dead) if p.dead else 0.0
    if rng.random() < 0.25:
        dead = rng.choice([BY_NAME[p.channel].low, BY_NAME[p.channel].high])
    return np.where(rng.random(x.size) < rng.uniform(0.3, 1), dead, x)


def _loose(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    """A loose contact: an offset that comes and goes."""
    on = np.cumsum(rng.random(x.size) < 0.15) % 2 == 0
    return x + np.where(on, _sign(rng, p) * rng.uniform(3, 9) * p.unit, 0.0)


def _sluggish(rng: np.random.Generator, x: _Values, _p: Profile, cadence: float) -> _Values:
    """A blocked inlet: the sensor follows with a delay of hours."""
    gain = 1 - np.exp(-cadence / (rng.uniform(6, 24) * HOUR))
    y = np.empty_like(x)
    level = x[0]
    for i, value in enumerate(x):
        level += gain * (value - level)
        y[i] = level
    return y


def _heated(rng: np.random.Generator, x: _Values, p: Profile, cadence: float) -> _Values:
    """Something else is measured by day: sun, a heater."""
    phase = rng.uniform(0, _DAY)
    wave: _Values = np.maximum(np.sin(2 * np.pi * (np.arange(x.size) * cadence + phase) / _DAY), 0)
    size: float = rng.uniform(3, 8) * p.unit
    return x + size * wave


def _clipped(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    """A sensor that no longer shows its upper range."""
    return np.minimum(x, np.nanmin(x) + rng.uniform(0.2, 1.5) * p.unit)


def _bursts(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    """A laser that counts what is not there, now and then, much and little."""
    on = rng.random(x.size) < rng.uniform(0.2, 1.0)
    size = rng.uniform(0.8, 4) * p.unit * np.exp(rng.normal(0, rng.uniform(0.3, 0.9), x.size))
    return x + on * size * (1.0 if p.offset else _sign(rng, p))


def _blocked(rng: np.random.Generator, x: _Values, p: Profile, _: float) -> _Values:
    """An inlet or a fan that lets hardly anything through."""
    if not p.offset:
        return x + _sign(rng, p) * rng.uniform(2.2, 7) * p.unit
    return x * rng.uniform(0.0, 0.25) * np.exp(rng.normal(0, 0.1, x.size))


FAMILIES: Final = (
    Family("spike", "spike", (0.0, 0.5), _spike),
    Family("stuck", "stuck", (3, 36), _stuck, 0.0),
    Family("drift", "drift", (24, 120), _drift),
    Family("offset", "offset", (6, 72), _offset),
    Family("noise", "noise", (1, 14), _noise, 0.25),
    Family("dropout", "dropout", (0.5, 10), _dropout, 0.5),
    Family("loose contact", "noise", (3, 24), _loose, 1.0),
    Family("sluggish", "drift", (24, 96), _sluggish, 1.5),
    Family("heated", "offset", (24, 96), _heated, 1.5),
    Family("clipped", "stuck", (12, 48), _clipped, 1.5),
    Family("bursts", "noise", (0.3, 12), _bursts, 0.5),
    Family("blocked", "offset", (6, 72), _blocked, 0.75),
)
#: How often a family is chosen, in `FAMILIES` order.
SHARE: Final = (1, 1.2, 1.2, 1.2, 1.2, 1, 0.25, 0.25, 0.25, 0.2, 0.5, 0.3)


@dataclass(frozen=True, slots=True)
class Faulty:
    """A grid with faults in it.

    Attributes:
        grid: what the gateway would have received.
        label: channel to int8 (T, N), number in `CLASSES`.
        family: channel to int8 (T, N), 1 + number in `FAMILIES`, 0 clean, -1 replay, `BETWEEN`.
        count: channel to bool (T, N), the row is clearly one or the other.
    """

    grid: Grid
    label: dict[str, NDArray[np.int8]]
    family: dict[str, NDArray[np.int8]]
    count: dict[str, NDArray[np.bool_]]


def inject(
    grid: Grid,
    seed: int,
    *,
    days_between: float = 5.0,
    without: str = "",
    severity: float = 1.0,
    events: bool = False,
) -> Faulty:
    """Puts faults into every series of a grid.

    Args:
        grid: clean readings.
        seed: decides everything.
        days_between: mean time between two faults of a series.
        without: a class that is left out.
        severity: factor on deviations.
        events: puts in local events of one node as well.
    """
    rng = np.random.default_rng(seed)
    per_hour = HOUR / grid.cadence
    grid, local = local_events(grid, rng) if events else (grid, of_one_place(grid))
    moments, nodes = len(grid.time), len(grid.nodes)
    truth = {c: v.copy() for c, v in grid.values.items()}
    values = {c: v.copy() for c, v in grid.values.items()}
    label = {c: np.where(local[c], np.int8(LOCAL), np.int8(0)) for c in values}
    family = {c: np.zeros(v.shape, np.int8) for c, v in values.items()}
    count = {c: np.isfinite(v) for c, v in values.items()}
    free = {c: np.ones(v.shape, np.bool_) for c, v in values.items()}
    start = int(2 * 24 * per_hour)

    def put(c: str, j: int, a: int, y: _Values, kind: int, name: int, least: float) -> None:
        p = profiles.BY_CHANNEL[c]
        b = a + y.size
        x = truth[c][a:b, j]
        if kind != CLASSES.index("dropout"):
            y = np.clip(y, 0 if p.offset else BY_NAME[c].low, BY_NAME[c].high)
        grain = 0.1 if p.unit < 100 else 1.0
        y = np.round(y / grain) * grain
        there = np.isfinite(x)
        values[c][a:b, j] = np.where(there, y, np.nan)
        if kind == CLASSES.index("stuck") and least == 0:
            wrong = np.arange(y.size) * grid.cadence >= HOUR
        else:
            wrong = np.abs(y - x) >= least * p.unit
        label[c][a:b, j] = np.where(wrong & there, kind, label[c][a:b, j])
        family[c][a:b, j] = np.where(wrong & there, name, BETWEEN if kind == CLASSES.index("dropout") else 0)
        count[c][a:b, j] &= wrong | (kind == CLASSES.index("dropout"))
        count[c][b : b + max(1, int(per_hour)), j] = False
        margin = int(12 * per_hour)
        free[c][max(0, a - margin) : b + margin, j] = False

    if without != "replay":
        for j in range(nodes):
            t = start + int(rng.exponential(8 * 24 * per_hour))
            while True:
                size = int(rng.uniform(6, 48) * per_hour)
                back = int(rng.integers(1, 8) * 24 * per_hour)
                if t + size >= moments:
                    break
                if t - back >= 0:
                    jitter = 0.0 if rng.random() < 0.4 else rng.uniform(0.05, 0.15)
                    for c in values:
                        p = profiles.BY_CHANNEL[c]
                        x, source = truth[c][t : t + size, j], truth[c][t - back : t - back + size, j]
                        y = (
                            np.where(np.isfinite(source), source, x)
                            + rng.normal(0, 1, size) * jitter * p.unit
                        )
                        put(c, j, t, y, CLASSES.index("replay"), -1, 1.0)
                t += size + int(24 * per_hour) + int(rng.exponential(11 * 24 * per_hour))

    choices = [i for i, f in enumerate(FAMILIES) if f.label != without]
    share = np.array([SHARE[i] for i in choices])
    share /= share.sum()
    for c in values:
        p = profiles.BY_CHANNEL[c]
        for j in range(nodes):
            t = start + int(rng.exponential(days_between * 12 * per_hour))
            while t < moments - 1:
                number = int(rng.choice(choices, p=share))
                f = FAMILIES[number]
                if f.name == "spike":
                    size = int(rng.integers(1, 4 if grid.cadence < HOUR else 3))
                else:
                    low, high = np.log(max(f.hours[0], 1 / per_hour)), np.log(max(f.hours[1], 2 / per_hour))
                    size = max(1, int(np.exp(rng.uniform(low, high)) * per_hour))
                x = truth[c][t : t + size, j]
                if x.size < size:
                    break
                if not free[c][t : t + size, j].all() or not np.isfinite(x[0]) or np.isfinite(x).mean() < 0.7:
                    t += int(5 * per_hour) + 1
                    continue
                held = x[np.maximum.accumulate(np.where(np.isfinite(x), np.arange(size), 0))]
                y = f.shape(rng, held, p, grid.cadence)
                if severity != 1.0 and f.label not in ("stuck", "dropout"):
                    y = held + severity * (y - held)
                put(c, j, t, y, CLASSES.index(f.label), number + 1, f.least)
                t += size + int(12 * per_hour) + int(rng.exponential(days_between * 24 * per_hour))
    for c in values:
        count[c][: int(5 * 24 * per_hour)] = False
    return Faulty(
        Grid(grid.time, grid.cadence, grid.nodes, grid.latitude, grid.longitude, values), label, family, count
    )
