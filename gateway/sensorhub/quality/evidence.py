"""What speaks for and against a reading: its neighbours, its past, its siblings, as numbers.

Readings are taken in as waves: consecutive rows of the log in which every node speaks once. Each wave is
some dozens of numpy operations over all its rows. A row sees what stands before it in the log and nothing
else, so where a wave ends changes no number. What is slow to compute (which bias two nodes have, how
far to trust a neighbour) is refreshed at the ticks of the network's own clock, which the log sets as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.quality import profiles
from sensorhub.quality.air import dew_point, sun

#: Neighbours that a series is compared with.
NEIGHBOURS: Final = 8
#: Steps and numbers a step of the window that the model sees, and further numbers beside it.
WINDOW: Final = 32
CHANNELS: Final = 8
ASIDE: Final = 56
#: Hours of the long view, and numbers an hour.
LONG: Final = 48
LONG_CHANNELS: Final = 2
#: Ticks of the network's clock, in seconds: trust is renewed at each.
TICK: Final = 600.0
#: Hours over which biases and scales are learnt.
HOURS: Final = 240
#: Ten-minute slots that are remembered, for late readings and for replays: a week and a bit.
SLOTS: Final = 1024
SLOT: Final = 600.0
#: Days back at which a replay is looked for.
LAGS: Final = np.arange(1, 8)
#: Hours that a series must be known, and units by which its node's days differ at least, before one that is like an earlier day costs
#: the node its trust.
REPLAYED: Final = 120
DIFFERENT: Final = 0.3
#: Hours between two refreshes of all biases; series younger than YOUNG hours are refreshed every hour.
REFRESH: Final = 6
YOUNG: Final = 48
#: Readings that stand apart are not learnt from, but for no longer than this: then it is the new normal.
LONGEST_DOUBT: Final = 6 * 86_400.0
#: Distance that is assumed when a node's place is not known, in km.
UNKNOWN_DISTANCE: Final = 5.0
#: A neighbour further away than this many reaches is none.
REACHES: Final = 6.0
SIBLINGS: Final = 2

_MEANS: Final = ("mean_1h", "mean_6h", "mean_24h", "mean_72h")
_MEAN_SECONDS: Final = 3600.0 * np.array([1, 6, 24, 72])[:, None]
#: A residual that rises over HIGH from below LOW is an excursion; a series is known by how many it had lately.
HIGH: Final = 4.0
LOW: Final = 2.5
#: Seconds over which it is looked at how far the neighbourhood moved.
COURSE: Final = 7200.0
#: Seconds in which what is known of excursions and of the tail of the residual fades.
MEMORY: Final = 14 * 86_400.0
#: Share of the readings learnt from whose residual is beyond the tail, and its bounds.
TAIL: Final = 0.1
_LEAST_TAIL: Final = 0.3
_MOST_TAIL: Final = 6.0
#: The same for steps that the neighbours do not make, whatever was wrong meanwhile.
STEP_TAIL: Final = 0.02
_LEAST_STEP_TAIL: Final = 1.0
_MOST_STEP_TAIL: Final = 60.0

# Ranks of the distances from the neighbours, those of now and those of lately: which, and its place among 0 to 8 of them.
_RANKED: Final = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])[:, None]
_SHARES: Final = np.array([0.0, 0.25, 0.75, 1.0, 0.0, 0.25, 0.5, 0.75, 1.0])[:, None]
_RANKS: Final = np.rint(np.maximum(np.arange(NEIGHBOURS + 1) - 1, 0) * _SHARES).astype(np.intp)

_WARM: Final = profiles.NUMBER["temperature"]
_DAMP: Final = profiles.NUMBER["humidity"]

_F = np.float32
_INF = np.inf
#: What is remembered of a series by its last reading, by slots and by hours, and what is refreshed: kind, shape, and what is there before it speaks.
_SPOKEN: Final[Mapping[str, tuple[str, tuple[int, ...], float]]] = {
    "t": ("f8", (), -_INF),
    "t_old": ("f8", (), -_INF),
    "f": ("f4", (), np.nan),
    "f_old": ("f4", (), np.nan),
    "group": ("i8", (), -1),
    "cadence": ("f4", (), 0.0),
    "cadence_old": ("f4", (), 0.0),
    "z": ("f4", (), 0.0),
    "z_old": ("f4", (), 0.0),
    "trust": ("f4", (), 1.0),
    "alone": ("?", (), True),
    "hour": ("i8", (), -1),
    "hours": ("i8", (), 0),
    "slot": ("i8", (), -1),
    "past": ("f4", (HOURS,), np.nan),
    "residuals": ("f4", (HOURS,), np.nan),
    "slots": ("f4", (SLOTS,), np.nan),
    "bias": ("f4", (NEIGHBOURS,), 0.0),
    "weight": ("f4", (NEIGHBOURS,), 0.0),
    "support": ("f4", (NEIGHBOURS,), 0.0),
    "pair": ("f4", (NEIGHBOURS,), 1.0),
    "middle": ("f4", (24,), 0.0),
    "scale": ("f4", (24,), 0.0),
    "own_middle": ("f4", (24,), np.nan),
    "own_scale": ("f4", (), 0.0),
    "ring": ("f4", (2 * WINDOW, CHANNELS), 0.0),
    "long": ("f4", (2 * LONG, LONG_CHANNELS), 0.0),
}
#: What moves on by steps of ten minutes: a reading between two steps moves it while it is judged, and not beyond.
_STEPPED: Final[Mapping[str, tuple[str, tuple[int, ...], float]]] = {
    "seen": ("i8", (), 0),
    "step_t": ("f8", (), -_INF),
    "step_f": ("f4", (), np.nan),
    "step_z": ("f4", (), 0.0),
    "doubt": ("f4", (), 0.0),
    "mean_1h": ("f4", (), 0.0),
    "mean_6h": ("f4", (), 0.0),
    "mean_24h": ("f4", (), 0.0),
    "mean_72h": ("f4", (), 0.0),
    "apart_time": ("f8", (), 0.0),
    "usual_run": ("f4", (), 1800.0),
    "doubted": ("f8", (), np.nan),
    "usual_step": ("f4", (), 0.0),
    "recent_step": ("f4", (), 0.0),
    "consensus": ("f4", (), np.nan),
    "course": ("f4", (), 0.0),
    "run": ("f8", (), np.nan),
    "run_time": ("f8", (), 0.0),
    "near": ("f8", (), np.nan),
    "near_time": ("f8", (), 0.0),
    "path": ("f4", (), 0.0),
    "run_low": ("f4", (), 0.0),
    "run_high": ("f4", (), 0.0),
    "vapour": ("f4", (), 0.0),
    "usual_vapour": ("f4", (), 0.5),
    "pair_mean": ("f4", (NEIGHBOURS,), 0.0),
    "jump": ("f4", (), 0.0),
    "rises": ("f4", (), 0.0),
    "falls": ("f4", (), 0.0),
    "tail": ("f4", (), 1.5),
    "step_tail": ("f4", (), 6.0),
    "usual_24h": ("f4", (), 1.0),
    "usual_72h": ("f4", (), 0.8),
    "long_place": ("i8", (), 0),
}
_SERIES: Final = {**_SPOKEN, **_STEPPED}
_NODE: Final[Mapping[str, tuple[str, tuple[int, ...], float]]] = {"replay": ("f4", (LAGS.size,), 1.0)}


_ORDER: Final = ("profile", "node", "lat", "lon", "near", "distance", "sibling", "sign")


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings in log order (N of them).

    Attributes:
        series: int64 (N,), number of the series.
        time: float64 (N,), Unix seconds.
        value: float64 (N,), in the channel's unit.
        group: int64 (N,), rises along the log; a row sees the rows of its own group and of earlier ones. In
            a log that is a message; in a table it may be everything of one moment.
    """

    series: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    group: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found about rows (N of them), in their order.

    Attributes:
        known: bool (N,), the channel has a profile and the reading came in its order; else all is 0.
        residual: float32 (N,), distance from the neighbours' consensus in usual deviations, signed.
        support: float32 (N,), how many good neighbours that consensus has, near ones counting more.
        regional: float32 (N,), distance of the consensus from what it usually is at this hour.
        moving: float32 (N,), how far the consensus moved in the last two hours, in the deviations that matter, not negative.
        run: float32 (N,), how long the value has hardly changed, in the usual longest runs of this series.
        vapour: float32 (N,), how far the dew point of the node's temperature and humidity is from that of the values expected
            of them, in °C; NaN where they are not known or have no neighbours.
        profile: int64 (N,), number of the channel's profile.
        cadence: float32 (N,), usual seconds between two readings of the series.
        expected: float64 (N,), what the neighbours let expect, in the channel's unit.
        hours: int64 (N,), hours of history the series has, at most 240.
        window: float32 (N, 32, 8), the last steps of the series, newest last.
        long: float32 (N, 48, 2), residual and distance from the usual over the last 48 hours, newest last.
        aside: float32 (N, 56), the same for other spans and other witnesses.
    """

    known: NDArray[np.bool_]
    residual: NDArray[np.float32]
    support: NDArray[np.float32]
    regional: NDArray[np.float32]
    moving: NDArray[np.float32]
    run: NDArray[np.float32]
    vapour: NDArray[np.float32]
    profile: NDArray[np.int64]
    cadence: NDArray[np.float32]
    expected: NDArray[np.float64]
    hours: NDArray[np.int64]
    window: NDArray[np.float32]
    long: NDArray[np.float32]
    aside: NDArray[np.float32]

    def of(self, rows: NDArray[np.int64]) -> Evidence:
        """The evidence on some of the rows."""
        if rows.size == self.known.size:
            return self
        return Evidence(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What one neighbour said of a series when it was last compared.

    Attributes:
        node: its name.
        distance: km; None when a place is not known.
        trust: 0 to 1, low while it stands apart from its own neighbours.
        weight: its share among the neighbours.
        expected: what it lets expect, in the channel's unit; None when it said nothing yet.
        age: seconds since it spoke.
    """

    node: str
    distance: float | None
    trust: float
    weight: float
    expected: float | None
    age: float


class Witnesses:
    """All that is remembered of a network's readings. Feed it every reading in log order, once."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._places: dict[str, tuple[float, float]] = {}
        self._nodes: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._node_of = np.zeros(0, np.intp)
        self._clock = -_INF
        self._tick = -(2**62)
        self._state: dict[str, NDArray[Any]] = {}
        self._node_state: dict[str, NDArray[Any]] = {}
        self._profile = np.zeros(0, np.intp)
        self._node = np.zeros(0, np.intp)
        self._lat = np.zeros(0)
        self._lon = np.zeros(0)
        self._near = np.zeros((0, NEIGHBOURS), np.intp)
        self._distance = np.zeros((0, NEIGHBOURS))
        self._sibling = np.zeros((0, SIBLINGS), np.intp)
        self._sign = np.zeros((0, SIBLINGS), _F)
        self._grow(64)
        self._grow_nodes(1)

    # -- taking in

    def take(self, rows: Rows, pairs: list[tuple[str, str]]) -> Evidence:
        """Takes in rows whose series are numbers in `pairs`, (node, channel) in order of first appearance."""
        n = rows.series.size
        found = Evidence(
            np.zeros(n, np.bool_),
            np.zeros(n, _F),
            np.zeros(n, _F),
            np.zeros(n, _F),
            np.zeros(n, _F),
            np.zeros(n, _F),
            np.full(n, np.nan, _F),
            np.zeros(n, np.int64),
            np.zeros(n, _F),
            np.full(n, np.nan),
            np.zeros(n, np.int64),
            np.zeros((n, WINDOW, CHANNELS), _F),
            np.zeros((n, LONG, LONG_CHANNELS), _F),
            np.zeros((n, ASIDE), _F),
        )
        for start, stop, clock in self._waves(rows, pairs):
            self._learn(pairs, int(rows.series[start:stop].max()) + 1)
            self._pass_tick(clock)
            self._wave(rows, start, stop, found)
        if n:
            self._clock = max(self._clock, float(rows.time.max()))
        return found

    def _waves(self, rows: Rows, pairs: list[tuple[str, str]]) -> Iterator[tuple[int, int, float]]:
        """Stretches in which a node speaks once, no tick passes and no new series comes: start, stop, clock.

        What a node says in one group stays together (a unit), except where it says a channel twice.
        """
        series = rows.series
        n = series.size
        if not n:
            return
        if len(pairs) > self._node_of.size:
            new = [
                self._numbers.setdefault(name, len(self._numbers)) for name, _ in pairs[self._node_of.size :]
            ]
            self._node_of = np.r_[self._node_of, new]
        node = self._node_of[series]
        begins: NDArray[np.bool_] = np.r_[True, (rows.group[1:] != rows.group[:-1]) | (node[1:] != node[:-1])]
        key = np.sort(np.cumsum(begins) * len(pairs) + series)
        if (key[1:] == key[:-1]).any():
            begins = _split_repeats(series, begins)
        unit = np.flatnonzero(begins)
        clock = np.maximum(np.maximum.accumulate(np.maximum.reduceat(rows.time, unit)), self._clock)
        tick = np.floor(clock / TICK)
        highest = np.maximum.accumulate(np.maximum.reduceat(series, unit))
        forced = np.zeros(unit.size, np.bool_)
        forced[1:] = (tick[1:] != tick[:-1]) | (
            (highest[1:] > highest[:-1]) & (highest[1:] >= len(self.pairs))
        )
        # the unit at which the same node spoke before; -1 for none
        speaker = node[unit]
        order = np.argsort(speaker, kind="stable")
        before = np.full(unit.size, -1)
        again = speaker[order[1:]] == speaker[order[:-1]]
        before[order[1:][again]] = order[:-1][again]
        latest = np.maximum.accumulate(before)
        cuts = np.flatnonzero(forced)
        start = 0
        while start < unit.size:
            stop = int(np.searchsorted(latest, start))
            place = int(np.searchsorted(cuts, start, side="right"))
            if place < cuts.size:
                stop = min(stop, int(cuts[place]))
            yield int(unit[start]), int(unit[stop]) if stop < unit.size else n, float(clock[start])
            start = stop

    def _wave(self, rows: Rows, start: int, stop: int, found: Evidence) -> None:
        state = self._state
        s, t, v = rows.series[start:stop], rows.time[start:stop], rows.value[start:stop]
        good = (self._profile[s] >= 0) & (t > state["t"][s]) & np.isfinite(v)
        at: slice | NDArray[np.intp] = slice(start, stop)
        if not good.all():
            at = start + np.flatnonzero(good)
            if not at.size:
                return
            s, t, v = rows.series[at], rows.time[at], rows.value[at]
        group = rows.group[at]
        p = self._profile[s]
        unit, scale = profiles.UNIT[p], profiles.SCALE[p].astype(_F)
        f = profiles.forward(p, v).astype(_F)
        before, f_before, seen = state["step_t"][s], state["step_f"][s], state["seen"][s]
        stepping = _stepping(t, before, state["t"][s])
        steps, between = np.flatnonzero(stepping), np.flatnonzero(~stepping)
        kept = {name: state[name][s[between]] for name in _STEPPED} if between.size else {}
        first = seen == 0
        step = np.where(first, 0.0, t - before)
        usual = state["cadence"][s]
        gap = (seen > 3) & (step > 3 * usual)
        moved = usual + np.clip(step - usual, -0.125 * usual, 0.125 * usual)
        cadence = np.where(stepping, np.where(seen > 1, moved, step), usual).astype(_F)
        state["cadence_old"][s], state["cadence"][s] = usual, cadence
        state["seen"][s] = seen + 1
        state["t_old"][s], state["f_old"][s] = state["t"][s], state["f"][s]
        state["t"][s], state["f"][s], state["group"][s] = t, f, group
        state["step_t"][s], state["step_f"][s] = t, f

        # a long silence counts as a few readings at most
        passed = np.minimum(step, 4 * cadence)
        hour, slot = np.floor(t / 3600.0).astype(np.int64), np.floor(t / SLOT).astype(np.int64)
        of_day = hour % 24
        near_by = _across(self._near, s)
        now = state["group"][near_by] <= group
        consensus, support, spread, nearest, votes, best, there, ranks = self._consensus(
            s, t, f, near_by, now, cadence, passed, slot
        )
        own_middle, own_scale = state["own_middle"][s, of_day], np.maximum(state["own_scale"][s], 0.3 * scale)
        alone = support <= 0
        state["alone"][s] = alone
        own = np.where(np.isfinite(own_middle), own_middle, f)
        apart = np.where(alone, 0.0, f - consensus).astype(_F)
        usual_apart = np.where(alone, 0.0, state["middle"][s, of_day]).astype(_F)
        wide = state["scale"][s, of_day]
        wide = np.where(wide > 0, wide, profiles.BETWEEN[p].astype(_F))
        floor = 0.12 * scale
        z = (apart - usual_apart) / np.sqrt(wide * wide + 0.25 * spread * spread + floor * floor)
        z = np.clip(z, -40, 40).astype(_F)
        consensus = np.where(alone, own, consensus + usual_apart).astype(_F)

        z_before = state["step_z"][s]
        state["z_old"][s], state["z"][s], state["step_z"][s] = state["z"][s], z, z
        excited = self._excitement(near_by, now, there)
        # how long it has stood apart on one side
        back = (np.abs(z) < 0.7) | (z * z_before < 0) | first
        apart_time = np.where(back, t, state["apart_time"][s])
        state["apart_time"][s] = apart_time
        zc = np.clip(z, -12, 12)
        doubt = state["doubt"][s]
        doubt = doubt + _F(0.35) * (np.abs(zc) - doubt)
        state["doubt"][s] = doubt
        means = []
        gains = (1.0 - np.exp(-passed / _MEAN_SECONDS)).astype(_F)
        for name, gain in zip(_MEANS, gains, strict=True):
            mean = state[name][s]
            mean = mean + gain * (zc - mean)
            state[name][s] = mean
            means.append(mean)

        apart_now = (np.abs(z) > 4) | (np.abs(means[1]) > 3)
        since = state["doubted"][s]
        since = np.where(apart_now, np.where(np.isnan(since), t, since), np.nan)
        state["doubted"][s] = since
        learn = ~apart_now | (t - since > LONGEST_DOUBT)
        rises, falls, tail = self._excursions(s, z, z_before, step, passed, learn)
        usual_means = []
        gain = np.where(learn, passed / (0.7 * MEMORY), 0.0).astype(_F)
        for name, mean in (("usual_24h", means[2]), ("usual_72h", means[3])):
            usual_mean = state[name][s]
            usual_means.append(usual_mean)
            state[name][s] = usual_mean + gain * (
                np.minimum(np.abs(mean), 3 * usual_mean + _F(0.1)) - usual_mean
            )
        new_hour = hour != state["hour"][s]
        self._remember(
            s[steps],
            hour[steps],
            slot[steps],
            v[steps],
            f[steps],
            apart[steps],
            alone[steps],
            learn[steps],
        )

        d_own = np.where(first, 0.0, f - f_before).astype(_F)
        c_before = state["consensus"][s]
        d_all = np.where(np.isfinite(c_before) & ~first, consensus - c_before, 0.0).astype(_F)
        state["consensus"][s] = consensus
        course = ((state["course"][s] + d_all) * np.exp(-step / COURSE)).astype(_F)
        state["course"][s] = course
        usual_step, recent = state["usual_step"][s], state["recent_step"][s]
        usual_step = np.where(seen < 2, 0.3 * scale, usual_step).astype(_F)
        size = np.abs(d_own)
        held = np.minimum(size, 4 * usual_step)
        rate = np.where(learn, np.where(seen < 100, 0.05, 0.01), 0.0)
        usual_step = np.maximum(usual_step + rate * (held - usual_step), 0.01 * scale).astype(_F)
        recent = (recent + 0.25 * (np.minimum(size, 20 * usual_step) - recent)).astype(_F)
        state["usual_step"][s], state["recent_step"][s] = usual_step, recent

        d_apart = np.where(alone, 0.0, (d_own - d_all) / usual_step).astype(_F)
        jump = state["jump"][s] * np.exp(-passed / 129600.0).astype(_F)
        jump = np.where(np.abs(d_apart) > np.abs(jump), np.clip(d_apart, -100, 100), jump).astype(_F)
        state["jump"][s] = jump
        step_tail = self._step_tail(s, d_apart, passed)
        exact, near, path, usual_run, span = self._runs(
            s, t, v, p, gap, np.abs(d_all) / usual_step, learn, (consensus / scale).astype(_F)
        )
        node = self._node[s]
        replay = self._replays(s, slot, v, unit, node, group, stepping)
        sibling = self._siblings(s, t, cadence, group)
        regional = np.where(np.isfinite(own_middle), (consensus - own) / own_scale, 0.0).astype(_F)
        squashed = (support / (1.0 + support)).astype(_F)

        columns = np.empty((s.size, CHANNELS), _F)
        columns[:, 0] = np.arcsinh(z)
        columns[:, 1] = np.arcsinh(d_own / usual_step)
        columns[:, 2] = np.arcsinh(d_all / usual_step)
        columns[:, 3] = np.arcsinh((f - own) / own_scale)
        columns[:, 4] = np.arcsinh(regional)
        columns[:, 5] = np.arcsinh(sibling[0])
        columns[:, 6] = squashed
        columns[:, 7] = np.where(gap, -1.0, np.where(size <= 0, 1.0, 0.0))
        found.window[at] = _turned(state["ring"], s, seen % WINDOW, columns, steps)
        turn = (state["long_place"][s] + new_hour) % LONG
        state["long_place"][s] = turn
        recent_view = np.stack((np.arcsinh(means[0]), columns[:, 3]), axis=1)
        found.long[at] = _turned(state["long"], s, turn, recent_view, steps)

        aside = np.empty((s.size, ASIDE), _F)
        aside[:, 0] = columns[:, 0]
        aside[:, 1] = np.arcsinh(means[0])
        aside[:, 2] = np.arcsinh(means[1])
        aside[:, 3] = np.arcsinh(means[2])
        aside[:, 4] = squashed
        aside[:, 5] = np.log1p(exact / 3600.0)
        aside[:, 6] = np.log1p(near / 3600.0)
        aside[:, 7] = 0.5 * np.log1p(path)
        # a value of a dead sensor says nothing where it is what is to be expected: it may well be 0.0 degrees
        out_of_place = np.abs(f - np.where(alone, np.where(first, f, f_before), consensus)) > 0.5 * scale
        aside[:, 8] = (v == _across(profiles.DEAD, p)).any(axis=0) & out_of_place
        aside[:, 9] = (v <= 0) & (profiles.OFFSET[p] > 0) & out_of_place
        aside[:, 10] = 2 * replay[0]
        aside[:, 11] = 2 * replay[1]
        aside[:, 12] = np.arcsinh(sibling[2])
        aside[:, 13] = np.arcsinh(sibling[1])
        aside[:, 14] = np.log((recent + 0.05 * usual_step) / usual_step)
        aside[:, 15] = 0.5 * np.log(np.maximum(cadence, 1.0) / 600.0)
        aside[:, 16] = state["hours"][s] / HOURS
        wide = np.sqrt(wide * wide + floor * floor)
        aside[:, 17] = np.arcsinh(spread / wide)
        expected = profiles.backward(p, consensus.astype(np.float64))
        aside[:, 18] = np.where(alone, 0.0, np.arcsinh((v - expected) / unit))
        aside[:, 19] = sibling[3]
        aside[:, 20] = gap
        aside[:, 21] = np.arcsinh(nearest / wide)
        aside[:, 22] = profiles.OFFSET[p] > 0
        aside[:, 23] = np.log(usual_step / scale)
        aside[:, 24] = np.log1p((t - apart_time) / 3600.0)
        aside[:, 25] = np.arcsinh(means[3])
        aside[:, 26] = votes
        aside[:, 27] = np.arcsinh(best)
        run = near / usual_run
        aside[:, 28] = np.log1p(run)
        aside[:, 29] = np.arcsinh(jump * np.sign(z))
        aside[:, 30] = np.arcsinh(d_apart)
        aside[:, 31] = np.arcsinh(zc - state["mean_24h"][s])
        aside[:, 32:41] = ranks.T
        aside[:, 41] = alone
        aside[:, 42] = np.log1p(rises)
        aside[:, 43] = np.log1p(falls)
        aside[:, 44] = np.log(tail)
        aside[:, 45] = np.arcsinh(means[2] / (usual_means[0] + _F(0.1)))
        aside[:, 46] = np.arcsinh(means[3] / (usual_means[1] + _F(0.1)))
        aside[:, 47] = np.log((np.abs(d_apart) + _F(0.1)) / step_tail)
        aside[:, 48] = np.log1p(excited)
        aside[:, 49] = np.arcsinh(z / (1.0 + excited))
        aside[:, 50] = np.log1p(4 * span)
        some, each = _stretches(node, t)
        aside[:, 51] = sun(t[some], self._lat[s[some]], self._lon[s[some]])[each]
        vapour, vapour_lately, usual_vapour, both = self._vapour(s, t, group, passed, learn)
        aside[:, 52] = np.arcsinh(vapour / _F(0.4))
        aside[:, 53] = np.arcsinh(vapour_lately / _F(0.4))
        aside[:, 54] = np.arcsinh(vapour / (usual_vapour + _F(0.1)))
        aside[:, 55] = both
        found.aside[at] = aside
        found.known[at] = True
        found.residual[at] = z
        found.support[at] = support
        found.regional[at] = regional
        found.run[at] = run
        found.vapour[at] = np.where(both, vapour, _F(np.nan))
        found.profile[at] = p
        found.cadence[at] = cadence
        found.moving[at] = np.where(alone, _F(0), np.abs(course) / scale)
        found.expected[at] = expected
        found.hours[at] = state["hours"][s]
        for name, was in kept.items():
            state[name][s[between]] = was

    def _consensus(
        self,
        s: NDArray[np.int64],
        t: NDArray[np.float64],
        f: NDArray[np.float32],
        near: NDArray[np.intp],
        now: NDArray[np.bool_],
        cadence: NDArray[np.float32],
        passed: NDArray[np.float64],
        slot: NDArray[np.int64],
    ) -> tuple[NDArray[Any], ...]:
        """What the neighbours (8, n) say; `now`: the newest that they said counts, else what was before it.

        Returns:
            Weighted median of what they let expect, its support, their spread, the distance to the nearest of them,
            the share of them from which the reading is far on one side (signed), how far it is from the best of them, which
            of them said something (8, n), and the ordered distances from each of them now (4 ranks) and lately (5 ranks), (9, n).
        """
        state = self._state
        value = np.where(now, state["f"][near], state["f_old"][near])
        time = np.where(now, state["t"][near], state["t_old"][near])
        age = t - time
        theirs = np.where(now, state["cadence"][near], state["cadence_old"][near])
        limit = np.minimum(1.6 * np.maximum(np.maximum(cadence, theirs), SLOT), 7200.0)
        late = age < -np.maximum(cadence, SLOT)
        if late.any():
            # the neighbours are ahead, as after an outage of this node: what they said at that time
            within = state["slot"][near] - slot < SLOTS
            then = state["slots"][near, slot % SLOTS].astype(np.float64)
            profile = np.broadcast_to(self._profile[s], then.shape)
            value = np.where(late & within, profiles.forward(profile, then).astype(_F), value)
            age = np.where(late & within, 0.0, age)
        ok = (np.abs(age) <= limit) & np.isfinite(value)
        trust = state["trust"][near] * ok
        share = _across(state["weight"], s)
        weight = share * trust
        support = _total(_across(state["support"], s) * trust)
        expected = np.where(ok, value + _across(state["bias"], s), _F(1e9))
        each = np.arange(s.size)
        order = np.argsort(np.ascontiguousarray(expected.T), axis=1, kind="stable").T * s.size + each
        ordered = expected.take(order)
        heaped = weight.take(order)
        for k in range(1, NEIGHBOURS):
            heaped[k] += heaped[k - 1]
        total = heaped[-1]
        support = np.where((total > 0) & (support > 0.02), support, 0.0).astype(_F)
        middle = np.minimum((heaped < 0.5 * total).sum(axis=0), NEIGHBOURS - 1)
        consensus = ordered[middle, each]
        apart = np.where(weight > 0, np.abs(expected - consensus), 0.0)
        spread = _total(weight * apart) / np.maximum(total, 1e-9)
        closest = np.where(weight > 0, np.abs(expected - f), _F(1e9)).min(axis=0)
        some = support > 0
        side = np.clip((f - expected) / (2 * np.maximum(_across(state["pair"], s), 1e-6)), -20, 20).astype(_F)
        votes = _total(weight * ((side > 1).astype(_F) - (side < -1))) / np.maximum(total, 1e-9)
        best = side[np.argmax(weight, axis=0), each]
        there = ok & (share > 0)
        gain = (1.0 - np.exp(-passed / 21600.0)).astype(_F)
        lately = _across(state["pair_mean"], s)
        lately = np.where(there, lately + gain * (2 * side - lately), lately)
        state["pair_mean"][s] = lately.T
        count = there.sum(axis=0)
        apart = np.where(there, np.stack((2 * side, lately)), _F(np.inf))
        ranks = np.sort(apart.transpose(0, 2, 1).copy(), axis=2)[_RANKED, each, _RANKS[:, count]]
        return (
            np.where(some, consensus, 0.0).astype(_F),
            support,
            np.where(some, spread, 0.0).astype(_F),
            np.where(some, closest, 0.0).astype(_F),
            np.where(some, votes, 0.0).astype(_F),
            np.where(some, 2 * best, 0.0).astype(_F),
            there,
            np.arcsinh(np.where(count > 0, ranks, _F(0))),
        )

    def _excitement(
        self, near: NDArray[np.intp], now: NDArray[np.bool_], there: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """How far the neighbours stand apart from their own neighbours: the (lower) median of their residuals' sizes."""
        state = self._state
        z = np.where(now, state["z"][near], state["z_old"][near])
        ordered = np.sort(np.where(there, np.abs(z), _F(np.inf)).T.copy(), axis=1)
        count = there.sum(axis=0)
        found = ordered[np.arange(count.size), np.maximum(count - 1, 0) // 2]
        return np.where(count > 0, found, _F(0))

    def _excursions(
        self,
        s: NDArray[np.int64],
        z: NDArray[np.float32],
        z_before: NDArray[np.float32],
        step: NDArray[np.float64],
        passed: NDArray[np.float64],
        learn: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], ...]:
        """How often the series rose above and fell below its neighbours before this reading (counts that fade), and the size of
        residual that it seldom exceeds when nothing is wrong."""
        state = self._state
        fade = np.exp(-np.minimum(step, MEMORY) / MEMORY).astype(_F)
        rises, falls = state["rises"][s] * fade, state["falls"][s] * fade
        state["rises"][s] = rises + ((z > HIGH) & (z_before < LOW))
        state["falls"][s] = falls + ((z < -HIGH) & (z_before > -LOW))
        tail = state["tail"][s]
        # a quantile followed step by step: the same number of steps up and down at the wanted share
        turn = (passed / (0.1 * MEMORY)).astype(_F)
        move = np.where(np.abs(z) > tail, _F(1 / TAIL - 1), _F(-1))
        tail = np.where(learn, np.clip(tail * (1 + turn * move), _LEAST_TAIL, _MOST_TAIL), tail).astype(_F)
        state["tail"][s] = tail
        return rises, falls, tail

    def _step_tail(
        self,
        s: NDArray[np.int64],
        d_apart: NDArray[np.float32],
        passed: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """The size that steps unlike the neighbours' seldom exceeded before this reading."""
        state = self._state
        tail = state["step_tail"][s]
        turn = (passed / (0.5 * MEMORY)).astype(_F)
        move = np.where(np.abs(d_apart) > tail, _F(1 / STEP_TAIL - 1), _F(-1))
        moved = tail * np.clip(1 + turn * move, _F(0.5), _F(2))
        state["step_tail"][s] = np.clip(moved, _LEAST_STEP_TAIL, _MOST_STEP_TAIL)
        return tail

    def _remember(
        self,
        s: NDArray[np.int64],
        hour: NDArray[np.int64],
        slot: NDArray[np.int64],
        v: NDArray[np.float64],
        f: NDArray[np.float32],
        apart: NDArray[np.float32],
        alone: NDArray[np.bool_],
        learn: NDArray[np.bool_],
    ) -> None:
        state = self._state
        _blank(s, hour, state["hour"], HOURS, (state["past"], state["residuals"]))
        state["hours"][s] = np.minimum(state["hours"][s] + (hour != state["hour"][s]), HOURS)
        state["hour"][s] = hour
        state["past"][s, hour % HOURS] = np.where(learn, f, np.nan)
        state["residuals"][s, hour % HOURS] = np.where(learn & ~alone, apart, np.nan)
        _blank(s, slot, state["slot"], SLOTS, (state["slots"],))
        state["slot"][s] = slot
        state["slots"][s, slot % SLOTS] = v

    def _runs(
        self,
        s: NDArray[np.int64],
        t: NDArray[np.float64],
        v: NDArray[np.float64],
        p: NDArray[np.intp],
        gap: NDArray[np.bool_],
        moved: NDArray[np.float32],
        learn: NDArray[np.bool_],
        expected: NDArray[np.float32],
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Seconds for which the value is the same, and nearly the same, how far the others moved since (all their steps), the
        usual length of such a run (the longest, slowly forgotten), and over what span they moved."""
        state = self._state
        same = (v == state["run"][s]) & ~gap
        start = np.where(same, state["run_time"][s], t)
        state["run"][s], state["run_time"][s] = v, start
        close = (np.abs(v - state["near"][s]) <= profiles.GRAIN[p]) & ~gap
        usual = state["usual_run"][s]
        near = np.where(close, state["near_time"][s], t)
        ended = np.where(close | gap | ~learn, 0.0, t - state["near_time"][s])
        usual = np.maximum(np.minimum(ended, 2 * usual), np.maximum(usual * 0.999, 1800.0)).astype(_F)
        state["usual_run"][s] = usual
        state["near"][s] = np.where(close, state["near"][s], v)
        state["near_time"][s] = near
        path = np.where(close, state["path"][s] + np.minimum(moved, 10), 0.0).astype(_F)
        state["path"][s] = path
        low = np.where(close, np.minimum(state["run_low"][s], expected), expected)
        high = np.where(close, np.maximum(state["run_high"][s], expected), expected)
        state["run_low"][s], state["run_high"][s] = low, high
        return t - start, t - near, path, usual, high - low

    def _vapour(
        self,
        s: NDArray[np.int64],
        t: NDArray[np.float64],
        group: NDArray[np.int64],
        passed: NDArray[np.float64],
        learn: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """How far the dew point of the node's temperature and humidity is from that of the values expected of them (°C).

        A box in the sun is warmer and drier, and holds the same vapour; a sensor that is broken by itself does not.

        Returns:
            That distance, its mean over an hour, its usual size, and where it is known (0 elsewhere): both channels are of the
            same moment in the same message, and both have neighbours.
        """
        state = self._state
        other = self._sibling[s, 0]
        mine, theirs = self._profile[s], self._profile[other]
        there = ((mine == _WARM) & (theirs == _DAMP)) | ((mine == _DAMP) & (theirs == _WARM))
        there &= (state["group"][other] == group) & (state["t"][other] == t)
        there &= ~state["alone"][s] & ~state["alone"][other]
        apart, lately, usual = np.zeros((3, s.size), _F)
        rows = np.flatnonzero(there)
        if rows.size:
            s, other, passed = s[rows], other[rows], passed[rows]
            warm, damp = np.where(mine[rows] == _WARM, (s, other), (other, s))
            now = dew_point(state["f"][warm], state["f"][damp])
            expected = dew_point(state["consensus"][warm], state["consensus"][damp])
            far = (now - expected).astype(_F)
            before, usually = state["vapour"][s], state["usual_vapour"][s]
            mean = before + (1.0 - np.exp(-passed / 3600.0)).astype(_F) * (far - before)
            gain = np.where(learn[rows], passed / (0.5 * MEMORY), 0.0).astype(_F)
            state["vapour"][s] = mean
            state["usual_vapour"][s] = usually + gain * (
                np.minimum(np.abs(far), 3 * usually + _F(0.1)) - usually
            )
            apart[rows], lately[rows], usual[rows] = far, mean, usually
        return apart, lately, usual, there

    def _replays(
        self,
        s: NDArray[np.int64],
        slot: NDArray[np.int64],
        v: NDArray[np.float64],
        unit: NDArray[np.float64],
        node: NDArray[np.intp],
        group: NDArray[np.int64],
        stepping: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How far the node's messages are from those some days ago, lately, at the closest day; the other days."""
        state = self._state
        then = state["slots"][s, (slot - 144 * LAGS[:, None]) % SLOTS]
        apart = np.minimum(np.abs(then - v) / unit, 1.0)
        apart = np.where(np.isnan(apart), 1.0, apart).astype(_F)
        starts, each = _stretches(node, group)
        # added up channel by channel: the sum of a message does not depend on what else is in the wave
        mean = np.add.reduceat(apart.T.copy(), starts, axis=0) / np.bincount(each)[:, None].astype(_F)
        n = node[starts]
        memory = self._node_state["replay"]
        lately = memory[n] + _F(0.25) * (mean - memory[n])
        # a message in which any channel steps is a step of the node
        stepped = np.flatnonzero(np.logical_or.reduceat(stepping, starts))
        memory[n[stepped]] = lately[stepped]
        ordered = np.sort(lately, axis=1)
        return ordered[each, 0], ordered[:, 1:4].mean(axis=1, dtype=_F)[each]

    def _siblings(
        self,
        s: NDArray[np.int64],
        t: NDArray[np.float64],
        cadence: NDArray[np.float32],
        group: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Of the two witnesses at the same node (4, n): residuals, signed, their mean size, and how many there are."""
        state = self._state
        other = _across(self._sibling, s)
        now = state["group"][other] <= group
        z = np.where(now, state["z"][other], state["z_old"][other])
        time = np.where(now, state["t"][other], state["t_old"][other])
        there = (np.abs(t - time) <= 1.5 * np.maximum(cadence, 60.0)) & (other >= 0)
        result = np.zeros((4, s.size), _F)
        result[:2] = np.where(there, z * _across(self._sign, s), 0.0)
        count = there[0].astype(_F) + there[1]
        result[2] = (np.abs(result[0]) + np.abs(result[1])) / np.maximum(count, 1)
        result[3] = 0.5 * count
        return result

    def neighbours(self, series: int) -> tuple[Neighbour, ...]:
        """The neighbours of a series as of now, nearest first."""
        state = self._state
        near = self._near[series]
        weight = state["weight"][series] * state["trust"][near] * (near >= 0)
        share = weight / max(float(weight.sum()), 1e-9)
        found = []
        for k in np.argsort(self._distance[series], kind="stable").tolist():
            j = int(near[k])
            if j < 0:
                continue
            level = np.array([state["f"][j] + state["bias"][series, k]], np.float64)
            told = float(profiles.backward(self._profile[[series]], level)[0])
            found.append(
                Neighbour(
                    self.pairs[j][0],
                    float(self._distance[series, k]) if np.isfinite(self._lat[[series, j]]).all() else None,
                    float(state["trust"][j]),
                    float(share[k]),
                    told if np.isfinite(told) else None,
                    float(state["t"][series] - state["t"][j]),
                )
            )
        return tuple(found)

    # -- ticks

    def _pass_tick(self, time: float) -> None:
        tick = int(time // TICK)
        if tick <= self._tick:
            return
        known = len(self.pairs)
        state = self._state
        doubt = state["doubt"][:known]
        trust = 1.0 / (1.0 + (doubt / 2.5) ** 4)
        # a node that says what it said some days ago, or a series that stands still while others move, is no witness though
        # it may be near the truth
        again = np.sort(self._node_state["replay"][self._node[:known]], axis=1)
        others = again[:, 1:4].mean(axis=1)
        alike = np.clip((again[:, 0] / (others + 0.05) - 0.1) / 0.3, 0.1, 1.0)
        # only where days are known, and differ: clean air is like that of yesterday without being a replay
        trust *= np.where((state["hours"][:known] >= REPLAYED) & (others >= DIFFERENT), alike, 1.0)
        still = state["t"][:known] - state["near_time"][:known] > 2 * state["usual_run"][:known]
        still &= state["run_high"][:known] - state["run_low"][:known] > 1.0
        trust *= np.where(still, 0.2, 1.0)
        state["trust"][:known] = trust
        hour, before = int(tick * TICK // 3600), int(self._tick * TICK // 3600)
        self._tick = tick
        if hour == before:
            return
        live = self._profile[:known] >= 0
        if hour // REFRESH == before // REFRESH:
            live &= state["hours"][:known] <= YOUNG
        rows = np.flatnonzero(live)
        for first in range(0, rows.size, 128):
            self._refresh(rows[first : first + 128])

    def _refresh(self, s: NDArray[np.intp]) -> None:
        """Learns biases and scales of some series anew, from the last ten days."""
        state = self._state
        p = self._profile[s]
        scale = profiles.SCALE[p].astype(_F)
        between = profiles.BETWEEN[p].astype(_F)
        near = self._near[s]
        past = self._fresh("past", s)
        apart = past[:, None, :] - self._fresh("past", near.ravel()).reshape(*near.shape, HOURS)
        count, middle, width = _quartiles(apart)
        known = count >= 3
        state["bias"][s] = np.where(known, middle, 0.0)
        n = count.astype(_F)
        guess = 6 * np.exp(-n / 6)
        pair = np.sqrt((n * np.where(known, width, 0) ** 2 + guess * between[:, None] ** 2) / (n + guess))
        pair = np.sqrt(pair * pair + (0.12 * scale[:, None]) ** 2)
        state["pair"][s] = pair
        relative = pair / scale[:, None]
        closeness = 1.0 / (1.0 + (self._distance[s] / profiles.REACH[p][:, None]) ** 2)
        there = near >= 0
        state["weight"][s] = np.where(there, closeness / (relative * relative + 0.05), 0.0)
        state["support"][s] = np.where(there, closeness / (1.0 + relative * relative), 0.0)

        residuals = self._fresh("residuals", s)
        total, all_middle, all_width = _quartiles(residuals)
        overall = np.where(total >= 3, all_width, 0.0)
        n = total.astype(_F)
        guess = 8 * np.exp(-n / 6)
        overall = np.sqrt((n * overall**2 + guess * (0.5 * between) ** 2) / (n + guess))
        count, middle, width = _quartiles(_by_hour(residuals))
        n = count.astype(_F)
        base = np.where(total >= 3, all_middle, 0.0)[:, None]
        state["middle"][s] = base + np.where(count >= 3, middle - base, 0.0) * n / (n + 6)
        width = np.where(count >= 3, width, 0.0)
        state["scale"][s] = np.sqrt((n * width**2 + 10 * overall[:, None] ** 2) / (n + 10))

        count, middle, width = _quartiles(_by_hour(past))
        total, all_middle, all_width = _quartiles(past)
        base = np.where(total >= 3, all_middle, np.nan)[:, None]
        n = count.astype(_F)
        state["own_middle"][s] = base + np.where(count >= 3, middle - base, 0.0) * n / (n + 6)
        state["own_scale"][s] = np.where(total >= 3, all_width, 0.0)

    def _fresh(self, name: str, s: NDArray[np.intp]) -> NDArray[np.float32]:
        """Hourly memory (n, 240) of series, without hours that are older than ten days."""
        values: NDArray[np.float32] = self._state[name][s]
        last = self._state["hour"][s]
        now = int(self._tick * TICK // 3600)
        behind = now - last
        if (behind <= 1).all():
            return values
        age = (now - np.arange(HOURS)) % HOURS
        return np.where((age[None, :] < behind[:, None]) & (behind[:, None] > 1), _F(np.nan), values)

    # -- who is compared with whom

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """Tells where a node is, in degrees; call it where the log says so."""
        if self._places.get(node) == (latitude, longitude):
            return
        self._places[node] = (latitude, longitude)
        if node in self._nodes:
            mine = np.flatnonzero(self._node[: len(self.pairs)] == self._nodes[node])
            self._lat[mine], self._lon[mine] = latitude, longitude
            for number in np.unique(self._profile[mine]):
                if number >= 0:
                    for s in np.flatnonzero(self._profile[: len(self.pairs)] == number):
                        self._choose(int(s))

    def _learn(self, pairs: list[tuple[str, str]], upto: int) -> None:
        if upto > self._profile.size - 1:
            self._grow(max(2 * self._profile.size, upto + 1))
        for number in range(len(self.pairs), upto):
            node, channel = pairs[number]
            if node not in self._nodes:
                self._nodes[node] = len(self._nodes)
                self._grow_nodes(len(self._nodes))
            self.pairs.append((node, channel))
            self._profile[number] = profiles.NUMBER.get(channel, -1)
            self._node[number] = self._nodes[node]
            self._lat[number], self._lon[number] = self._places.get(node, (np.nan, np.nan))
            if self._profile[number] < 0:
                continue
            mine = self._nodes[node]
            for s in np.flatnonzero((self._node[: number + 1] == mine) & (self._profile[: number + 1] >= 0)):
                self._choose_siblings(int(s))
            self._choose(number)
            self._offer(number)

    def _distances(self, s: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
        """Distance in km of series to another, on a sphere small enough to be flat."""
        north = (self._lat[others] - self._lat[s]) * 111.2
        east = (self._lon[others] - self._lon[s]) * 111.2 * np.cos(np.radians(self._lat[s]))
        distance = np.hypot(north, east)
        return np.where(np.isnan(distance), UNKNOWN_DISTANCE, distance)

    def _choose(self, s: int) -> None:
        """Takes the nearest series of the same channel at other nodes as neighbours."""
        known = len(self.pairs)
        others = np.flatnonzero(
            (self._profile[:known] == self._profile[s]) & (self._node[:known] != self._node[s])
        )
        distance = self._distances(s, others)
        order = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        order = order[distance[order] <= REACHES * profiles.REACH[self._profile[s]]]
        self._near[s] = -1
        self._near[s, : order.size] = others[order]
        self._distance[s] = 0.0
        self._distance[s, : order.size] = distance[order]
        self._state["pair_mean"][s] = 0.0
        self._refresh(np.array([s]))

    def _offer(self, new: int) -> None:
        """Gives a new series to those for which it is near enough."""
        known = len(self.pairs)
        others = np.flatnonzero(
            (self._profile[:known] == self._profile[new]) & (self._node[:known] != self._node[new])
        )
        if not others.size:
            return
        distance = self._distances(new, others)
        near = self._near[others]
        full = (near >= 0).all(axis=1)
        farthest = np.where(full, self._distance[others].max(axis=1), _INF)
        takes = (distance <= REACHES * profiles.REACH[self._profile[new]]) & (distance < farthest)
        for s, away in zip(others[takes].tolist(), distance[takes].tolist(), strict=True):
            free = np.flatnonzero(self._near[s] < 0)
            k = int(free[0]) if free.size else int(np.argmax(self._distance[s]))
            self._near[s, k] = new
            self._distance[s, k] = away
            self._state["pair_mean"][s, k] = 0.0
        if takes.any():
            self._refresh(others[takes])

    def _choose_siblings(self, s: int) -> None:
        profile = profiles.PROFILES[self._profile[s]]
        known = len(self.pairs)
        mine = np.flatnonzero(self._node[:known] == self._node[s])
        by_channel = {self.pairs[i][1]: int(i) for i in mine}
        found = [(by_channel[name], sign) for name, sign in profile.witnesses if name in by_channel]
        self._sibling[s] = -1
        for k, (number, sign) in enumerate(found[:SIBLINGS]):
            self._sibling[s, k], self._sign[s, k] = number, sign

    # -- memory

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is remembered: arrays by name, and the rest as JSON values. `load` takes it back."""
        known = len(self.pairs)
        arrays = {f"series.{name}": self._state[name][:known] for name in _SERIES}
        arrays |= {f"node.{name}": self._node_state[name][: len(self._nodes)] for name in self._node_state}
        arrays |= {f"order.{name}": getattr(self, f"_{name}")[:known] for name in _ORDER}
        return arrays, {
            "pairs": list(self.pairs),
            "places": [[node, *place] for node, place in self._places.items()],
            "nodes": list(self._nodes),
            "clock": None if np.isinf(self._clock) else self._clock,
            "tick": self._tick,
        }

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> Witnesses:
        """The memory that `dump` gave."""
        self = cls()
        known = len(rest["pairs"])
        self._grow(max(64, known + 1))
        self.pairs = [(node, channel) for node, channel in rest["pairs"]]
        self._places = {node: (latitude, longitude) for node, latitude, longitude in rest["places"]}
        self._nodes = {node: number for number, node in enumerate(rest["nodes"])}
        self._clock = -_INF if rest["clock"] is None else float(rest["clock"])
        self._tick = int(rest["tick"])
        self._grow_nodes(len(self._nodes))
        for name in _SERIES:
            self._state[name][:known] = arrays[f"series.{name}"]
        for name in self._node_state:
            self._node_state[name][: len(self._nodes)] = arrays[f"node.{name}"]
        for name in _ORDER:
            getattr(self, f"_{name}")[:known] = arrays[f"order.{name}"]
        return self

    def size(self) -> int:
        """Bytes of memory in arrays."""
        held = [*self._state.values(), *self._node_state.values(), *(getattr(self, f"_{n}") for n in _ORDER)]
        return sum(array.nbytes for array in held)

    def _grow(self, capacity: int) -> None:
        """Makes room; the last row of every array stays empty, so that index -1 is nobody."""
        known = len(self.pairs)

        def grown(old: NDArray[Any] | None, kind: Any, shape: tuple[int, ...], empty: Any) -> NDArray[Any]:
            new = (
                np.full((capacity, *shape), empty, kind) if empty != 0 else np.zeros((capacity, *shape), kind)
            )
            if old is not None:
                new[:known] = old[:known]
            return new

        for name, (kind, shape, empty) in _SERIES.items():
            self._state[name] = grown(self._state.get(name), kind, shape, empty)
        self._profile = grown(self._profile, np.intp, (), -1)
        self._node = grown(self._node, np.intp, (), -1)
        self._lat = grown(self._lat, np.float64, (), np.nan)
        self._lon = grown(self._lon, np.float64, (), np.nan)
        self._near = grown(self._near, np.intp, (NEIGHBOURS,), -1)
        self._distance = grown(self._distance, np.float64, (NEIGHBOURS,), 0)
        self._sibling = grown(self._sibling, np.intp, (SIBLINGS,), -1)
        self._sign = grown(self._sign, _F, (SIBLINGS,), 0)

    def _grow_nodes(self, count: int) -> None:
        for name, (kind, shape, empty) in _NODE.items():
            old = self._node_state.get(name)
            if old is not None and len(old) >= count:
                continue
            new = np.full((max(64, 2 * count), *shape), empty, kind)
            if old is not None:
                new[: len(old)] = old
            self._node_state[name] = new


def _stepping(
    t: NDArray[np.float64], step: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether readings at times t (n,) are steps, after the last step of their series and the reading before (Unix seconds; -inf for none).

    A step is the first reading of a ten-minute slot, if the last step was half of one ago; and any that comes ten minutes after the last
    step, less what a series that speaks this often cannot wait for, a minute at most. Of readings ten minutes apart each is a step.
    """
    wanted = SLOT - np.minimum(0.5 * (t - before), 0.1 * SLOT)
    turned = np.floor(t / SLOT) > np.floor(before / SLOT)
    stepping: NDArray[np.bool_] = t - step >= np.where(turned, 0.5 * SLOT, wanted)
    return stepping


def _split_repeats(series: NDArray[np.int64], begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where units begin when one that says a channel twice is cut before it does."""
    begins = begins.copy()
    said: set[int] = set()
    for i, (number, begin) in enumerate(zip(series.tolist(), begins.tolist(), strict=True)):
        if begin or number in said:
            begins[i] = True
            said.clear()
        said.add(number)
    return begins


def _blank(
    s: NDArray[np.int64],
    now: NDArray[np.int64],
    last: NDArray[np.int64],
    length: int,
    rings: tuple[NDArray[np.float32], ...],
) -> None:
    """Empties the places of rings that were skipped since the last reading."""
    behind = np.where(last[s] < 0, 1, np.minimum(now - last[s], length))
    skipped = np.flatnonzero(behind > 1)
    if not skipped.size:
        return
    if behind[skipped].max() <= 8:
        # places from which nothing was skipped point at the newest one, which is written next
        back = np.minimum(np.arange(1, 8)[None, :], behind[skipped, None] - 1)
        places = (now[skipped, None] - back) % length
        for ring in rings:
            ring[s[skipped, None], places] = np.nan
        return
    for i in skipped.tolist():
        places = (int(now[i]) - np.arange(1, int(behind[i]))) % length
        for ring in rings:
            ring[s[i], places] = np.nan


def _across(table: NDArray[Any], s: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a table (series, k) as columns (k, n): numpy is quicker along many series than along few neighbours."""
    return np.ascontiguousarray(table.take(s, axis=0).T)


def _total(parts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum (n,) over eight neighbours (8, n), added in pairs."""
    while len(parts) > 1:
        parts = parts[::2] + parts[1::2]
    return parts.reshape(-1)


def _stretches(*columns: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where stretches of rows (n,) begin that are equal in all columns, and for each row the number of its stretch."""
    begins = np.ones(columns[0].size, np.bool_)
    begins[1:] = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins), np.cumsum(begins) - 1


def _turned(
    ring: NDArray[np.float32],
    s: NDArray[np.int64],
    place: NDArray[np.int64],
    newest: NDArray[np.float32],
    steps: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Windows (n, length, numbers) of series in double rings (series, 2 · length, numbers) that end with `newest` (n, numbers), whose
    place it is; of the rows that are steps it stays there."""
    series, twice, numbers = ring.shape
    length = twice // 2
    ring[s[steps], place[steps]] = newest[steps]
    ring[s[steps], place[steps] + length] = newest[steps]
    shape = (series, length + 1, length * numbers)
    view = np.lib.stride_tricks.as_strided(ring, shape, ring.strides, writeable=False)
    windows: NDArray[np.float32] = view[s, place + 1].reshape(-1, length, numbers)
    windows[:, -1] = newest
    return windows


def _by_hour(hourly: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 240) hourly values as (n, 24, 30): for each hour of the day, it and the hours beside it."""
    days = hourly.reshape(len(hourly), HOURS // 24, 24)
    three = np.stack((np.roll(days, 1, axis=2), days, np.roll(days, -1, axis=2)), axis=3)
    return three.transpose(0, 2, 1, 3).reshape(len(hourly), 24, -1)


def _quartiles(
    values: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Along the last axis: how many are not NaN, their median, and the width of a normal distribution (from quartiles)."""
    ordered = np.sort(values, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)

    def at(share: float) -> NDArray[np.float32]:
        place = np.maximum(np.rint((count - 1) * share), 0).astype(np.intp)
        return np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]

    return count, at(0.5), (0.7413 * (at(0.75) - at(0.25))).astype(_F)
