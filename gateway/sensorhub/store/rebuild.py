"""Making the store anew from the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from sensorhub.store.schema import writer_lock
from sensorhub.store.sqlite import SqliteStore

_BATCH = 4096
_SIDE_FILES = ("-wal", "-shm")


class Entries(Protocol):
    """What a rebuild reads: a `LogReader`, or anything that gives committed entries in order."""

    def size(self) -> int:
        """How many entries are committed."""
        ...

    def entries(self, start: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Committed entries from `start` on, with their indices."""
        ...


def rebuild(
    reader: Entries,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    raw_days: int = 90,
    five_minute_days: int = 730,
    hourly_days: int = 0,
) -> int:
    """Builds the store from the whole log beside the old one and then takes its place.

    Readers go over to the new file with their next question. Killed before the end, it leaves the old store;
    killed in the moment of the swap, no store, which the follower makes again.

    Args:
        reader: the log.
        path: where the store is.
        progress: called with (entries done, entries in all) now and then.
        raw_days: as for `SqliteStore`; so are the next two.
        five_minute_days: see there.
        hourly_days: see there.

    Returns:
        the number of entries read.

    Raises:
        StoreError: a running process writes the store.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = writer_lock(path)
    fresh = path.with_name(path.name + ".rebuild")
    try:
        _remove(fresh)
        with SqliteStore(
            fresh, raw_days=raw_days, five_minute_days=five_minute_days, hourly_days=hourly_days
        ) as store:
            size = reader.size()
            while store.cursor() < size:
                batch: list[tuple[int, bytes]] = []
                for entry in reader.entries(store.cursor(), size):
                    batch.append(entry)
                    if len(batch) == _BATCH:
                        store.apply(batch)
                        batch.clear()
                        if progress is not None:
                            progress(store.cursor(), size)
                store.apply(batch)
                if progress is not None:
                    progress(store.cursor(), size)
                size = reader.size()
        # The last connection to close has folded the write-ahead log into the file.
        _sync(fresh)
        # An old write-ahead log beside a new file would be read as its own, so the old files go first; an
        # orphaned write-ahead log without its file is ignored by SQLite.
        _remove(path)
        fresh.rename(path)
        _sync(path.parent)
        Path(f"{fresh}.lock").unlink(missing_ok=True)
    finally:
        guard.release()
    return size


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    for suffix in _SIDE_FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
