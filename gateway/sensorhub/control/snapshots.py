"""Sealed pictures of cameras: kept as they came, opened with the site's key, and tied to the signed record they belong to.

The format, and why it is so, is in firmware/CAMERA.md, "Sealed pictures". Opening uses other people's cryptography.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from coincurve import PrivateKey, PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from sensorhub.errors import SensorhubError
from sensorhub.log.entries import MESSAGE, MessageEntry, decode_entry, kind_of
from sensorhub.log.reader import LogReader
from sensorhub.wire import WireError, parse_pack, parse_signed

MAGIC: Final = b"SHSEAL\x00\x01"
MIN_SEALED: Final = 8 + 64 + 32 + 16 + 32
MAX_SEALED: Final = 131_072
"""Bytes; the largest picture that a node makes has 76,952."""
MAX_FILES: Final = 10_000
"""Most pictures of one node."""
CHANNEL: Final = "frame_sha256"
_NAME: Final = re.compile(r"(\d{13})-([0-9a-f]{64})\.seal")
_DAY_MS: Final = 86_400_000
_CHUNK: Final = 8_192


class SnapshotError(SensorhubError):
    """Raised when a picture cannot be opened or kept."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A picture: `pixels` are width * height grey bytes, `digest` their SHA-256 as in the channel `frame_sha256`."""

    width: int
    height: int
    pixels: bytes
    digest: bytes

    def png(self) -> bytes:
        """The picture as PNG, 8 bits of grey (W3C PNG, sections 5 and 11)."""
        rows = b"".join(
            b"\0" + self.pixels[at : at + self.width] for at in range(0, len(self.pixels), self.width)
        )
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """A sealed picture that is kept: its node, when it came (Unix ms), the frame's SHA-256 that it names, its file."""

    node: str
    received_ms: int
    digest: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class Record:
    """Where the log says that the node saw this frame: entry, and Unix seconds (None while undated)."""

    index: int
    time: float | None


def check_sealed(sealed: bytes) -> bytes:
    """The SHA-256 of the frame that a sealed picture names; its form is looked at, the seal is not.

    Raises:
        SnapshotError: this is no sealed picture.
    """
    if not MIN_SEALED <= len(sealed) <= MAX_SEALED or sealed[:8] != MAGIC or (len(sealed) - 136) % 16:
        raise SnapshotError("this is no sealed picture of format 1")
    return sealed[72:104]


def open_snapshot(sealed: bytes, site_key: PrivateKey) -> Snapshot:
    """Opens a sealed picture with the site's secret key.

    Raises:
        SnapshotError: it is not whole, or was not sealed to this key.
    """
    digest = check_sealed(sealed)
    one_time, body, tag = sealed[8:72], sealed[104:-32], sealed[-32:]
    try:
        point = PublicKey(b"\x04" + one_time).multiply(site_key.secret).format(compressed=False)
        salt = one_time + site_key.public_key.format(compressed=False)[1:]
        secret = HKDF(SHA256(), 80, salt, b"sensorhub snapshot/1").derive(point[1:33])
        if not hmac.compare_digest(hmac.digest(secret[32:64], sealed[:-32], "sha256"), tag):
            raise SnapshotError("the picture is damaged, or was sealed to another key")
        steps = Cipher(algorithms.AES(secret[:32]), modes.CBC(secret[64:80])).decryptor()
        unpad = PKCS7(128).unpadder()
        text = unpad.update(steps.update(body) + steps.finalize()) + unpad.finalize()
    except ValueError as error:
        raise SnapshotError(f"the picture is damaged: {error}") from error
    width, height = int.from_bytes(text[:2], "big"), int.from_bytes(text[2:4], "big")
    pixels = text[4:]
    if not pixels or len(pixels) != width * height or sha256(pixels).digest() != digest:
        raise SnapshotError("the picture is not the one whose hash is beside it")
    return Snapshot(width, height, pixels, digest)


def find_record(reader: LogReader, site: str, node: str, digest: bytes) -> Record | None:
    """The newest logged, signed record in which a node says that it saw the frame of this SHA-256.

    Args:
        reader: the log; every message in it was signed by the key that is enrolled for its node.
        site: name of the site.
        node: name of the node.
        digest: SHA-256 of the frame.
    """
    end = reader.size()
    while end > 0:
        start = max(0, end - _CHUNK)
        for index, raw in reversed(list(reader.entries(start, end))):
            if digest in raw and kind_of(raw) == MESSAGE:
                entry = decode_entry(raw)
                assert isinstance(entry, MessageEntry)
                try:
                    signed = parse_signed(entry.message)
                    pack = parse_pack(signed.payload, tq=signed.tq)
                except WireError:
                    continue
                if (pack.site, pack.node) != (site, node):
                    continue
                for name, offset, value in zip(pack.names, pack.times, pack.values, strict=True):
                    if name == CHANNEL and value == digest:
                        return Record(index, None if pack.base_time is None else pack.base_time + offset)
        end = start
    return None


class SnapshotBox:
    """The directory of kept pictures, `<node>/<Unix ms>-<SHA-256 of the frame>.seal`, bounded for each node.

    Args:
        path: the directory.
        days: how long a picture is kept; 0 as long as it fits.
        node_bytes: most bytes of one node; 0 keeps none.
        clock: Unix seconds.
    """

    def __init__(
        self, path: Path, *, days: int, node_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._days = days
        self._node_bytes = node_bytes
        self._clock = clock

    def put(self, node: str, sealed: bytes) -> Path | None:
        """Keeps a picture, once; None when it is there already or none are to be kept.

        Raises:
            SnapshotError: this is no sealed picture.
            OSError: the disk does not take it.
        """
        digest = check_sealed(sealed)
        kept = list(self.of(node))
        if len(sealed) > self._node_bytes or any(
            other.digest == digest and other.path.read_bytes() == sealed for other in kept
        ):
            return None
        folder = self._path / node
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        now = int(self._clock() * 1000)
        path = folder / f"{now:013d}-{digest.hex()}.seal"
        temporary = folder / f".{secrets.token_hex(8)}"
        try:
            with temporary.open("wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())  # the broker forgets it once this returns
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._prune([*kept, Kept(node, now, digest, path)])
        return path

    def prune(self) -> None:
        """Removes what is older than it may be, of all nodes."""
        for node in self.nodes():
            self._prune(list(self.of(node)))

    def nodes(self) -> list[str]:
        """Names of the nodes of which something is kept."""
        if not self._path.is_dir():
            return []
        return sorted(folder.name for folder in self._path.iterdir() if folder.is_dir())

    def of(self, node: str) -> Iterator[Kept]:
        """What is kept of a node, oldest first."""
        folder = self._path / node
        for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
            match = _NAME.fullmatch(name)
            if match:
                yield Kept(node, int(match[1]), bytes.fromhex(match[2]), folder / name)

    def _prune(self, kept: list[Kept]) -> None:
        oldest = int(self._clock() * 1000) - self._days * _DAY_MS if self._days else 0
        room = self._node_bytes
        for count, picture in enumerate(reversed(kept)):
            room -= picture.path.stat().st_size
            if room < 0 or count >= MAX_FILES or picture.received_ms < oldest:
                picture.path.unlink(missing_ok=True)
