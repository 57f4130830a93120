"""The SQLite store: follows the log, keeps what it says of readings, and summarises it.

Everything in the database is a function of the log up to the cursor, which is committed together with what
it stands for. Where the entries are cut into batches, or how often the process dies, changes nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import cbor2
import msgspec

from sensorhub.channels import BY_NAME
from sensorhub.flags import TRUSTED
from sensorhub.locks import Lock
from sensorhub.log.entries import (
    ARTEFACT,
    MESSAGE,
    NODE,
    REVIEW,
    VERDICT,
    NodeEntry,
    NodeEvent,
    clone_pair,
    decode_entry,
    kind_of,
    outranks,
)
from sensorhub.log.merkle import leaf_hash
from sensorhub.store.reader import SqliteReader
from sensorhub.store.schema import CONTENT, DAY, StoreError, connect, trouble, writer_lock
from sensorhub.store.settling import settle
from sensorhub.store.state import Layout, Place, State, buckets_of, layout_of
from sensorhub.wire import Message, WireError, parse_pack, parse_signed

#: Seconds by which a held-over clock (tq 1) may be ahead of the gateway's; beyond it the message is undated.
FUTURE_TOLERANCE: Final = 60.0
#: Rollups are brought up to date at most this often while entries stream in, in seconds.
SETTLE_INTERVAL: Final = 1.0
#: Share of the time that bringing rollups up to date may take while entries stream in.
SETTLE_SHARE: Final = 0.1
#: Messages whose place is remembered for the verdict that follows soon.
RECENT: Final = 16_384
#: Dirty buckets that force rollups up to date, to bound memory during a rebuild.
MOST_DIRTY: Final = 50_000

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[float]).decode
_integers: Final = msgspec.json.Decoder(list[int]).decode


class SqliteStore(SqliteReader):
    """The one writer of a store file, and a follower of the log.

    Args:
        path: the database file, made when missing; `<path>.lock` beside it keeps a second writer out.
        raw_days: days of single readings to keep, 0 for all. Days are counted back from the newest
            reading of a node with a synchronised clock (tq 2 or 3), never from the wall clock.
        five_minute_days: days of 5-minute rollups to keep, 0 for all.
        hourly_days: days of hourly rollups to keep, 0 for all.

    Raises:
        StoreError: the file is not a store of this version, another process writes it, or a finer
            resolution is to be kept longer than a coarser one.
    """

    name: str = "store"

    def __init__(
        self, path: Path, *, raw_days: int = 90, five_minute_days: int = 730, hourly_days: int = 0
    ) -> None:
        kept = [days or float("inf") for days in (raw_days, five_minute_days, hourly_days)]
        if kept != sorted(kept) or raw_days < 0:
            raise StoreError(
                f"the store cannot keep raw readings for {raw_days} days, 5-minute rollups for {five_minute_days} "
                f"and hourly ones for {hourly_days} (0 is for ever): a coarser one must be kept at least as long"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._days = (raw_days, five_minute_days, hourly_days)
        guard = writer_lock(path)
        try:
            connect(path, write=True).close()
            super().__init__(path)
            self._db.close()
            self._db = connect(path, write=True)
            self._load()
            self._joined = self._state.cursor == 0  # whether the log was seen to continue the store
        except BaseException:
            guard.release()
            raise
        self._guard: Lock | None = guard
        self._settled = time.monotonic()
        self._settle_took = 0.0
        self._last_unreadable = ""

    @classmethod
    def open_readonly(cls, path: Path) -> SqliteReader:
        """Opens the store for questions, beside the process that writes it.

        Raises:
            StoreError: the file is not a store of this version.
        """
        return SqliteReader(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Brings the rollups up to date and lets go of the database."""
        with self._lock:
            if self._guard is not None:
                self.settle()
                self._db.close()
                self._guard.release()
                self._guard = None

    def cursor(self) -> int:
        """The log index of the first entry that the store asks for.

        That is the first one not in it, but once after opening the last one that is: it shows whether the log is
        still the one that the store was made from.
        """
        return self._state.cursor - (not self._joined)

    def status(self) -> dict[str, Any]:
        """Totals for the status file: what `counts` says, and how many buckets await their rollup.

        Whoever runs the follower asks about once a second, also while the log is quiet: the moment to bring
        the last rollups up to date.
        """
        self.idle()
        fields: dict[str, Any] = {**self.counts(), "dirty": len(self._state.dirty)}
        if self._last_unreadable:
            fields["last_unreadable"] = self._last_unreadable
        return fields

    def apply(self, batch: Sequence[tuple[int, bytes]]) -> None:
        """Takes in entries, in order from the cursor on, in one transaction; earlier ones are passed over.

        Raises:
            StoreError: entries between the cursor and the batch are missing, the log is another one than the
                store was made from, or SQLite cannot write.
            EntryError: an entry of the log is damaged.
        """
        with self._lock, _Transaction(self):
            state = self._state
            for index, entry in batch:
                if index < state.cursor:
                    self._compare(index, entry)
                    continue
                if not self._joined:
                    raise StoreError(
                        f"the store {self.path} needs log entry {state.cursor - 1} once more and was given {index}"
                    )
                if index > state.cursor:
                    raise StoreError(
                        f"the store {self.path} needs log entry {state.cursor} next and was given {index}"
                    )
                kind = kind_of(entry)
                if kind == MESSAGE:
                    self._message(index, entry)
                elif kind == VERDICT:
                    self._verdict(index, entry)
                elif kind == NODE:
                    decoded = decode_entry(entry)
                    assert isinstance(decoded, NodeEntry)
                    self._node_entry(index, decoded)
                elif kind == ARTEFACT:
                    _, *fields = cbor2.loads(entry)
                    self._db.execute("INSERT INTO artefact VALUES (?, ?, ?, ?, ?)", (index, *fields))
                elif kind == 0:
                    decode_entry(entry)  # names what is wrong with it
                state.cursor = index + 1
            if batch and state.cursor == batch[-1][0] + 1:
                state.leaf = leaf_hash(batch[-1][1])
                if batch[0][0] == 0:
                    state.log_id = leaf_hash(batch[0][1])
            pause = max(SETTLE_INTERVAL, self._settle_took / SETTLE_SHARE)
            if len(state.dirty) > MOST_DIRTY or time.monotonic() - self._settled >= pause:
                self._settle()
            self._state.flush(self._db)

    def _compare(self, index: int, entry: bytes) -> None:
        """Holds an entry that the store has already taken in against what it remembers of it."""
        state = self._state
        known = {0: state.log_id, state.cursor - 1: state.leaf}.get(index)
        if known is not None and known != leaf_hash(entry):
            raise StoreError(
                f"the store {self.path} was made from another log, or from a later state of this one: entry {index} "
                "is not the one it has taken in. Was the log restored from a copy? `sensorhub rebuild store` makes "
                "the store anew from this log"
            )
        self._joined |= index == state.cursor - 1

    def idle(self) -> None:
        """Brings the rollups up to date when the log is quiet."""
        if self._state.dirty:
            self.settle()

    def settle(self) -> None:
        """Brings every rollup up to date with the entries taken in."""
        with self._lock, _Transaction(self):
            self._settle()
            self._state.flush(self._db)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """The whole content by table, in key order: equal for equal logs, however they were read."""
        self.settle()
        return {
            table: self._all(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - names are ours
            for table, order in CONTENT.items()
        }

    # -- entries

    def _message(self, index: int, entry: bytes) -> None:
        state = self._state
        _, received, raw = cbor2.loads(entry)
        try:
            signed = parse_signed(raw)
            tq = signed.tq
            pack = parse_pack(signed.payload, tq=tq)
        except WireError as error:
            # was accepted once, by another channel table: the log keeps it, the store can only count it
            state.unreadable += 1
            self._last_unreadable = f"entry {index}: {error}"
            return
        base, times, dated = pack.base_time, pack.times, None
        # a synchronised message tells the dater something only when it is the first since the boot changed
        if tq == 0 or state.boots.get(signed.kid) != signed.boot:
            state.dater_changed = True
            state.boots[signed.kid] = signed.boot if tq else -1
            for other, offset in state.dater.feed(index, Message(signed, pack)):
                if other == index:
                    base, dated = offset, index
                else:
                    self._date(other, offset, index)
        shifted = any(times)
        earliest, latest = (min(times), max(times)) if shifted else (0.0, 0.0)
        if tq == 1 and base is not None and base + latest > received / 1000 + FUTURE_TOLERANCE:
            base = None
        if tq >= 2 and base is not None and (state.clock is None or base + latest > state.clock):
            self._advance(base + latest)
        layout = state.layouts.get(pack.names) or self._new_layout(pack.names)
        node = state.nodes.get(pack.node) or self._new_node(pack.node)
        count = len(times) if layout.numbers is None else len(layout.numbers)
        first = last = None
        if base is not None:
            first, last = base + earliest, base + latest
        change = state.change(node)
        change.messages += 1
        change.readings += count
        change.last_received = received
        if last is not None:
            if change.last_time is None or last > change.last_time:
                change.last_time = last
            if last < state.raw_from:
                state.expired += 1
                return
        self._source(node, layout, latest - earliest)
        values: Sequence[Any] = pack.values
        if layout.numbers is not None:
            values = [None] * len(times)
            for record in layout.numbers:
                values[record] = pack.values[record]
        state.messages.append(
            (
                index,
                node,
                layout.id,
                received,
                tq,
                base,
                first,
                last,
                dated,
                None,
                (state.clock or 0.0) if last is None else None,
                _encode(times).decode() if shifted else None,
                _encode(values).decode(),
            )
        )
        place = Place(node, buckets_of(base, times, shifted=shifted), layout)
        state.recent[index] = place
        if len(state.recent) > RECENT:
            del state.recent[next(iter(state.recent))]
        self._soil(place)

    def _verdict(self, index: int, entry: bytes) -> None:
        state = self._state
        _, _, _, rules, verdicts = cbor2.loads(entry)
        for message, pairs in verdicts:
            if not outranks(rules, REVIEW if message in state.reviewed else None):
                continue
            place = state.recent.get(message) or self._find_place(message)
            if place is None or len(pairs) != len(place.layout.channels):
                continue  # expired, or not a verdict on that message
            scores, flags = zip(*pairs, strict=True)
            if message <= state.judged_upto:
                self._retract(message, place)
            else:
                state.judged_upto = message
            state.verdicts[message] = (
                index,
                _encode(scores).decode(),
                _encode(flags).decode() if any(flags) else None,
            )
            self._count_verdict(place, scores, flags, 1)
            self._soil(place)
            if rules == REVIEW and message not in state.reviewed:
                state.reviewed.add(message)
                self._db.execute("INSERT INTO reviewed VALUES (?)", (message,))

    def _retract(self, message: int, place: Place) -> None:
        known = (
            self._state.verdicts.get(message)
            or self._db.execute(
                "SELECT entry, scores, flags FROM verdict WHERE message = ?", (message,)
            ).fetchone()
        )
        if known is not None:
            _, scores, flags = known
            listed = _integers(scores)
            self._count_verdict(place, listed, _integers(flags) if flags else [0] * len(listed), -1)

    def _count_verdict(self, place: Place, scores: Sequence[int], flags: Sequence[int], sign: int) -> None:
        change, numbers = self._state.change(place.node), place.layout.numbers
        if numbers is not None:
            scores, flags = [scores[i] for i in numbers], [flags[i] for i in numbers]
        change.judged += sign * len(scores)
        if scores and min(scores) >= TRUSTED:
            change.trusted += sign * len(scores)
        else:
            change.trusted += sign * sum(score >= TRUSTED for score in scores)
        if any(flags):
            counts = self._state.flags
            for each in flags:
                for bit in range(each.bit_length()):
                    if each >> bit & 1:
                        counts[bit] = counts.get(bit, 0) + sign

    def _node_entry(self, index: int, entry: NodeEntry) -> None:
        state = self._state
        node = state.nodes.get(entry.node) or self._new_node(entry.node)
        self._db.execute("INSERT INTO node_entry VALUES (?, ?)", (index, node))
        if entry.event == NodeEvent.CLONE:
            self._state.write(self._db)
            for message in clone_pair(entry) or ():
                self._db.execute(
                    "UPDATE message SET clone = ? WHERE id = ? AND clone IS NULL", (index, message)
                )
                place = self._find_place(message)
                if place is not None:
                    self._soil(place)
        elif entry.event == NodeEvent.REVOKE:
            self._db.execute(
                "UPDATE node SET revoked = ? WHERE id = ? AND key = ?", (index, node, entry.public_key)
            )
        elif entry.event == NodeEvent.MOVE:
            self._db.execute(
                "UPDATE node SET geohash = ?, owner = coalesce(?, owner) WHERE id = ?",
                (entry.geohash, _hex(entry.owner), node),
            )
        else:
            self._db.execute(
                "UPDATE node SET kind = ?, owner = ?, geohash = ?, key = ?, enrolled = ?, revoked = NULL WHERE id = ?",
                (entry.kind, _hex(entry.owner), entry.geohash, entry.public_key, index, node),
            )

    def _date(self, message: int, base: int, by: int) -> None:
        """Gives an undated message its base time, told by the message at log index `by`."""
        state = self._state
        self._state.write(self._db)
        row = self._db.execute(
            'SELECT node, layout, times, "values" FROM message WHERE id = ? AND last IS NULL', (message,)
        ).fetchone()
        if row is None:
            return
        node, layout_id, times, _ = row
        layout = state.layout_by_id[layout_id]
        offsets = _decode(times) if times else [0.0]
        first, last = base + min(offsets), base + max(offsets)
        change = state.change(node)
        if change.last_time is None or last > change.last_time:
            change.last_time = last
        if last < state.raw_from:
            state.expired += 1
            self._db.execute("DELETE FROM message WHERE id = ?", (message,))
            self._db.execute("DELETE FROM verdict WHERE message = ?", (message,))
            state.recent.pop(message, None)
            return
        self._db.execute(
            "UPDATE message SET base = ?, first = ?, last = ?, dated = ?, clock = NULL WHERE id = ?",
            (base, first, last, by, message),
        )
        place = Place(node, buckets_of(base, offsets, shifted=True), layout)
        if message in state.recent:
            state.recent[message] = place
        self._soil(place)

    # -- names and places

    def _new_node(self, name: str) -> int:
        node = len(self._state.nodes) + 1
        self._db.execute("INSERT INTO node (id, name) VALUES (?, ?)", (node, name))
        self._state.nodes[name] = node
        return node

    def _new_layout(self, names: tuple[str, ...]) -> Layout:
        state = self._state
        for name in names:
            if name not in state.channels:
                channel = BY_NAME[name]
                state.channels[name] = len(state.channels) + 1
                self._db.execute(
                    "INSERT INTO channel VALUES (?, ?, ?, ?)",
                    (state.channels[name], name, channel.unit, channel.style),
                )
        channels = tuple(state.channels[name] for name in names)
        layout = layout_of(len(state.layouts) + 1, names, channels)
        self._db.execute("INSERT INTO layout VALUES (?, ?)", (layout.id, _encode(channels).decode()))
        state.layouts[names] = state.layout_by_id[layout.id] = layout
        return layout

    def _source(self, node: int, layout: Layout, span: float) -> None:
        key = (node, layout.id)
        known = self._state.sources.get(key)
        if known is None or span > known:
            self._state.sources[key] = span
            self._db.execute("INSERT OR REPLACE INTO source VALUES (?, ?, ?)", (*key, span))

    def _find_place(self, message: int) -> Place | None:
        self._state.write(self._db)
        row = self._db.execute(
            "SELECT node, layout, base, times FROM message WHERE id = ?", (message,)
        ).fetchone()
        if row is None:
            return None
        node, layout, base, times = row
        buckets = buckets_of(base, _decode(times) if times else [0.0], shifted=times is not None)
        return Place(node, buckets, self._state.layout_by_id[layout])

    def _soil(self, place: Place) -> None:
        """Notes that the rollups of a place are out of date, where readings behind them are still kept."""
        state = self._state
        for bucket in place.buckets:
            key = (place.node, bucket)
            if key not in state.dirty and bucket >= state.raw_from:
                state.dirty.add(key)
                state.new_dirty.append(key)

    # -- retention

    def _advance(self, clock: float) -> None:
        """Moves the newest trusted time on; at each new day (UTC) what is too old by then goes."""
        state = self._state
        new_day = state.clock is None or clock // DAY > state.clock // DAY
        state.clock = clock
        if not new_day:
            return
        today = int(clock // DAY)
        raw, five, hourly = ((today - days) * DAY if days else 0 for days in self._days)
        if raw > state.raw_from:
            self._state.write(self._db)
            old = [
                (node, layout, raw)
                for node, layout in state.sources
                if self._db.execute(
                    "SELECT 1 FROM message WHERE node = ? AND layout = ? AND last < ? LIMIT 1",
                    (node, layout, raw),
                ).fetchone()
            ]
            if old or any(bucket < raw for _, bucket in state.dirty):
                self._settle()  # what goes is summarised first, for good
            for each in old:
                self._delete("node = ? AND layout = ? AND last < ?", each)
            self._delete("last IS NULL AND clock < ?", (raw,))
            state.raw_from = raw
            state.recent.clear()
        for table, before, known in (
            ("5m", five, state.five_minute_from),
            ("1h", hourly, state.hourly_from),
        ):
            if before > known:
                self._settle()
                for node in state.nodes.values():
                    self._db.execute(
                        f"DELETE FROM rollup_{table} WHERE node = ? AND bucket < ?",  # noqa: S608
                        (node, before),
                    )
        state.five_minute_from = max(five, state.five_minute_from)
        state.hourly_from = max(hourly, state.hourly_from)

    def _delete(self, where: str, arguments: Sequence[Any]) -> None:
        self._db.execute(
            f"DELETE FROM verdict WHERE message IN (SELECT id FROM message WHERE {where})",  # noqa: S608
            arguments,
        )
        self._db.execute(f"DELETE FROM message WHERE {where}", arguments)  # noqa: S608

    # -- rollups

    def _settle(self) -> None:
        if self._state.dirty:
            started = time.monotonic()
            settle(self._db, self._state, self._between)
            self._settle_took = time.monotonic() - started
        self._settled = time.monotonic()

    # -- memory and database

    def _load(self) -> None:
        try:
            self._state = State.load(self._db)
        except sqlite3.Error as error:
            raise trouble(self.path, error) from error

    def _reopen(self) -> None:
        """The writer holds the lock, so nobody puts another file in the place of its own."""


class _Transaction:
    """All or nothing; after a failure the memory is what the database says again."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        try:
            self._store._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise trouble(self._store.path, error) from error

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                self._store._db.execute("COMMIT")
            except sqlite3.Error as failed:
                error = failed
        if error is not None:
            self._undo()
        if isinstance(error, sqlite3.Error):
            raise trouble(self._store.path, error) from error

    def _undo(self) -> None:
        if self._store._db.in_transaction:
            self._store._db.execute("ROLLBACK")
        self._store._load()


def _hex(owner: bytes | None) -> str | None:
    return None if owner is None else "0x" + owner.hex()
