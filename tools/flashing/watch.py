"""Seeing a node arrive: its signed announce, then its first logged reading.

Both ways read the gateway's log, which holds nothing but what a node has signed and the gateway has checked: `LogWatch` on this
computer, `ApiWatch` as a gateway elsewhere serves it to everybody. Neither needs a right at the broker, which lets nobody but
the gateway read what nodes say.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from flashing.exits import Exit, FlashError
from sensorhub.channels import BY_NAME
from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, decode_entry
from sensorhub.log.merkle import TILE_WIDTH
from sensorhub.log.note import Checkpoint, NoteError
from sensorhub.log.reader import LogReader
from sensorhub.log.tiles import ENTRIES, TilePath, parse_bundle
from sensorhub.wire import Pack, kid, parse_pack, parse_signed

POLL_S: Final = 0.25
COUNTERS: Final = frozenset({"rssi", "sensor_errors", "spool_dropped"})
"""What a node counts of itself: no reading of a sensor."""
REQUEST_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What has been seen of a node so far.

    Attributes:
        key_id: hex key id, once the node has announced itself.
        reading: its first logged reading in words.
        index: log index of the message with that reading, where it can be told.
        failing: what it said instead of a reading: that its sensors fail.
    """

    key_id: str = ""
    reading: str = ""
    index: int | None = None
    failing: str = ""

    def with_pack(self, key_id: str, pack: Pack, index: int | None) -> Sight:
        """The sight after a logged message."""
        if COUNTERS.issuperset(pack.names):
            return replace(self, key_id=key_id, failing=in_words(pack))
        return replace(self, key_id=key_id, reading=in_words(pack), index=index)


class Watch(Protocol):
    """A way to see a node arrive."""

    def look(self) -> Sight:
        """What has been seen up to now. Raises FlashError when it cannot look."""

    def close(self) -> None:
        """Lets go of what it holds."""


def wait(
    watch: Watch,
    enough: Callable[[Sight], bool],
    timeout: float,
    tick: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Sight:
    """Looks until it is enough or time is up; returns the last sight.

    Args:
        watch: where to look.
        enough: says when to stop.
        timeout: seconds.
        tick: told the part of the time that has passed, 0 to 1.
        clock: monotonic seconds.
    """
    began = clock()
    while True:
        sight = watch.look()
        passed = clock() - began
        if enough(sight) or passed >= timeout:
            return sight
        tick(passed / timeout)
        time.sleep(POLL_S)


def in_words(pack: Pack) -> str:
    """The values of a message for people."""
    words = []
    for name, value in zip(pack.names, pack.values, strict=True):
        channel = BY_NAME[name]
        shown = (
            value.hex()[:16] if isinstance(value, bytes) else f"{value:.{channel.decimals}f} {channel.unit}"
        )
        words.append(f"{name} {shown}")
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


class EntryWatch(ABC):
    """A log from its present end on, wherever it is read from."""

    def __init__(self, site: str, node: str) -> None:
        self._site, self._node = site, node
        self._sight = Sight()
        self._next = self.size()

    @abstractmethod
    def size(self) -> int:
        """Number of entries that can be read; 0 for a log that has not begun."""

    @abstractmethod
    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        """Those entries with their indices."""

    def look(self) -> Sight:
        """Reads what is new."""
        size = self.size()
        for index, raw in self.entries(self._next, size) if size > self._next else ():
            self._take(index, raw)
            self._next = index + 1
        return self._sight

    def _take(self, index: int, raw: bytes) -> None:
        entry = decode_entry(raw)
        if isinstance(entry, NodeEntry):
            if entry.node == self._node and entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
                self._sight = Sight(kid(entry.public_key).hex())
        elif isinstance(entry, MessageEntry) and not self._sight.reading:
            signed = parse_signed(entry.message)
            pack = parse_pack(signed.payload, tq=signed.tq)
            if (pack.site, pack.node) == (self._site, self._node):
                self._sight = self._sight.with_pack(signed.kid.hex(), pack, index)


class LogWatch(EntryWatch):
    """The log of a gateway on this computer."""

    def __init__(self, data_dir: Path, site: str, node: str) -> None:
        self._reader = LogReader(data_dir / "log")
        super().__init__(site, node)

    def size(self) -> int:
        return self._reader.size()

    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        return self._reader.entries(start, stop)

    def close(self) -> None:
        self._reader.close()


class ApiWatch(EntryWatch):
    """The public log of a gateway elsewhere (C2SP tlog-tiles), up to its newest checkpoint.

    The API's own words on a node would not do: a reading whose time is not known yet is logged, but in no series.
    """

    def __init__(self, url: str, site: str, node: str) -> None:
        self._url = url
        super().__init__(site, node)

    def size(self) -> int:
        try:
            note = self._get("/log/checkpoint").decode()
            return Checkpoint.parse(note.partition("\n\n")[0] + "\n").size
        except urllib.error.HTTPError as error:
            if error.code == 503:  # not begun
                return 0
            raise FlashError(Exit.UNREACHABLE, f"{self._url} answers with {error.code}") from None
        except (ValueError, NoteError):
            raise FlashError(
                Exit.UNREACHABLE, f"{self._url} is no gateway: it has no log", "Correct --gateway."
            ) from None

    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        for bundle in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            first = bundle * TILE_WIDTH
            path = TilePath(ENTRIES, bundle, min(TILE_WIDTH, stop - first))
            try:
                found = parse_bundle(self._get(f"/log/{path}"))
            except (urllib.error.HTTPError, ValueError) as error:
                raise FlashError(Exit.UNREACHABLE, f"{self._url} does not give {path}: {error}") from None
            for index, raw in enumerate(found, first):
                if index >= start:
                    yield index, raw

    def close(self) -> None:
        """Holds nothing."""

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self._url + path, timeout=REQUEST_S) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, OSError) as error:
            raise FlashError(Exit.UNREACHABLE, f"{self._url} does not answer: {error}") from None
