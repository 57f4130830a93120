"""The quality process: follows the log, judges messages, appends verdict entries to the same log.

Its cursor is the log: a message is judged when a verdict entry of this judge names it. Whatever happens
between judging and the commit of that entry, the next start finds out by looking there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import cbor2
import numpy as np
from numpy.typing import NDArray

from sensorhub.flags import TRUSTED, flag_names
from sensorhub.log.entries import NODE, VERDICT, NodeEntry, VerdictEntry, decode_entry, encode_entry, kind_of
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import Registry
from sensorhub.quality import judge as judges
from sensorhub.quality import rules as rules_module
from sensorhub.quality import snapshot as snapshots
from sensorhub.quality.columns import Columns, SeriesNumbers, columns_of, read_messages
from sensorhub.quality.judge import Judge
from sensorhub.quality.model import Model, ModelError, ModelFile, shipped
from sensorhub.quality.rules import Judged, Rules
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


Verdict = tuple[int, tuple[tuple[int, int], ...]]


class _Unsent(NamedTuple):
    entries: list[bytes]
    first: int  # the first message they judge
    upto: int  # the cursor once they are in the log
    looked: int  # the log holds none of them before this index
    counters: dict[str, int]


class Judging(Protocol):
    """Who judges: feed it every message of the log and every place of a node, in order, once."""

    @property
    def version(self) -> str:
        """What its verdict entries name as rules."""
        ...

    @property
    def numbers(self) -> SeriesNumbers:
        """The numbers of the series in the columns it takes."""
        ...

    def judge(self, batch: Columns, /) -> tuple[Judged, bytes]:
        """Verdicts on a batch, and the SHA-256 of the model that took part (empty for none)."""
        ...

    def place(self, node: str, latitude: float, longitude: float, /) -> None:
        """Tells where a node is, in degrees."""
        ...

    def status(self) -> dict[str, Any]:
        """Its own fields of the status file."""
        ...

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is remembered."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any], /) -> None:
        """Takes the memory that `dump` gave."""
        ...


class RulesJudging:
    """The rules by themselves."""

    version: str = rules_module.VERSION

    def __init__(self) -> None:
        self._rules = Rules()

    @property
    def numbers(self) -> SeriesNumbers:
        """See `Judging`."""
        return self._rules.numbers

    def judge(self, batch: Columns) -> tuple[Judged, bytes]:
        """See `Judging`."""
        return self._rules.judge(batch), NO_MODEL

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """See `Judging`."""
        self._rules.place(node, latitude, longitude)

    def status(self) -> dict[str, Any]:
        """See `Judging`."""
        return {}

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """See `Judging`."""
        return self._rules.dump()

    def restore(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """See `Judging`."""
        self._rules = Rules.load(arrays, rest)


class ModelJudging:
    """Rules, neighbours and model together.

    Args:
        model: None when there is none that can be used; neighbours and rules judge without it.
        trouble: why there is none, for the status.
    """

    version: str = judges.VERSION

    def __init__(self, model: Model | None, trouble: str = "") -> None:
        self._judge = Judge(model, on_failure=self._failed)
        self._trouble = trouble

    @property
    def numbers(self) -> SeriesNumbers:
        """See `Judging`."""
        return self._judge.rules.numbers

    def judge(self, batch: Columns) -> tuple[Judged, bytes]:
        """See `Judging`."""
        found = self._judge.judge(batch)
        return found.judged, self._judge.model if found.logits is not None else NO_MODEL

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """See `Judging`."""
        self._judge.place(node, latitude, longitude)

    def status(self) -> dict[str, Any]:
        """model: SHA-256 of the model that takes part, or None; model_error: why it does not."""
        return {"model": self._judge.model.hex() or None, "model_error": self._trouble or None}

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """See `Judging`."""
        return self._judge.dump()

    def restore(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """See `Judging`."""
        self._judge.restore(arrays, rest)

    def _failed(self, why: str) -> None:
        self._trouble = why

    @classmethod
    def load(cls, path: str = "", sha256: str = "") -> ModelJudging:
        """With the model of a file, or of the package; without one, and the reason in the status, when it is refused.

        Args:
            path: the file; empty for the package's.
            sha256: the hash in hex that it must have.
        """
        try:
            if path and not sha256:
                raise ModelError(
                    f"the model {path} is refused: quality.model_sha256 does not say which it is", path
                )
            return cls(Model.load(ModelFile(Path(path), sha256) if path else shipped()))
        except ModelError as error:
            _LOG.error("rules and neighbours judge without a model: %s", error)
            return cls(None, str(error))


class QualityFollower:
    """Judges every message once, in log order.

    Args:
        reader: the log.
        log: how verdict entries get into it.
        judging: who judges; it must not have judged anything yet.
        snapshot: file for what it remembers between restarts; None keeps none, and a start reads the
            whole log.
    """

    name: str = "quality"

    def __init__(
        self, reader: LogReader, log: Appender, judging: Judging, *, snapshot: Path | None = None
    ) -> None:
        self._reader = reader
        self._log = log
        self._snapshot = snapshot
        self._judging = judging
        self._empty = judging.dump()
        self._registry = Registry()
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
        counters = dict(self._counters)
        looked = self._reader.size()
        entries: list[bytes] = []
        first, judged = -1, 0
        try:
            for verdicts, model in self._take(pending, counters):
                first = verdicts[0][0] if first < 0 else first
                judged += len(verdicts)
                entries += _entries(verdicts, model, self._judging.version)
        except Exception:
            # half a batch was taken in: what is remembered is built anew before anything is judged again
            self._cursor = -1
            raise
        if not entries:
            self._cursor = upto
            return
        self._unsent = _Unsent(entries, first, upto, looked, counters)
        if judged < FULL:
            # the messages that come meanwhile share the next entry and its commit
            time.sleep(max(0.0, self._appended + PAUSE - time.monotonic()))
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
            "series": len(self._judging.numbers.pairs),
            "judge": self._judging.version,
            **self._judging.status(),
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
                    self._judging.version,
                    *self._judging.dump(),
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

    # -- judging

    def _take(
        self, entries: Iterable[tuple[int, bytes]], counters: dict[str, int]
    ) -> Iterable[tuple[list[Verdict], bytes]]:
        """Judges the messages among entries and takes in where nodes are, in the order of the log."""
        run: list[tuple[int, bytes]] = []
        for index, entry in entries:
            if kind_of(entry) != NODE:
                run.append((index, entry))
                continue
            place = self._moved(index, entry)
            if place is not None:
                yield from self._judge(run, counters)
                run = []
                self._judging.place(*place)
        yield from self._judge(run, counters)

    def _judge(
        self, entries: list[tuple[int, bytes]], counters: dict[str, int]
    ) -> Iterable[tuple[list[Verdict], bytes]]:
        messages = read_messages(entries)
        if messages:
            columns = columns_of(messages, self._judging.numbers)
            judged, model = self._judging.judge(columns)
            _count(counters, judged.score, judged.flags, ~np.isnan(columns.value))
            yield _per_message(columns.index, columns.count, judged.score, judged.flags), model

    def _moved(self, index: int, entry: bytes) -> tuple[str, float, float] | None:
        """The place that a node entry gives to a node, if it does."""
        decoded = decode_entry(entry)
        if not isinstance(decoded, NodeEntry) or not self._registry.apply(index, decoded):
            return None
        key = self._registry.current(decoded.node)
        if key is None or not geohash.is_valid(key.geohash):
            return None
        return decoded.node, *geohash.decode(key.geohash)

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
            for verdict in _own_verdicts(entry, self._judging.version)
        )

    # -- starting

    def _resume(self) -> None:
        size = self._reader.size()
        judged = self._last_judged(size)
        version = self._judging.version
        found = snapshots.load(self._snapshot, version) if self._snapshot is not None else None
        start = 0
        self._judging.restore(*self._empty)
        self._counters = {}
        if found is not None and self._fits(found, size, judged) and self._restored(found):
            self._counters, start = dict(found.counters), found.cursor
        self._registry = Registry.replay(self._reader, start)
        self._saved_cursor = start
        while start <= judged:
            stop = min(start + _REPLAY_BATCH, judged + 1)
            for _ in self._take(self._reader.entries(start, stop), self._counters):
                pass
            start = stop
        self._cursor = start

    def _restored(self, found: Snapshot) -> bool:
        try:
            self._judging.restore(found.arrays, found.rest)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            _LOG.warning("%s is passed over, the log is read again: %s", self._snapshot, error)
            self._judging.restore(*self._empty)
            return False
        return True

    def _last_judged(self, size: int) -> int:
        """Index of the last message that a verdict entry of this judge names, or -1."""
        stop = size
        while stop > 0:
            start = max(0, stop - _LOOK_BACK)
            last = max(
                (
                    verdict[0]
                    for index, entry in self._reader.entries(start, stop)
                    for verdict in _own_verdicts(entry, self._judging.version)
                    if verdict[0] < index  # whoever may append may write others
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


class RulesFollower(QualityFollower):
    """Judges by the rules alone; see `QualityFollower`."""

    def __init__(self, reader: LogReader, log: Appender, *, snapshot: Path | None = None) -> None:
        super().__init__(reader, log, RulesJudging(), snapshot=snapshot)


def _own_verdicts(entry: bytes, version: str) -> list[Any]:
    if kind_of(entry) != VERDICT:
        return []
    _, _, _, rules, verdicts = cbor2.loads(entry)
    return list(verdicts) if rules == version else []


def _count(
    counters: dict[str, int], score: NDArray[Any], flags: NDArray[Any], numeric: NDArray[np.bool_]
) -> None:
    def add(name: str, more: int) -> None:
        if more:
            counters[name] = counters.get(name, 0) + more

    add("judged", int(np.count_nonzero(numeric)))
    add("trusted", int(np.count_nonzero(numeric & (score >= TRUSTED))))
    union = int(np.bitwise_or.reduce(flags[numeric], initial=0))
    for bit in range(union.bit_length()):
        add(f"flag {bit}", int(np.count_nonzero(flags[numeric] >> bit & 1)))


def _per_message(index: Any, count: Any, score: Any, flags: Any) -> list[Verdict]:
    pairs = list(zip(score.tolist(), flags.tolist(), strict=True))
    verdicts: list[Verdict] = []
    begin = 0
    for message, records in zip(index.tolist(), count.tolist(), strict=True):
        verdicts.append((message, tuple(pairs[begin : begin + records])))
        begin += records
    return verdicts


def _entries(
    verdicts: list[Verdict], model: bytes = NO_MODEL, version: str = rules_module.VERSION
) -> list[bytes]:
    """Verdict entries that hold the verdicts, each within what an entry may hold."""
    ms = time.time_ns() // 1_000_000
    entries: list[bytes] = []
    part: list[Verdict] = []
    size = 0
    for verdict in verdicts:
        # CBOR heads: array and index 1 + 9, list of pairs 3, pair 1 + score 2 + flags 3
        more = 13 + 6 * len(verdict[1])
        if part and size + more > MOST_BYTES:
            entries.append(encode_entry(VerdictEntry(ms, model, version, tuple(part))))
            part, size = [], 0
        part.append(verdict)
        size += more
    entries.append(encode_entry(VerdictEntry(ms, model, version, tuple(part))))
    return entries
