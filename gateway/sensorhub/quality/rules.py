"""The rules: what a reading's own series and its message tell against it (README.md gives the formulae).

Series are independent of each other, so a batch is worked through in rounds: the first reading of every
series, then the second of every series, and so on. Each round is a handful of numpy operations over all
series, and each reading is judged by the state that exactly its predecessors left. Where the log is cut
into batches therefore changes nothing, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.flags import FULL_SCORE, Flag
from sensorhub.quality.camera import Cameras
from sensorhub.quality.columns import Columns, SeriesNumbers

#: The version that verdict entries name. Whatever changes a verdict changes this.
VERSION: Final = "rules/2"

#: Rules alone confirm nothing: without a look at the neighbours no reading scores more.
CEILING: Final = 0.75
#: Earlier readings of the series after which its history counts in full.
ENOUGH: Final = 12

#: What each flag leaves of the score.
WEIGHTS: Final[Mapping[Flag, float]] = {
    Flag.RANGE: 0.0,
    Flag.SPIKE: 0.2,
    Flag.STUCK: 0.2,
    Flag.DROPOUT: 0.9,
    Flag.REPLAY: 0.1,
}
#: What is left when the time is suspect: the clock was only held over (tq 1), or it is worse.
HELD_OVER: Final = 0.8
WRONG_TIME: Final = 0.5

#: Step limits hold for 10 minutes and grow with the root of longer intervals, as a random walk does.
STEP_SECONDS: Final = 600.0
#: A level older than this says nothing about steps, in seconds.
LEVEL_AGE: Final = 6 * 3600.0
#: Readings in a row that agree with each other on a new level make it the level.
NEW_LEVEL: Final = 3
#: Equal readings that a stuck run has at least.
STUCK_READINGS: Final = 3
#: A gap is longer than this many usual intervals, and longer than GAP_SECONDS.
GAP_INTERVALS: Final = 3.0
GAP_SECONDS: Final = 5.0
#: Readings of a series before its usual interval is believed.
CADENCE_READINGS: Final = 5
#: The usual interval moves by at most this share of itself with each reading.
CADENCE_GAIN: Final = 0.125
#: A replay repeats this many consecutive values, at least REPLAY_DISTINCT of them different.
REPLAY_LENGTH: Final = 8
REPLAY_DISTINCT: Final = 6
#: Earlier stretches that are remembered of each series.
REPLAY_HISTORY: Final = 1024
#: Data this far behind the newest synchronised reading of the network is late beyond reason, in seconds.
LATEST: Final = 30 * 86_400.0

_BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplication modulo 2**64 loses nothing
_BASE_TOP: Final = np.uint64(pow(int(_BASE), REPLAY_LENGTH - 1, 2**64))
_SHIFT: Final = np.uint64(29)

_FIELDS: Final[Mapping[str, tuple[str, tuple[int, ...], float]]] = {
    "time": ("f8", (), -np.inf),
    "seen": ("i8", (), 0),
    "cadence": ("f8", (), 0.0),
    "level": ("f8", (), np.nan),
    "level_time": ("f8", (), -np.inf),
    "off": ("f8", (), np.nan),
    "off_time": ("f8", (), -np.inf),
    "off_n": ("i8", (), 0),
    "run": ("f8", (), np.nan),
    "run_time": ("f8", (), 0.0),
    "run_n": ("i8", (), 0),
    "hash": ("u8", (), 0),
    "window": ("u8", (REPLAY_LENGTH,), 0),
    "waiting": ("u8", (REPLAY_LENGTH,), 0),
    "stretches": ("i8", (), 0),
    "history": ("u8", (REPLAY_HISTORY,), 0),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts on the records of a batch, in its order.

    Attributes:
        score: uint8 (N,), 255 is full trust.
        flags: int64 (N,), bits of `Flag`.
        haze: float64 (N,), 0 to 1: how hazy cameras near a particle channel see it.
        time: float64 (N,), what the time of its message leaves of the score; 1.0 when nothing speaks against it.
    """

    score: NDArray[np.uint8]
    flags: NDArray[np.int64]
    haze: NDArray[np.float64]
    time: NDArray[np.float64]


class Rules:
    """The rules and what they remember. Feed it every message of a log, in order, once."""

    def __init__(self) -> None:
        self.numbers = SeriesNumbers()
        self.cameras = Cameras()
        self._clock = -np.inf
        self._senders: dict[bytes, tuple[int, int, float]] = {}
        self._state: dict[str, NDArray[Any]] = {}
        self._limits = np.zeros((0, 4))
        self._known = 0
        self._grow(64)

    def judge(self, batch: Columns) -> Judged:
        """Judges the records of a batch whose series come from `numbers`, and takes them in."""
        flags, history = self._series(batch.series, batch.time, batch.value)
        sight = self.cameras.look(batch, self.numbers.pairs)
        flags |= sight.flags
        factor = self._times(batch)
        each = np.repeat(factor, batch.count)
        flags[each < 1.0] |= int(Flag.TIME)
        score = CEILING * (0.5 + 0.5 * np.minimum(history / ENOUGH, 1.0)) * each
        for flag, weight in WEIGHTS.items():
            score *= np.where(flags & int(flag), weight, 1.0)
        score *= sight.weight
        return Judged(np.floor(FULL_SCORE * score + 0.5).astype(np.uint8), flags, sight.haze, each)

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """Tells where a node is, in degrees, at this place of the log: cameras look at each other."""
        self.cameras.place(node, latitude, longitude)

    def flags_of(
        self, series: NDArray[np.int64], time: NDArray[np.float64], value: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Flags of readings outside of messages, whose times are taken as right; takes them in."""
        return self._series(series, time, value)[0]

    def _series(
        self, series: NDArray[np.int64], time: NDArray[np.float64], value: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        self._learn()
        low, high = self._limits[series, 0], self._limits[series, 1]
        flags = np.where((value < low) | (value > high), int(Flag.RANGE), 0)
        history = np.zeros(series.size)
        rows = np.flatnonzero(~(np.isnan(time) | np.isnan(value)))
        for part in rounds(series[rows]):
            now = rows[part]
            found, seen = self._round(series[now], time[now], value[now], flags[now] != 0)
            flags[now] |= found
            history[now] = seen
        return flags, history

    def _round(
        self, s: NDArray[np.int64], t: NDArray[np.float64], v: NDArray[np.float64], wild: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Judges and takes in one reading of each of some series.

        Args:
            s: the series, each at most once.
            t: times.
            v: values.
            wild: the value is out of range.

        Returns:
            flags found, and how many readings of the series came before (0 for one that is out of order).
        """
        state = self._state
        flags = np.zeros(s.size, dtype=np.int64)
        seen = state["seen"][s]
        # Out of time order there is no predecessor to compare with, and the state is that of newer readings.
        in_order = t > state["time"][s]
        if not in_order.all():
            part = np.flatnonzero(in_order)
            before = np.zeros(s.size, dtype=np.int64)
            if part.size:
                flags[part], before[part] = self._round(s[part], t[part], v[part], wild[part])
            return flags, before
        gap = self._cadence(s, t, seen)
        flags[gap] |= int(Flag.DROPOUT)
        flags[self._stuck(s, t, v, gap)] |= int(Flag.STUCK)
        flags[self._spike(s, t, v, wild)] |= int(Flag.SPIKE)
        flags[self._replay(s, v, seen)] |= int(Flag.REPLAY)
        state["time"][s] = t
        state["seen"][s] = seen + 1
        return flags, seen

    def _cadence(
        self, s: NDArray[np.int64], t: NDArray[np.float64], seen: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        cadence = self._state["cadence"]
        usual = cadence[s]
        interval = np.where(seen > 0, t - self._state["time"][s], 0.0)
        gap = (seen >= CADENCE_READINGS) & (interval > GAP_INTERVALS * usual) & (interval > GAP_SECONDS)
        most = CADENCE_GAIN * usual
        moved = usual + np.clip(interval - usual, -most, most)
        cadence[s] = np.where(seen > 1, moved, interval)
        return gap

    def _stuck(
        self, s: NDArray[np.int64], t: NDArray[np.float64], v: NDArray[np.float64], gap: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        state = self._state
        same = (v == state["run"][s]) & ~gap
        start = np.where(same, state["run_time"][s], t)
        length = np.where(same, state["run_n"][s] + 1, 1)
        state["run"][s] = v
        state["run_time"][s] = start
        state["run_n"][s] = length
        stuck: NDArray[np.bool_] = (t - start > self._limits[s, 3]) & (length >= STUCK_READINGS)
        return stuck

    def _spike(
        self, s: NDArray[np.int64], t: NDArray[np.float64], v: NDArray[np.float64], wild: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        state = self._state
        step, level = self._limits[s, 2], state["level"][s]
        age = t - state["level_time"][s]
        limit = step * np.sqrt(np.maximum(age / STEP_SECONDS, 1.0))
        out: NDArray[np.bool_] = (np.abs(v - level) > limit) & (age <= LEVEL_AGE) & ~wild
        if out.any():
            o = s[out]
            since = t[out] - state["off_time"][o]
            agrees = np.abs(v[out] - state["off"][o]) <= step[out] * np.sqrt(
                np.maximum(since / STEP_SECONDS, 1.0)
            )
            state["off_n"][o] = np.where(agrees, state["off_n"][o] + 1, 1)
            state["off"][o] = v[out]
            state["off_time"][o] = t[out]
            out[out] = state["off_n"][o] < NEW_LEVEL
        fine = ~(out | wild)
        f = s[fine]
        state["level"][f] = v[fine]
        state["level_time"][f] = t[fine]
        state["off"][f] = np.nan
        state["off_n"][f] = 0
        return out

    def _replay(
        self, s: NDArray[np.int64], v: NDArray[np.float64], seen: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        state = self._state
        place = seen % REPLAY_LENGTH
        mixed = (v + 0.0).view(np.uint64) * _BASE  # + 0.0 makes one of both zeros
        mixed ^= mixed >> _SHIFT
        window = state["window"]
        # a rolling polynomial modulo 2**64: exact, so the same however it is reached
        rolled = (state["hash"][s] - window[s, place] * _BASE_TOP) * _BASE + mixed
        window[s, place] = mixed
        state["hash"][s] = rolled
        recent = np.sort(window[s], axis=1)
        distinct = 1 + np.count_nonzero(recent[:, 1:] != recent[:, :-1], axis=1)
        telling = (distinct >= REPLAY_DISTINCT) & (seen >= REPLAY_LENGTH - 1)
        # a stretch is remembered when it no longer overlaps the newest one
        old = state["waiting"][s, place]
        state["waiting"][s, place] = np.where(telling, rolled, 0)
        ripe = old != 0
        if ripe.any():
            r = s[ripe]
            stretches = state["stretches"][r]
            state["history"][r, stretches % REPLAY_HISTORY] = old[ripe]
            state["stretches"][r] = stretches + 1
        found = np.zeros(s.size, dtype=np.bool_)
        if telling.any():
            depth = min(int(state["stretches"][s].max()), REPLAY_HISTORY)
            candidates = s[telling]
            found[telling] = (state["history"][candidates, :depth] == rolled[telling, None]).any(axis=1)
        return found

    def _times(self, batch: Columns) -> NDArray[np.float64]:
        """What the time of each message leaves of the score: 1.0 when nothing speaks against it."""
        factor = np.ones(batch.index.size)
        for i, (kid, boot, seq, tq, base, newest) in enumerate(
            zip(
                batch.kid,
                batch.boot.tolist(),
                batch.seq.tolist(),
                batch.tq.tolist(),
                batch.base.tolist(),
                batch.newest().tolist(),
                strict=True,
            )
        ):
            if tq == 0:
                factor[i] = WRONG_TIME
            else:
                wrong = base < self._clock - LATEST
                known = self._senders.get(kid)
                if known is None or seq > known[1]:
                    wrong |= known is not None and base < known[2]
                    self._senders[kid] = (boot, seq, base)
                else:
                    wrong |= base > known[2]
                if wrong:
                    factor[i] = WRONG_TIME
                elif tq == 1:
                    factor[i] = HELD_OVER
                if tq >= 2:
                    self._clock = max(self._clock, newest)
        return factor

    # -- memory

    def _grow(self, capacity: int) -> None:
        for name, (kind, shape, empty) in _FIELDS.items():
            grown = (
                np.full((capacity, *shape), empty, dtype=kind)
                if empty
                else np.zeros((capacity, *shape), kind)
            )
            if self._known:
                grown[: self._known] = self._state[name][: self._known]
            self._state[name] = grown
        limits = np.zeros((capacity, 4))
        limits[: self._known] = self._limits[: self._known]
        self._limits = limits

    def _learn(self) -> None:
        """Makes room for the series that got a number since, with the limits of their channels."""
        pairs = self.numbers.pairs
        if len(pairs) > len(self._limits):
            self._grow(max(2 * len(self._limits), len(pairs)))
        for number in range(self._known, len(pairs)):
            channel = BY_NAME[pairs[number][1]]
            self._limits[number] = (
                channel.low,
                channel.high,
                np.inf if channel.step is None else channel.step,
                np.inf if channel.persist is None else 60.0 * channel.persist,
            )
        self._known = len(pairs)

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is remembered: arrays by name, and the rest as JSON values. `load` takes it back."""
        arrays = {name: self._state[name][: self._known] for name in _FIELDS}
        depth = min(int(arrays["stretches"].max(initial=0)), REPLAY_HISTORY)
        arrays["history"] = arrays["history"][:, :depth]
        seen, cameras = self.cameras.dump()
        return {**arrays, **{f"camera.{name}": array for name, array in seen.items()}}, {
            "cameras": cameras,
            "clock": None if np.isinf(self._clock) else self._clock,
            "senders": [[kid.hex(), *known] for kid, known in self._senders.items()],
            "pairs": list(self.numbers.pairs),
        }

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> Rules:
        """The rules with the memory that `dump` gave."""
        rules = cls()
        rules.numbers = SeriesNumbers((node, channel) for node, channel in rest["pairs"])
        rules._clock = -np.inf if rest["clock"] is None else rest["clock"]
        rules._senders = {bytes.fromhex(kid): (boot, seq, base) for kid, boot, seq, base in rest["senders"]}
        rules._learn()
        for name in _FIELDS:
            saved = arrays[name]
            rules._state[name][(slice(rules._known), *(slice(n) for n in saved.shape[1:]))] = saved
        seen = {name.removeprefix("camera."): arrays[name] for name in arrays if name.startswith("camera.")}
        rules.cameras = Cameras.load(seen, rest["cameras"], rules.numbers.pairs)
        return rules


def rounds(series: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Positions of the first element of each series, of the second, and so on."""
    order = np.argsort(series, kind="stable")
    ordered = series[order]
    starts = (
        np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if ordered.size else np.zeros(0, np.intp)
    )
    lengths = np.diff(np.r_[starts, ordered.size])
    turn = np.arange(ordered.size) - np.repeat(starts, lengths)
    by_turn = np.argsort(turn, kind="stable")
    return np.split(order[by_turn], np.cumsum(np.bincount(turn))[:-1]) if ordered.size else []
