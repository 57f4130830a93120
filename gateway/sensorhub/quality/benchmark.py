"""How well faults are told from the rest: readings with known faults, scored by several judges. For `sensorhub quality bench`.

Faults are put into clean readings by the formulae of training, or come labelled with a file. Of the time, the first part lets judges warm
up, the next sets the threshold at `BUDGET` false alarms a sensor and day, and the rest is measured.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorhub import data
from sensorhub.channels import BY_NAME
from sensorhub.errors import SensorhubError
from sensorhub.log.reader import LogReader
from sensorhub.quality import table as tables
from sensorhub.quality.charts import curves, heatmap
from sensorhub.quality.columns import SeriesNumbers
from sensorhub.quality.judge import RULES, rules_odds
from sensorhub.quality.model import CLASSES, LOCAL, Model
from sensorhub.quality.profiles import BY_CHANNEL
from sensorhub.quality.rules import Rules
from sensorhub.quality.training.faults import Faulty, inject
from sensorhub.quality.training.grids import Grid, read
from sensorhub.quality.training.measure import PREVALENCE, average_precision, episodes, threshold

#: False alarms a sensor and day at the threshold.
BUDGET: Final = 0.1
#: Parts of the time for warming up and for the threshold.
WARM: Final = 0.25
TUNE: Final = 0.25
#: Mean days between two faults of a series: the sample has four weeks, and every class should come.
DAYS_BETWEEN: Final = 3.0
#: Alarms, and faulty readings, of a series that are at most this many of its intervals apart are one.
JOINED: Final = 2.0

RULES_ALONE: Final = "rules"
WITH_NEIGHBOURS: Final = "rules and neighbours"
WITH_MODEL: Final = "rules, neighbours and model"
#: From which score on the gateway's judges call a reading faulty: any rule that counts; odds above even.
OWN: Final[Mapping[str, float]] = {RULES_ALONE: min(RULES.values()), WITH_NEIGHBOURS: 0.0, WITH_MODEL: 0.0}

#: The classes that are faults.
FAULTS: Final = CLASSES[1:LOCAL]

Score = Callable[["Case"], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Case:
    """Readings of which it is known which are faulty (N of them, in order of time).

    Attributes:
        title: what they are.
        node: name of each reading's node.
        channel: name of its channel.
        time: float64, Unix seconds.
        value: float64, in the channel's unit.
        latitude: float64, degrees; NaN where it is not known.
        longitude: float64, degrees.
        label: int8, number in `CLASSES`; 0 and `LOCAL` are sound.
        counted: bool, clearly one or the other.
    """

    title: str
    node: NDArray[Any]
    channel: NDArray[Any]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    label: NDArray[np.int8]
    counted: NDArray[np.bool_]

    @property
    def sound(self) -> NDArray[np.bool_]:
        """bool (N,): the reading is of no fault."""
        found: NDArray[np.bool_] = (self.label == 0) | (self.label == LOCAL)
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """How a judge did.

    Attributes:
        judge: its name.
        precision: average precision of each class, mean over channels, at 2 % faulty readings.
        recall: share of faults (stretches of faulty readings) with a reading above the threshold.
        alarms: false alarms a sensor and day there.
        local: share of readings of local events above the threshold, which should be none; NaN without any.
        own_recall: the recall where the judge itself calls a reading faulty; NaN where it does not say so.
        own_alarms: the false alarms a sensor and day there.
        speed: readings a second of CPU time.
        cells: average precision by (channel, class).
        curve: (recall, precision, share of sound readings) at falling thresholds, all channels and classes together.
    """

    judge: str
    precision: dict[str, float]
    recall: float
    alarms: float
    local: float
    own_recall: float
    own_alarms: float
    speed: float
    cells: dict[tuple[str, str], float]
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    @property
    def mean(self) -> float:
        """Macro average precision: the mean over classes."""
        return float(np.mean(list(self.precision.values()))) if self.precision else float("nan")


@dataclass(frozen=True, slots=True)
class Count:
    """What is found and flagged at a threshold.

    Attributes:
        caught: faults (stretches of faulty readings) with a reading above it.
        faults: all of them.
        alarms: false alarms.
        days: of sound readings, all series together.
        flagged: readings of local events above it.
        events: all of them.
    """

    caught: int
    faults: int
    alarms: int
    days: float
    flagged: int
    events: int

    @property
    def recall(self) -> float:
        """Share of faults that are found; NaN without any."""
        return self.caught / self.faults if self.faults else float("nan")

    @property
    def rate(self) -> float:
        """False alarms a sensor and day; NaN without sound readings."""
        return self.alarms / self.days if self.days else float("nan")

    @property
    def local(self) -> float:
        """Share of the readings of local events that are flagged; NaN without any."""
        return self.flagged / self.events if self.events else float("nan")


# -- cases


def sample(seed: int) -> Case:
    """The packaged four weeks of twelve Beijing stations, with faults put into every node."""
    places, rows = data.places(), list(data.rows())
    nodes = tuple(sorted(places))
    stamps = [int(row["timestamp"]) for row in rows]
    times = np.arange(min(stamps), max(stamps) + 1, 3600.0)
    values = {
        channel: np.full((times.size, len(nodes)), np.nan)
        for channel in data.CHANNELS.values()
        if channel in BY_CHANNEL
    }
    for row, stamp in zip(rows, stamps, strict=True):
        place = round((stamp - times[0]) / 3600), nodes.index(row["station"])
        for channel, value in data.readings(row).items():
            if channel in values:
                values[channel][place] = value
    latitude, longitude = (np.array([places[n][k] for n in nodes]) for k in (0, 1))
    grid = Grid(times, 3600.0, nodes, latitude, longitude, values)
    return of_grid(grid, seed, "packaged sample: twelve Beijing stations, four weeks, hourly")


def of_log(reader: LogReader, seed: int) -> Case:
    """The trusted readings of a gateway's log, with faults put into every node.

    Raises:
        SensorhubError: they are too few.
    """
    from sensorhub.quality.training.site import grid_of

    return of_grid(grid_of(reader), seed, f"the log {reader.path}")


def of_file(path: Path, seed: int) -> Case:
    """A table of readings; when it has no column `label`, faults are put into every node.

    Args:
        path: CSV with node_id, sensor, timestamp (Unix s), value, lat, lon, and perhaps label: a class, `clean` for sound.
        seed: decides which faults are put where.

    Raises:
        SensorhubError: it cannot be read, lacks a column, or names a class that is none.
    """
    from pyarrow import ArrowInvalid, csv, float64, string

    names = (*tables.TABLE, "label")
    types = {n: string() if n in ("node_id", "sensor", "label") else float64() for n in names}
    try:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))
        if "label" not in table.column_names:
            return of_grid(read(path), seed, str(path))
        columns = [table.column(name).to_numpy() for name in names]
    except (OSError, KeyError, ArrowInvalid) as error:
        raise SensorhubError(
            f"{path} is no table with the columns {', '.join(tables.TABLE)}: {error}"
        ) from error
    *_, label = columns
    other = sorted(set(label.tolist()) - set(CLASSES))
    if other:
        raise SensorhubError(f"{path} has the label {other[0]!r}; labels are {', '.join(CLASSES)}")
    order = np.lexsort((columns[1].astype(str), columns[0].astype(str), columns[2]))
    node, channel, label = (columns[k][order].astype(str) for k in (0, 1, 6))
    time, value, latitude, longitude = (columns[k][order].astype(np.float64) for k in (2, 3, 4, 5))
    channel = np.array([tables.ALIASES.get(c, c) for c in channel.tolist()])
    unknown = sorted(set(channel.tolist()) - set(BY_NAME))
    if unknown:
        raise SensorhubError(
            f"{path} has sensors that are no channels: {', '.join(unknown)}; see `sensorhub channels`"
        )
    number = np.array([CLASSES.index(name) for name in label.tolist()], np.int8)
    return Case(str(path), node, channel, time, value, latitude, longitude, number, np.isfinite(value))


def of_grid(grid: Grid, seed: int, title: str) -> Case:
    """Clean readings of a network with faults put into every node."""
    known = {c: v for c, v in grid.values.items() if c in BY_CHANNEL}
    if not known:
        raise SensorhubError(f"{title}: no channel that is compared, such as pm2_5 or temperature")
    return case_of(inject(replace(grid, values=known), seed, days_between=DAYS_BETWEEN), title)


def case_of(faulty: Faulty, title: str) -> Case:
    """The readings of a grid into which faults were put."""
    grid = faulty.grid
    channels = list(grid.values)
    cube = np.stack([grid.values[c] for c in channels], axis=2)
    label = np.stack([faulty.label[c] for c in channels], axis=2)
    count = np.stack([faulty.count[c] for c in channels], axis=2)
    moment, node, channel = np.nonzero(np.isfinite(cube))
    return Case(
        title,
        np.array(grid.nodes)[node],
        np.array(channels)[channel],
        grid.time[moment],
        cube[moment, node, channel],
        grid.latitude[node],
        grid.longitude[node],
        label[moment, node, channel],
        count[moment, node, channel],
    )


# -- judges


def judges(model: Model | None) -> dict[str, Score]:
    """The judges of a gateway, the simplest first: functions from a case to scores (N,), more is more likely faulty."""

    def rules(case: Case) -> NDArray[np.float64]:
        rows, pairs, order = tables.rows_of(case.node, case.channel, case.time, case.value)
        judge = Rules()
        judge.numbers = SeriesNumbers(pairs)
        flags = judge.flags_of(rows.series, rows.time, rows.value)
        score = np.empty(order.size)
        score[order] = rules_odds(flags)
        return score

    def by_odds(case: Case, model: Model | None) -> NDArray[np.float64]:
        return tables.odds_of(
            case.node, case.channel, case.time, case.value, case.latitude, case.longitude, model=model
        )

    found: dict[str, Score] = {RULES_ALONE: rules, WITH_NEIGHBOURS: lambda case: by_odds(case, None)}
    if model is not None:
        found[WITH_MODEL] = lambda case: by_odds(case, model)
    return found


def compare(
    case: Case,
    scorers: Mapping[str, Score],
    *,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> list[Result]:
    """How each judge does on a case."""
    found = []
    for name, score in scorers.items():
        progress(name, 0, 2)
        started = clock.process_time()
        told = score(case)
        took = clock.process_time() - started
        progress(name, 1, 2)
        found.append(measured(name, case, told, case.time.size / max(took, 1e-9), OWN.get(name)))
        progress(name, 2, 2)
    return found


def measured(
    name: str, case: Case, score: NDArray[np.float64], speed: float, own: float | None = None
) -> Result:
    """What scores (N,) of a case are worth; `own` is the one from which on the judge itself calls a reading faulty."""
    first, last = float(case.time.min()), float(case.time.max())
    span = max(last - first, 1.0)
    tune = case.counted & (case.time >= first + WARM * span) & (case.time < first + (WARM + TUNE) * span)
    test = case.counted & (case.time >= first + (WARM + TUNE) * span)
    cells = precision_by(case, score, test)
    series = _series(case)
    as_set = (float("nan"), float("nan"))
    if own is not None:
        found = _at(case, series, score, test, dict.fromkeys(series, own))
        as_set = found.recall, found.rate
    found = _at(case, series, score, test, _limits(case, series, score, tune))
    told = (found.recall, found.rate, found.local, *as_set)
    return Result(name, by_class(cells), *told, speed, cells, _curve(case, score, test))


def precision_by(
    case: Case, score: NDArray[np.float64], test: NDArray[np.bool_]
) -> dict[tuple[str, str], float]:
    """Average precision of scores (N,) on some of the readings, by (channel, class), where there are three of it at least."""
    cells: dict[tuple[str, str], float] = {}
    for channel in np.unique(case.channel).tolist():
        here = test & (case.channel == channel)
        clean = score[here & case.sound]
        for number, kind in enumerate(FAULTS, 1):
            fault = score[here & (case.label == number)]
            if fault.size >= 3 and clean.size:
                cells[str(channel), kind] = average_precision(fault, clean, np.ones(clean.size))
    return cells


def by_class(cells: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Average precision of each class, the mean over channels."""
    found = {kind: [v for (_, k), v in cells.items() if k == kind] for kind in FAULTS}
    return {kind: float(np.mean(values)) for kind, values in found.items() if values}


def at_own_line(case: Case, score: NDArray[np.float64], test: NDArray[np.bool_]) -> Count:
    """What a gateway finds and flags among some of the readings: scores (N,) over the judge's own line."""
    series = _series(case)
    return _at(case, series, score, test, dict.fromkeys(series, OWN[WITH_MODEL]))


class _Series(NamedTuple):
    """The series of a channel.

    Attributes:
        each: rows, and usual interval in seconds.
        gap: seconds; alarms of a series that are at most this far apart are one.
    """

    each: list[tuple[NDArray[np.int64], float]]
    gap: float


def _series(case: Case) -> dict[str, _Series]:
    """The series of a case by channel."""
    found = {}
    for channel in np.unique(case.channel).tolist():
        each = []
        for node in np.unique(case.node[case.channel == channel]).tolist():
            rows = np.flatnonzero((case.channel == channel) & (case.node == node))
            steps = np.diff(case.time[rows])
            each.append((rows, float(np.median(steps)) if steps.size else 3600.0))
        found[str(channel)] = _Series(each, JOINED * float(np.median([step for _, step in each])))
    return found


def _limits(
    case: Case, series: Mapping[str, _Series], score: NDArray[np.float64], tune: NDArray[np.bool_]
) -> dict[str, float]:
    """For each channel the threshold at which its sound readings give `BUDGET` alarms a sensor and day."""
    found = {}
    true = tune & case.sound
    for channel, (each, gap) in series.items():
        sound = [(case.time[r], score[r]) for rows, _ in each for r in [rows[true[rows]]]]
        days = sum(t.size * step for (t, _), (_, step) in zip(sound, each, strict=True)) / 86_400
        if days:
            found[channel] = threshold([one for one in sound if one[0].size], days, BUDGET, gap)
    return found


def _at(
    case: Case,
    series: Mapping[str, _Series],
    score: NDArray[np.float64],
    test: NDArray[np.bool_],
    limits: Mapping[str, float],
) -> Count:
    """What is found and flagged at a threshold for each channel."""
    caught = faults = alarms = local = flagged = 0
    days = 0.0
    true = case.sound
    for channel, limit in limits.items():
        each, gap = series[channel]
        for rows, step in each:
            mine = rows[test[rows]]
            clean = mine[true[mine]]
            alarms += episodes(case.time[clean[score[clean] >= limit]], gap)
            days += clean.size * step / 86_400
            event = mine[case.label[mine] == LOCAL]
            local += event.size
            flagged += int(np.count_nonzero(score[event] >= limit))
            for number in range(1, LOCAL):
                bad = mine[case.label[mine] == number]
                for stretch in np.split(bad, np.flatnonzero(np.diff(case.time[bad]) > gap) + 1):
                    if stretch.size:
                        faults += 1
                        caught += bool((score[stretch] >= limit).any())
    return Count(caught, faults, alarms, days, flagged, local)


def _curve(
    case: Case, score: NDArray[np.float64], test: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision at 2 % faulty readings, and false positive share; every (channel, class) weighs the same."""
    weight = np.zeros(score.size)
    for channel in np.unique(case.channel[test]).tolist():
        here = test & (case.channel == channel)
        for number in range(LOCAL):
            mine = here & (case.sound if number == 0 else case.label == number)
            if mine.any():
                weight[mine] = 1.0 / np.count_nonzero(mine)
    rows = np.flatnonzero(weight)
    return weighted_curve(score[rows], ~case.sound[rows], weight[rows])


def weighted_curve(
    score: NDArray[np.float64], faulty: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision at `PREVALENCE`, and share of sound readings above it, at falling thresholds.

    Args:
        score: float64 (N,), more is more likely faulty.
        faulty: bool (N,).
        weight: float64 (N,), of each reading within its kind.
    """
    if not faulty.any() or faulty.all():
        empty = np.zeros(0)
        return empty, empty, empty
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    hit = np.cumsum(np.where(faulty, weight, 0.0)[order])[last] / weight[faulty].sum()
    miss = np.cumsum(np.where(faulty, 0.0, weight)[order])[last] / weight[~faulty].sum()
    return hit, PREVALENCE * hit / (PREVALENCE * hit + (1 - PREVALENCE) * miss), miss


# -- telling


def markdown(case: Case, results: Sequence[Result]) -> str:
    """The results as a table in Markdown."""
    kinds = [k for k in FAULTS if any(k in r.precision for r in results)]
    lines = [
        f"{case.title}: {case.time.size:,} readings, {np.count_nonzero(~case.sound):,} of them faulty.",
        f"Average precision at 2 % faulty readings; threshold at {BUDGET:g} alarms a sensor and day of the days before.",
        "As set: where the judge itself calls a reading faulty.",
        "",
        f"| judge | mean AP | {' | '.join(kinds)} | faults found | alarms/sensor-day | local events flagged | as set: found | alarms | readings/s/core |",
        f"|{'---|' * (len(kinds) + 8)}",
    ]
    for r in results:
        each = " | ".join(f"{r.precision[k]:.2f}" if k in r.precision else "-" for k in kinds)
        rest = " | ".join(
            "-" if np.isnan(n) else f"{n:.2f}"
            for n in (r.recall, r.alarms, r.local, r.own_recall, r.own_alarms)
        )
        lines.append(f"| {r.judge} | {r.mean:.3f} | {each} | {rest} | {r.speed:,.0f} |")
    return "\n".join(lines)


def document(case: Case, results: Sequence[Result]) -> dict[str, Any]:
    """The results as JSON values, without the curves."""
    told = []
    for r in results:
        fields = {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in asdict(r).items()}
        del fields["curve"]
        cells = [{"channel": c, "fault": k, "precision": v} for (c, k), v in r.cells.items()]
        told.append({**fields, "mean": r.mean, "cells": cells})
    return {
        "case": case.title,
        "readings": int(case.time.size),
        "faulty": int(np.count_nonzero(~case.sound)),
        "judges": told,
    }


def drawn(results: Sequence[Result]) -> dict[str, str]:
    """Pictures of the results by file name: precision-recall, ROC, and a heatmap of the last judge."""
    shown = [r for r in reversed(results) if r.curve[0].size]
    best = results[-1]
    channels = list(dict.fromkeys(channel for channel, _ in best.cells))
    kinds = [k for k in FAULTS if k in best.precision]
    return {
        "precision-recall.svg": curves(
            "Precision and recall",
            "recall",
            "precision at 2 % faulty readings",
            [(r.judge, r.curve[0].tolist(), r.curve[1].tolist()) for r in shown],
            steps=True,
        ),
        "roc.svg": curves(
            "Receiver operating characteristic",
            "share of sound readings above the threshold",
            "recall",
            [(r.judge, r.curve[2].tolist(), r.curve[0].tolist()) for r in shown],
            least=1e-4,
        ),
        "heatmap.svg": heatmap(f"Average precision: {best.judge}", channels, kinds, best.cells),
    }
