"""A gateway's own log as something to learn from: what came, what of it is trusted, and what people said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.flags import TRUSTED
from sensorhub.log.entries import NodeEntry, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import NODE_ENTRY_PREFIX, Registry
from sensorhub.quality.columns import Columns, SeriesNumbers, columns_of, read_messages
from sensorhub.quality.profiles import BY_CHANNEL
from sensorhub.quality.reviews import Label, all_said, in_force, labelled, silences
from sensorhub.quality.training.grids import Grid
from sensorhub.quality.training.train import HELD_BACK

#: Days of a log that are the least to learn from.
LEAST_DAYS: Final = 30
#: Days at its end that the gate takes, at least: fewer would hardly tell a tenth of an alarm a day from none.
GATE_DAYS: Final = 10
#: Days before those by which judges warm up.
WARM_DAYS: Final = 10
DAY: Final = 86_400.0
_BATCH: Final = 2048

#: Is told what is done, how much of it is, and how much there is.
Progress = Callable[[str, int, int], None]
Marks = dict[str, NDArray[np.bool_]]


def silently(_what: str, _done: int, _all: int) -> None:
    """A `Progress` that tells nobody."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a log holds of the channels that are compared (T moments, N nodes).

    Attributes:
        grid: readings as they came, also those that were not trusted.
        trusted: channel to bool (T, N), the verdict in force trusts the reading.
        muted: channel to bool (T, N), its series was muted then.
        labels: what people judged, by message and place in it; channels that are not compared as well.
        cut: first moment that training does not see.
    """

    grid: Grid
    trusted: Marks
    muted: Marks
    labels: dict[tuple[int, int], Label]
    cut: int

    @property
    def cut_time(self) -> float:
        """The same as Unix seconds."""
        return float(self.grid.time[self.cut])

    def sound(self) -> Grid:
        """What is trusted and was not muted."""
        values = {
            c: np.where(self.trusted[c] & ~self.muted[c], v, np.nan) for c, v in self.grid.values.items()
        }
        return replace(self.grid, values=values)

    def learn(self) -> Grid:
        """What training may see: the sound readings of all but the days held back."""
        return self.sound().between(0, self.cut)

    def held_back(self) -> tuple[Grid, Marks]:
        """The days held back as they came, behind days to warm up.

        With them: what counts, as channel to bool (T, N): the readings after warming up that were not muted and that nobody
        called faulty.
        """
        first = max(0, self.cut - int(WARM_DAYS * DAY / self.grid.cadence))
        after = np.arange(len(self.grid.time)) >= self.cut
        counts = {c: np.isfinite(v) & ~self.muted[c] & after[:, None] for c, v in self.grid.values.items()}
        for label in self.labels.values():
            if not label.sound and label.channel in counts and label.node in self.grid.nodes:
                moment = int(np.floor((label.time - self.grid.time[0]) / self.grid.cadence))
                if 0 <= moment < after.size:
                    counts[label.channel][moment, self.grid.nodes.index(label.node)] = False
        return self.grid.between(first, after.size), {c: v[first:] for c, v in counts.items()}


def grid_of(reader: LogReader) -> Grid:
    """The trusted readings of a log as a grid, without those of muted series.

    Raises:
        SensorhubError: as `read_site`.
    """
    return read_site(reader).sound()


def read_site(reader: LogReader, progress: Progress = silently) -> Site:
    """What a log holds to learn from; places are the middles of the nodes' geohashes.

    The verdict in force says what is trusted: a person's, else the newest judge's. Readings without a synchronised clock that
    nobody trusts, and those before the first or after the last trusted one, are left out: their time may be anything.

    Raises:
        SensorhubError: fewer than `LEAST_DAYS` days, or fewer than two nodes with channels that are compared.
    """
    registry, numbers = Registry(), SeriesNumbers()
    size = reader.size()
    parts: list[Columns] = []
    for at in range(0, size, _BATCH):
        progress("reading the log", at, size)
        batch = list(reader.entries(at, min(at + _BATCH, size)))
        for place, entry in batch:
            if entry.startswith(NODE_ENTRY_PREFIX):
                decoded = decode_entry(entry)
                if isinstance(decoded, NodeEntry):
                    registry.apply(place, decoded)
        parts.append(columns_of(read_messages(batch), numbers))
    progress("reading the log", size, size)
    index, count, tq, time, value, number = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("index", "count", "tq", "time", "value", "series")
    )
    if not time.size:
        raise SensorhubError(f"the log {reader.path} has no readings to learn from; let it grow")
    score = np.zeros(time.size, np.uint8)
    first = dict(zip(index.tolist(), (np.cumsum(count) - count).tolist(), strict=True))
    for message, verdicts in in_force(reader, dict(zip(index.tolist(), count.tolist(), strict=True))):
        score[first[message] : first[message] + len(verdicts)] = [each for each, _ in verdicts]
    compared = np.array([channel in BY_CHANNEL for _, channel in numbers.pairs], np.bool_)
    there = np.isfinite(time) & np.isfinite(value) & compared[number]
    trusted = there & (score >= TRUSTED)
    begin, end = (time[trusted].min(), time[trusted].max()) if trusted.any() else (0.0, 0.0)
    pairs = [numbers.pairs[s] for s in np.unique(number[trusted]).tolist()]
    nodes, channels = (tuple(sorted({pair[k] for pair in pairs})) for k in (0, 1))
    if end - begin < LEAST_DAYS * DAY or len(nodes) < 2:
        raise SensorhubError(
            f"a site model needs {LEAST_DAYS} days of two nodes at least; the log {reader.path} has "
            f"{(end - begin) / DAY:.0f} trusted days of {len(nodes)}; let it grow"
        )
    there &= (trusted | (np.repeat(tq, count) >= 2)) & (time >= begin) & (time <= end)
    most = trusted & (number == np.argmax(np.bincount(number[trusted])))
    steps, times = np.unique(np.round(np.diff(np.sort(time[most]))), return_counts=True)
    cadence = float(max(steps[np.argmax(times)], 1.0))
    start = np.floor(begin / cadence) * cadence
    moments = int((end - start) / cadence) + 1
    values = {c: np.full((moments, len(nodes)), np.nan) for c in channels}
    good = {c: np.zeros((moments, len(nodes)), np.bool_) for c in channels}
    for node, channel in pairs:
        rows = np.flatnonzero(there & (number == numbers.pairs.index((node, channel))))
        cell = ((time[rows] - start) / cadence).astype(np.intp), nodes.index(node)
        values[channel][cell] = value[rows]
        good[channel][cell] = trusted[rows]
    grid = Grid(start + cadence * np.arange(moments), cadence, nodes, *_places(registry, nodes), values)
    cut = moments - int(max(HELD_BACK * moments, GATE_DAYS * DAY / cadence))
    return Site(grid, good, _muted(reader, grid), labelled(reader), cut)


def _places(registry: Registry, nodes: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    where = []
    for node in nodes:
        key = registry.current(node)
        known = key is not None and geohash.is_valid(key.geohash)
        where.append(geohash.decode(key.geohash) if known and key is not None else (np.nan, np.nan))
    return np.array([latitude for latitude, _ in where]), np.array([longitude for _, longitude in where])


def _muted(reader: LogReader, grid: Grid) -> Marks:
    found = {c: np.zeros(v.shape, np.bool_) for c, v in grid.values.items()}
    for (node, channel), spans in silences(all_said(reader)).items():
        if node in grid.nodes and channel in found:
            for first, last in spans:
                # a reading stands at the moment before it
                rows = (grid.time + grid.cadence > first) & (grid.time < last)
                found[channel][rows, grid.nodes.index(node)] = True
    return found
