"""The file system of a node as an image: made, read and changed without a board.

The geometry is the one MicroPython mounts with on an ESP32 (extmod/vfs_lfs.c: read and program size 32, cache four
times that). The cache size matters: it is the longest file that is stored inside its directory entry, and a reader with
a smaller cache could not read a longer one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from littlefs import LittleFS, LittleFSError, UserContext

from flashing.exits import Exit, FlashError
from flashing.partitions import BLOCK

READ: Final = 32
CACHE: Final = 4 * READ
DISK_VERSION: Final = 0x0002_0001
_NO_SPACE: Final = -28
_NOT_THERE: Final = -2
_DIRECTORY: Final = 2


def build(files: Mapping[str, bytes], size: int) -> bytes:
    """An image of `size` bytes with these files; the same bytes for the same files, whatever their order.

    Raises:
        FlashError: they do not fit.
    """
    context = UserContext(buffer=bytearray(b"\xff" * size))
    disk = LittleFS(context, mount=False, **_geometry(size))
    disk.format()
    disk.mount()
    _put(disk, files, size)
    disk.unmount()
    return bytes(context.buffer)


class Remote(UserContext):
    """A file system that is still on the board: what is looked at is fetched, what is changed is remembered.

    Args:
        size: of the partition in bytes.
        fetch: reads (offset, size) of the partition.

    Attributes:
        window: bytes fetched at a time: each time costs a second to connect.
    """

    FEW: Final = 16 << 10
    MANY: Final = 64 << 10

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__(buffer=bytearray(b"\xff" * size))
        self.window = self.FEW
        self._fetch = fetch
        self._known: set[int] = set()
        self._changed: set[int] = set()

    def read(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        """littlefs reads."""
        self._need(block)
        return bytearray(super().read(cfg, block, off, size))

    def prog(self, cfg: Any, block: int, off: int, data: bytes) -> int:
        """littlefs writes to an erased place."""
        self._need(block)
        self._changed.add(block)
        return int(super().prog(cfg, block, off, data))

    def erase(self, cfg: Any, block: int) -> int:
        """littlefs erases a block."""
        self._changed.add(block)
        return int(super().erase(cfg, block))

    def changes(self) -> list[tuple[int, bytes]]:
        """Runs of changed blocks, as (offset, new content)."""
        runs: list[tuple[int, bytes]] = []
        for block in sorted(self._changed):
            start = block * BLOCK
            content = bytes(self.buffer[start : start + BLOCK])
            if runs and runs[-1][0] + len(runs[-1][1]) == start:
                runs[-1] = runs[-1][0], runs[-1][1] + content
            else:
                runs.append((start, content))
        return runs

    def _need(self, block: int) -> None:
        if block in self._changed or block in self._known:
            return
        start = block * BLOCK // self.window * self.window
        content = self._fetch(start, min(self.window, len(self.buffer) - start))
        for offset in range(0, len(content), BLOCK):
            there = (start + offset) // BLOCK
            if there not in self._changed:
                self.buffer[start + offset : start + offset + BLOCK] = content[offset : offset + BLOCK]
            self._known.add(there)


def update(disk: Remote, files: Mapping[str, bytes], remove: Iterable[str] = ()) -> None:
    """Replaces or adds files and takes others away; what is not named stays, the spool for example.

    Args:
        disk: a file system; `disk.changes()` is then what has to be written.
        files: path to content.
        remove: paths, directories with all they hold; one that is not there is no error.

    Raises:
        FlashError: not a file system, or no room.
    """
    disk.window = disk.MANY
    mounted = _mounted(disk)
    for path in remove:
        _remove(mounted, path)
    _put(mounted, files, len(disk.buffer))
    mounted.unmount()


def read(image: bytes) -> dict[str, bytes]:
    """All files of an image, by path.

    Raises:
        FlashError: not a file system.
    """
    mounted = _mounted(UserContext(buffer=bytearray(image)))
    found = {}
    for folder, _directories, names in mounted.walk("/"):
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            with mounted.open(path, "rb") as file:
                found[path] = bytes(file.read())
    mounted.unmount()
    return dict(sorted(found.items()))


def read_some(disk: Remote, paths: Iterable[str]) -> dict[str, bytes]:
    """Those of these files that are there; no other is fetched from the board.

    Raises:
        FlashError: not a file system.
    """
    mounted = _mounted(disk)
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError), mounted.open(path, "rb") as file:
            found[path] = bytes(file.read())
    mounted.unmount()
    return found


def top(disk: UserContext) -> list[str]:
    """Names at the root.

    Raises:
        FlashError: not a file system.
    """
    mounted = _mounted(disk)
    names = sorted(mounted.listdir("/"))
    mounted.unmount()
    return names


def _geometry(size: int) -> dict[str, Any]:
    return {
        "block_size": BLOCK,
        "block_count": size // BLOCK,
        "read_size": READ,
        "prog_size": READ,
        "cache_size": CACHE,
        "lookahead_size": READ,
        "disk_version": DISK_VERSION,
    }


def _mounted(context: UserContext) -> LittleFS:
    disk = LittleFS(context, mount=False, **_geometry(len(context.buffer)))
    try:
        disk.mount()
    except LittleFSError as error:
        raise FlashError(Exit.BACKUP, f"there is no file system to read: {error}") from None
    return disk


def _put(disk: LittleFS, files: Mapping[str, bytes], size: int) -> None:
    try:
        for path, content in sorted(files.items()):
            folder = path.rpartition("/")[0]
            if folder:
                disk.makedirs(folder, exist_ok=True)
            with disk.open(path, "wb") as file:
                file.write(content)
    except LittleFSError as error:
        if error.code != _NO_SPACE:
            raise
        total = sum(map(len, files.values()))
        raise FlashError(
            Exit.NO_ROOM,
            f"{total // 1024} kB of application do not fit into {size // 1024} kB of file system",
        ) from None


def _remove(disk: LittleFS, path: str) -> None:
    try:
        kind = disk.stat(path).type
    except LittleFSError as error:
        if error.code != _NOT_THERE:
            raise
        return
    if kind == _DIRECTORY:
        for name in disk.listdir(path):
            _remove(disk, f"{path}/{name}")
    disk.remove(path)
