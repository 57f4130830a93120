"""Orders on their way: one file for each node and kind, published retained by the control process until replaced.

A command leaves a signed order here and need not reach the broker, nor need the gateway run. Whenever the broker is
connected anew all of them are published again, in case it forgot; a node takes each number once.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from sensorhub.errors import SensorhubError
from sensorhub.wire import NAME_PATTERN

Leaf = Literal["config", "update"]
_FILE: Final = re.compile(rf"({NAME_PATTERN.pattern})\.(config|update)")


class OutboxError(SensorhubError):
    """Raised when an order cannot be left."""


class Outbox:
    """The directory of orders.

    Args:
        path: the directory, made when an order is left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, node: str, leaf: Leaf, order: bytes) -> None:
        """Leaves an order in place of the one before, durable; an empty one takes that back.

        Raises:
            OutboxError: the directory cannot be written.
        """
        path = self._path / f"{node}.{leaf}"
        temporary = self._path / f".{secrets.token_hex(8)}"
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with temporary.open("wb") as file:
                file.write(order)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            directory = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutboxError(f"the order cannot be left at {path}: {error.strerror}") from error

    def get(self, node: str, leaf: Leaf) -> bytes:
        """The order that lies here; empty when there is none."""
        try:
            return (self._path / f"{node}.{leaf}").read_bytes()
        except OSError:
            return b""

    def remove(self, node: str, leaf: Leaf) -> None:
        """Forgets one that was taken back."""
        (self._path / f"{node}.{leaf}").unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[str, Leaf, bytes]]:
        """Node, kind and content of all that lie here."""
        for path in sorted(self._path.iterdir()) if self._path.is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match:
                leaf: Leaf = "config" if match[2] == "config" else "update"
                yield match[1], leaf, path.read_bytes()
