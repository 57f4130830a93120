"""What each process says of itself: one small JSON file a process, replaced atomically.

The page, the terminal and `sensorhub status` read these files; nothing else does, so a missing or stale
file never stops the gateway.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATUS_DIR = "status"
SILENT_MS = 15_000
"""Milliseconds after which a process that has not written its status counts as silent; they write each second."""


class StatusFile:
    """The status file of one process.

    Args:
        data_dir: the gateway's data directory; `status/` below it is made when missing.
        process: name of the process, also the file's name without `.json`.
    """

    def __init__(self, data_dir: Path, process: str) -> None:
        self.process = process
        self.path = data_dir / STATUS_DIR / f"{process}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, fields: Mapping[str, Any]) -> None:
        """Replaces the file; adds `process`, `pid` and `updated_ms` (Unix milliseconds).

        A full disk is not an error here: the old status stays and its age tells.
        """
        record = {
            "process": self.process,
            "pid": os.getpid(),
            "updated_ms": time.time_ns() // 1_000_000,
            **fields,
        }
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)


def read_all(data_dir: Path) -> dict[str, dict[str, Any]]:
    """All status files of a gateway, by process name; files that cannot be read are left out."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((data_dir / STATUS_DIR).glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            found[path.stem] = record
    return found


def said_by_nodes(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What each enrolled node last said of itself, by its name, as the control process has heard it.

    Each has what it said of `state`, `fw`, `boot`, `config`, `safe`, `trial`, `refused`, `spool`; `troubles`, names of
    what somebody must do something about; and when it said so, `at_ms` (Unix ms). None of it is signed.
    """
    nodes = read_all(data_dir).get("control", {}).get("nodes")
    if not isinstance(nodes, dict):
        return {}
    return {name: said for name, said in nodes.items() if isinstance(said, dict)}
