"""Scoring a table of readings outside of a log: for benchmarks and for `sensorhub quality score`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.errors import SensorhubError
from sensorhub.quality.columns import SeriesNumbers
from sensorhub.quality.evidence import Evidence, Rows, Witnesses
from sensorhub.quality.judge import Bar, rules_odds
from sensorhub.quality.model import Model, ModelFile, shipped
from sensorhub.quality.rules import Rules

#: Times beyond this, in Unix seconds (the year 5138), are in another unit.
LATEST: Final = 1e11
#: Columns of a table.
TABLE: Final = ("node_id", "sensor", "timestamp", "value", "lat", "lon")
#: Rows that are worked through at a time.
PART: Final = 20_000
#: Log odds of rows that nothing is known of, beside what the rules say.
NOTHING_KNOWN: Final = -6.0
#: Column names that other tables use for our channels.
ALIASES: Final = {"pm25": "pm2_5", "pm2.5": "pm2_5", "rh": "humidity", "temp": "temperature"}


def rows_of(
    node: NDArray[Any], channel: NDArray[Any], time: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[Rows, list[tuple[str, str]], NDArray[np.intp]]:
    """A table as rows in order of time, everything of one moment seeing everything of that moment.

    Returns:
        rows, the (node, channel) pairs their series number, and for each row its place in the table.
    """
    nodes, node_of = np.unique(np.asarray(node, dtype=str), return_inverse=True)
    channels, channel_of = np.unique(np.asarray(channel, dtype=str), return_inverse=True)
    order = np.lexsort((channel_of, node_of, time))
    key = (node_of * channels.size + channel_of)[order]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(first.size)
    pairs = [
        (
            str(nodes[k // channels.size]),
            ALIASES.get(str(channels[k % channels.size]), str(channels[k % channels.size])),
        )
        for k in key[np.sort(first)]
    ]
    moment = time[order].astype(np.float64)
    group = np.cumsum(np.r_[0, moment[1:] != moment[:-1]])
    return Rows(rank[inverse], moment, value[order].astype(np.float64), group), pairs, order


def gather(
    node: NDArray[Any],
    channel: NDArray[Any],
    time: NDArray[np.float64],
    value: NDArray[np.float64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
) -> tuple[Evidence, NDArray[np.intp]]:
    """The evidence on every row of a table, in order of time, and each one's place in the table."""
    rows, pairs, order = rows_of(node, channel, time, value)
    witnesses = _placed(node, latitude, longitude)
    return witnesses.take(rows, pairs), order


def residual(table: Any, _context: Any) -> NDArray[np.float64]:
    """Benchmark scorer: size of the debiased neighbour residual, nothing learnt from faults."""
    evidence, order = gather(
        *(table[c].to_numpy() for c in ("node_id", "sensor", "timestamp", "value", "lat", "lon"))
    )
    score = np.zeros(order.size)
    score[order] = np.abs(evidence.residual)
    return score


class Shipped:
    """Benchmark scorer: the packaged model, neighbours and rules, as the follower judges (log odds of a fault)."""

    def __init__(self, file: ModelFile | None = None) -> None:
        self._model = Model.load(shipped() if file is None else file)

    def score(self, table: Any, _context: Any) -> NDArray[np.float64]:
        """One number for each row of the table; more is more likely faulty."""
        return odds_of(*(table[c].to_numpy() for c in TABLE), model=self._model)


def odds_of(
    node: NDArray[Any],
    channel: NDArray[Any],
    time: NDArray[np.float64],
    value: NDArray[np.float64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    *,
    model: Model | None,
) -> NDArray[np.float64]:
    """Log odds that rows of a table are faulty; rows that nothing can be said of get the rules' odds alone.

    These are the odds behind a verdict. What a verdict does with them for a node that has no neighbours (a score of 0.4 to 0.6), and the
    rules' caps, is not in them.

    Raises:
        SensorhubError: a time is no number, or none of this age in Unix seconds.
    """
    if not np.isfinite(time).all():
        line = int(np.flatnonzero(~np.isfinite(time))[0])
        raise SensorhubError(
            f"row {line + 1} has no timestamp; give each row one in Unix seconds, or leave it out"
        )
    if (np.abs(time) > LATEST).any():
        line = int(np.flatnonzero(np.abs(time) > LATEST)[0])
        raise SensorhubError(
            f"row {line + 1} has the timestamp {time[line]:g}, which is no time in Unix seconds; "
            "divide milliseconds by 1000, or leave the row out"
        )
    rows, pairs, order = rows_of(node, channel, time, value)
    witnesses = _placed(node, latitude, longitude)
    rules = Rules()
    rules.numbers = SeriesNumbers(pairs)
    bar = Bar()
    odds = np.empty(order.size)
    for start, stop in _parts(rows.group):
        part = Rows(*(getattr(rows, name)[start:stop] for name in ("series", "time", "value", "group")))
        evidence = witnesses.take(part, pairs)
        flags = rules.flags_of(part.series, part.time, part.value)
        known = np.flatnonzero(evidence.known)
        some = evidence.of(known)
        logits = None if model is None else model.logits(some.window, some.long, some.aside)
        told = NOTHING_KNOWN + rules_odds(flags)
        told[known] = bar.over(some, logits, flags[known], part.series[known], part.time[known])
        odds[order[start:stop]] = told
    return odds


def _parts(group: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Stretches of about `PART` rows that end where a group does."""
    ends = np.flatnonzero(np.r_[group[1:] != group[:-1], True]) + 1
    cuts = [0]
    for end in ends.tolist():
        if end - cuts[-1] >= PART or end == group.size:
            cuts.append(end)
    return list(itertools.pairwise(cuts))


def _placed(node: NDArray[Any], latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> Witnesses:
    witnesses = Witnesses()
    names, first = np.unique(np.asarray(node, dtype=str), return_index=True)
    for name, i in zip(names.tolist(), first.tolist(), strict=True):
        if np.isfinite(latitude[i]) and np.isfinite(longitude[i]):
            witnesses.place(name, float(latitude[i]), float(longitude[i]))
    return witnesses


def score_file(source: Path, target: Path, *, model: Model | None) -> int:
    """Scores a CSV file into another with a `score` column: 0 sound to 1 faulty, a line for each of its lines.

    Args:
        source: CSV with the columns node_id, sensor, timestamp (Unix s), value, lat, lon; places may be empty.
        target: written anew.
        model: None scores by neighbours and rules.

    Returns:
        How many lines were scored.

    Raises:
        SensorhubError: the source lacks a column, names a channel that is not known, has a time that is none, or is the target.
    """
    from pyarrow import ArrowInvalid, csv, float64, string

    if source.exists() and target.exists() and target.samefile(source):
        raise SensorhubError(
            f"the scores would take the place of {source} itself; name another file for them"
        )
    types = {name: string() if name in ("node_id", "sensor") else float64() for name in TABLE}
    try:
        table = csv.read_csv(source, convert_options=csv.ConvertOptions(column_types=types))
        columns = [table.column(name).to_numpy() for name in TABLE]
    except (OSError, KeyError, ArrowInvalid) as error:
        raise SensorhubError(f"{source} is no table with the columns {', '.join(TABLE)}: {error}") from error
    unknown = {str(c) for c in set(columns[1].tolist()) if ALIASES.get(c, c) not in BY_NAME}
    if unknown:
        raise SensorhubError(
            f"{source} has sensors that are no channels: {', '.join(sorted(unknown))}; see `sensorhub channels`"
        )
    odds = odds_of(*columns, model=model)
    score = 1.0 / (1.0 + np.exp(-np.clip(odds, -36.0, 36.0)))
    with target.open("w", encoding="utf-8") as file:
        file.write("score\n")
        file.writelines(f"{value!r}\n" for value in score.tolist())
    return int(score.size)
