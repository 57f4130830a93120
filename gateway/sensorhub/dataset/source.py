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


class EntryIndex(Protocol):
    """What a projection of a log knows by heart: the store's reader has it. Without one the log is searched."""

    def log_id(self) -> bytes | None:
        """Leaf hash of entry 0 of its log."""
        ...

    def covers(self) -> int:
        """Entries of the log that it has taken in."""
        ...

    def node_entries(self) -> list[int]:
        """Log indices of the node entries among them."""
        ...

    def verdict(self, message: int) -> tuple[int, list[tuple[int, int]]] | None:
        """(log index of the newest verdict entry on a message, its scores and flags); None when it does not know."""
        ...
