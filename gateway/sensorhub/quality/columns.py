"""Messages as columns: what the rules work on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.log.entries import MESSAGE, kind_of
from sensorhub.wire import Message, WireError, parse_pack, parse_signed

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages in log order (M of them) and their records, message by message in record order (N of them).

    Attributes:
        index: int64 (M,), log index of each message.
        count: int64 (M,), records of each message.
        kid: the key of each message.
        boot: int64 (M,).
        seq: int64 (M,).
        tq: int64 (M,), time quality 0 to 3.
        base: float64 (M,), base time in Unix seconds, NaN with tq 0.
        series: int64 (N,), number of the (node, channel) pair of each record.
        time: float64 (N,), Unix seconds, NaN with tq 0.
        value: float64 (N,), NaN for a data channel.
        data: the bytes of data channels, by place among the records.
    """

    index: NDArray[np.int64]
    count: NDArray[np.int64]
    kid: tuple[bytes, ...]
    boot: NDArray[np.int64]
    seq: NDArray[np.int64]
    tq: NDArray[np.int64]
    base: NDArray[np.float64]
    series: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    data: Mapping[int, bytes] = field(default_factory=dict)

    def newest(self) -> NDArray[np.float64]:
        """The newest time of each message's records (M,): NaN without a date, -inf for a message without records."""
        newest = np.full(self.index.size, -np.inf)
        some = np.flatnonzero(self.count)
        if some.size:
            newest[some] = np.maximum.reduceat(self.time, (np.cumsum(self.count) - self.count)[some])
        return newest


class SeriesNumbers:
    """Numbers the (node, channel) pairs from 0 in the order in which they first appear in the log."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: list[tuple[str, str]] = list(pairs)
        self._numbers = {pair: number for number, pair in enumerate(self.pairs)}
        self._layouts: dict[tuple[str, tuple[str, ...]], tuple[list[int], bool]] = {}

    def of(self, node: str, channels: tuple[str, ...]) -> tuple[list[int], bool]:
        """The numbers of a node's channels, and whether all of them hold numbers (and not data)."""
        found = self._layouts.get((node, channels))
        if found is None:
            numbers = []
            for channel in channels:
                number = self._numbers.get((node, channel))
                if number is None:
                    number = self._numbers[node, channel] = len(self.pairs)
                    self.pairs.append((node, channel))
                numbers.append(number)
            found = numbers, all(BY_NAME[channel].kind == "number" for channel in channels)
            self._layouts[node, channels] = found
        return found


def read_messages(batch: Iterable[tuple[int, bytes]]) -> list[tuple[int, Message]]:
    """The messages among log entries, decoded, with their log indices.

    A message that this version cannot read (a channel that is gone from the table) gets no verdict.
    """
    messages: list[tuple[int, Message]] = []
    for index, entry in batch:
        if kind_of(entry) != MESSAGE:
            continue
        raw = cbor2.loads(entry)[2]
        try:
            signed = parse_signed(raw)
            messages.append((index, Message(signed, parse_pack(signed.payload, tq=signed.tq))))
        except WireError as error:
            _LOG.warning("log entry %d gets no verdict: %s", index, error)
    return messages


def columns_of(messages: Iterable[tuple[int, Message]], numbers: SeriesNumbers) -> Columns:
    """Lays messages out as columns; new (node, channel) pairs get the next numbers."""
    index: list[int] = []
    count: list[int] = []
    kid: list[bytes] = []
    boot: list[int] = []
    seq: list[int] = []
    tq: list[int] = []
    base: list[float] = []
    series: list[int] = []
    offset: list[float] = []
    value: list[float] = []
    data: dict[int, bytes] = {}
    for number, message in messages:
        signed, pack = message.signed, message.pack
        index.append(number)
        count.append(len(pack.names))
        kid.append(signed.kid)
        boot.append(signed.boot)
        seq.append(signed.seq)
        tq.append(signed.tq)
        base.append(float("nan") if pack.base_time is None else pack.base_time)
        ids, numeric = numbers.of(pack.node, pack.names)
        series += ids
        offset += pack.times
        if numeric:
            value += pack.values  # type: ignore[arg-type]  # no data channel in this layout
        else:
            data |= {len(value) + i: v for i, v in enumerate(pack.values) if isinstance(v, bytes)}
            value += [float("nan") if isinstance(v, bytes) else v for v in pack.values]
    counts = np.array(count, dtype=np.int64)
    bases = np.array(base, dtype=np.float64)
    return Columns(
        np.array(index, dtype=np.int64),
        counts,
        tuple(kid),
        np.array(boot, dtype=np.int64),
        np.array(seq, dtype=np.int64),
        np.array(tq, dtype=np.int64),
        bases,
        np.array(series, dtype=np.int64),
        np.repeat(bases, counts) + np.array(offset, dtype=np.float64),
        np.array(value, dtype=np.float64),
        data,
    )
