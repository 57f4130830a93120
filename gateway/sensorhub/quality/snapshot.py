"""The memory of the rules on disk, so that a restart does not judge the whole log again.

A snapshot is only a shortcut: it says to which log and to which place of it it belongs, and is passed over
when that does not fit; the rules then replay the log from its first entry and come to the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from sensorhub.channels import CHANNELS
from sensorhub.quality.rules import VERSION, Rules

_LOG: Final = logging.getLogger(__name__)
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the rules remember after the entries before `cursor`.

    Attributes:
        rules: the rules with their memory.
        cursor: index of the first entry that is not taken in.
        log_id: leaf hash of the log's first entry.
        last_leaf: leaf hash of entry cursor - 1.
        counters: totals for the status file.
    """

    rules: Rules
    cursor: int
    log_id: bytes
    last_leaf: bytes
    counters: dict[str, int]


def _basis() -> str:
    """Fingerprint of what the rules take from elsewhere: another channel table needs another memory."""
    table = repr([(c.name, c.low, c.high, c.step, c.persist, c.kind) for c in CHANNELS])
    return hashlib.sha256(f"{_FORMAT} {VERSION} {table}".encode()).hexdigest()


def save(path: Path, snapshot: Snapshot) -> None:
    """Writes the snapshot atomically.

    Raises:
        OSError: it could not be written; an older one stays.
    """
    arrays, rest = snapshot.rules.dump()
    rest = {
        **rest,
        "basis": _basis(),
        "cursor": snapshot.cursor,
        "log_id": snapshot.log_id.hex(),
        "last_leaf": snapshot.last_leaf.hex(),
        "counters": snapshot.counters,
    }
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            _write(file, arrays, rest)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write(file: IO[bytes], arrays: dict[str, Any], rest: dict[str, Any]) -> None:
    text = np.frombuffer(json.dumps(rest).encode(), dtype=np.uint8)
    np.savez(file, allow_pickle=False, rest=text, **arrays)


def load(path: Path) -> Snapshot | None:
    """The snapshot at `path`, or None when there is none that this version can use."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            rest = json.loads(saved["rest"].tobytes())
            if rest["basis"] != _basis():
                return None
            rules = Rules.load(saved, rest)
        return Snapshot(
            rules,
            int(rest["cursor"]),
            bytes.fromhex(rest["log_id"]),
            bytes.fromhex(rest["last_leaf"]),
            {str(name): int(count) for name, count in rest["counters"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        _LOG.warning("%s is damaged and passed over, the rules read the log again: %s", path, error)
        return None
