"""Followers: whatever reads the log from a cursor of its own, at its own pace, and forgets nothing.

A follower keeps its cursor where it keeps its results, so that both change together. `run` feeds it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from sensorhub.log.errors import LogError
from sensorhub.log.reader import LogReader

_LOG: Final = logging.getLogger(__name__)
#: Longest wait for new entries before the status is looked after again, in seconds.
_TICK: Final = 0.5
_STATUS_INTERVAL: Final = 1.0
_FIRST_PAUSE: Final = 0.25
_LAST_PAUSE: Final = 30.0


class Follower(Protocol):
    """What `run` needs of a follower."""

    @property
    def name(self) -> str:
        """Name in logs and texts."""
        ...

    def cursor(self) -> int:
        """Index of the next entry it needs; everything before is applied and durable."""
        ...

    def apply(self, batch: list[tuple[int, bytes]]) -> None:
        """Takes entries (index, bytes), the first being that of the cursor, and moves the cursor.

        After an exception the same entries come again, so what was half done must be undone or harmless.
        """
        ...

    def status(self) -> dict[str, Any]:
        """Its own counters for the status file."""
        ...


class StatusSink(Protocol):
    """Where progress is shown: `sensorhub.status.StatusFile`."""

    def write(self, fields: Mapping[str, Any], /) -> None:
        """Replaces what was shown."""
        ...


def run(
    follower: Follower,
    reader: LogReader,
    *,
    stop: threading.Event,
    status: StatusSink | None = None,
    batch: int = 1024,
) -> None:
    """Feeds the log to a follower until `stop` is set; never skips an entry.

    An exception of the follower or the reader is logged and shown in the status (`error`, `failures`), and
    the same entries are tried again after a pause that doubles from 0.25 s to 30 s. A follower that does not
    move its cursor is asked again when the log has grown, or after half a second.

    Args:
        follower: who is fed.
        reader: the log, which may not exist yet.
        stop: ends the loop, within milliseconds unless an `apply` is under way.
        status: where to show `cursor`, `log_size`, `lag`, `rate` (entries/s), `error`, `failures` and the
            follower's own fields, once a second and at each error.
        batch: most entries in one `apply`.
    """
    progress = _Progress(follower, status)
    pause = _FIRST_PAUSE
    failed = False
    while not stop.is_set():
        try:
            cursor = follower.cursor()
            size = reader.size()
            if cursor > size:
                raise LogError(
                    f"{follower.name} has read {cursor} entries of a log of {size}: {reader.path} is another log or "
                    "lost entries; restore it, or rebuild what follows it"
                )
            end = min(size, cursor + batch)
            moved = cursor
            if cursor < end:
                follower.apply(list(reader.entries(cursor, end)))
                moved = follower.cursor()
                if moved > end:
                    raise LogError(
                        f"{follower.name} skipped entries: it was given those before {end} and is at {moved}"
                    )
            if failed:
                _LOG.info("%s goes on at entry %d", follower.name, cursor)
            failed = False
            pause = _FIRST_PAUSE
            progress.show(moved, size)
            if moved == cursor:
                reader.wait(size, _TICK, stop)
        except Exception as error:  # noqa: BLE001 - a follower must outlive whatever its own part of the world throws
            text = str(error) or type(error).__name__
            if not failed:
                _LOG.warning("%s failed and tries again: %s", follower.name, text, exc_info=error)
            failed = True
            progress.fail(text)
            stop.wait(pause)
            pause = min(2 * pause, _LAST_PAUSE)
    progress.end()


class _Progress:
    """What the status file says of a follower."""

    def __init__(self, follower: Follower, sink: StatusSink | None) -> None:
        self._follower = follower
        self._sink = sink
        self._cursor: int | None = None
        self._size = 0
        self._error: str | None = None
        self._failures = 0
        self._shown = -_STATUS_INTERVAL
        self._shown_cursor: int | None = None
        self._rate = 0.0

    def show(self, cursor: int, size: int) -> None:
        self._cursor, self._size = cursor, size
        recovered = self._error is not None
        self._error = None
        if recovered or time.monotonic() - self._shown >= _STATUS_INTERVAL:
            self._write()

    def fail(self, text: str) -> None:
        self._error = text
        self._failures += 1
        self._write()

    def end(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._sink is None:
            return
        now = time.monotonic()
        if self._cursor is not None and self._shown_cursor is not None and now > self._shown:
            self._rate = max(self._cursor - self._shown_cursor, 0) / (now - self._shown)
        self._shown, self._shown_cursor = now, self._cursor
        fields: dict[str, Any] = {
            "cursor": self._cursor,
            "log_size": self._size,
            "lag": None if self._cursor is None else self._size - self._cursor,
            "rate": round(self._rate, 1),
            "error": self._error,
            "failures": self._failures,
        }
        try:
            fields.update(self._follower.status())
        except Exception as error:  # noqa: BLE001 - its counters are not worth its life
            fields["error"] = self._error or f"no status: {error}"
        self._sink.write(fields)
