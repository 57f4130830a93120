"""Where the bytes of a whole log come from: a directory (the gateway's own, or a copy) or a URL.

Paths are those of C2SP tlog-tiles. The gateway's directory keeps the newest entries in a journal instead of
partial tiles; its format is described in the log room's README.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path
from typing import Final, Protocol

from sensorhub.chain.untrusted import shown
from sensorhub.log.merkle import HASH_SIZE, TILE_WIDTH
from sensorhub.verify.address import parse_address
from sensorhub.verify.errors import VerifyError

CHECKPOINT: Final = "checkpoint"
SEGMENT: Final = 1 << 16
"""Entries in one journal segment."""
TIMEOUT_S: Final = 20.0
"""How long one file may take to arrive."""
MAX_BUNDLE: Final = TILE_WIDTH * (2 + 0xFFFF)
"""Largest entry bundle: 256 entries of 65,535 bytes with their lengths."""

_HEAD: Final = 6
_MASK: Final = 0xFFFFFFFF
_SEGMENT_NAME: Final = re.compile(r"[0-9]{12,}\.wal", re.ASCII)


def tile_path(level: int | None, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a hash tile, or of an entry bundle when `level` is None."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    number = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{'entries' if level is None else level}/{number}{partial}"


def parse_bundle(data: bytes, width: int) -> list[bytes] | str:
    """The entries of a bundle; a string says why it is none of that width."""
    entries: list[bytes] = []
    at = 0
    for _ in range(width):
        if at + 2 > len(data):
            return f"ends after {len(entries)} of {width} entries"
        stop = at + 2 + (data[at] << 8 | data[at + 1])
        if stop > len(data):
            return f"ends within entry {len(entries)} of {width}"
        entries.append(data[at + 2 : stop])
        at = stop
    if at != len(data):
        return f"{len(data) - at} bytes after its {width} entries"
    return entries


class LogFiles(Protocol):
    """The files of a log."""

    name: str
    partial: bool
    """Whether partial tiles must be there."""

    def read(self, path: str) -> bytes | None:
        """A file, None when there is none. VerifyError when it cannot be had."""
        ...

    def journal(self, start: int, stop: int) -> tuple[str, list[bytes]] | None:
        """Entries from a journal, as far as they are good, with the name of its file; None without one."""
        ...


class LogDirectory:
    """A log in a directory.

    Raises:
        VerifyError: there is no log.
    """

    def __init__(self, path: Path) -> None:
        inner = path / "log"
        self._root = inner if not (path / CHECKPOINT).exists() and inner.is_dir() else path
        self.name = str(self._root)
        if not self._root.is_dir():
            raise VerifyError(str(path), "no such directory")
        self.partial = not any(self._segments())
        self._segment: tuple[int, list[bytes]] | None = None

    def _segments(self) -> list[Path]:
        return [path for path in (self._root / "journal").glob("*.wal") if _SEGMENT_NAME.fullmatch(path.name)]

    def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise VerifyError(path, f"cannot be read: {error.strerror or error}") from error

    def journal(self, start: int, stop: int) -> tuple[str, list[bytes]] | None:
        first = start // SEGMENT * SEGMENT
        name = f"journal/{first:012d}.wal"
        if self._segment is None or self._segment[0] != first:
            data = self.read(name)
            if data is None:
                return None
            self._segment = (first, _journal_entries(data, first))
        return name, self._segment[1][start - first : stop - first]


def _journal_entries(data: bytes, first: int) -> list[bytes]:
    """The good records of a segment from its beginning: CRC-32 (seeded with the index), length, entry."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while end - at > _HEAD:
        stop = at + _HEAD + (data[at + 4] << 8 | data[at + 5])
        crc = int.from_bytes(data[at : at + 4], "big")
        if stop > end or zlib.crc32(data[at + 4 : stop], (first + len(entries)) & _MASK) != crc:
            break
        entries.append(data[at + _HEAD : stop])
        at = stop
    return entries


class LogUrl:
    """A log behind an `http` or `https` prefix.

    Raises:
        VerifyError: another kind of address; from `read`, when the server does not answer as it should.
    """

    partial = True

    def __init__(self, url: str, *, timeout: float = TIMEOUT_S) -> None:
        self._address = parse_address(url.rstrip("/") + "/", "the log")
        self._timeout = timeout
        self.name = self._address.shown + urllib.parse.urlsplit(self._address.url).path.rstrip("/")

    def read(self, path: str) -> bytes | None:
        where = f"{self.name}/{path}"
        request = self._address.request(path, headers={"Accept-Encoding": "gzip, identity"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - scheme checked
                data: bytes = response.read(MAX_BUNDLE + 1)
                packed = response.headers.get("Content-Encoding") == "gzip"
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            raise VerifyError(where, f"the server answered {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise VerifyError(where, f"cannot be fetched: {shown(reason)}") from None
        if packed:
            try:
                unpacker = zlib.decompressobj(wbits=31)
                data = unpacker.decompress(data, MAX_BUNDLE + 1)
            except zlib.error as error:
                raise VerifyError(where, f"is not gzip: {error}") from error
        if len(data) > MAX_BUNDLE:
            raise VerifyError(where, f"has more than {MAX_BUNDLE} bytes")
        return data

    def journal(self, start: int, stop: int) -> tuple[str, list[bytes]] | None:  # noqa: ARG002 - nobody serves one
        return None


def hashes_of(tile: bytes) -> list[bytes]:
    """The hashes of a tile, a cut-off last one left out."""
    return [tile[at : at + HASH_SIZE] for at in range(0, len(tile) - HASH_SIZE + 1, HASH_SIZE)]
