"""From signed messages and verdicts to the rows of a dataset: the one rule that export and verifier share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sensorhub.channels import BY_NAME
from sensorhub.flags import FULL_SCORE
from sensorhub.verify import canonical
from sensorhub.verify.canonical import Members
from sensorhub.wire import Message

MICROSECONDS: Final = 1_000_000

COLUMNS: Final = (
    "node",
    "channel",
    "unit",
    "time",
    "value",
    "data",
    "score",
    "flags",
    "judge",
    "time_quality",
    "received",
    "message",
    "record",
    "boot",
    "seq",
    "kid",
    "verdict",
)
"""Names of the columns, in order. README.md says what each holds."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which readings of a log a dataset holds; None means all.

    Attributes:
        nodes: node names, sorted.
        channels: channel names, sorted.
        start: first moment, Unix seconds; with a start or a stop, readings without a date are left out.
        stop: moment after the last, Unix seconds.
        judged: only readings with a verdict.
    """

    nodes: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    start: int | None = None
    stop: int | None = None
    judged: bool = True

    def takes_time(self, time: int | None) -> bool:
        """Whether a reading of this moment (Unix microseconds, None undated) belongs to the selection."""
        if self.start is None and self.stop is None:
            return True
        if time is None:
            return False
        if self.start is not None and time < self.start * MICROSECONDS:
            return False
        return self.stop is None or time < self.stop * MICROSECONDS

    def as_json(self) -> dict[str, Any]:
        return {
            "nodes": None if self.nodes is None else list(self.nodes),
            "channels": None if self.channels is None else list(self.channels),
            "from": self.start,
            "to": self.stop,
            "judged": self.judged,
        }


def read_selection(value: Any, where: str) -> Selection:
    """Reads what `Selection.as_json` gave.

    Raises:
        VerifyError: not exactly that, or names not sorted.
    """
    members = Members(value, where)
    selection = Selection(
        nodes=members.optional("nodes", canonical.names),
        channels=members.optional("channels", canonical.names),
        start=members.optional("from", canonical.integer),
        stop=members.optional("to", canonical.integer),
        judged=members.read("judged", canonical.boolean),
    )
    members.done()
    return selection


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict that counts for one message.

    Attributes:
        index: log index of the verdict entry.
        judge: rules version, and the model's SHA-256 when one took part.
        pairs: (score 0-255, flag bits) for each record.
    """

    index: int
    judge: str
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Logged:
    """A message with what the log adds to it: index and received time (Unix ms)."""

    index: int
    received_ms: int
    message: Message


def boot_epoch(message: Message) -> int | None:
    """When the boot of a message began, Unix seconds: its base time minus its uptime. None without a clock."""
    base_time = message.pack.base_time
    return None if base_time is None else base_time - message.signed.uptime


class Epochs:
    """When each boot of each key began, from the first message of the boot that has a base time.

    Fed in log order. A boot without such a message has no date, and nothing is guessed.
    """

    def __init__(self) -> None:
        self.source: dict[tuple[bytes, int], int] = {}
        """Log index of the message that dates each (kid, boot)."""
        self._epochs: dict[tuple[bytes, int], int] = {}

    def feed(self, index: int, message: Message) -> None:
        """Takes in the message at a log index."""
        key = (message.signed.kid, message.signed.boot)
        epoch = boot_epoch(message)
        if epoch is not None and key not in self._epochs:
            self._epochs[key] = epoch
            self.source[key] = index

    def base_time(self, message: Message) -> int | None:
        """Unix seconds from which the record times of a message count; None when nobody knows."""
        if message.pack.base_time is not None:
            return message.pack.base_time
        epoch = self._epochs.get((message.signed.kid, message.signed.boot))
        return None if epoch is None else epoch + message.signed.uptime


def microseconds(base_time: int, offset: float) -> int:
    """Unix microseconds of a record: exact in the whole seconds, rounded half to even below a microsecond."""
    return base_time * MICROSECONDS + round(offset * MICROSECONDS)


@dataclass(slots=True)
class Rows:
    """Rows as columns of equal length, by the names in COLUMNS; None where there is no value."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def __len__(self) -> int:
        return len(self.columns["message"])


def wanted_records(logged: Logged, base_time: int | None, judged: bool, selection: Selection) -> list[int]:
    """Positions of the records of a message that a selection takes."""
    pack = logged.message.pack
    if (selection.nodes is not None and pack.node not in selection.nodes) or (
        selection.judged and not judged
    ):
        return []
    whole = selection.channels is None and selection.start is None and selection.stop is None
    if whole:
        return list(range(len(pack.names)))
    return [
        record
        for record, (name, offset) in enumerate(zip(pack.names, pack.times, strict=True))
        if (selection.channels is None or name in selection.channels)
        and selection.takes_time(None if base_time is None else microseconds(base_time, offset))
    ]


def derive(
    messages: Iterable[Logged],
    judgement_of: Callable[[int], Judgement | None],
    epochs: Epochs,
    selection: Selection,
    *,
    chunk: int,
) -> Iterator[Rows]:
    """The rows of a dataset, in the order of log index and record.

    Args:
        messages: in log order; those outside of the selection give no rows.
        judgement_of: gives the judgement by log index of the message. One whose length differs from the records counts as none.
        epochs: fed with every message that may date another.
        selection: what to take.
        chunk: rows after which a batch is handed out; batches end between messages.
    """
    rows = Rows()
    for logged in messages:
        _append(rows, logged, judgement_of(logged.index), epochs, selection)
        if len(rows) >= chunk:
            yield rows
            rows = Rows()
    if len(rows):
        yield rows


def _append(
    rows: Rows, logged: Logged, judgement: Judgement | None, epochs: Epochs, selection: Selection
) -> None:
    signed, pack = logged.message.signed, logged.message.pack
    if judgement is not None and len(judgement.pairs) != len(pack.names):
        judgement = None
    base_time = epochs.base_time(logged.message)
    records = wanted_records(logged, base_time, judgement is not None, selection)
    if not records:
        return
    count = len(records)
    columns = rows.columns
    names = [pack.names[record] for record in records]
    values = [pack.values[record] for record in records]
    columns["node"] += [pack.node] * count
    columns["channel"] += names
    columns["unit"] += [BY_NAME[name].unit for name in names]
    if base_time is None:
        columns["time"] += [None] * count
    else:
        columns["time"] += [microseconds(base_time, pack.times[record]) for record in records]
    columns["value"] += [None if isinstance(value, bytes) else value for value in values]
    columns["data"] += [value if isinstance(value, bytes) else None for value in values]
    if judgement is None:
        for name in ("score", "flags", "judge", "verdict"):
            columns[name] += [None] * count
    else:
        pairs = [judgement.pairs[record] for record in records]
        columns["score"] += [score / FULL_SCORE for score, _ in pairs]
        columns["flags"] += [flags for _, flags in pairs]
        columns["judge"] += [judgement.judge] * count
        columns["verdict"] += [judgement.index] * count
    columns["time_quality"] += [signed.tq] * count
    columns["received"] += [logged.received_ms] * count
    columns["message"] += [logged.index] * count
    columns["record"] += records
    columns["boot"] += [signed.boot] * count
    columns["seq"] += [signed.seq] * count
    columns["kid"] += [signed.kid.hex()] * count
