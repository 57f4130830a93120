"""The quality process: follows the log, judges messages, appends verdict entries to the same log.

Its cursor is the log: a message is judged when a verdict entry of these rules names it. Whatever happens
between judging and the commit of that entry, the next start finds out by looking there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import cbor2
import numpy as np

from sensorhub.flags import TRUSTED, flag_names
from sensorhub.log.entries import VERDICT, VerdictEntry, encode_entry, kind_of
from sensorhub.log.reader import LogReader
from sensorhub.quality import snapshot as snapshots
from sensorhub.quality.columns import columns_of, read_messages
from sensorhub.quality.rules import VERSION, Rules
from sensorhub.quality.snapshot import Snapshot

_LOG: Final = logging.getLogger(__name__)

#: What the model field of an entry holds when no model took part.
NO_MODEL: Final = b""
#: Appends are at least this far apart while batches are small, in seconds: each costs the log a commit.
PAUSE: Final = 0.25
#: A batch with this many messages is not held back.
FULL: Final = 256
#: Verdicts of one entry take at most this many bytes; an entry has 65,535.
MOST_BYTES: Final = 60_000
#: Entries taken in between two snapshots at least, and seconds between them.
SNAPSHOT_ENTRIES: Final = 4096
SNAPSHOT_SECONDS: Final = 600.0
_REPLAY_BATCH: Final = 4096
_LOOK_BACK: Final = 1024


class Appender(Protocol):
    """What appends entries to the log and returns when they are committed: `LogClient`."""

    def append(self, entries: Sequence[bytes], /) -> int:
        """Appends entries; returns the index of the first."""
        ...


class _Unsent(NamedTuple):
    entries: list[bytes]
    first: int  # the first message they judge
    upto: int  # the cursor once they are in the log
    looked: int  # the log holds none of them before this index
    counters: dict[str, int]


class RulesFollower:
    """Judges every message once, in log order.

    Args:
        reader: the log.
        log: how verdict entries get into it.
        snapshot: file for the memory of the rules between restarts; None keeps none, and a start reads the
            whole log.
    """

    name: str = "quality"

    def __init__(self, reader: LogReader, log: Appender, *, snapshot: Path | None = None) -> None:
        self._reader = reader
        self._log = log
        self._snapshot = snapshot
        self._rules = Rules()
        self._counters: dict[str, int] = {}
        self._cursor = -1
        self._unsent: _Unsent | None = None
        self._tried = False
        self._appended = -PAUSE
        self._saved_at = time.monotonic()
        self._saved_cursor = 0

    def cursor(self) -> int:
        """Index of the first entry that is not judged, as the log tells.

        The first call rebuilds the memory of the rules, from the snapshot and the entries after it.
        """
        if self._cursor < 0:
            self._resume()
        return self._cursor

    def apply(self, batch: Sequence[tuple[int, bytes]]) -> None:
        """Judges the messages of a batch that begins at the cursor and appends their verdicts.

        Raises:
            AppendError: the log could not be written. Nothing is judged twice when the batch comes again.
        """
        self.cursor()
        if self._unsent is not None:
            self._send(self._unsent)
        pending = [(index, entry) for index, entry in batch if index >= self._cursor]
        if not pending:
            return
        upto = pending[-1][0] + 1
        messages = read_messages(pending)
        if not messages:
            self._cursor = upto
            return
        if len(messages) < FULL:
            # the messages that come meanwhile share the next entry and its commit
            time.sleep(max(0.0, self._appended + PAUSE - time.monotonic()))
        looked = self._reader.size()
        columns = columns_of(messages, self._rules.numbers)
        judged = self._rules.judge(columns)
        counters = self._counted(judged.score, judged.flags, ~np.isnan(columns.value))
        verdicts = _per_message(columns.index, columns.count, judged.score, judged.flags)
        self._unsent = _Unsent(_entries(verdicts), messages[0][0], upto, looked, counters)
        self._send(self._unsent)
        if (
            self._cursor - self._saved_cursor >= SNAPSHOT_ENTRIES
            and time.monotonic() - self._saved_at >= SNAPSHOT_SECONDS
        ):
            self.save()

    def status(self) -> dict[str, Any]:
        """cursor, judged and trusted readings, and flags {name: readings}; totals of the whole log."""
        flags = {
            flag_names(1 << int(name[5:]))[0]: count
            for name, count in sorted(self._counters.items(), key=lambda item: (len(item[0]), item[0]))
            if name.startswith("flag ")
        }
        return {
            "cursor": max(self._cursor, 0),
            "judged": self._counters.get("judged", 0),
            "trusted": self._counters.get("trusted", 0),
            "flags": flags,
            "series": len(self._rules.numbers.pairs),
        }

    def save(self) -> None:
        """Writes the snapshot, if there is to be one and all that is judged is in the log."""
        self._saved_at = time.monotonic()
        if self._snapshot is None or self._unsent is not None or self._cursor <= self._saved_cursor:
            return
        try:
            snapshots.save(
                self._snapshot,
                Snapshot(
                    self._rules,
                    self._cursor,
                    self._reader.leaf(0),
                    self._reader.leaf(self._cursor - 1),
                    self._counters,
                ),
            )
            self._saved_cursor = self._cursor
        except OSError as error:
            _LOG.warning("the snapshot %s could not be written: %s", self._snapshot, error)

    def close(self) -> None:
        """Writes the snapshot, at the end of the process."""
        self.save()

    # -- appending

    def _send(self, unsent: _Unsent) -> None:
        # an append that did not end well may still have reached the log
        if not self._tried or not self._judged_since(unsent.looked, unsent.first):
            self._tried = True
            self._log.append(unsent.entries)
        self._tried = False
        self._unsent = None
        self._appended = time.monotonic()
        self._cursor = unsent.upto
        self._counters = unsent.counters

    def _judged_since(self, start: int, message: int) -> bool:
        return any(
            verdict[0] == message
            for _, entry in self._reader.entries(start)
            for verdict in _own_verdicts(entry)
        )

    def _counted(self, score: Any, flags: Any, numeric: Any) -> dict[str, int]:
        counters = dict(self._counters)

        def add(name: str, more: int) -> None:
            if more:
                counters[name] = counters.get(name, 0) + more

        add("judged", int(np.count_nonzero(numeric)))
        add("trusted", int(np.count_nonzero(numeric & (score >= TRUSTED))))
        union = int(np.bitwise_or.reduce(flags[numeric], initial=0))
        for bit in range(union.bit_length()):
            add(f"flag {bit}", int(np.count_nonzero(flags[numeric] >> bit & 1)))
        return counters

    # -- starting

    def _resume(self) -> None:
        size = self._reader.size()
        judged = self._last_judged(size)
        found = snapshots.load(self._snapshot) if self._snapshot is not None else None
        start = 0
        self._rules, self._counters = Rules(), {}
        if found is not None and self._fits(found, size, judged):
            self._rules, self._counters, start = found.rules, dict(found.counters), found.cursor
        self._saved_cursor = start
        while start <= judged:
            stop = min(start + _REPLAY_BATCH, judged + 1)
            columns = columns_of(read_messages(self._reader.entries(start, stop)), self._rules.numbers)
            result = self._rules.judge(columns)
            self._counters = self._counted(result.score, result.flags, ~np.isnan(columns.value))
            start = stop
        self._cursor = start

    def _last_judged(self, size: int) -> int:
        """Index of the last message that a verdict entry of these rules names, or -1."""
        stop = size
        while stop > 0:
            start = max(0, stop - _LOOK_BACK)
            last = max(
                (
                    verdict[0]
                    for _, entry in self._reader.entries(start, stop)
                    for verdict in _own_verdicts(entry)
                ),
                default=-1,
            )
            if last >= 0:
                return last
            stop = start
        return -1

    def _fits(self, found: Snapshot, size: int, judged: int) -> bool:
        """Whether a snapshot was taken of this log and holds no message that is not judged in it."""
        if not 0 < found.cursor <= size:
            return False
        if self._reader.leaf(0) != found.log_id or self._reader.leaf(found.cursor - 1) != found.last_leaf:
            return False
        ahead = self._reader.entries(min(judged + 1, found.cursor), found.cursor)
        return not read_messages(ahead)


def _own_verdicts(entry: bytes) -> list[Any]:
    if kind_of(entry) != VERDICT:
        return []
    _, _, model, rules, verdicts = cbor2.loads(entry)
    return list(verdicts) if model == NO_MODEL and rules == VERSION else []


Verdict = tuple[int, tuple[tuple[int, int], ...]]


def _per_message(index: Any, count: Any, score: Any, flags: Any) -> list[Verdict]:
    pairs = list(zip(score.tolist(), flags.tolist(), strict=True))
    verdicts: list[Verdict] = []
    begin = 0
    for message, records in zip(index.tolist(), count.tolist(), strict=True):
        verdicts.append((message, tuple(pairs[begin : begin + records])))
        begin += records
    return verdicts


def _entries(verdicts: list[Verdict]) -> list[bytes]:
    """Verdict entries that hold the verdicts, each within what an entry may hold."""
    ms = time.time_ns() // 1_000_000
    entries: list[bytes] = []
    part: list[Verdict] = []
    size = 0
    for verdict in verdicts:
        # CBOR heads: array and index 1 + 9, list of pairs 3, pair 1 + score 2 + flags 3
        more = 13 + 6 * len(verdict[1])
        if part and size + more > MOST_BYTES:
            entries.append(encode_entry(VerdictEntry(ms, NO_MODEL, VERSION, tuple(part))))
            part, size = [], 0
        part.append(verdict)
        size += more
    entries.append(encode_entry(VerdictEntry(ms, NO_MODEL, VERSION, tuple(part))))
    return entries
