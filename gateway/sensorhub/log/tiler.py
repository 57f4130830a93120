"""The thread that writes full tiles, makes them durable and then drops their journal segment.

Nothing waits for it: until a segment is dropped the journal holds its entries. Work that does not fit its
bounded queue is not lost either, a segment's missing tiles are rebuilt from the journal before it is dropped.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.log.errors import LogError
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
        self._written: set[TilePath] = set()
        self._change = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        # A descriptor that is open from the start reports every failed write-back to syncfs.
        self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.problem: str | None = None

    def put(self, path: TilePath, data: bytes) -> None:
        """Queues one full tile or bundle."""
        with self._change:
            if self._waiting + len(data) > _LIMIT:
                return
            self._jobs.append((path, data))
            self._waiting += len(data)
            self._change.notify()

    def finish(self, first: int) -> None:
        """Queues the end of the journal segment that begins with entry `first`; its tiles are queued before."""
        with self._change:
            self._jobs.append(first)
            self._change.notify()

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="log-tiler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Does what is queued, as far as the disk allows, and ends the thread."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        os.close(self._directory)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._change:
                while not self._jobs:
                    if self._closing:
                        return
                    self._change.wait()
                job = self._jobs[0]
            try:
                if isinstance(job, int):
                    self._finish(job)
                else:
                    self._write(*job)
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

    def _write(self, path: TilePath, data: bytes) -> None:
        file = self._root / str(path)
        if not _holds(file, data):
            write_atomically(file, data, self._temporary, sync=False)
        self._written.add(path)

    def _finish(self, first: int) -> None:
        self._rebuild(first)
        self._sync(first)
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

    def _rebuild(self, first: int) -> None:
        """Writes the segment's tiles that this thread has not written, from the journal."""
        missing = [path for path in self._tiles_of(first) if path not in self._written]
        if not missing:
            return
        view = SegmentView(self._root, first)
        try:
            for path in missing:
                start = path.index * TILE_WIDTH
                if path.level == ENTRIES:
                    data = b"".join(frame(view.entries(start, start + TILE_WIDTH)))
                elif path.level == 0:
                    data = b"".join(leaf_hashes(view.entries(start, start + TILE_WIDTH)))
                else:
                    children = range(start, start + TILE_WIDTH)
                    data = b"".join([self._root_of(path.level - 1, child) for child in children])
                self._write(path, data)
        finally:
            view.close()

    def _root_of(self, level: int, index: int) -> bytes:
        return perfect_root(split_tile(read_tile(self._root, level, index)))

    def _sync(self, first: int) -> None:
        if _syncfs is not None:
            if _syncfs(self._directory) != 0:
                number = ctypes.get_errno()
                raise LogError(f"cannot sync the tiles in {self._root}: {os.strerror(number)}")
            return
        directories: set[Path] = set()
        for path in self._tiles_of(first):
            file = self._root / str(path)
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            directories.update(parent for parent in file.parents if parent.is_relative_to(self._root))
        for directory in directories:
            sync_directory(directory)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except OSError:
        return False


def _load_syncfs() -> ctypes._FuncPointer | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int]
    function.restype = ctypes.c_int
    return function


#: One call instead of a thousand: on a journalling file system every fsync of a new file is a commit of its own.
_syncfs = _load_syncfs()
