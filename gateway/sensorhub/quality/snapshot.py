"""The memory of a judge on disk, so that a restart does not judge the whole log again.

A snapshot is only a shortcut: it says to which log and to which place of it it belongs, and is passed over
when that does not fit; the judge then replays the log from its first entry and comes to the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import CHANNELS
from sensorhub.quality.profiles import PROFILES

_LOG: Final = logging.getLogger(__name__)
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a judge remembers after the entries before `cursor`.

    Attributes:
        version: which judge, and which of its versions.
        arrays: its memory: arrays by name.
        rest: and JSON values.
        cursor: index of the first entry that is not taken in.
        log_id: leaf hash of the log's first entry.
        last_leaf: leaf hash of entry cursor - 1.
        counters: totals for the status file.
    """

    version: str
    arrays: Mapping[str, NDArray[Any]]
    rest: Mapping[str, Any]
    cursor: int
    log_id: bytes
    last_leaf: bytes
    counters: dict[str, int]


def _basis(version: str) -> str:
    """Fingerprint of what a judge takes from elsewhere: other channel tables need another memory."""
    table = repr(([(c.name, c.low, c.high, c.step, c.persist, c.kind) for c in CHANNELS], PROFILES))
    return hashlib.sha256(f"{_FORMAT} {version} {table}".encode()).hexdigest()


def save(path: Path, snapshot: Snapshot) -> None:
    """Writes the snapshot atomically.

    Raises:
        OSError: it could not be written; an older one stays.
    """
    rest = {
        **snapshot.rest,
        "basis": _basis(snapshot.version),
        "cursor": snapshot.cursor,
        "log_id": snapshot.log_id.hex(),
        "last_leaf": snapshot.last_leaf.hex(),
        "counters": snapshot.counters,
    }
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            _write(file, snapshot.arrays, rest)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write(file: IO[bytes], arrays: Mapping[str, Any], rest: dict[str, Any]) -> None:
    text = np.frombuffer(json.dumps(rest).encode(), dtype=np.uint8)
    np.savez(file, allow_pickle=False, rest=text, **arrays)


def load(path: Path, version: str) -> Snapshot | None:
    """The snapshot at `path`, or None when there is none that this version of a judge can use."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            rest = json.loads(saved["rest"].tobytes())
            if rest["basis"] != _basis(version):
                return None
            arrays = {name: saved[name] for name in saved.files if name != "rest"}
        return Snapshot(
            version,
            arrays,
            rest,
            int(rest["cursor"]),
            bytes.fromhex(rest["log_id"]),
            bytes.fromhex(rest["last_leaf"]),
            {str(name): int(count) for name, count in rest["counters"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        _LOG.warning("%s is damaged and passed over, the log is read again: %s", path, error)
        return None
