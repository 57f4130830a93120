"""A model for one site: the gateway's own log as training data, and the gate a new model has to pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cbor2
import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.flags import TRUSTED
from sensorhub.log.entries import VERDICT, NodeEntry, decode_entry, kind_of
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import NODE_ENTRY_PREFIX, Registry
from sensorhub.quality.columns import SeriesNumbers, columns_of, read_messages
from sensorhub.quality.model import Model
from sensorhub.quality.profiles import BY_CHANNEL
from sensorhub.quality.training.grids import Grid
from sensorhub.quality.training.train import HeldBack, held_back, logits_of, odds, split, table

#: Days of a log that are the least to learn from.
LEAST_DAYS = 30
#: A new model has to be better by this much mean average precision, so that chance promotes none.
MARGIN = 0.005


@dataclass(frozen=True, slots=True)
class Gate:
    """How two models did on held-back days of a site.

    Attributes:
        old: average precision of each fault with the model in use.
        new: the same with the new one.
        promoted: the new one is better on the whole by `MARGIN` and for no fault worse by more than 0.05.
    """

    old: dict[str, float]
    new: dict[str, float]
    promoted: bool


def grid_of(reader: LogReader) -> Grid:
    """The trusted readings of a log as a grid; places are the middles of the nodes' geohashes.

    Readings that the verdict in force does not trust (a model's, or a person's) are left out.

    Raises:
        SensorhubError: fewer than `LEAST_DAYS` days, or fewer than two nodes with channels that are compared.
    """
    registry = Registry()
    numbers = SeriesNumbers()
    times: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float64]] = []
    series: list[NDArray[np.int64]] = []
    places: list[NDArray[np.int64]] = []
    scores: dict[int, list[int]] = {}
    for index, entry in reader.entries(0):
        if entry.startswith(NODE_ENTRY_PREFIX):
            decoded = decode_entry(entry)
            if isinstance(decoded, NodeEntry):
                registry.apply(index, decoded)
        elif kind_of(entry) == VERDICT:
            for message, pairs in cbor2.loads(entry)[4]:
                scores[message] = [score for score, _ in pairs]
        else:
            for at, message in read_messages([(index, entry)]):
                columns = columns_of([(at, message)], numbers)
                times.append(columns.time)
                values.append(columns.value)
                series.append(columns.series)
                places.append(np.full(columns.series.size, at))
    if not times:
        raise SensorhubError(f"the log {reader.path} has no readings to learn from")
    time, value, number = np.concatenate(times), np.concatenate(values), np.concatenate(series)
    trusted = np.concatenate(
        [
            np.array(scores.get(int(p[0]), [0] * p.size), np.int64) if p.size else np.zeros(0, np.int64)
            for p in places
        ]
    )
    compared = np.array([channel in BY_CHANNEL for _, channel in numbers.pairs], np.bool_)
    good = (trusted >= TRUSTED) & np.isfinite(time) & np.isfinite(value) & compared[number]
    time, value, number = time[good], value[good], number[good]
    nodes = tuple(sorted({numbers.pairs[int(s)][0] for s in np.unique(number)}))
    days = (time.max() - time.min()) / 86_400 if time.size else 0.0
    if days < LEAST_DAYS or len(nodes) < 2:
        raise SensorhubError(
            f"a site model needs {LEAST_DAYS} days of two nodes at least; "
            f"the log {reader.path} has {days:.0f} trusted days of {len(nodes)}"
        )
    first = np.sort(time[number == Counter(number.tolist()).most_common(1)[0][0]])
    steps, counts = np.unique(np.round(np.diff(first)), return_counts=True)
    cadence = float(max(steps[np.argmax(counts)], 1.0))
    start = np.floor(time.min() / cadence) * cadence
    moment = np.floor((time - start) / cadence).astype(np.intp)
    channels = sorted({numbers.pairs[int(s)][1] for s in np.unique(number)})
    grids = {c: np.full((int(moment.max()) + 1, len(nodes)), np.nan) for c in channels}
    for s in np.unique(number).tolist():
        node, channel = numbers.pairs[s]
        rows = number == s
        grids[channel][moment[rows], nodes.index(node)] = value[rows]
    where = []
    for node in nodes:
        key = registry.current(node)
        known = key is not None and geohash.is_valid(key.geohash)
        where.append(geohash.decode(key.geohash) if known and key is not None else (np.nan, np.nan))
    return Grid(
        start + cadence * np.arange(int(moment.max()) + 1),
        cadence,
        nodes,
        np.array([latitude for latitude, _ in where]),
        np.array([longitude for _, longitude in where]),
        grids,
    )


def gate(old: Model, new: Model, site: Grid, seed: int = 1) -> Gate:
    """Whether a new model may take the place of the old one, by faults put into the site's held-back days."""
    held = held_back([split(site)[1]], 20_000 + seed)
    before, after = (_measured(model, held) for model in (old, new))
    mean = float(np.mean([after[name] - before[name] for name in before])) if before else 0.0
    worst = min((after[name] - before[name] for name in before), default=0.0)
    return Gate(before, after, mean >= MARGIN and worst >= -0.05)


def _measured(model: Model, held: HeldBack) -> dict[str, float]:
    return table(held.examples, odds(logits_of(model, held.examples), held))
