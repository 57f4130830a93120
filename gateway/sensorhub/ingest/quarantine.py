"""Refused messages, kept for a person to look at: JSON lines in a directory of bounded size, newest kept."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

PARTS: Final = 8
"""The size limit is spread over this many files; the oldest file goes when a new one is begun."""
SUFFIX: Final = ".jsonl"


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused message.

    Attributes:
        ms: when it was received, Unix milliseconds.
        reason: a value of `wire.Reason`.
        detail: what exactly was found.
        topic: MQTT topic it came by.
        payload: its bytes, cut after 8 KB.
    """

    ms: int
    reason: str
    detail: str
    topic: str
    payload: bytes


class _Line(msgspec.Struct):
    ms: int
    reason: str
    detail: str
    topic: str
    payload: str


class Quarantine:
    """A quarantine directory.

    Args:
        path: the directory; made when missing, readable by its owner only.
        max_bytes: what all its files together may take.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._part = max(max_bytes // PARTS, 1)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files = sorted(path.glob("*" + SUFFIX))
        self._number = int(self._files[-1].stem) if self._files else 0
        self._size = self._files[-1].stat().st_size if self._files else 0
        self._lines: list[bytes] = []
        self._pending = 0

    def put(self, refused: Refused) -> None:
        """Takes a message; it is on file after the next `flush`."""
        line = msgspec.json.encode(
            _Line(
                refused.ms,
                refused.reason,
                refused.detail,
                refused.topic,
                base64.b64encode(refused.payload).decode(),
            )
        )
        if len(line) + 1 > self._part:
            return
        if self._size + self._pending + len(line) + 1 > self._part or not self._files:
            self.flush()
            self._begin()
        self._lines.append(line)
        self._pending += len(line) + 1

    def flush(self) -> None:
        """Writes what was put.

        Raises:
            OSError: it cannot be written; what was put is dropped, since it must not pile up in memory.
        """
        lines, self._lines = self._lines, []
        self._pending = 0
        if not lines:
            return
        data = b"\n".join(lines) + b"\n"
        descriptor = os.open(self._files[-1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        self._size += len(data)

    def _begin(self) -> None:
        self._number += 1
        self._size = 0
        self._files.append(self.path / f"{self._number:012d}{SUFFIX}")
        while len(self._files) > PARTS:
            self._files.pop(0).unlink(missing_ok=True)


def read(path: Path) -> Iterator[Refused]:
    """All messages of a quarantine directory, oldest first; lines torn by a crash are left out."""
    for file in sorted(path.glob("*" + SUFFIX)):
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for text in lines:
            try:
                line = msgspec.json.decode(text, type=_Line)
                payload = base64.b64decode(line.payload, validate=True)
            except (msgspec.MsgspecError, ValueError):
                continue
            yield Refused(line.ms, line.reason, line.detail, line.topic, payload)
