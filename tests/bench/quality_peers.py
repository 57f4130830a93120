"""The gateway's judges beside what people use instead, on the packaged sample with faults put into it.

    python tests/bench/quality_peers.py [--seed N]... [--pictures FOLDER]

Prints the table of `sensorhub quality bench` with more lines: Hampel's filter, limits of range, step and persistence, WeatherXM's limits, an
isolation forest, a buddy check, titanlib's spatial consistency test, and two checks against the whole crowd. What is no library is written
from its paper or published limits. With several seeds the numbers are means. Peers see what the gateway sees: nothing later than the reading.

The isolation forest needs `pip install scikit-learn`, the spatial consistency test `pip install titanlib`; what is missing is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.quality import benchmark
from sensorhub.quality.benchmark import Case, Result, Score
from sensorhub.quality.model import Model, shipped
from sensorhub.quality.profiles import BY_CHANNEL

_Grid = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Field:
    """One channel of a case: T moments of N nodes.

    Attributes:
        channel: its name.
        rows: intp (R,), the case's readings of it.
        places: intp (R,), where each lies in `values` flattened.
        time: float64 (T,), Unix seconds.
        node: names (N,).
        latitude: float64 (N,), degrees.
        longitude: float64 (N,), degrees.
        values: float64 (T, N), NaN where there is none.
        cadence: usual seconds between two moments.
    """

    channel: str
    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    time: NDArray[np.float64]
    node: NDArray[Any]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    values: _Grid
    cadence: float

    @property
    def unit(self) -> float:
        """A deviation that matters."""
        return BY_CHANNEL[self.channel].unit

    @property
    def near(self) -> _Grid:
        """1 where two different nodes are at most 25 km apart, else 0: (N, N)."""
        north = 111.2 * (self.latitude[:, None] - self.latitude)
        east = 111.2 * (self.longitude[:, None] - self.longitude) * np.cos(np.radians(self.latitude))
        close = np.hypot(north, east) <= 25.0
        np.fill_diagonal(close, False)
        return close.astype(np.float64)

    def of(self, other: Field) -> _Grid:
        """Another channel's values at this one's moments and nodes (T, N)."""
        told = np.full(self.values.shape, np.nan)
        _, t, from_t = np.intersect1d(self.time, other.time, return_indices=True)
        _, n, from_n = np.intersect1d(self.node, other.node, return_indices=True)
        told[np.ix_(t, n)] = other.values[np.ix_(from_t, from_n)]
        return told


def fields(case: Case) -> dict[str, Field]:
    """The channels of a case by name."""
    found = {}
    cadence = float(np.median(np.diff(np.unique(case.time))))
    for channel in np.unique(case.channel).tolist():
        rows = np.flatnonzero(case.channel == channel)
        time, moment = np.unique(case.time[rows], return_inverse=True)
        names, first, node = np.unique(case.node[rows], return_index=True, return_inverse=True)
        values = np.full((time.size, names.size), np.nan)
        values[moment, node] = case.value[rows]
        places = (moment * names.size + node).astype(np.intp)
        latitude, longitude = case.latitude[rows][first], case.longitude[rows][first]
        found[str(channel)] = Field(
            str(channel), rows, places, time, names, latitude, longitude, values, cadence
        )
    return found


def on_fields(judge: Callable[[Field, dict[str, Field]], _Grid]) -> Score:
    """A judge of one channel, which may look at the others, as a judge of cases; what it says nothing of gets 0."""

    def score(case: Case) -> NDArray[np.float64]:
        told = np.zeros(case.time.size)
        known = fields(case)
        for field in known.values():
            with np.errstate(all="ignore"):
                told[field.rows] = np.nan_to_num(judge(field, known).ravel()[field.places])
        return told

    return score


def middle(values: _Grid, axis: int) -> _Grid:
    """Median that passes over NaN, NaN where there is nothing."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = (np.take_along_axis(ordered, np.maximum(k, 0), axis) for k in ((count - 1) // 2, count // 2))
    return np.where(count > 0, (low + high) / 2, np.nan)


def past(values: _Grid, window: int) -> _Grid:
    """The last readings, this one first: (window, T, N)."""
    found = np.full((window, *values.shape), np.nan)
    for lag in range(min(window, len(values))):
        found[lag, lag:] = values[: len(values) - lag]
    return found


def steps(values: _Grid) -> _Grid:
    """Change since the moment before (T, N)."""
    return np.abs(np.diff(values, axis=0, prepend=values[:1]))


def held(values: _Grid) -> _Grid:
    """How many moments before had the very same value (T, N)."""
    found = np.zeros(values.shape)
    for t in range(1, len(values)):
        found[t] = np.where(values[t] == values[t - 1], found[t - 1] + 1, 0)
    return found


def hampel(field: Field, _others: dict[str, Field], *, window: int = 24) -> _Grid:
    """Distance from the median of the last readings in deviations (Hampel 1974; Pearson 2002), the window trailing."""
    last = past(field.values, window)
    centre = middle(last, 0)[0]
    spread = 1.4826 * middle(np.abs(last - centre), 0)[0]
    return np.abs(field.values - centre) / (spread + 0.25 * field.unit)


def limits(field: Field, _others: dict[str, Field]) -> _Grid:
    """Range, step and persistence (WMO-No. 8, part V, chapter 1), as shares of the limits of the channel table."""
    known, values = BY_NAME[field.channel], field.values
    outside = (values < known.low) | (values > known.high)
    step = steps(values) / (known.step or np.inf)
    persistence = held(values) * field.cadence / 60.0 / (known.persist or np.inf)
    return np.fmax(np.fmax(step, persistence), 10.0 * outside)


#: WeatherXM's limits for its WS2000 stations, which send every three minutes: lowest, highest, change a minute, change at most, minutes unchanged
#: (`InitialParams` in github.com/weatherxm-network/qod, version 1.0.6). There are none for particles, gases and the dew point.
WEATHERXM = {
    "humidity": (1.0, 99.0, 10.0, 80.0, 360.0),
    "temperature": (-40.0, 80.0, 3.0, 15.0, 240.0),
    "pressure": (540.0, 1100.0, 0.8, 15.0, 120.0),
}


def weatherxm(field: Field, others: dict[str, Field], *, damp: float = 95.0) -> _Grid:
    """Out-of-bounds and self quality check of WeatherXM's quality of data, as shares of its limits.

    Of a jump the later reading is told, and those equal to it that follow: which of the two was wrong only later readings say. In damp
    air humidity may stand still, and temperature for a day.
    """
    if field.channel not in WEATHERXM:
        return np.zeros(field.values.shape)
    low, high, a_minute, at_most, unchanged = WEATHERXM[field.channel]
    values, same = field.values, held(field.values)
    jump = np.nan_to_num(steps(values) / min(a_minute * field.cadence / 60.0, at_most))
    for t in range(1, len(values)):
        carried = np.where(jump[t - 1] > 1.0, jump[t - 1], 0.0)
        jump[t] = np.where(same[t] > 0, carried, jump[t])
    still = np.full(values.shape, unchanged)
    if field.channel != "pressure" and "humidity" in others:
        wet = field.of(others["humidity"]) >= damp
        still[wet] = np.inf if field.channel == "humidity" else 1440.0
    constant = same * field.cadence / 60.0 / still
    return np.fmax(np.fmax(jump, constant), 10.0 * ((values < low) | (values > high)))


def forest(field: Field, _others: dict[str, Field], *, relearn: float = 7 * 86_400.0) -> _Grid:
    """Isolation forest (Liu, Ting and Zhou 2008; scikit-learn's defaults) on what a node's own last day says of each reading.

    Every week it is made anew from all readings of all nodes before; the first week gets 0.
    """
    from sklearn.ensemble import IsolationForest

    values, unit = field.values, field.unit
    last = past(values, max(6, round(86_400.0 / field.cadence)))
    centre = middle(last, 0)[0]
    spread = middle(np.abs(last - centre), 0)[0]
    hour = np.broadcast_to((field.time[:, None] % 86_400.0) * (2 * np.pi / 86_400.0), values.shape)
    signed = np.diff(values, axis=0, prepend=values[:1])
    columns = (values / unit, (values - centre) / unit, signed / unit, spread / unit, held(values))
    features = np.nan_to_num(np.stack([*columns, np.sin(hour), np.cos(hour)], axis=2))
    known = np.isfinite(values)
    told = np.zeros(values.shape)
    for start in np.arange(field.time[0] + relearn, field.time[-1] + 1.0, relearn):
        before = known & (field.time < start)[:, None]
        now = known & ((field.time >= start) & (field.time < start + relearn))[:, None]
        if before.any() and now.any():
            learnt = IsolationForest(random_state=0).fit(features[before])
            told[now] = -learnt.score_samples(features[now])
    return told


def buddy(field: Field, _others: dict[str, Field], *, least: int = 3) -> _Grid:
    """Distance from the mean of the neighbours in their deviations (Båserud et al. 2020, "TITAN")."""
    values, near = field.values, field.near
    known = np.isfinite(values).astype(np.float64)
    filled = np.nan_to_num(values)
    count = known @ near
    mean = filled @ near / count
    spread = np.sqrt(np.maximum(filled**2 @ near / count - mean**2, 0.0))
    told = np.abs(values - mean) / np.maximum(spread, field.unit)
    return np.where(count >= least, told, 0.0)


def consistency(field: Field, _others: dict[str, Field], *, least: int = 3) -> _Grid:
    """titanlib's spatial consistency test (Lussana et al. 2010; Båserud et al. 2020): leave-one-out against analysis residual.

    Its settings are those of titanlib's tutorial, but for fewer stations and five rounds; values are given in units, so that its least
    error variance means the same in every channel. Heights are not known.
    """
    import titanlib

    told = np.zeros(field.values.shape)
    for t, values in enumerate(field.values / field.unit):
        here = np.flatnonzero(np.isfinite(values) & np.isfinite(field.latitude))
        if here.size < least:
            continue
        flat, four, half = np.zeros(here.size), np.full(here.size, 4.0), np.full(here.size, 0.5)
        points = titanlib.Points(field.latitude[here], field.longitude[here], flat, flat)
        _, told[t, here], _ = titanlib.sct(
            points, values[here], least, 100, 5e4, 1e5, 5, 20, 100.0, 1e4, 200.0, four, four, half
        )
    return np.maximum(told, 0.0)


def crowd(field: Field, _others: dict[str, Field]) -> _Grid:
    """Robust z-score within the whole crowd at each moment (Napoly et al. 2018, "CrowdQC", level m2)."""
    centre = middle(field.values, 1)
    spread = 1.4826 * middle(np.abs(field.values - centre), 1)
    return np.abs(field.values - centre) / np.maximum(spread, 0.5 * field.unit)


def qn(values: _Grid) -> _Grid:
    """Spread Qn of each row (Rousseeuw and Croux 1993), without its correction for few values: (T, 1)."""
    one, other = np.triu_indices(values.shape[1], 1)
    apart = np.sort(np.abs(values[:, one] - values[:, other]), axis=1)
    half = np.isfinite(values).sum(axis=1, keepdims=True) // 2 + 1
    return 2.2219 * np.take_along_axis(apart, np.maximum(half * (half - 1) // 2 - 1, 0), 1)


def crowd_plus(field: Field, _others: dict[str, Field], *, least: int = 3) -> _Grid:
    """CrowdQC+ (Fenner et al. 2021), levels m2 and m5, as shares of their limits.

    m2: z-score by median and Qn within the crowd, beyond the 1 % and 95 % quantiles; m5: z-score within the neighbours that pass,
    beyond 5 % on either side, of at least three within 25 km where its own setting of five within 3 km wants a denser network. Level m4,
    which rejects a node's whole month for its correlation with the crowd, is left out: over the month before it lowered the mean average
    precision on the packaged sample (0.253 instead of 0.287, seed 1).
    """
    values = field.values
    z = (values - middle(values, 1)) / np.maximum(qn(values), 0.5 * field.unit)
    told = np.fmax(z / 1.645, -z / 2.326)
    kept = np.where(told <= 1.0, values, np.nan)
    for n, others in enumerate(field.near > 0):
        beside = kept[:, others]
        enough = np.isfinite(beside).sum(axis=1) >= least
        if enough.any():
            spread = np.maximum(qn(beside), 0.5 * field.unit)
            near = np.abs(values[:, [n]] - middle(beside, 1)) / spread / 1.645
            told[enough, n] = np.fmax(told, near[:, [0]])[enough, n]
    return told


PEERS: dict[str, Score] = {
    "Hampel": on_fields(hampel),
    "range, step, persistence": on_fields(limits),
    "WeatherXM limits": on_fields(weatherxm),
    "isolation forest": on_fields(forest),
    "buddy check": on_fields(buddy),
    "titanlib SCT": on_fields(consistency),
    "crowd": on_fields(crowd),
    "CrowdQC+": on_fields(crowd_plus),
}
#: What some of them need: module and package.
NEEDS = {"isolation forest": ("sklearn", "scikit-learn"), "titanlib SCT": ("titanlib", "titanlib")}


def available() -> dict[str, Score]:
    """The peers that can be run here; of the others stderr says what they need."""
    found = dict(PEERS)
    for name, (module, package) in NEEDS.items():
        if find_spec(module) is None:
            print(f"{name} is left out: it needs {package} (pip install {package})", file=sys.stderr)
            del found[name]
    return found


def mean(results: list[Result]) -> Result:
    """The results of one judge on several seeds as one; curves are those of the first."""

    def average(name: str) -> dict:
        keys = dict.fromkeys(key for r in results for key in getattr(r, name))
        return {
            k: float(np.mean([getattr(r, name)[k] for r in results if k in getattr(r, name)])) for k in keys
        }

    numbers = {
        name: float(np.mean([getattr(r, name) for r in results]))
        for name in ("recall", "alarms", "local", "own_recall", "own_alarms", "speed")
    }
    return replace(results[0], precision=average("precision"), cells=average("cells"), **numbers)


def on_channels(result: Result, channels: set[str]) -> float:
    """Mean average precision over the faults of some channels alone."""
    told = [precision for (channel, _), precision in result.cells.items() if channel in channels]
    return float(np.mean(told)) if told else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; 1")
    parser.add_argument("--pictures", type=Path, help="folder for precision-recall, ROC and heatmap")
    options = parser.parse_args()
    scorers = available() | benchmark.judges(Model.load(shipped()))
    runs = []
    for seed in options.seed or [1]:
        case = benchmark.sample(seed)
        runs.append(benchmark.compare(case, scorers))
    results = [mean(list(of_judge)) for of_judge in zip(*runs, strict=True)]
    print(benchmark.markdown(case, results))
    limited = sorted(set(WEATHERXM) & set(case.channel.tolist()))
    print(f"\nMean AP on {' and '.join(limited)} alone, where WeatherXM has limits:")
    for result in results:
        print(f"| {result.judge} | {on_channels(result, set(limited)):.3f} |")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, drawn in benchmark.drawn(results).items():
            (options.pictures / name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
