"""C2SP tlog-tiles: paths, hash tiles and entry bundles, and their files.

Hash tile: up to 256 hashes of 32 bytes. Entry bundle: up to 256 entries, each after its length as a
big-endian 16-bit number. Paths are relative to the log: `tile/<level>/<N>[.p/<W>]` and
`tile/entries/<N>[.p/<W>]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensorhub.log.errors import LogDamagedError
from sensorhub.log.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH

TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
#: The level that stands for entry bundles in `TilePath`.
ENTRIES: Final = -1
#: tlog-tiles allows levels 0 to 63; above 7 no tile can exist below 2**64 entries.
MAX_LEVEL: Final = 63

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class TilePath:
    """Which tile a path names.

    Attributes:
        level: tile level from 0, or `ENTRIES` for an entry bundle.
        index: number of the tile in its level.
        width: hashes or entries in it, 1 to 256; below 256 the tile is partial.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    @classmethod
    def parse(cls, path: str) -> TilePath | None:
        """Reads a C2SP path such as `tile/0/x001/234.p/17`; None when it is none, or not in the one form."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        level = ENTRIES if match[1] == "entries" else int(match[1])
        groups = match[2].replace("x", "").split("/")
        # More groups than the number needs would give one tile many paths; 2**64 entries need 19 digits.
        if level > MAX_LEVEL or len(groups) > 7 or (len(groups) > 1 and groups[0] == "000"):
            return None
        width = int(match[3]) if match[3] else TILE_WIDTH
        if match[3] and width >= TILE_WIDTH:
            return None
        return cls(level, int("".join(groups)), width)

    def __str__(self) -> str:
        level = "entries" if self.level == ENTRIES else str(self.level)
        suffix = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"tile/{level}/{index_path(self.index)}{suffix}"

    @property
    def end(self) -> int:
        """The tree size from which on this tile, at this width, exists."""
        height = TILE_HEIGHT * max(self.level, 0)
        return (self.index * TILE_WIDTH + self.width) << height


def index_path(index: int) -> str:
    """A tile's number in groups of three digits, all but the last led by `x`: 1234067 is x001/x234/067."""
    digits = f"{index:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])


def frame(entries: Sequence[bytes]) -> list[bytes]:
    """Each entry after its length; joined they are a bundle."""
    return [len(entry).to_bytes(2, "big") + entry for entry in entries]


def parse_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: a length runs over the end, or is zero (no entry is empty).
    """
    entries = []
    at, end = 0, len(data)
    while at < end:
        stop = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if stop > end or stop == at + 2:
            raise ValueError(f"the entry at byte {at} of {end} is cut off or empty")
        entries.append(data[at + 2 : stop])
        at = stop
    return entries


def split_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile.

    Raises:
        ValueError: not a whole number of hashes, or more than 256.
    """
    if len(data) % HASH_SIZE or len(data) > TILE_BYTES:
        raise ValueError(f"a tile has up to {TILE_WIDTH} hashes of {HASH_SIZE} bytes, not {len(data)} bytes")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def read_tile(root: Path, level: int, index: int) -> bytes:
    """The file of a full tile.

    Raises:
        LogDamagedError: missing, unreadable or not 8,192 bytes.
    """
    path = root / str(TilePath(level, index))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LogDamagedError(f"cannot read the tile {path}: {error.strerror}; run the log's fsck") from error
    if len(data) != TILE_BYTES:
        raise LogDamagedError(f"the tile {path} has {len(data)} bytes, not {TILE_BYTES}; run the log's fsck")
    return data


def read_bundle(root: Path, index: int) -> list[bytes]:
    """The 256 entries of a full bundle's file.

    Raises:
        LogDamagedError: missing, unreadable, cut off or not of 256 entries.
    """
    path = root / str(TilePath(ENTRIES, index))
    try:
        entries = parse_bundle(path.read_bytes())
    except OSError as error:
        raise LogDamagedError(
            f"cannot read the bundle {path}: {error.strerror}; run the log's fsck"
        ) from error
    except ValueError as error:
        raise LogDamagedError(f"the bundle {path} is damaged: {error}; run the log's fsck") from error
    if len(entries) != TILE_WIDTH:
        raise LogDamagedError(
            f"the bundle {path} has {len(entries)} entries, not {TILE_WIDTH}; run the log's fsck"
        )
    return entries


def write_atomically(path: Path, data: bytes, temporary: Path, *, sync: bool) -> None:
    """Makes `path` hold `data` or what it held before, never a part; durable on return when `sync`.

    Args:
        path: file to write; missing directories are made.
        data: its new content.
        temporary: directory on the same file system for the unfinished file.
        sync: whether to wait for the disk (file and directory).

    Raises:
        OSError: as the system calls do; then the unfinished file is gone.
    """
    unfinished = temporary / f"{path.name}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            at = 0
            while at < len(data):
                at += os.write(descriptor, memoryview(data)[at:])
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            unfinished.rename(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
