"""MicroPython images: the one a person names, or a pinned one from the cache or the net. Always hashed before use."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flashing.exits import Exit, FlashError
from flashing.partitions import layout_of

MANIFEST: Final = Path(__file__).resolve().parents[1] / "firmware.toml"
LARGEST: Final = 16 << 20
TIMEOUT_S: Final = 30
_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Pinned:
    """One image of the manifest.

    Attributes:
        board: MicroPython's name of the board, as node.toml gives it.
        version: of MicroPython.
        chip: esp32, esp32s3 ...
        url: where its publisher keeps it.
        size: in bytes, 0 when not recorded.
        sha256: 64 hex digits, or empty: then it has to be given by whoever flashes.
    """

    board: str
    version: str
    chip: str
    url: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Image:
    """A MicroPython image that was checked.

    Attributes:
        content: the bytes.
        name: of the file.
        sha256: hex digits.
        trusted: an expected hash was there, and is this one.
    """

    content: bytes
    name: str
    sha256: str
    trusted: bool


def load_manifest(path: Path = MANIFEST) -> list[Pinned]:
    """The pinned images, the preferred one of each board first.

    Raises:
        FlashError: the file cannot be read or is wrong.
    """
    try:
        rows: list[Mapping[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["image"]
        found = [
            Pinned(
                str(row["board"]),
                str(row["version"]),
                str(row["chip"]),
                str(row["url"]),
                int(row["size"]),
                str(row["sha256"]).lower(),
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlashError(
            Exit.NO_FIRMWARE, f"{path} cannot be read: {error}", "Mend the file that is named."
        ) from None
    for pinned in found:
        if pinned.sha256 and not _is_hash(pinned.sha256):
            raise FlashError(Exit.NO_FIRMWARE, f"{path}: the SHA-256 of {pinned.file_name} is none")
    return found


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where downloaded images are kept."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", ".")) / ".cache"
    return Path(base) / "sensorhub" / "firmware"


def from_file(path: Path, sha256: str = "") -> Image:
    """The image of a file.

    Args:
        path: the file.
        sha256: what it must be; empty to take it as it is.

    Raises:
        FlashError: not there, or another hash.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FlashError(Exit.FIRMWARE_UNFIT, f"{path} is larger than any ESP32's flash")
        content = path.read_bytes()
    except OSError as error:
        raise FlashError(Exit.NO_FIRMWARE, f"{path} cannot be read: {error.strerror}") from None
    return _checked(content, path.name, sha256)


def pin(path: Path, board: str = "", manifest: Path = MANIFEST) -> Pinned:
    """Records size and SHA-256 of an image that a person vouches for; every other line of the manifest stays as it is.

    Args:
        path: the file.
        board: MicroPython's name of the board; empty for the row whose file has this name.
        manifest: the pinned images.

    Raises:
        FlashError: the file cannot be read, is no complete image for the chip, or the manifest has no row for it.
    """
    image = from_file(path)
    rows = load_manifest(manifest)
    fitting = [row for row in rows if (row.board == board if board else row.file_name == path.name)]
    if not fitting:
        known = ", ".join(row.file_name for row in rows)
        raise FlashError(
            Exit.NO_FIRMWARE,
            f"{manifest.name} has no image {board or path.name}; it has {known}",
            "Name its board with --board, or add a row for it.",
        )
    row = replace(fitting[0], size=len(image.content), sha256=image.sha256)
    layout_of(image.content, row.chip, LARGEST)
    head, *tables = re.split(r"(?m)^(?=\[\[image\]\])", manifest.read_text(encoding="utf-8"))
    for number, table in enumerate(tables):
        if row.url in table:
            table = re.sub(r"(?m)^size = .*$", f"size = {row.size}", table)
            tables[number] = re.sub(r"(?m)^sha256 = .*$", f'sha256 = "{row.sha256}"', table)
    try:
        manifest.write_text(head + "".join(tables), encoding="utf-8")
    except OSError as error:
        raise FlashError(
            Exit.NO_FIRMWARE, f"{manifest} cannot be written: {error.strerror}", "Make it writable."
        ) from None
    return row


def from_manifest(
    board: str,
    chip: str,
    sha256: str,
    *,
    cache: Path,
    offline: bool,
    progress: Callable[[int, int], None],
    origin: str = "",
    manifest: Path = MANIFEST,
) -> Image:
    """The pinned image of a board: from the cache, or fetched into it.

    Args:
        board: as node.toml names it.
        chip: the chip that node.toml names.
        sha256: used where the manifest has none.
        cache: directory of images.
        offline: take it from the cache or not at all.
        progress: told the bytes that are there and those in all.
        origin: where an image that is not pinned is to be had, for people.
        manifest: the pinned images.

    Raises:
        FlashError: no such image, no hash known, cannot be fetched, or not what was pinned.
    """
    fitting = [pinned for pinned in load_manifest(manifest) if (pinned.board, pinned.chip) == (board, chip)]
    if not fitting:
        raise FlashError(
            Exit.NO_FIRMWARE,
            f"{manifest.name} pins no MicroPython for {board} ({chip})",
            f"Get it from {origin}." if origin else "",
        )
    pinned = fitting[0]
    expected = pinned.sha256 or sha256.lower()
    if sha256 and sha256.lower() != expected:
        raise FlashError(
            Exit.FIRMWARE_HASH, f"{manifest.name} pins {pinned.file_name} with another SHA-256: {expected}"
        )
    if not expected:
        raise FlashError(
            Exit.NO_FIRMWARE,
            f"{manifest.name} records no SHA-256 for {pinned.file_name}, and unchecked code is not fetched",
            f"Download {pinned.url} yourself and give it with --firmware (tools/flash pin FILE records it for good), or "
            "give its SHA-256 with --sha256.",
        )
    path = cache / pinned.file_name
    if not path.exists():
        if offline:
            raise FlashError(
                Exit.NO_FIRMWARE,
                f"{path} is not there and --offline forbids to fetch it",
                f"Copy {pinned.file_name} there, or leave out --offline.",
            )
        content = _fetch(pinned, progress)
        _checked(content, pinned.file_name, expected, pinned.size)
        keep(pinned, content, cache)
    return _checked(path.read_bytes(), os.fspath(path), expected, pinned.size)


def keep(pinned: Pinned, content: bytes, cache: Path) -> Path:
    """Puts an image into the cache, whole or not at all; returns where.

    Raises:
        FlashError: the cache cannot be written.
    """
    path = cache / pinned.file_name
    temporary = path.with_suffix(f".{os.getpid()}.new")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise FlashError(
            Exit.NO_FIRMWARE,
            f"{path} cannot be written: {error.strerror}",
            "Set XDG_CACHE_HOME to a writable directory.",
        ) from None
    return path


def _fetch(pinned: Pinned, progress: Callable[[int, int], None]) -> bytes:
    if not pinned.url.startswith("https://"):
        raise FlashError(Exit.NO_FIRMWARE, f"{pinned.url} is not https", "Mend the URL in the manifest.")
    content = bytearray()
    try:
        with urllib.request.urlopen(pinned.url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - https only, above
            while chunk := answer.read(_CHUNK):
                content += chunk
                progress(len(content), pinned.size)
                if len(content) > LARGEST:
                    break
    except (OSError, urllib.error.URLError) as error:
        raise FlashError(
            Exit.NO_FIRMWARE,
            f"{pinned.url} cannot be fetched: {error}",
            "Download it on another computer and give it with --firmware.",
        ) from None
    return bytes(content)


def _checked(content: bytes, name: str, sha256: str, size: int = 0) -> Image:
    if sha256 and not _is_hash(sha256.lower()):
        raise FlashError(Exit.FIRMWARE_HASH, f"{sha256!r} is no SHA-256", "Give 64 hexadecimal digits.")
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256.lower():
        raise FlashError(Exit.FIRMWARE_HASH, f"{name} has the SHA-256 {found}, not {sha256.lower()}")
    if size and len(content) != size:
        raise FlashError(Exit.FIRMWARE_HASH, f"{name} has {len(content)} bytes, not {size}")
    return Image(content, name, found, bool(sha256))


def _is_hash(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")
