"""What the follower of the SQLite store holds in memory between two commits, and how it gets there and to the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import msgspec

from sensorhub.channels import BY_NAME, STORE
from sensorhub.nodes.dater import Dater
from sensorhub.store.schema import FIVE_MINUTES

_integers: Final = msgspec.json.Decoder(list[int]).decode

_INSERT_MESSAGE: Final = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_NODE: Final = (
    "UPDATE node SET messages = messages + ?, readings = readings + ?, judged = judged + ?, trusted = trusted + ?,"
    " last_time = coalesce(max(coalesce(last_time, ?5), ?5), last_time),"
    " last_received = coalesce(?6, last_received) WHERE id = ?7"
)


class Layout(NamedTuple):
    """A combination of channels that messages come in: the ids of its channels, in record order."""

    id: int
    channels: tuple[int, ...]
    numbers: tuple[int, ...] | None  # records that hold a stored number; None means all


class Place(NamedTuple):
    """Where a message counts: its node, the 5-minute buckets of its records, its layout."""

    node: int
    buckets: tuple[int, ...]
    layout: Layout


@dataclass(slots=True)
class Change:
    """What entries add to the totals of a node."""

    messages: int = 0
    readings: int = 0
    judged: int = 0
    trusted: int = 0
    last_time: float | None = None
    last_received: int | None = None


@dataclass(slots=True)
class State:
    """What the follower keeps in memory of the database, and what it has not yet written."""

    cursor: int = 0
    log_id: bytes = b""
    leaf: bytes = b""
    clock: float | None = None
    raw_from: int = 0
    five_minute_from: int = 0
    hourly_from: int = 0
    expired: int = 0
    unreadable: int = 0
    judged_upto: int = -1
    flags: dict[int, int] = field(default_factory=dict)
    dater: Dater = field(default_factory=Dater)
    dater_changed: bool = False
    boots: dict[bytes, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    layouts: dict[tuple[str, ...], Layout] = field(default_factory=dict)
    layout_by_id: dict[int, Layout] = field(default_factory=dict)
    sources: dict[tuple[int, int], float] = field(default_factory=dict)
    recent: dict[int, Place] = field(default_factory=dict)
    dirty: set[tuple[int, int]] = field(default_factory=set)
    new_dirty: list[tuple[int, int]] = field(default_factory=list)
    messages: list[tuple[Any, ...]] = field(default_factory=list)
    verdicts: dict[int, tuple[int, str, str | None]] = field(default_factory=dict)
    reviewed: set[int] = field(default_factory=set)
    changes: dict[int, Change] = field(default_factory=dict)

    def change(self, node: int) -> Change:
        """The totals to be added to a node, so far."""
        found = self.changes.get(node)
        if found is None:
            found = self.changes[node] = Change()
        return found

    @classmethod
    def load(cls, db: sqlite3.Connection) -> Self:
        """What the database holds: at the start, and after a transaction that failed."""
        state = cls()
        meta = dict(db.execute("SELECT key, value FROM meta"))
        for key, value in meta.items():
            if key.startswith("flag "):
                state.flags[int(key[5:])] = value
            elif key == "dater":
                state.dater = Dater.load(value)
            else:
                setattr(state, key, value)
        state.nodes = {name: number for number, name in db.execute("SELECT id, name FROM node")}
        state.channels = {name: number for number, name in db.execute("SELECT id, name FROM channel")}
        names = {number: name for name, number in state.channels.items()}
        for number, listed in db.execute("SELECT id, channels FROM layout ORDER BY id"):
            channels = tuple(_integers(listed))
            layout = layout_of(number, tuple(names[c] for c in channels), channels)
            state.layouts[tuple(names[c] for c in channels)] = state.layout_by_id[number] = layout
        state.sources = {
            (node, layout): span for node, layout, span in db.execute("SELECT node, layout, span FROM source")
        }
        state.dirty = set(db.execute("SELECT node, bucket FROM dirty"))
        state.reviewed = {message for (message,) in db.execute("SELECT message FROM reviewed")}
        return state

    def write(self, db: sqlite3.Connection) -> None:
        """Writes the messages and verdicts held back so far, so that the database can be asked for them."""
        if self.messages:
            db.executemany(_INSERT_MESSAGE, self.messages)
            self.messages.clear()
        if self.verdicts:
            db.executemany(
                "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?, ?)",
                [(message, *row) for message, row in self.verdicts.items()],
            )
            self.verdicts.clear()

    def flush(self, db: sqlite3.Connection) -> None:
        """Writes all that is held back, cursor included."""
        self.write(db)
        db.executemany(
            _UPDATE_NODE,
            [
                (c.messages, c.readings, c.judged, c.trusted, c.last_time, c.last_received, node)
                for node, c in self.changes.items()
            ],
        )
        self.changes.clear()
        if self.new_dirty:
            db.executemany("INSERT OR IGNORE INTO dirty VALUES (?, ?)", self.new_dirty)
            self.new_dirty.clear()
        meta: list[tuple[str, Any]] = [
            ("cursor", self.cursor),
            ("log_id", self.log_id),
            ("leaf", self.leaf),
            ("clock", self.clock),
            ("raw_from", self.raw_from),
            ("five_minute_from", self.five_minute_from),
            ("hourly_from", self.hourly_from),
            ("expired", self.expired),
            ("unreadable", self.unreadable),
            ("judged_upto", self.judged_upto),
            *((f"flag {bit}", count) for bit, count in self.flags.items()),
        ]
        if self.dater_changed:
            meta.append(("dater", self.dater.dump()))
            self.dater_changed = False
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)


def layout_of(number: int, names: tuple[str, ...], channels: tuple[int, ...]) -> Layout:
    """The layout with id `number` of channels by name and by id."""
    numbers = tuple(
        i for i, n in enumerate(names) if BY_NAME[n].kind == "number" and STORE in BY_NAME[n].projections
    )
    return Layout(number, channels, None if len(numbers) == len(names) else numbers)


def buckets_of(base: int | None, offsets: Iterable[float], *, shifted: bool) -> tuple[int, ...]:
    """Starts of the 5-minute buckets that records at `offsets` from `base` fall into; none without a base."""
    if base is None:
        return ()
    if not shifted:
        return (base // FIVE_MINUTES * FIVE_MINUTES,)
    return tuple({int((base + offset) // FIVE_MINUTES) * FIVE_MINUTES for offset in set(offsets)})
