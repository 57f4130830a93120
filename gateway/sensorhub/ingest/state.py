"""The snapshot `ingest.state`: saves replaying the whole log at a start, and is never needed for the truth.

CBOR `[format, log id, cursor, registry entries, guard]` behind its SHA-256; replaced atomically. A snapshot
that is missing, damaged or of another log is left aside, and the log is replayed from its beginning.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import cbor2

FORMAT: Final = 2
DIGEST: Final = 32


class Snapshot(NamedTuple):
    """What a snapshot holds.

    Attributes:
        log_id: leaf hash of the log's genesis entry.
        cursor: number of log entries it covers.
        node_entries: log indices of the entries that made the registry.
        guard: see `Guard.dump`.
    """

    log_id: bytes
    cursor: int
    node_entries: list[int]
    guard: list[Any]


def save(path: Path, snapshot: Snapshot) -> None:
    """Replaces the snapshot file.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    body = cbor2.dumps([FORMAT, *snapshot])
    temporary = path.with_suffix(".state.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def load(path: Path) -> Snapshot | None:
    """The snapshot in a file, or None when there is none that can be used."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        return None
    fields = cbor2.loads(data[DIGEST:])
    if fields[0] != FORMAT:
        return None
    return Snapshot(*fields[1:])
