"""Examples for training: evidence on readings into which faults were put, and what they are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.quality.evidence import Evidence, Rows, Witnesses
from sensorhub.quality.model import CLASSES, LOCAL
from sensorhub.quality.training.events import blended, coarser, far_apart, other_yards
from sensorhub.quality.training.faults import BETWEEN, Faulty, inject
from sensorhub.quality.training.grids import Grid

_PART = 30_000
#: Networks that are looked at beside each other: more are quicker, fewer are shared out better.
_TOGETHER = 5
#: Share of the turns in which nodes measure less: witnesses and replays of one channel are other ones than of four.
_FEWER_CHANNELS: Final = 0.4
#: A small network is varied at most this many times as often as the largest.
_MOST_ROUNDS = 3.0
#: Weight of sound readings between dead ones, each an alarm of its own if it is called faulty.
HARD = 4.0
#: Degrees of longitude between networks that are looked at beside each other.
_APART = 12.0


@dataclass(frozen=True, slots=True)
class Examples:
    """What the model learns from (N rows).

    Attributes:
        window: float16 (N, 32, 8).
        long: float16 (N, 48, 2).
        aside: float16 (N, 56).
        label: int8 (N,), number in `CLASSES`.
        family: int8 (N,), as in `Faulty`.
        weight: float32 (N,), rows for which this one stands.
        origin: int16 (N,), one number for each source and channel.
        residual: float32 (N,).
        support: float32 (N,).
        moving: float32 (N,).
        run: float32 (N,).
    """

    window: NDArray[np.float16]
    long: NDArray[np.float16]
    aside: NDArray[np.float16]
    label: NDArray[np.int8]
    family: NDArray[np.int8]
    weight: NDArray[np.float32]
    origin: NDArray[np.int16]
    residual: NDArray[np.float32]
    support: NDArray[np.float32]
    moving: NDArray[np.float32]
    run: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: list[Examples]) -> Examples:
        """All of several."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))


def evidence_of(
    grid: Grid, *, live: bool = False
) -> Iterator[tuple[Evidence, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Evidence part by part, with the channel number (in order of `grid.values`), moment and node of each row.

    Args:
        grid: the readings.
        live: nodes speak one after the other, as in a log; else everybody sees all of a moment.
    """
    channels = list(grid.values)
    cube = np.stack([grid.values[c] for c in channels], axis=2)
    moment, node, channel = np.nonzero(np.isfinite(cube))
    key = node * len(channels) + channel
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(first.size, np.int64)
    rank[order] = np.arange(first.size)
    pairs = [(grid.nodes[node[i]], channels[channel[i]]) for i in first[order]]
    witnesses = Witnesses()
    for j, name in enumerate(grid.nodes):
        witnesses.place(name, float(grid.latitude[j]), float(grid.longitude[j]))
    group = moment * len(grid.nodes) + node if live else moment
    rows = Rows(rank[inverse], grid.time[moment], cube[moment, node, channel], group.astype(np.int64))
    for a in range(0, moment.size, _PART):
        b = min(a + _PART, moment.size)
        part = Rows(rows.series[a:b], rows.time[a:b], rows.value[a:b], rows.group[a:b])
        yield witnesses.take(part, pairs), channel[a:b], moment[a:b], node[a:b]


def examples_of(
    faulty: Faulty, origin: int, rng: np.random.Generator, *, keep: float = 0.1, live: bool = False
) -> Examples:
    """Examples from a grid with faults: of clean rows only a share, more of those that look odd."""
    channels = list(faulty.grid.values)
    label = np.stack([faulty.label[c] for c in channels], axis=2)
    family = np.stack([faulty.family[c] for c in channels], axis=2)
    count = np.stack([faulty.count[c] for c in channels], axis=2)
    parts = []
    for evidence, channel, moment, node in evidence_of(faulty.grid, live=live):
        mine = label[moment, node, channel]
        odd = np.abs(evidence.residual) > 2.5
        share = np.where(mine > 0, 4 * keep, np.where(odd, 4 * keep, keep))
        share = np.where((mine == CLASSES.index("spike")) | (mine == CLASSES.index("noise")), 1.0, share)
        share = np.minimum(np.where(mine == LOCAL, 6 * keep, share), 1.0)
        between = family[moment, node, channel] == BETWEEN
        share = np.where(between, 1.0, share)
        take = count[moment, node, channel] & evidence.known & (rng.random(mine.size) < share)
        parts.append(
            Examples(
                evidence.window[take].astype(np.float16),
                evidence.long[take].astype(np.float16),
                evidence.aside[take].astype(np.float16),
                mine[take],
                family[moment, node, channel][take],
                (np.where(between, HARD, 1.0) / share)[take].astype(np.float32),
                (origin + channel[take]).astype(np.int16),
                evidence.residual[take],
                evidence.support[take],
                evidence.moving[take],
                evidence.run[take],
            )
        )
    return Examples.joined(parts)


def variations(grid: Grid, rng: np.random.Generator, rounds: int) -> Iterator[tuple[Grid, bool]]:
    """The network itself, and networks made of it: fewer nodes, other cadences, other yards, far apart, blended nodes, fewer channels.

    With each: whether nodes speak one after the other.
    """
    # a network that is far apart as it is has nothing to learn from being stretched, and its nodes have too little in common
    close = bool(np.ptp(grid.latitude) * 111.2 < 30)
    for number in range(rounds):
        varied, live = _variation(grid, rng, number % 5, close)
        if close and number // 5 % 2:  # every second turn of the five
            varied = blended(varied, rng)
        if number % 3 == 2:
            varied = coarser(varied, rng)
        if rng.random() < _FEWER_CHANNELS:
            channels = list(varied.values)
            few = min(int(rng.choice([1, 1, 2, 3])), len(channels))
            chosen = rng.choice(len(channels), few, replace=False)
            varied = replace(varied, values={channels[k]: varied.values[channels[k]] for k in sorted(chosen)})
        yield varied, live


def _variation(grid: Grid, rng: np.random.Generator, kind: int, close: bool) -> tuple[Grid, bool]:
    if kind == 0 or len(grid.nodes) < 3:
        return grid, False
    if kind == 1:
        return grid, True
    if kind == 2:
        few = int(rng.integers(2, len(grid.nodes)))
        return grid.only(sorted(rng.choice(len(grid.nodes), few, replace=False).tolist())), False
    if kind == 3:
        varied = other_yards(grid, rng)
        return (varied.every(int(rng.choice([3, 6]))) if grid.cadence <= 900 else varied), False
    return (far_apart(other_yards(grid, rng), rng) if close else grid), False


def beside(parts: list[Faulty]) -> Faulty:
    """Several networks of the same moments as one, so far apart that none sees another: fewer, wider steps."""
    if len(parts) == 1:
        return parts[0]
    channels = list(dict.fromkeys(c for part in parts for c in part.grid.values))
    moments = len(parts[0].grid.time)

    def wide(name: str, empty: object, kind: type) -> dict[str, NDArray[Any]]:
        def one(part: Faulty, channel: str) -> NDArray[Any]:
            source = part.grid.values if name == "values" else getattr(part, name)
            found: NDArray[Any] | None = source.get(channel)
            return np.full((moments, len(part.grid.nodes)), empty, kind) if found is None else found

        return {c: np.concatenate([one(part, c) for part in parts], axis=1) for c in channels}

    grid = Grid(
        parts[0].grid.time,
        parts[0].grid.cadence,
        tuple(f"{i}-{node}" for i, part in enumerate(parts) for node in part.grid.nodes),
        np.concatenate([part.grid.latitude for part in parts]),
        np.concatenate([part.grid.longitude + _APART * i for i, part in enumerate(parts)]),
        wide("values", np.nan, np.float64),
    )
    return Faulty(grid, wide("label", 0, np.int8), wide("family", 0, np.int8), wide("count", False, np.bool_))


def build(
    grids: list[Grid],
    seed: int,
    *,
    unlearnt: list[tuple[str, ...]] | None = None,
    rounds: int = 4,
    keep: float = 0.1,
    without: str = "",
    workers: int = 1,
) -> Examples:
    """Examples from several networks, each varied and broken many times.

    Args:
        grids: the networks.
        seed: decides everything that is drawn.
        unlearnt: for each network, nodes that become no examples; the others still see them.
        rounds: how often the largest of them is varied; smaller ones more often, so that each counts about as much.
        keep: share of the sound readings that become examples.
        without: a class that is left out.
        workers: processes that share the work; how many changes nothing.
    """
    rng = np.random.default_rng(seed)
    jobs: list[_Job] = []
    sizes = [sum(int(np.isfinite(v).sum()) for v in grid.values.values()) for grid in grids]
    for number, grid in enumerate(grids):
        alike: dict[tuple[float, bool], list[tuple[Grid, int]]] = {}
        turns = round(rounds * min(max(sizes) / max(sizes[number], 1), _MOST_ROUNDS))
        for turn, (varied, live) in enumerate(variations(grid, rng, turns)):
            alike.setdefault((varied.cadence, live), []).append((varied, seed * 1000 + number * 100 + turn))
        for (_, live), some in alike.items():
            for start in range(0, len(some), _TOGETHER):
                part = tuple(some[start : start + _TOGETHER])
                aside = unlearnt[number] if unlearnt else ()
                jobs.append(_Job(part, 16 * number, (seed, len(jobs)), keep, live, without, aside))
    if workers == 1:
        return Examples.joined([_work(job) for job in jobs])
    # new processes, not forks: what TensorFlow has started does not live on in a fork
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return Examples.joined(list(pool.map(_work, jobs)))


@dataclass(frozen=True, slots=True)
class _Job:
    """Networks of one cadence that are broken and looked at beside each other."""

    grids: tuple[tuple[Grid, int], ...]
    origin: int
    seed: tuple[int, int]
    keep: float
    live: bool
    without: str
    unlearnt: tuple[str, ...]


def _work(job: _Job) -> Examples:
    faulty = [inject(grid, seed, without=job.without, events=True) for grid, seed in job.grids]
    for one in faulty:
        for name in job.unlearnt:
            if name in one.grid.nodes:
                for count in one.count.values():
                    count[:, one.grid.nodes.index(name)] = False
    rng = np.random.default_rng(job.seed)
    return examples_of(beside(faulty), job.origin, rng, keep=job.keep, live=job.live)
