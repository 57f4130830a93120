"""The gateway's judges beside what people use instead, on the packaged sample with faults put into it.

    python tests/bench/quality_peers.py [--seed N]... [--pictures FOLDER]

Prints the table of `sensorhub quality bench` with more lines: Hampel's filter, limits of range, step and persistence, a buddy check, and a
check against the whole crowd, each written from its paper. With several seeds the numbers are means. Peers see what the gateway
sees: nothing later than the reading.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.quality import benchmark
from sensorhub.quality.benchmark import Case, Result, Score
from sensorhub.quality.model import Model, shipped
from sensorhub.quality.profiles import BY_CHANNEL

_Grid = NDArray[np.float64]


def grids(case: Case) -> Iterator[tuple[str, NDArray[np.intp], _Grid, _Grid, _Grid]]:
    """Each channel as (name, rows of the case, their places in the grid flattened, values (T, N), distances (N, N) in km)."""
    for channel in np.unique(case.channel).tolist():
        rows = np.flatnonzero(case.channel == channel)
        _, moment = np.unique(case.time[rows], return_inverse=True)
        _, first, node = np.unique(case.node[rows], return_index=True, return_inverse=True)
        values = np.full((moment.max() + 1, first.size), np.nan)
        values[moment, node] = case.value[rows]
        latitude, longitude = case.latitude[rows][first], case.longitude[rows][first]
        north = 111.2 * (latitude[:, None] - latitude)
        east = 111.2 * (longitude[:, None] - longitude) * np.cos(np.radians(latitude))
        yield str(channel), rows, moment * first.size + node, values, np.hypot(north, east)


def on_grids(judge: Callable[[str, _Grid, _Grid, float], _Grid]) -> Score:
    """A judge of one channel's values (T, N), distances (N, N) and cadence (s) as a judge of cases."""

    def score(case: Case) -> NDArray[np.float64]:
        told = np.zeros(case.time.size)
        cadence = float(np.median(np.diff(np.unique(case.time))))
        for channel, rows, places, values, distance in grids(case):
            with np.errstate(all="ignore"):
                told[rows] = np.nan_to_num(
                    judge(channel, values, distance, cadence).ravel()[places.astype(np.intp)]
                )
        return told

    return score


def middle(values: _Grid, axis: int) -> _Grid:
    """Median that passes over NaN, NaN where there is nothing."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = (np.take_along_axis(ordered, np.maximum(k, 0), axis) for k in ((count - 1) // 2, count // 2))
    return np.where(count > 0, (low + high) / 2, np.nan)


def hampel(channel: str, values: _Grid, _distance: _Grid, _cadence: float, *, window: int = 24) -> _Grid:
    """Distance from the median of the last readings in deviations (Hampel 1974; Pearson 2002), the window trailing."""
    past = np.full((window, *values.shape), np.nan)
    for lag in range(window):
        past[lag, lag:] = values[: len(values) - lag]
    centre = middle(past, 0)[0]
    spread = 1.4826 * middle(np.abs(past - centre), 0)[0]
    return np.abs(values - centre) / (spread + 0.25 * BY_CHANNEL[channel].unit)


def limits(channel: str, values: _Grid, _distance: _Grid, cadence: float) -> _Grid:
    """Range, step and persistence (WMO-No. 8, part V, chapter 1), as shares of the limits of the channel table."""
    known = BY_NAME[channel]
    outside = (values < known.low) | (values > known.high)
    step = np.abs(np.diff(values, axis=0, prepend=values[:1])) / (known.step or np.inf)
    held = np.zeros(values.shape)
    for t in range(1, len(values)):
        held[t] = np.where(values[t] == values[t - 1], held[t - 1] + 1, 0)
    persistence = held * cadence / 60.0 / (known.persist or np.inf)
    return np.fmax(np.fmax(step, persistence), 10.0 * outside)


def buddy(
    channel: str, values: _Grid, distance: _Grid, _cadence: float, *, radius: float = 25.0, least: int = 3
) -> _Grid:
    """Distance from the mean of the neighbours in their deviations (Båserud et al. 2020, "TITAN")."""
    near = ((distance <= radius) & (distance > 0)).astype(np.float64)
    known = np.isfinite(values).astype(np.float64)
    filled = np.nan_to_num(values)
    count = known @ near
    mean = filled @ near / count
    spread = np.sqrt(np.maximum(filled**2 @ near / count - mean**2, 0.0))
    told = np.abs(values - mean) / np.maximum(spread, BY_CHANNEL[channel].unit)
    return np.where(count >= least, told, 0.0)


def crowd(channel: str, values: _Grid, _distance: _Grid, _cadence: float) -> _Grid:
    """Robust z-score within the whole crowd at each moment (Napoly et al. 2018, "CrowdQC", level m2)."""
    centre = middle(values, 1)
    spread = 1.4826 * middle(np.abs(values - centre), 1)
    return np.abs(values - centre) / np.maximum(spread, 0.5 * BY_CHANNEL[channel].unit)


PEERS: dict[str, Score] = {
    "Hampel": on_grids(hampel),
    "range, step, persistence": on_grids(limits),
    "buddy check": on_grids(buddy),
    "crowd": on_grids(crowd),
}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; 1")
    parser.add_argument("--pictures", type=Path, help="folder for precision-recall, ROC and heatmap")
    options = parser.parse_args()
    scorers = PEERS | benchmark.judges(Model.load(shipped()))
    runs = []
    for seed in options.seed or [1]:
        case = benchmark.sample(seed)
        runs.append(benchmark.compare(case, scorers))
    results = [mean(list(of_judge)) for of_judge in zip(*runs, strict=True)]
    print(benchmark.markdown(case, results))
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, drawn in benchmark.drawn(results).items():
            (options.pictures / name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
