"""The thread that writes full tiles, makes them durable and then drops their journal segment.

Nothing waits for it: until a segment is dropped the journal holds its entries. Work that does not fit its
bounded queue is not lost either, a segment's missing tiles are rebuilt from the journal before it is dropped.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.log.journal import SEGMENT, SegmentView, segment_path
from sensorhub.log.merkle import TILE_WIDTH, leaf_hashes, perfect_root
from sensorhub.log.tiles import (
    ENTRIES,
    TilePath,
    frame,
    read_tile,
    split_tile,
    sync_directory,
    write_atomically,
)

#: Bytes of tiles that may wait in memory; what comes on top is rebuilt later.
_LIMIT: Final = 8 << 20
#: With at most so many jobs waiting the disk has time for a sync of each tile.
_FEW: Final = 8
_FIRST_PAUSE: Final = 0.5
_LAST_PAUSE: Final = 30.0


class Tiler:
    """Writes the tiles of one log.

    Args:
        root: directory of the log.
        temporary: directory for unfinished files, on the same file system.
    """

    def __init__(self, root: Path, temporary: Path) -> None:
        self._root = root
        self._temporary = temporary
        self._jobs: deque[tuple[TilePath, bytes] | int] = deque()
        self._waiting = 0
        #: The tiles of the current segment that are written, and whether they are durable.
        self._written: dict[TilePath, bool] = {}
        self._change = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.problem: str | None = None

    def put(self, path: TilePath, data: bytes) -> None:
        """Queues one full tile or bundle."""
        with self._change:
            if self._waiting + len(data) > _LIMIT:
                return
            self._jobs.append((path, data))
            self._waiting += len(data)
            self._change.notify_all()

    def finish(self, first: int) -> None:
        """Queues the end of the journal segment that begins with entry `first`; its tiles are queued before."""
        with self._change:
            self._jobs.append(first)
            self._change.notify_all()

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="log-tiler", daemon=True)
        self._thread.start()

    def settle(self, timeout: float | None) -> bool:
        """Waits until everything queued is done; False when `timeout` seconds were not enough."""
        with self._change:
            return self._change.wait_for(lambda: not self._jobs or self._closing, timeout)

    def close(self) -> None:
        """Writes the tiles that are queued, as far as the disk allows, and ends the thread.

        Segments that are not dropped yet stay: the next writer goes on with them.
        """
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._closing)
                if not self._jobs:
                    return
                job = self._jobs[0]
                # A sync for each tile spreads the work evenly; in a flood it waits for the end of the segment.
                sync = len(self._jobs) <= _FEW and not self._closing
            try:
                if isinstance(job, int):
                    self._finish(job)
                else:
                    self._write(*job, sync=sync)
            except (OSError, SensorhubError) as error:
                self.problem = (
                    f"cannot write the tiles of {self._root}: {error}; the journal keeps the entries"
                )
                with self._change:
                    if self._closing or self._change.wait_for(lambda: self._closing, pause):
                        return
                pause = min(2 * pause, _LAST_PAUSE)
                continue
            self.problem = None
            pause = _FIRST_PAUSE
            with self._change:
                self._jobs.popleft()
                if not isinstance(job, int):
                    self._waiting -= len(job[1])
                if not self._jobs:
                    self._change.notify_all()

    def _write(self, path: TilePath, data: bytes, *, sync: bool) -> None:
        file = self._root / str(path)
        if not _holds(file, data):
            write_atomically(file, data, self._temporary, sync=False)
        if sync:
            _sync_file(file)
        self._written[path] = sync

    def _finish(self, first: int) -> None:
        if self._rebuild(first) and self._sync(first):
            segment_path(self._root, first).unlink(missing_ok=True)
            self._written.clear()

    def _tiles_of(self, first: int) -> list[TilePath]:
        """Every tile that becomes full with the segment's entries, children first."""
        low, high = first // TILE_WIDTH, (first + SEGMENT) // TILE_WIDTH
        paths = [TilePath(level, index) for index in range(low, high) for level in (ENTRIES, 0)]
        level, count = 1, high
        while count % TILE_WIDTH == 0 and count:
            count //= TILE_WIDTH
            paths.append(TilePath(level, count - 1))
            level += 1
        return paths

    def _rebuild(self, first: int) -> bool:
        """Writes the segment's tiles that this thread has not written, from the journal; False at the end."""
        missing = [path for path in self._tiles_of(first) if path not in self._written]
        if not missing:
            return True
        view = SegmentView(self._root, first)
        try:
            for path in missing:
                if self._closing:
                    return False
                start = path.index * TILE_WIDTH
                if path.level == ENTRIES:
                    data = b"".join(frame(view.entries(start, start + TILE_WIDTH, first + SEGMENT)))
                elif path.level == 0:
                    data = b"".join(leaf_hashes(view.entries(start, start + TILE_WIDTH, first + SEGMENT)))
                else:
                    children = range(start, start + TILE_WIDTH)
                    data = b"".join([self._root_of(path.level - 1, child) for child in children])
                self._write(path, data, sync=False)
            return True
        finally:
            view.close()

    def _root_of(self, level: int, index: int) -> bytes:
        return perfect_root(split_tile(read_tile(self._root, level, index)))

    def _sync(self, first: int) -> bool:
        """Makes the segment's tiles durable that are not yet, and the names of all; False at the end.

        One syncfs would be a single call, but it waits for everybody's data and older kernels hide its errors.
        """
        directories: set[Path] = set()
        for path in self._tiles_of(first):
            if self._closing:
                return False
            file = self._root / str(path)
            if not self._written[path]:
                _sync_file(file)
                self._written[path] = True
            directories.update(parent for parent in file.parents if parent.is_relative_to(self._root))
        for directory in sorted(directories):
            sync_directory(directory)
        return True


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except OSError:
        return False
