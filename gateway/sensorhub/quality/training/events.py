"""What is true though no neighbour saw it, and how networks differ: local events, weather of a yard, far neighbours.

None of it is a fault. Local events become examples of a class of their own; the rest teaches what sound series look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.quality import profiles
from sensorhub.quality.air import drier
from sensorhub.quality.training.grids import Grid

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
#: Share of the nodes that are blended with another, and how much of the difference from it they take over.
_BLENDED: Final = 0.7
_SHARE: Final = (-0.35, 0.6)
#: Seconds of a step of the shapes, which are averaged to the cadence.
_FINE: Final = 120.0
#: Share of the sensors that show coarser steps.
_COARSE: Final = 0.3
#: Steps in units; for concentrations, one.
_STEPS: Final = (0.1, 0.125, 0.25, 0.5)
_STEP: Final = 0.125
#: Temperature of air of which none is known, in °C.
_MILD: Final = 15.0
#: By kind of event: how much of it the channels of the node see, lowest and highest, in units; (1, 1) is what it is.
_SHARES: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "smoke": {
        "pm1": (0.6, 0.9),
        "pm2_5": (1, 1),
        "pm4": (1, 1.1),
        "pm10": (1, 1.4),
        "co": (0, 1),
        "no2": (0, 0.3),
    },
    "dust": {"pm1": (0, 0.1), "pm2_5": (0.1, 0.4), "pm4": (0.3, 0.7), "pm10": (1, 1)},
    "traffic": {"no2": (1, 1), "co": (0.1, 0.6), "pm2_5": (0, 0.3), "pm10": (0, 0.5), "o3": (-0.9, -0.2)},
    "ozone": {"o3": (1, 1), "no2": (-0.3, 0)},
    "industry": {"so2": (1, 1), "pm2_5": (0, 0.5)},
}


def of_one_place(grid: Grid) -> dict[str, NDArray[np.bool_]]:
    """Real readings far above what the other nodes see: channel to bool (T, N), as a benchmark of such networks defines it,
    a little wider. Fewer than three nodes tell nothing."""
    found = {}
    for channel, values in grid.values.items():
        profile = profiles.BY_CHANNEL[channel]
        local = np.zeros(values.shape, np.bool_)
        if profile.offset:
            there = np.isfinite(values).sum(axis=1) >= 3
            middle = np.nanmedian(values[there], axis=1)[:, None]
            local[there] = (values[there] - middle >= 3 * profile.unit) & (values[there] >= 1.8 * middle)
        found[channel] = local
    return found


def _shape(rng: np.random.Generator, cadence: float) -> NDArray[np.float64]:
    """Course of a local event, its highest value 1, averaged to the cadence."""
    kind = rng.choice(3, p=[0.4, 0.3, 0.3])
    if kind == 0:
        course = _puff(rng)
    elif kind == 1:
        length = int(np.exp(rng.uniform(np.log(0.4), np.log(6))) * _HOUR / _FINE)
        course = np.zeros(length + 400)
        for _ in range(int(rng.integers(2, 10))):
            one = _puff(rng) * np.exp(rng.normal(0, 0.7))
            start = int(rng.integers(0, length))
            part = one[: course.size - start]
            course[start : start + part.size] += part
    else:
        length = int(np.exp(rng.uniform(np.log(1.0), np.log(12))) * _HOUR / _FINE)
        rise, fall = rng.uniform(0.02, 0.4), rng.uniform(0.2, 0.6)
        x = np.linspace(0, 1, length)
        course = np.minimum(1, x / rise) * np.minimum(1, (1 - x) / fall)
    course = course * np.exp(
        _wander(rng, course.size, rng.uniform(4, 60) * 60 / _FINE) * rng.uniform(0.05, 0.6)
    )
    every = max(1, round(cadence / _FINE))
    start = int(rng.integers(0, every))
    course = np.concatenate((np.zeros(start), course, np.zeros(-(start + course.size) % every)))
    course = course.reshape(-1, every).mean(axis=1)
    if rng.random() < 0.5:
        course = course * np.exp(rng.normal(0, rng.uniform(0, 0.7), course.size))
    course = course[: np.flatnonzero(course > 0.01 * course.max())[-1] + 1]
    result: NDArray[np.float64] = course / course.max()
    return result


def _puff(rng: np.random.Generator) -> NDArray[np.float64]:
    rise = max(1, int(np.exp(rng.uniform(np.log(1), np.log(25))) * 60 / _FINE))
    fall = np.exp(rng.uniform(np.log(3), np.log(70))) * 60 / _FINE
    after = np.arange(int(5 * fall) + 1)
    down = np.exp(-after / fall) if rng.random() < 0.6 else 1 / (1 + after / fall) ** 2
    course: NDArray[np.float64] = np.concatenate((np.linspace(0, 1, rise + 1)[1:-1], down))
    return course


def _wander(rng: np.random.Generator, size: int, steps: float) -> NDArray[np.float64]:
    """A random course of variance 1 that forgets itself in so many steps."""
    keep = float(np.exp(-1 / max(steps, 1e-3)))
    noise = rng.normal(0, np.sqrt(1 - keep * keep), size)
    noise[:1] = rng.normal(0, 1)
    course = np.empty(size)
    level = 0.0
    for i, step in enumerate(noise.tolist()):
        level = keep * level + step
        course[i] = level
    return course


def local_events(grid: Grid, rng: np.random.Generator) -> tuple[Grid, dict[str, NDArray[np.bool_]]]:
    """The grid with local events put in, and where they (and real ones) are: channel to bool (T, N).

    Some nodes see one every few weeks, some two a day.
    """
    local = of_one_place(grid)
    values = {c: v.copy() for c, v in grid.values.items()}
    kinds = [
        k
        for k, shares in _SHARES.items()
        if any(values.get(c) is not None and s == (1, 1) for c, s in shares.items())
    ]
    if not kinds:
        return grid, local
    moments = len(grid.time)
    for j in range(len(grid.nodes)):
        rate = np.exp(rng.uniform(np.log(0.04), np.log(1.5)))
        t = rng.exponential(1 / rate)
        while t * _DAY < moments * grid.cadence:
            course = _shape(rng, grid.cadence)
            shares = _SHARES[str(rng.choice(kinds))]
            size = np.exp(rng.uniform(np.log(1.5), np.log(30)))
            a = int(t * _DAY / grid.cadence)
            for c, (low, high) in shares.items():
                if c not in values:
                    continue
                p = profiles.BY_CHANNEL[c]
                x = values[c][a : a + course.size, j]
                share = rng.uniform(low, high)
                if share >= 0:
                    more = share * size * course[: x.size] * p.unit
                else:
                    more = share * x * np.minimum(1, course[: x.size] * size / 8)
                grain = 0.1 if p.unit < 100 else 1.0
                values[c][a : a + course.size, j] = np.round((x + more) / grain) * grain
                local[c][a : a + course.size, j] |= np.abs(more) >= 1.5 * p.unit
            t += rng.exponential(1 / rate) if rng.random() < 0.7 else rng.uniform(0.05, 0.3)
    return replace(grid, values=values), local


def as_flat(new: NDArray[np.float64], old: NDArray[np.float64]) -> NDArray[np.float64]:
    """New values, (T,) or (T, N), that stand still wherever the old ones do: how long a sensor shows the same is a habit of its own."""
    moved = np.ones(old.shape, np.bool_)
    moved[1:] = (old[1:] != old[:-1]) | ~np.isfinite(old[:-1])
    moment = np.arange(len(old)).reshape(-1, *(1,) * (old.ndim - 1))
    since = np.maximum.accumulate(np.where(moved, moment, 0), axis=0)
    return np.where(np.isfinite(old), np.take_along_axis(new, since, axis=0), new)


def coarser(grid: Grid, rng: np.random.Generator) -> Grid:
    """The network with some sensors that show their values in coarser steps, and with hysteresis stand still for longer."""
    values = {}
    for c, v in grid.values.items():
        p = profiles.BY_CHANNEL[c]
        new = v.copy()
        for j in range(v.shape[1]):
            if rng.random() < _COARSE:
                step = p.unit * (_STEP if p.offset else float(rng.choice(_STEPS)))
                new[:, j] = np.round(np.round(v[:, j] / step) * step, 1)
        values[c] = new
    return replace(grid, values=values)


def other_yards(grid: Grid, rng: np.random.Generator) -> Grid:
    """The network with nodes that differ more: sun on the box by day, gains and levels that wander."""
    values = {}
    hour = grid.time / _HOUR % 24
    day = np.floor(grid.time / _DAY).astype(np.int64)
    day -= day.min()
    steps = _DAY / grid.cadence
    noon = rng.uniform(0, 24)
    sun = np.maximum(np.cos((hour - noon) * 2 * np.pi / 24), 0) ** 1.5
    bright = rng.random((int(day.max()) + 1, 1))[day]
    exposed = np.exp(rng.normal(-0.7, 0.8, len(grid.nodes)))
    own = rng.uniform(0.7, 1.3, (int(day.max()) + 1, len(grid.nodes)))[day]
    warmer = (sun[:, None] * bright) * exposed * own
    for c, v in grid.values.items():
        p = profiles.BY_CHANNEL[c]
        wander = np.stack(
            [_wander(rng, len(grid.time), rng.uniform(0.3, 3) * steps) for _ in grid.nodes], axis=1
        )
        strength = rng.uniform(0.02, 0.4, len(grid.nodes))
        if p.offset:
            new = v * np.exp(0.35 * strength * wander + rng.normal(0, 0.15, len(grid.nodes)))
        else:
            new = v + strength * wander * p.unit * (0.3 if c == "pressure" else 1.0)
            if c == "temperature":
                new = new + warmer
            elif c == "humidity":
                around = grid.values.get("temperature", np.full(v.shape, _MILD))
                new = drier(new, np.where(np.isfinite(around), around, _MILD), warmer)
        if c == "humidity":
            new = np.where(np.isfinite(v), np.clip(new, 0, 100), v)
        grain = 0.1 if p.unit < 100 else 1.0
        values[c] = as_flat(np.round(new / grain) * grain, v)
    return replace(grid, values=values)


def blended(grid: Grid, rng: np.random.Generator) -> Grid:
    """The network with nodes that are none of it: most take over a part of what another differs from them by, or differ more.

    A few nodes over and over would teach what these nodes are like; so no two turns see the same.
    """
    values = {c: v.copy() for c, v in grid.values.items()}
    count = len(grid.nodes)
    for k in range(count if count > 1 else 0):
        if rng.random() > _BLENDED:
            continue
        other = int(rng.choice([j for j in range(count) if j != k]))
        share = rng.uniform(*_SHARE)
        for c, v in grid.values.items():
            p = profiles.BY_CHANNEL[c]
            mine, theirs = v[:, k], v[:, other]
            both = np.isfinite(mine) & np.isfinite(theirs)
            if np.count_nonzero(both) < 0.7 * np.count_nonzero(np.isfinite(mine)):
                continue  # too little would be left
            if p.offset:
                low, high = (np.log(np.maximum(x, 0) + p.offset) for x in (mine, theirs))
                new = np.maximum(np.exp(low + share * (high - low)) - p.offset, 0)
            else:
                new = mine + share * (theirs - mine - np.median((theirs - mine)[both]))
            if c == "humidity":
                new = np.clip(new, 0, 100)
            grain = 0.1 if p.unit < 100 else 1.0
            values[c][:, k] = as_flat(np.round(new / grain) * grain, mine)
    return replace(grid, values=values)


def far_apart(grid: Grid, rng: np.random.Generator) -> Grid:
    """The network stretched to tens of kilometres: what passes reaches nodes at other hours, and not all of them as much."""
    stretch = rng.uniform(2, 8)
    latitude = grid.latitude.mean() + stretch * (grid.latitude - grid.latitude.mean())
    longitude = grid.longitude.mean() + stretch * (grid.longitude - grid.longitude.mean())
    wind = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(8, 40)
    along = 111.2 * (
        (latitude - latitude.mean()) * np.sin(wind)
        + (longitude - longitude.mean()) * np.cos(wind) * np.cos(np.radians(latitude.mean()))
    )
    lag = np.clip(
        np.rint(along / speed * _HOUR / grid.cadence), -6 * _HOUR / grid.cadence, 6 * _HOUR / grid.cadence
    ).astype(int)
    values = {}
    for c, v in grid.values.items():
        p = profiles.BY_CHANNEL[c]
        new = np.full_like(v, np.nan)
        for j, k in enumerate(lag.tolist()):
            new[max(0, k) : len(v) + min(0, k), j] = v[max(0, -k) : len(v) - max(0, k), j]
            if p.offset:
                gain = np.exp(
                    rng.uniform(0.1, 0.5) * _wander(rng, len(v), rng.uniform(4, 24) * _HOUR / grid.cadence)
                )
                new[:, j] = as_flat(np.round(new[:, j] * gain, 1), new[:, j])
        values[c] = new
    return replace(grid, latitude=latitude, longitude=longitude, values=values)
