"""What a camera's numbers tell of the camera: blocked, fogged, moved, frozen, over-exposed; and the haze it sees.

A camera node sends no picture, only brightness, contrast, sharpness, over-exposed share, motion and a hash (firmware/CAMERA.md).
One look is all of these at one node and time. Each look is compared with what the same camera saw at this hour on
earlier days; whether a loss of clearness is the lens's or the weather's is settled by other cameras, humidity and particles nearby.

Looks are worked through in rounds, as readings are by the rules. What one node tells of another is published at the ticks of
the network's own clock, which the log sets: so where the log is cut into batches changes nothing, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.flags import Flag
from sensorhub.quality.columns import Columns

#: What a look consists of, by the number of the kind; the rest of the camera's channels is judged with it.
LOOK: Final = ("luminance", "contrast", "sharpness", "overexposed", "motion", "frame_sha256")
_CAMERA: Final = 0
_REST: Final = len(LOOK)
_HUMIDITY: Final = _REST + 1
_PARTICLES: Final = _REST + 2
_DUST: Final = _REST + 3
KINDS: Final[Mapping[str, int]] = {
    **{name: kind for kind, name in enumerate(LOOK)},
    **{name: _REST for name in BY_NAME if name == "objects" or name.startswith("motion_")},
    "humidity": _HUMIDITY,
    "pm2_5": _PARTICLES,
    "pm1": _DUST,
    "pm4": _DUST,
    "pm10": _DUST,
}

#: What each flag leaves of the score of every channel of the camera. A picture that only stands elsewhere still tells something.
WEIGHTS: Final[Mapping[Flag, float]] = {
    Flag.BLOCKED: 0.1,
    Flag.FOGGED: 0.3,
    Flag.MOVED: 0.6,
    Flag.OVEREXPOSED: 0.4,
}
#: A loss of clearness that only a damp air explains may be dew on the lens as well.
DAMP: Final = 0.8

#: Luminance from which a scene is lit, and relative contrast of one that has anything in it.
LIT: Final = 0.12
SCENE: Final = 0.1
#: Darker and flatter than this, at an hour that is usually brighter than BRIGHT, something is before the lens.
DARK: Final = (0.05, 0.03)
BRIGHT: Final = 0.15
#: Less contrast and sharpness than this is a picture of nothing.
FLAT: Final = (0.02, 0.03)
#: Share of white pixels that hides a scene.
WHITE: Final = 0.4
#: Shares of the usual sharpness and of the usual relative contrast below which a picture is not clear.
UNSHARP: Final = 0.6
PALE: Final = 0.4
#: Looks in a row that are not clear before the lens is held responsible.
FOGGED_LOOKS: Final = 3
#: Loss of clearness from which another camera counts as seeing haze.
HAZE: Final = 0.25
#: Relative humidity from which there may be fog, and how many times its usual value a particle channel rises in dense smoke.
SATURATED: Final = 95.0
SMOKE: Final = 3.0
SMOKE_LEAST: Final = 50.0
#: A moved camera: sharpness or relative contrast differs from before by these shares, or by so many usual deviations.
JUMP: Final = (0.12, 0.25)
JUMP_DEVIATIONS: Final = 5.0
#: and from every hour of the earlier days by these (an infrared filter switches at dusk).
KNOWN_SCENE: Final = (0.2, 0.35)
#: Looks after the jump that are averaged, and before it that the level needs.
SETTLED_LOOKS: Final = 4
LEVEL_LOOKS: Final = 10
#: How long a moved camera is flagged, and how long a jump waits to be understood, in seconds.
MOVED_SECONDS: Final = 86_400.0
#: A pause after which a camera may have been put elsewhere, in seconds.
AWAY: Final = 6 * 3600.0
#: Looks that stand apart are not learnt from, but for no longer than this: then it is the new normal.
LONGEST_DOUBT: Final = 14 * 86_400.0
#: Hashes of frames that are remembered.
FRAMES: Final = 64
#: The usual of an hour follows its looks with this time constant, in seconds of that hour; falls three times as slowly.
LEARN: Final = 3 * 3600.0
#: Nodes publish what they see at ticks of the network's clock of so many seconds; older than FRESH it says nothing.
TICK: Final = 600.0
FRESH: Final = 2 * 3600.0
#: Two cameras see the same weather when it came to them within this; haze speaks for particles this long after it came.
TOGETHER: Final = 6 * 3600.0
WITNESS: Final = 24 * 3600.0
#: Witnesses that are asked, the nearest first, within this distance in km; where a node is not known it is this near.
NEAR: Final = 8
REACH: Final = 15.0
UNKNOWN: Final = 5.0
#: A reading with a held-over clock counts when it is not ahead of the network by more than this, in seconds.
AHEAD: Final = 600.0
#: Log odds that full haze takes from a particle reading that stands above its neighbours.
HAZE_ODDS: Final = 4.0

_DAY: Final = 86_400.0
_INF: Final = np.inf
_NODE: Final[Mapping[str, tuple[str, tuple[int, ...], float]]] = {
    # what the node's other sensors tell: newest value, and the newest one of the ticks before
    "humidity": ("f8", (2,), np.nan),
    "humidity_time": ("f8", (2,), -_INF),
    "humidity_tick": ("i8", (), -1),
    "particles": ("f8", (2,), np.nan),
    "particles_time": ("f8", (2,), -_INF),
    "particles_tick": ("i8", (), -1),
    "particles_usual": ("f8", (), np.nan),
    # and its camera: loss of clearness, since when, whether it tells
    "loss": ("f8", (2,), np.nan),
    "loss_since": ("f8", (2,), np.nan),
    "loss_time": ("f8", (2,), -_INF),
    "loss_tick": ("i8", (), -1),
    # memory of the camera alone
    "first": ("f8", (), np.nan),
    "time": ("f8", (), -_INF),
    "boot": ("i8", (), -1),
    "frame": ("u8", (), 0),
    "frames": ("u8", (FRAMES,), 0),
    "frame_n": ("i8", (), 0),
    "had_motion": ("?", (), 0),
    "light": ("f8", (24,), np.nan),
    "light_day": ("f8", (24,), _INF),
    "sharp": ("f8", (24,), np.nan),
    "pale": ("f8", (24,), np.nan),
    "clear_day": ("f8", (24,), _INF),
    "level": ("f8", (2,), np.nan),
    "scatter": ("f8", (2,), 0.0),
    "level_n": ("i8", (), 0),
    "low_n": ("i8", (), 0),
    "low_since": ("f8", (), np.nan),
    "doubted": ("f8", (), np.nan),
    "jump": ("f8", (), np.nan),
    "jump_from": ("f8", (2,), np.nan),
    "jump_sum": ("f8", (2,), 0.0),
    "jump_n": ("i8", (), 0),
    "moved_until": ("f8", (), -_INF),
    # the newest look, to be told
    "now": ("f8", (6,), np.nan),
}


def of_camera(channel: str) -> bool:
    """Whether a channel is one of a camera's."""
    return KINDS.get(channel, _HUMIDITY) <= _REST


@dataclass(frozen=True, slots=True)
class Sight:
    """What cameras tell of the records of a batch, in its order.

    Attributes:
        flags: int64 (N,), bits of `Flag` for records of cameras.
        weight: float64 (N,), what that leaves of the score.
        haze: float64 (N,), for particle channels: how hazy a sound camera nearby sees it, 0 (or none is there) to 1.
    """

    flags: NDArray[np.int64]
    weight: NDArray[np.float64]
    haze: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """The newest look of a camera, beside what is usual.

    Attributes:
        luminance: 0 to 1.
        contrast: 0 to 1.
        sharpness: 0 to 1.
        sharpness_share: of the usual one at this hour; NaN when that is not known.
        contrast_share: relative contrast (contrast over luminance) as a share of the usual one; NaN the same.
        weather: other cameras, particles or damp air explain a loss.
    """

    luminance: float
    contrast: float
    sharpness: float
    sharpness_share: float
    contrast_share: float
    weather: bool


class Cameras:
    """All that is remembered of a network's cameras. Feed it every message of a log, in order, once."""

    def __init__(self) -> None:
        self._clock = -_INF
        self._series = 0
        self._kind = np.zeros(0, np.int8)
        self._node = np.zeros(0, np.int64)
        self._names: dict[str, int] = {}
        self._places: dict[str, tuple[float, float]] = {}
        self._state: dict[str, NDArray[Any]] = {}
        # nodes by what they tell, as sets that keep their order
        self._met: dict[int, dict[int, None]] = {kind: {} for kind in (_CAMERA, _HUMIDITY, _PARTICLES, _DUST)}
        self._lat = np.zeros(0)
        self._lon = np.zeros(0)
        self._near = {kind: np.zeros((0, NEAR), np.int64) for kind in (_CAMERA, _HUMIDITY, _PARTICLES)}
        self._grow(16)

    # -- taking in

    def look(self, batch: Columns, pairs: Sequence[tuple[str, str]]) -> Sight:
        """Takes in a batch whose series are numbers in `pairs`, (node, channel) in order of first appearance."""
        n = batch.series.size
        sight = Sight(np.zeros(n, np.int64), np.ones(n), np.zeros(n))
        tick, good = self._ticks(batch)
        if not n:
            return sight
        self._number(pairs)
        kind = self._kind[batch.series]
        if not (kind >= 0).any():
            return sight
        message = np.repeat(np.arange(batch.index.size), batch.count)
        tick, good = tick[message], good[message] & np.isfinite(batch.time)
        # a stretch ends where a tick passes or a series speaks for the first time
        new = np.maximum.accumulate(np.r_[self._series - 1, batch.series])
        begins = np.r_[True, message[1:] != message[:-1]]
        fresh = np.logical_or.reduceat((new[1:] > new[:-1]) & (kind >= 0), np.flatnonzero(begins))
        cut = np.flatnonzero(begins & (fresh[np.cumsum(begins) - 1] | np.r_[True, tick[1:] != tick[:-1]]))
        for start, stop in zip(cut.tolist(), [*cut[1:].tolist(), n], strict=True):
            self._meet(int(new[stop]) + 1)
            rows = start + np.flatnonzero(good[start:stop] & (kind[start:stop] >= 0))
            if rows.size:
                self._stretch(batch, rows, kind[rows], message[rows], int(tick[start]), sight)
        return sight

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """Tells where a node is, in degrees, at this place of the log."""
        self._places[node] = (latitude, longitude)
        number = self._names.get(node)
        if number is not None:
            self._lat[number], self._lon[number] = latitude, longitude
            if self._met[_CAMERA]:
                for each in range(len(self._names)):
                    self._choose(each)

    def newest(self, node: str) -> Look | None:
        """The newest look of a node's camera, or None when it has none."""
        number = self._names.get(node)
        if number is None or not np.isfinite(self._state["now"][number, 0]):
            return None
        light, contrast, sharp, share_sharp, share_pale, weather = self._state["now"][number].tolist()
        return Look(light, contrast, sharp, share_sharp, share_pale, weather > 0)

    def _ticks(self, batch: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Tick of the network's clock at each message, and whether its time can be relied on."""
        latest = np.full(batch.index.size, -_INF)
        some = batch.count > 0
        if some.any():
            latest[some] = np.maximum.reduceat(batch.time, (np.cumsum(batch.count) - batch.count)[some])
        sure = batch.tq >= 2
        clock = np.maximum.accumulate(np.r_[self._clock, np.where(sure, latest, -_INF)])
        self._clock = float(clock[-1])
        good = sure | ((batch.tq == 1) & (latest <= clock[1:] + AHEAD))
        return np.floor(np.maximum(clock[1:], 0.0) / TICK).astype(np.int64), good

    def _stretch(
        self,
        batch: Columns,
        rows: NDArray[np.int64],
        kind: NDArray[np.int8],
        message: NDArray[np.int64],
        tick: int,
        sight: Sight,
    ) -> None:
        """Takes in rows between two ticks; what they tell of other nodes shows after the next one."""
        node, time = self._node[batch.series[rows]], batch.time[rows]
        seen = kind <= _REST
        if seen.any():
            mine = rows[seen]
            order = np.lexsort((time[seen], message[seen]))
            mine, at, of = mine[order], time[seen][order], message[seen][order]
            begins = np.r_[True, (at[1:] != at[:-1]) | (of[1:] != of[:-1])]
            view = np.cumsum(begins) - 1
            first = np.flatnonzero(begins)
            values = np.full((first.size, 5), np.nan)
            frame = np.zeros(first.size, np.uint64)
            what = kind[seen][order]
            numeric = what < 5
            values[view[numeric], what[numeric]] = batch.value[mine[numeric]]
            for row, v in zip(mine[what == 5].tolist(), view[what == 5].tolist(), strict=True):
                frame[v] = int.from_bytes(batch.data.get(row, b"")[:8], "big")
            who, when = node[seen][order][first], at[first]
            flags, weight = self._views(
                who, when, values, frame, batch.boot[of[first]].astype(np.int64), tick
            )
            sight.flags[mine], sight.weight[mine] = flags[view], weight[view]
        dusty = (kind == _PARTICLES) | (kind == _DUST)
        if dusty.any() and self._met[_CAMERA]:
            sight.haze[rows[dusty]] = self._haze(node[dusty], time[dusty], tick)
        for number, name in ((_HUMIDITY, "humidity"), (_PARTICLES, "particles")):
            told = (kind == number) & np.isfinite(batch.value[rows])
            if told.any():
                self._tell(name, node[told], time[told], batch.value[rows[told]], tick)

    def _tell(
        self,
        name: str,
        node: NDArray[np.int64],
        time: NDArray[np.float64],
        value: NDArray[np.float64],
        tick: int,
    ) -> None:
        """Keeps the newest value of each node, and beside it the newest of the ticks before."""
        state = self._state
        backwards = node[::-1]
        nodes, last = np.unique(backwards, return_index=True)
        last = node.size - 1 - last
        newer = time[last] > state[f"{name}_time"][nodes, 0]
        nodes, last = nodes[newer], last[newer]
        turned = state[f"{name}_tick"][nodes] < tick
        if name == "particles" and turned.any():
            # what a finished tick ended with becomes part of the usual value
            some = nodes[turned]
            usual, ended = state["particles_usual"][some], state["particles"][some, 0]
            age = time[last[turned]] - state["particles_time"][some, 0]
            gain = np.minimum(age / _DAY, 0.2)
            moved = np.where(np.isnan(usual), ended, usual + gain * (ended - usual))
            state["particles_usual"][some] = np.where(np.isnan(ended), usual, moved)
        for each in (name, f"{name}_time"):
            state[each][nodes[turned], 1] = state[each][nodes[turned], 0]
        state[name][nodes, 0], state[f"{name}_time"][nodes, 0] = value[last], time[last]
        state[f"{name}_tick"][nodes] = tick

    def _told(
        self, name: str, near: NDArray[np.int64], time: NDArray[np.float64], tick: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What nodes `near` (n, NEAR) told before this tick, NaN where nothing fresh, and which of two memories that is."""
        state = self._state
        slot = np.where(state[f"{name}_tick"][near] < tick, 0, 1)
        value = state[name][near, slot]
        fresh = np.abs(time[:, None] - state[f"{name}_time"][near, slot]) <= FRESH
        return np.where((near >= 0) & fresh, value, np.nan), slot

    def _haze(self, node: NDArray[np.int64], time: NDArray[np.float64], tick: int) -> NDArray[np.float64]:
        """How hazy cameras near nodes (n,) see it, 0 to 1; only haze that came within a day speaks for particles."""
        near = self._near[_CAMERA][node]
        loss, slot = self._told("loss", near, time, tick)
        since = self._state["loss_since"][near, slot]
        with np.errstate(invalid="ignore"):
            young = time[:, None] - since <= WITNESS
        clear = np.clip((loss - 0.5 * HAZE) / (2 * HAZE), 0.0, 1.0)
        haze: NDArray[np.float64] = np.where(np.isfinite(loss) & young, clear, 0.0).max(axis=1, initial=0.0)
        return haze

    # -- looks

    def _views(
        self,
        node: NDArray[np.int64],
        time: NDArray[np.float64],
        values: NDArray[np.float64],
        frame: NDArray[np.uint64],
        boot: NDArray[np.int64],
        tick: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Judges looks (V,): the first of every camera, then the second, and so on."""
        flags, weight = np.zeros(node.size, np.int64), np.ones(node.size)
        order = np.argsort(node, kind="stable")
        turn = np.empty(node.size, np.int64)
        begins = np.r_[True, node[order][1:] != node[order][:-1]]
        starts = np.flatnonzero(begins)
        turn[order] = np.arange(node.size) - np.repeat(starts, np.diff(np.r_[starts, node.size]))
        usable = np.isfinite(values[:, :3]).all(axis=1)
        for k in range(int(turn.max()) + 1):
            some = np.flatnonzero((turn == k) & usable)
            some = some[time[some] > self._state["time"][node[some]]]
            if some.size:
                flags[some], weight[some] = self._round(
                    node[some], time[some], values[some], frame[some], boot[some], tick
                )
        return flags, weight

    def _round(
        self,
        c: NDArray[np.int64],
        t: NDArray[np.float64],
        values: NDArray[np.float64],
        frame: NDArray[np.uint64],
        boot: NDArray[np.int64],
        tick: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Judges and takes in one look of each of some cameras."""
        state = self._state
        light, contrast, sharp = values[:, 0], values[:, 1], values[:, 2]
        white = np.where(np.isnan(values[:, 3]), 0.0, values[:, 3])
        moving = np.isfinite(values[:, 4])
        pale = contrast / np.maximum(light, 0.02)
        hour, day = np.floor(t / 3600.0).astype(np.int64) % 24, np.floor(t / _DAY)
        before = state["time"][c]
        step = np.where(np.isfinite(before), t - before, 0.0)
        state["first"][c] = np.where(np.isnan(state["first"][c]), t, state["first"][c])

        repeated, stale = self._frames(c, frame, contrast)
        usual_light, usual_sharp, usual_pale = self._usual(c, hour, day)
        lit = (light >= LIT) & (white < WHITE)
        share_sharp = sharp / np.maximum(usual_sharp, 1e-3)
        share_pale = pale / np.maximum(usual_pale, 1e-3)
        dark = (light < DARK[0]) & (contrast < DARK[1]) & (usual_light > BRIGHT)
        nothing = (contrast < FLAT[0]) & (sharp < FLAT[1]) & (light >= DARK[0]) & (usual_pale > SCENE)
        scatter = state["scatter"][c, 0]
        unclear = (share_sharp < UNSHARP) & (sharp < usual_sharp - 4 * scatter)
        low = lit & (usual_light >= LIT) & (unclear | (share_pale < PALE))
        tells = lit & np.isfinite(share_sharp) & (usual_light >= LIT) & ~repeated & ~stale

        loss = np.where(tells, np.clip(1.0 - np.minimum(share_sharp, share_pale), 0.0, 1.0), np.nan)
        hazy = tells & (loss >= HAZE)
        since = np.where(hazy, np.where(np.isnan(state["low_since"][c]), t, state["low_since"][c]), np.nan)
        state["low_since"][c] = np.where(tells, since, state["low_since"][c])
        weather, damp = self._weather(c, t, since, tick)
        blocked = dark | (nothing & ~weather)
        count = np.where(low & ~blocked, state["low_n"][c] + 1, 0)
        state["low_n"][c] = count

        fine = lit & ~blocked & ~repeated & ~stale
        moved = self._moved(c, t, np.stack([sharp, pale], axis=1), moving, boot, step, fine, fine & ~low)
        searching = np.isfinite(state["jump"][c])
        fogged = (count >= FOGGED_LOOKS) & ~weather & ~searching & ~moved
        regional = (low & weather) | (nothing & weather)

        apart = blocked | repeated | stale | low | (white >= WHITE)
        doubted = np.where(apart, np.where(np.isnan(state["doubted"][c]), t, state["doubted"][c]), np.nan)
        state["doubted"][c] = doubted
        learn = (~apart | (t - doubted > LONGEST_DOUBT)) & ~searching
        self._learn(c, hour, day, step, light, sharp, pale, lit & learn, learn)
        self._show(c, t, np.where(blocked | moved | searching, np.nan, loss), since, tick)
        state["time"][c], state["boot"][c], state["had_motion"][c] = t, boot, moving
        state["now"][c] = np.stack([light, contrast, sharp, share_sharp, share_pale, weather | damp], axis=1)

        flags = np.zeros(c.size, np.int64)
        for found, flag in (
            (blocked, Flag.BLOCKED),
            (fogged & ~blocked, Flag.FOGGED),
            (moved, Flag.MOVED),
            (white >= WHITE, Flag.OVEREXPOSED),
            (repeated, Flag.STUCK),
            (stale, Flag.REPLAY),
            (regional, Flag.REGIONAL),
        ):
            flags |= np.where(found, int(flag), 0)
        weight = np.where(regional & damp, DAMP, 1.0)
        for flag, left in WEIGHTS.items():
            weight *= np.where(flags & int(flag), left, 1.0)
        return flags, weight

    def _frames(
        self, c: NDArray[np.int64], frame: NDArray[np.uint64], contrast: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether a frame is the one before, and whether it is one further back; a black picture is always the same."""
        state = self._state
        telling = (frame != 0) & (contrast > 0)
        repeated = telling & (state["frame"][c] == frame)
        stale = telling & ~repeated & (state["frames"][c] == frame[:, None]).any(axis=1)
        new = telling & ~repeated & ~stale
        n = c[new]
        state["frames"][n, state["frame_n"][n] % FRAMES] = frame[new]
        state["frame_n"][n] += 1
        state["frame"][c] = np.where(telling, frame, 0)
        return repeated, stale

    def _usual(
        self, c: NDArray[np.int64], hour: NDArray[np.int64], day: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Light that is least usual around this hour, and sharpness and relative contrast of clear days at it.

        NaN where no earlier day is known.
        """
        state = self._state
        around = (hour[:, None] + np.array([0, -1, 1])) % 24
        cc = c[:, None]
        known = state["light_day"][cc, around] < day[:, None]
        light = np.where(known, state["light"][cc, around], _INF).min(axis=1)
        light = np.where(np.isfinite(light), light, np.nan)
        known = state["clear_day"][cc, around] < day[:, None]
        pick = around[np.arange(c.size), np.argmax(known, axis=1)]
        some = known.any(axis=1)
        return (
            light,
            np.where(some, state["sharp"][c, pick], np.nan),
            np.where(some, state["pale"][c, pick], np.nan),
        )

    def _weather(
        self, c: NDArray[np.int64], t: NDArray[np.float64], since: NDArray[np.float64], tick: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether others saw the weather change too, and whether only damp air speaks for it."""
        state = self._state
        near = self._near[_CAMERA][c]
        near = np.where(near == c[:, None], -1, near)
        loss, slot = self._told("loss", near, t, tick)
        with np.errstate(invalid="ignore"):
            same = np.abs(state["loss_since"][near, slot] - since[:, None]) <= TOGETHER
        others = np.isfinite(loss).sum(axis=1)
        hazy = ((loss >= HAZE) & same).sum(axis=1)
        clear = (loss < HAZE).sum(axis=1)
        seen = (hazy > 0) & (2 * hazy >= others)
        damp = (self._told("humidity", self._near[_HUMIDITY][c], t, tick)[0] >= SATURATED).any(axis=1)
        near = self._near[_PARTICLES][c]
        dust, _ = self._told("particles", near, t, tick)
        usual = state["particles_usual"][near]
        smoke = ((dust >= SMOKE_LEAST) & (dust >= SMOKE * usual)).any(axis=1)
        # two cameras that see clearly outweigh the air: then it is dew on this lens
        damp = damp & ~seen & ~smoke & (clear < 2)
        return seen | (smoke & (clear < 2)) | damp, damp

    def _moved(
        self,
        c: NDArray[np.int64],
        t: NDArray[np.float64],
        now: NDArray[np.float64],
        moving: NDArray[np.bool_],
        boot: NDArray[np.int64],
        step: NDArray[np.float64],
        fine: NDArray[np.bool_],
        steady: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Whether the camera was turned within a day: the node lost its scene, and what it found is another one.

        A restart or a long pause counts as a loss. The infrared filter makes another scene too, but one that earlier nights know.
        """
        state = self._state
        lost = ~moving & state["had_motion"][c]
        lost |= (boot != state["boot"][c]) & (state["boot"][c] >= 0)
        lost |= step > AWAY
        old = t - state["first"][c] >= _DAY
        begins = lost & old & np.isnan(state["jump"][c]) & (state["level_n"][c] >= LEVEL_LOOKS)
        b = c[begins]
        state["jump"][b], state["jump_from"][b] = t[begins], state["level"][b]
        state["jump_sum"][b], state["jump_n"][b] = 0.0, 0
        searching = np.isfinite(state["jump"][c])
        counts = searching & moving & fine
        k = c[counts]
        state["jump_sum"][k] += now[counts]
        state["jump_n"][k] += 1
        done = searching & (state["jump_n"][c] >= SETTLED_LOOKS)
        after = state["jump_sum"][c] / np.maximum(state["jump_n"][c], 1)[:, None]
        base = np.maximum(state["jump_from"][c], 1e-3)
        limit = np.maximum(np.array(JUMP), JUMP_DEVIATIONS * state["scatter"][c] / base)
        apart = (np.abs(after / base - 1.0) > limit).any(axis=1)
        bins = np.maximum(np.stack([state["sharp"][c], state["pale"][c]], axis=2), 1e-3)
        fits = (np.abs(after[:, None, :] / bins - 1.0) < np.array(KNOWN_SCENE)).all(axis=2).any(axis=1)
        found = done & apart & ~fits
        f = c[found]
        state["moved_until"][f] = t[found] + MOVED_SECONDS
        for name in ("sharp", "pale"):
            state[name][f] = np.nan
        state["clear_day"][f] = _INF
        state["level"][f] = after[found]
        state["scatter"][f], state["level_n"][f], state["low_n"][f] = 0.0, SETTLED_LOOKS, 0
        state["low_since"][f] = np.nan
        over = done | (searching & (t - state["jump"][c] > _DAY))
        state["jump"][c[over]] = np.nan
        # the level is that of clear looks at a scene that is known to be the same
        keep = steady & np.isnan(state["jump"][c]) & ~over
        k = c[keep]
        level = state["level"][k]
        n = state["level_n"][k]
        gain = np.maximum(1.0 / (n + 1.0), 0.1)[:, None]
        first = (n == 0)[:, None]
        off = np.where(first, 0.0, now[keep] - level)
        state["level"][k] = np.where(first, now[keep], level + gain * off)
        state["scatter"][k] += 0.1 * (np.abs(off) - state["scatter"][k])
        state["level_n"][k] = np.minimum(n + 1, 10**6)
        return t < state["moved_until"][c]

    def _learn(
        self,
        c: NDArray[np.int64],
        hour: NDArray[np.int64],
        day: NDArray[np.float64],
        step: NDArray[np.float64],
        light: NDArray[np.float64],
        sharp: NDArray[np.float64],
        pale: NDArray[np.float64],
        clear: NDArray[np.bool_],
        any_light: NDArray[np.bool_],
    ) -> None:
        """Lets the usual of this hour follow; clear days count for more than pale ones."""
        state = self._state
        gain = np.minimum(step, 1800.0) / LEARN

        def follow(name: str, some: NDArray[np.bool_], value: NDArray[np.float64], down: float) -> None:
            k, h = c[some], hour[some]
            usual = state[name][k, h]
            off = value[some] - usual
            slow = np.where(off < 0, down, 1.0) * gain[some]
            state[name][k, h] = np.where(np.isnan(usual), value[some], usual + slow * off)

        follow("light", any_light, light, 1.0)
        follow("sharp", clear, sharp, 1.0 / 3.0)
        follow("pale", clear, pale, 1.0 / 3.0)
        for name, some in (("light_day", any_light), ("clear_day", clear)):
            k, h = c[some], hour[some]
            state[name][k, h] = np.minimum(state[name][k, h], day[some])

    def _show(
        self,
        c: NDArray[np.int64],
        t: NDArray[np.float64],
        loss: NDArray[np.float64],
        since: NDArray[np.float64],
        tick: int,
    ) -> None:
        """Publishes how clear cameras see, for those who look after the next tick."""
        state = self._state
        turned = c[state["loss_tick"][c] < tick]
        for name in ("loss", "loss_since", "loss_time"):
            state[name][turned, 1] = state[name][turned, 0]
        state["loss"][c, 0], state["loss_since"][c, 0], state["loss_time"][c, 0] = loss, since, t
        state["loss_tick"][c] = tick

    # -- who is there

    def _number(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Kinds and nodes of series that got a number since; nothing is asked of them before they speak."""
        if len(pairs) > self._kind.size:
            new = pairs[self._kind.size :]
            kinds = [KINDS.get(channel, -1) for _, channel in new]
            self._kind = np.r_[self._kind, np.array(kinds, np.int8)]
            of = [
                self._names.setdefault(node, len(self._names)) if kind >= 0 else -1
                for (node, _), kind in zip(new, kinds, strict=True)
            ]
            self._node = np.r_[self._node, np.array(of, np.int64)]
            if len(self._names) > self._lat.size:
                self._grow(max(2 * self._lat.size, len(self._names)))
            for node, number in self._names.items():
                if node in self._places:
                    self._lat[number], self._lon[number] = self._places[node]

    def _meet(self, upto: int) -> None:
        """Takes series before number `upto` into account as witnesses of each other."""
        asking: set[int] = set()
        for number in range(self._series, upto):
            kind, node = int(self._kind[number]), int(self._node[number])
            witness = _CAMERA if 0 <= kind <= _REST else kind
            if kind < 0 or node in self._met[witness]:
                continue
            self._met[witness][node] = None
            # only cameras ask everybody, particles ask cameras
            asking.add(node)
            asking.update(self._met[_CAMERA])
            if witness == _CAMERA:
                asking.update(self._met[_PARTICLES], self._met[_DUST])
        for each in sorted(asking):
            self._choose(each)
        self._series = max(self._series, upto)

    def _distances(self, node: int) -> NDArray[np.float64]:
        count = len(self._names)
        north = (self._lat[:count] - self._lat[node]) * 111.2
        east = (self._lon[:count] - self._lon[node]) * 111.2 * np.cos(np.radians(self._lat[node]))
        distance = np.hypot(north, east)
        distance = np.where(np.isnan(distance), UNKNOWN, distance)
        distance[node] = 0.0
        return distance

    def _choose(self, node: int) -> None:
        """The nearest witnesses of each kind to a node: of cameras all kinds, of particles cameras."""
        camera = node in self._met[_CAMERA]
        dusty = node in self._met[_PARTICLES] or node in self._met[_DUST]
        if not camera and not (dusty and self._met[_CAMERA]):
            return
        distance = self._distances(node)
        for kind, near in self._near.items():
            near[node] = -1
            if camera or kind == _CAMERA:
                others = np.array(list(self._met[kind]), np.int64)
                others = others[distance[others] <= REACH]
                others = others[np.lexsort((others, distance[others]))][:NEAR]
                near[node, : others.size] = others

    # -- memory

    def _grow(self, capacity: int) -> None:
        for name, (form, shape, empty) in _NODE.items():
            grown = np.full((capacity, *shape), empty, dtype=form)
            if name in self._state:
                grown[: len(self._state[name])] = self._state[name]
            self._state[name] = grown
        for kind, near in self._near.items():
            wider = np.full((capacity, NEAR), -1, np.int64)
            wider[: len(near)] = near
            self._near[kind] = wider
        places = np.full((2, capacity), np.nan)
        places[:, : self._lat.size] = self._lat, self._lon
        self._lat, self._lon = places[0].copy(), places[1].copy()

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is remembered: arrays by name, and the rest as JSON values. `load` takes it back."""
        count = len(self._names)
        return {name: self._state[name][:count] for name in _NODE}, {
            "clock": None if np.isinf(self._clock) else self._clock,
            "series": self._series,
            "places": self._places,
        }

    @classmethod
    def load(
        cls, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
    ) -> Cameras:
        """The cameras with the memory that `dump` gave, of series that are numbers in `pairs`."""
        cameras = cls()
        cameras._clock = -_INF if rest["clock"] is None else float(rest["clock"])
        cameras._places = {node: (float(lat), float(lon)) for node, (lat, lon) in rest["places"].items()}
        cameras._number(pairs)
        cameras._meet(int(rest["series"]))
        for name in _NODE:
            saved = arrays[name]
            cameras._state[name][: len(saved)] = saved
        return cameras
