"""The committed size, in a file that every reader maps into memory.

64 bytes: 8 of magic, the size as a little-endian 64-bit number, its complement, zeros. The writer overwrites
them in place after each durable commit; a reader that meets a half-written pair sees that they do not
complement each other and looks again. The file is not synced: after a power loss it may be behind the
journal, never ahead of it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

from sensorhub.log.errors import LogDamagedError

HEAD: Final = "head"
_MAGIC: Final = b"SHUBLOG\x01"
_LENGTH: Final = 64
_MASK: Final = (1 << 64) - 1
_ATTEMPTS: Final = 1000


def _encode(size: int) -> bytes:
    return size.to_bytes(8, "little") + (size ^ _MASK).to_bytes(8, "little")


def _decode(data: bytes) -> int | None:
    size = int.from_bytes(data[:8], "little")
    return size if size ^ _MASK == int.from_bytes(data[8:16], "little") else None


def recorded_size(root: Path) -> int | None:
    """The size in the head file of the log at `root`; None when there is none or it makes no sense."""
    try:
        data = (root / HEAD).read_bytes()
    except FileNotFoundError:
        return None
    if len(data) != _LENGTH or data[:8] != _MAGIC:
        return None
    return _decode(data[8:24])


class HeadWriter:
    """The writer's side; there is one for each log."""

    def __init__(self, root: Path, size: int) -> None:
        self._descriptor = os.open(root / HEAD, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.pwrite(self._descriptor, (_MAGIC + _encode(size)).ljust(_LENGTH, b"\0"), 0)
            os.ftruncate(self._descriptor, _LENGTH)
            os.fsync(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise

    def publish(self, size: int) -> None:
        """Lets readers see the entries before `size`, which must be durable."""
        os.pwrite(self._descriptor, _encode(size), 8)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class HeadReader:
    """A reader's side: the file may come into being later; until then the size is 0."""

    def __init__(self, root: Path) -> None:
        self._path = root / HEAD
        self._map: mmap.mmap | None = None

    def size(self) -> int:
        """The number of committed entries.

        Raises:
            LogDamagedError: the file is no head file.
        """
        if self._map is None:
            try:
                with self._path.open("rb") as file:
                    if os.fstat(file.fileno()).st_size < _LENGTH:
                        return 0
                    self._map = mmap.mmap(file.fileno(), _LENGTH, access=mmap.ACCESS_READ)
            except FileNotFoundError:
                return 0
        for _ in range(_ATTEMPTS):
            size = _decode(self._map[8:24])
            if size is not None:
                return size
        raise LogDamagedError(f"{self._path} is damaged; restart the writer of the log, it makes it anew")

    def close(self) -> None:
        """Lets go of the file."""
        if self._map is not None:
            self._map.close()
            self._map = None
