"""The file system of a node as an image: made, read and changed without a board.

The geometry is the one MicroPython mounts with on an ESP32 (extmod/vfs_lfs.c: read and program size 32, cache four
times that). The cache size matters: it is the longest file that is stored inside its directory entry, and a reader with
a smaller cache could not read a longer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from littlefs import LittleFS, LittleFSError, UserContext

from flashing.exits import Exit, FlashError
from flashing.partitions import BLOCK

READ: Final = 32
CACHE: Final = 4 * READ
DISK_VERSION: Final = 0x0002_0001
_NO_SPACE: Final = -28


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


def update(image: bytes, files: Mapping[str, bytes], remove: tuple[str, ...] = ()) -> bytes:
    """The image with files replaced or added and others gone; what is not named stays, the spool for example.

    Args:
        image: a whole partition.
        files: path to content.
        remove: paths, directories with all they hold; one that is not there is no error.

    Raises:
        FlashError: not a file system, or no room.
    """
    context = UserContext(buffer=bytearray(image))
    disk = _mounted(context, len(image))
    for path in remove:
        _remove(disk, path)
    _put(disk, files, len(image))
    disk.unmount()
    return bytes(context.buffer)


def read(image: bytes) -> dict[str, bytes]:
    """All files of an image, by path.

    Raises:
        FlashError: not a file system.
    """
    disk = _mounted(UserContext(buffer=bytearray(image)), len(image))
    found = {}
    for folder, _directories, names in disk.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with disk.open(path, "rb") as file:
                found[path.lstrip("/")] = bytes(file.read())
    disk.unmount()
    return dict(sorted(found.items()))


def changes(old: bytes, new: bytes) -> list[tuple[int, bytes]]:
    """Runs of blocks that differ, as (offset, new content).

    Only for an image that was read from the board: on a board with unknown content every block has to be written, also
    the empty ones, because a block left over from an older file system may look newer than its twin.
    """
    runs: list[tuple[int, bytes]] = []
    for start in range(0, len(new), BLOCK):
        block = new[start : start + BLOCK]
        if block == old[start : start + BLOCK]:
            continue
        if runs and runs[-1][0] + len(runs[-1][1]) == start:
            runs[-1] = runs[-1][0], runs[-1][1] + block
        else:
            runs.append((start, block))
    return runs


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


def _mounted(context: UserContext, size: int) -> LittleFS:
    disk = LittleFS(context, mount=False, **_geometry(size))
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
        if disk.stat(path).type == 2:
            for name in disk.listdir(path):
                _remove(disk, f"{path}/{name}")
        disk.remove(path)
    except FileNotFoundError:
        pass
