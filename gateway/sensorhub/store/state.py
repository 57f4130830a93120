"""What the follower of the SQLite store holds in memory between two commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sensorhub.channels import BY_NAME, STORE
from sensorhub.nodes.dater import Dater
from sensorhub.store.schema import FIVE_MINUTES


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
