"""What this room needs of a log: the log room's reader has it, and so has any tree with its entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class LogSource(Protocol):
    """A log that can be read: committed entries, tree hashes and the newest signed checkpoint."""

    def size(self) -> int: ...

    def entry(self, index: int) -> bytes: ...

    def entries(self, start: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]: ...

    def inclusion(self, index: int, size: int) -> list[bytes]: ...

    def hash_of(self, level: int, index: int) -> bytes: ...

    def checkpoint(self) -> bytes | None: ...
