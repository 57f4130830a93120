"""Questions to the SQLite store; any number of processes may ask while one writes."""

from __future__ import annotations

import heapq
import math
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.flags import FULL_SCORE, flag_names
from sensorhub.store.schema import DAY, FIVE_MINUTES, HOUR, RECORDS, connect, trouble

_MATRIX: Final = msgspec.json.Decoder(list[list[float | None]])
_INTEGERS: Final = msgspec.json.Decoder(list[int])
_PAIRS: Final = msgspec.json.Decoder(list[tuple[int, int]])

_ROLLUP_COLUMNS: Final = (
    "time",
    "n",
    "mean",
    "min",
    "max",
    "last",
    "steadiness",
    "trusted_n",
    "trusted_mean",
    "trusted_steadiness",
    "flags",
)
# beyond every time, and still a whole number: what an endless range is cut to
_EVER: Final = 2.0**52

RESOLUTIONS: Final = {"5m": FIVE_MINUTES, "1h": HOUR}


class ResolutionError(SensorhubError):
    """Raised when a series is asked for in a resolution that is not kept."""


class Rows(NamedTuple):
    """Messages of one layout as they stand in the database, one element of each list a message."""

    ids: list[int]
    bases: list[int]
    clones: list[int | None]
    times: list[str | None]
    values: list[str]
    scores: list[str | None]
    flags: list[str | None]


class Matrix(NamedTuple):
    """Messages of one layout, unpacked: rows are messages, columns are records.

    Attributes:
        id: int64 (messages, records), message * RECORDS + record.
        time: float64, Unix seconds.
        value: float64, NaN where a record holds no number.
        score: int16, -1 where not judged.
        flags: int64.
        clone: bool (messages,), the message shares its (boot, seq) with another.
    """

    id: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    score: NDArray[np.int16]
    flags: NDArray[np.int64]
    clone: NDArray[np.bool_]


def unpack(rows: Rows) -> Matrix:
    """The arrays that the JSON columns of `rows` hold; there must be at least one row."""
    value = np.array(_MATRIX.decode(f"[{','.join(rows.values)}]"), dtype=np.float64)
    shape = value.shape
    time = np.array(rows.bases, dtype=np.float64)[:, None] + np.zeros(shape)
    late = [i for i, text in enumerate(rows.times) if text is not None]
    if late:
        time[late] += np.array(
            _MATRIX.decode(f"[{','.join(rows.times[i] or '' for i in late)}]"), dtype=np.float64
        )
    score = np.full(shape, -1, dtype=np.int16)
    judged = [i for i, text in enumerate(rows.scores) if text is not None]
    if judged:
        score[judged] = np.array(
            _MATRIX.decode(f"[{','.join(rows.scores[i] or '' for i in judged)}]"), dtype=np.int16
        )
    flags = np.zeros(shape, dtype=np.int64)
    for i, text in enumerate(rows.flags):
        if text is not None:
            flags[i] = _INTEGERS.decode(text)
    ids = np.array(rows.ids, dtype=np.int64)[:, None] * RECORDS + np.arange(shape[1])
    return Matrix(ids, time, value, score, flags, np.array([c is not None for c in rows.clones]))


def _nearest(rows: Rows, columns: list[int], time: float) -> tuple[float, int, int] | None:
    """(distance in seconds, row, record) of the reading nearest to `time`, the later of two equal ones."""
    if not rows.ids:
        return None
    m = unpack(rows)
    times = np.where(np.isnan(m.value[:, columns]), np.nan, m.time[:, columns])
    distance = np.abs(times - time)
    if np.isnan(distance).all():
        return None
    least = float(np.nanmin(distance))
    row, column = max(np.argwhere(distance == least).tolist(), key=lambda at: (times[at[0], at[1]], at))
    return least, row, columns[column]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def score_of(stored: int | None) -> float | None:
    """The score 0.0 to 1.0 of a stored score 0 to 255 (to four digits), None when there is none."""
    return None if stored is None or stored < 0 else round(stored / FULL_SCORE, 4)


class SqliteReader:
    """A store opened for questions only. It follows a rebuild, which puts a new file in the place of the old.

    Safe for several threads; one question is answered at a time.

    Raises:
        StoreNotBegunError: there is no store yet, or nothing in it.
        StoreError: the file is not a store of this version. Each question raises it too, when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        # looked at before it is opened: a file that comes in between is then taken for a new one, and opened again
        inode = _inode(path)
        self._db = connect(path, write=False)
        self._inode = inode

    def close(self) -> None:
        """Lets go of the database."""
        with self._lock:
            self._db.close()

    def nodes(self) -> list[dict[str, Any]]:
        """Each node, by name; see `Store.nodes`. `trusted_share` is None while nothing is judged."""
        rows = self._all(
            "SELECT name, kind, owner, geohash, revoked, messages, readings, judged, trusted, last_time,"
            " last_received FROM node ORDER BY name"
        )
        return [
            {
                "node": name,
                "kind": kind,
                "owner": owner,
                "geohash": geohash,
                "revoked": revoked is not None,
                "messages": messages,
                "readings": readings,
                "judged": judged,
                "trusted": trusted,
                "trusted_share": trusted / judged if judged else None,
                "last_time": last_time,
                "last_received": None if last_received is None else last_received / 1000,
            }
            for (
                name,
                kind,
                owner,
                geohash,
                revoked,
                messages,
                readings,
                judged,
                trusted,
                last_time,
                last_received,
            ) in rows
        ]

    def latest(self, node: str | None = None) -> list[dict[str, Any]]:
        """The newest kept reading of each channel, by node and channel; see `Store.latest`.

        It is taken from the newest message of each layout (combination of channels) that the node sends.
        """
        with self._lock:
            names, channels = self._names()
            sources = self._all(
                "SELECT s.node, s.layout, l.channels FROM source s JOIN node n ON n.id = s.node"
                " JOIN layout l ON l.id = s.layout WHERE n.name = coalesce(?, n.name) ORDER BY n.name, s.layout",
                (node,),
            )
            newest: dict[tuple[str, str], dict[str, Any]] = {}
            for owner, layout, listed in sources:
                rows = self._rows(
                    "m.node = ? AND m.layout = ? AND m.last IS NOT NULL ORDER BY m.last DESC, m.id DESC LIMIT 1",
                    (owner, layout),
                )
                if not rows.ids:
                    continue
                matrix = unpack(rows)
                for record, channel in enumerate(_INTEGERS.decode(listed)):
                    if math.isnan(matrix.value[0, record]):
                        continue
                    key = (names[owner], channels[channel])
                    found = self._reading(*key, rows, matrix, 0, record)
                    known = newest.get(key)
                    if known is None or (found["time"], found["message"], found["record"]) >= (
                        known["time"],
                        known["message"],
                        known["record"],
                    ):
                        newest[key] = found
        return [newest[key] for key in sorted(newest)]

    def series(
        self,
        node: str,
        channel: str,
        start: float,
        end: float,
        resolution: str = "auto",
        limit: int = 5000,
    ) -> dict[str, Any]:
        """One channel of one node as columns; see `Store.series`.

        Directions have no min and max, and a `steadiness`: the length of the mean vector, 1 = one direction.

        Raises:
            ResolutionError: `resolution` is none of raw, 5m, 1h and auto.
        """
        if resolution not in ("auto", "raw", *RESOLUTIONS):
            raise ResolutionError(
                f"{resolution!r} is not a resolution of the store; it keeps raw, 5m and 1h, and picks with auto"
            )
        start, end = max(start, -_EVER), min(end, _EVER)
        with self._lock:
            node_id = self._id("node", node)
            channel_id = self._id("channel", channel)
            if node_id is None or channel_id is None:
                chosen = "raw" if resolution == "auto" else resolution
                empty: dict[str, Any] = {key: [] for key in self._columns(chosen)}
                return {"node": node, "channel": channel, "resolution": chosen, "truncated": False, **empty}
            if resolution == "auto":
                resolution = self._resolution(node_id, channel_id, start, end, limit)
            if resolution == "raw":
                columns, truncated = self._raw(node_id, channel_id, start, end, limit)
            else:
                columns, truncated = self._rollup(resolution, node_id, channel_id, start, end, limit)
        return {"node": node, "channel": channel, "resolution": resolution, "truncated": truncated, **columns}

    def days(
        self, node: str | None, start: float, end: float, channel: str | None = None, limit: int = 5000
    ) -> list[dict[str, Any]]:
        """How readings were judged, by node and day; see `Store.days`. From hourly rollups, so kept as long as they are."""
        first, last = (
            math.floor(max(-_EVER, min(t, _EVER)) / DAY) for t in (start, math.nextafter(end, -_EVER))
        )
        wanted = None if channel is None else self._id("channel", channel)
        if channel is not None and wanted is None:
            return []
        found: list[dict[str, Any]] = []
        # node by node along the primary key and no further than asked, so that other questions get in between
        for node_id, name in self._all(
            "SELECT id, name FROM node WHERE name = coalesce(?, name) ORDER BY name", (node,)
        ):
            if len(found) < limit:
                where = (node_id, first * DAY, (last + 1) * DAY, wanted)
                found += self._node_days(name, where, limit - len(found))
        return found

    def _node_days(
        self, name: str, arguments: tuple[int, int, int, int | None], limit: int
    ) -> list[dict[str, Any]]:
        source = "rollup_1h WHERE node = ? AND bucket >= ? AND bucket < ? AND channel = coalesce(?, channel)"
        rows = self._all(
            f"SELECT bucket / {DAY} * {DAY} AS day, sum(n), sum(judged_n), sum(trusted_n), sum(score)"  # noqa: S608 - ours
            f" FROM {source} GROUP BY day ORDER BY day LIMIT ?",
            (*arguments, limit),
        )
        flags: dict[int, Counter[int]] = {}
        for day, counts in self._all(
            f"SELECT bucket / {DAY} * {DAY}, flag_counts FROM {source} AND flag_counts IS NOT NULL",  # noqa: S608 - ours
            arguments,
        ):
            flags.setdefault(day, Counter()).update(dict(_PAIRS.decode(counts)))
        return [
            {
                "node": name,
                "time": day,
                "readings": readings,
                "judged": judged,
                "trusted": trusted,
                "trusted_share": trusted / judged if judged else None,
                "mean_score": round(score / judged / FULL_SCORE, 4) if judged else None,
                "flags": {flag_names(1 << bit)[0]: n for bit, n in sorted(flags.get(day, {}).items())},
            }
            for day, readings, judged, trusted, score in rows
        ]

    def artefacts(self, what: str, start: int = 0) -> list[tuple[int, int, bytes, str]]:
        """See `Store.artefacts`."""
        rows = self._all(
            "SELECT entry, ms, sha256, description FROM artefact WHERE what = ? AND entry >= ? ORDER BY entry",
            (what, start),
        )
        return [(int(entry), int(ms), bytes(sha256), str(text)) for entry, ms, sha256, text in rows]

    def flag_counts(self) -> dict[str, int]:
        """How many readings carry each flag; see `Store.flag_counts`. Counts outlive raw readings."""
        rows = self._all("SELECT key, value FROM meta WHERE key LIKE 'flag %'")
        by_bit = sorted((int(key.split()[1]), value) for key, value in rows if value)
        return {flag_names(1 << bit)[0]: count for bit, count in by_bit}

    def counts(self) -> dict[str, int]:
        """Totals; see `Store.counts`. `raw_from` is the time before which single readings are gone, or 0."""
        with self._lock:
            meta = dict(
                self._all(
                    "SELECT key, value FROM meta WHERE key IN ('cursor', 'expired', 'unreadable', 'raw_from')"
                )
            )
            nodes, messages, readings, judged, trusted = self._all(
                "SELECT count(*), sum(messages), sum(readings), sum(judged), sum(trusted) FROM node"
            )[0]
            # named, because SQLite would rather scan the index of all messages than use the small one
            undated, cloned = (
                self._all(f"SELECT count(*) FROM message INDEXED BY {index} WHERE {which}")[0][0]  # noqa: S608
                for index, which in (
                    ("message_undated", "last IS NULL"),
                    ("message_cloned", "clone IS NOT NULL"),
                )
            )
        return {
            "cursor": meta.get("cursor", 0),
            "nodes": nodes,
            "messages": messages or 0,
            "readings": readings or 0,
            "judged": judged or 0,
            "trusted": trusted or 0,
            "undated": undated,
            "cloned": cloned,
            "expired": meta.get("expired", 0),
            "unreadable": meta.get("unreadable", 0),
            "raw_from": meta.get("raw_from", 0),
        }

    def messages(
        self, nodes: Sequence[str] | None, channels: Sequence[str] | None, start: float, end: float
    ) -> list[int]:
        """Log indices of messages; see `Store.messages`. Only raw readings count: see `counts()["raw_from"]`."""
        with self._lock:
            wanted = None if channels is None else {self._id("channel", name) for name in channels}
            owners = None if nodes is None else {self._id("node", name) for name in nodes}
            found: list[list[int]] = []
            for node, layout, span, listed in self._all(
                "SELECT s.node, s.layout, s.span, l.channels FROM source s JOIN layout l ON l.id = s.layout"
            ):
                columns = [i for i, c in enumerate(_INTEGERS.decode(listed)) if wanted is None or c in wanted]
                if not columns or (owners is not None and node not in owners):
                    continue
                rows = self._between(node, layout, span, start, end)
                if rows.ids:
                    m = unpack(rows)
                    inside = (m.time >= start) & (m.time < end) & ~np.isnan(m.value)
                    hits = inside[:, columns].any(axis=1)
                    found.append(sorted(np.array(rows.ids, dtype=np.int64)[hits].tolist()))
        return list(heapq.merge(*found))

    def locate(self, node: str, channel: str, time: float) -> dict[str, Any] | None:
        """The kept reading nearest to `time`; see `Store.locate`. Of two equally near ones the later."""
        with self._lock:
            node_id, channel_id = self._id("node", node), self._id("channel", channel)
            if node_id is None or channel_id is None:
                return None
            best: tuple[float, dict[str, Any]] | None = None
            for layout, span, columns in self._sources(node_id, channel_id):
                source = "m.node = ? AND m.layout = ? AND"
                beside = [
                    self._rows(f"{source} m.last {order} LIMIT 1", (node_id, layout, time))
                    for order in ("< ? ORDER BY m.last DESC, m.id DESC", ">= ? ORDER BY m.last, m.id")
                ]
                # the messages on either side bound the distance; the nearest record may be in another one
                bounds = [found[0] for rows in beside if (found := _nearest(rows, columns, time)) is not None]
                if not bounds:
                    continue
                reach = min(bounds)
                rows = self._between(
                    node_id, layout, span, time - reach, math.nextafter(time + reach, math.inf)
                )
                nearest = _nearest(rows, columns, time)
                if nearest is not None and (best is None or nearest[0] < best[0]):
                    distance, row, record = nearest
                    best = distance, self._reading(node, channel, rows, unpack(rows), row, record)
        return best[1] if best else None

    def log_id(self) -> bytes | None:
        """See `Store.log_id`."""
        rows = self._all("SELECT value FROM meta WHERE key = 'log_id'")
        return rows[0][0] or None if rows else None

    def covers(self) -> int:
        """See `Store.covers`."""
        return self._meta("cursor")

    def node_entries(self) -> list[int]:
        """See `Store.node_entries`."""
        return [entry for (entry,) in self._all("SELECT entry FROM node_entry ORDER BY entry")]

    def verdict(self, message: int) -> tuple[int, list[tuple[int, int]]] | None:
        """The verdict in force on a message; see `Store.verdict`."""
        rows = self._all("SELECT entry, scores, flags FROM verdict WHERE message = ?", (message,))
        if not rows:
            return None
        entry, scores, flags = rows[0]
        listed = _INTEGERS.decode(scores)
        marks = _INTEGERS.decode(flags) if flags is not None else [0] * len(listed)
        return entry, list(zip(listed, marks, strict=True))

    # -- below: how the rows are found

    def _all(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            self._reopen()
            try:
                return self._db.execute(sql, arguments).fetchall()
            except sqlite3.Error as error:
                raise trouble(self.path, error) from error

    def _reopen(self) -> None:
        inode = _inode(self.path)
        # None in the middle of a swap: the old file still answers
        if inode is not None and inode != self._inode:
            fresh = connect(self.path, write=False)
            self._db.close()
            self._db, self._inode = fresh, inode

    def _names(self) -> tuple[dict[int, str], dict[int, str]]:
        nodes = {int(i): str(name) for i, name in self._all("SELECT id, name FROM node")}
        return nodes, {int(i): str(name) for i, name in self._all("SELECT id, name FROM channel")}

    def _id(self, table: str, name: str) -> int | None:
        rows = self._all(f"SELECT id FROM {table} WHERE name = ?", (name,))  # noqa: S608 - table is ours
        return rows[0][0] if rows else None

    def _sources(self, node: int, channel: int) -> Iterator[tuple[int, float, list[int]]]:
        """(layout, span, records of the channel in it) of each layout of a node that has the channel."""
        for layout, span, listed in self._all(
            "SELECT s.layout, s.span, l.channels FROM source s JOIN layout l ON l.id = s.layout WHERE s.node = ?"
            " ORDER BY s.layout",
            (node,),
        ):
            columns = [i for i, c in enumerate(_INTEGERS.decode(listed)) if c == channel]
            if columns:
                yield layout, span, columns

    def _rows(self, where: str, arguments: Sequence[Any]) -> Rows:
        rows = self._all(
            'SELECT m.id, m.base, m.clone, m.times, m."values", q.scores, q.flags'  # noqa: S608 - `where` is ours
            f" FROM message m LEFT JOIN verdict q ON q.message = m.id WHERE {where}",
            arguments,
        )
        if not rows:
            return Rows([], [], [], [], [], [], [])
        return Rows(*map(list, zip(*rows, strict=True)))

    def _between(self, node: int, layout: int, span: float, start: float, end: float) -> Rows:
        # `last` leads the index; no message of this source reaches further back from it than `span`
        return self._rows(
            "m.node = ? AND m.layout = ? AND m.last >= ? AND m.last < ? AND m.first < ?",
            (node, layout, start, end + span, end),
        )

    def _reading(
        self, node: str, channel: str, rows: Rows, matrix: Matrix, row: int, record: int
    ) -> dict[str, Any]:
        score = int(matrix.score[row, record])
        return {
            "node": node,
            "channel": channel,
            "time": float(matrix.time[row, record]),
            "value": float(matrix.value[row, record]),
            "score": score_of(score),
            "flags": None if score < 0 else int(matrix.flags[row, record]),
            "message": rows.ids[row],
            "record": record,
        }

    def _columns(self, resolution: str) -> tuple[str, ...]:
        if resolution == "raw":
            return ("time", "value", "score", "flags", "message", "record")
        return _ROLLUP_COLUMNS

    def _resolution(self, node: int, channel: int, start: float, end: float, limit: int) -> str:
        first = math.floor(start / HOUR) * HOUR
        hours = self._all(
            "SELECT count(*), sum(n), min(bucket), max(bucket) FROM rollup_1h"
            " WHERE node = ? AND bucket >= ? AND bucket < ? AND channel = ?",
            (node, first, end, channel),
        )[0]
        count, readings, oldest, newest = hours
        if not count:
            return "raw"
        raw_from, five_from = (self._meta(key) for key in ("raw_from", "five_minute_from"))
        if oldest >= raw_from and readings <= limit:
            return "raw"
        if oldest >= five_from and min(readings, (newest + HOUR - oldest) // FIVE_MINUTES) <= limit:
            return "5m"
        return "1h"

    def _meta(self, key: str) -> int:
        rows = self._all("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else 0

    def _raw(
        self, node: int, channel: int, start: float, end: float, limit: int
    ) -> tuple[dict[str, Any], bool]:
        parts: list[tuple[NDArray[Any], ...]] = []
        for layout, span, columns in self._sources(node, channel):
            rows = self._between(node, layout, span, start, end)
            if not rows.ids:
                continue
            m = unpack(rows)
            parts.append(
                tuple(array[:, columns].ravel() for array in (m.time, m.id, m.value, m.score, m.flags))
            )
        if not parts:
            return {key: [] for key in self._columns("raw")}, False
        time, ids, value, score, flags = (np.concatenate(each) for each in zip(*parts, strict=True))
        keep = np.flatnonzero((time >= start) & (time < end) & ~np.isnan(value))
        keep = keep[np.lexsort((ids[keep], time[keep]))]
        truncated = keep.size > limit
        keep = keep[:limit]
        judged = score[keep].tolist()
        return {
            "time": time[keep].tolist(),
            "value": value[keep].tolist(),
            "score": [score_of(each) for each in judged],
            "flags": [f if s >= 0 else None for s, f in zip(judged, flags[keep].tolist(), strict=True)],
            "message": (ids[keep] // RECORDS).tolist(),
            "record": (ids[keep] % RECORDS).tolist(),
        }, truncated

    def _rollup(
        self, resolution: str, node: int, channel: int, start: float, end: float, limit: int
    ) -> tuple[dict[str, Any], bool]:
        seconds = RESOLUTIONS[resolution]
        rows = self._all(
            "SELECT bucket, n, mean, min, max, last, steadiness, trusted_n, trusted_mean,"  # noqa: S608 - ours
            f" trusted_steadiness, flags FROM rollup_{resolution} WHERE node = ? AND bucket > ? AND bucket < ? AND channel = ?"
            " ORDER BY bucket LIMIT ?",
            (node, start - seconds, end, channel, limit + 1),
        )
        truncated = len(rows) > limit
        rows = rows[:limit]
        if not rows:
            return {key: [] for key in _ROLLUP_COLUMNS}, False
        return dict(zip(_ROLLUP_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)), truncated
