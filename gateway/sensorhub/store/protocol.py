"""What a store can be asked, whichever database it is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Store(Protocol):
    """A projection of the log that answers questions about readings.

    A score is 0.0 (do not use) to 1.0 (trust) and None while a reading is not judged; flags are the bits of
    `sensorhub.flags`. Times are Unix seconds. A time range includes `start` and excludes `end`.
    """

    def nodes(self) -> list[dict[str, Any]]:
        """Each node: node, kind, geohash, messages, readings, judged, trusted, trusted_share, last_time."""
        ...

    def latest(self, node: str | None = None) -> list[dict[str, Any]]:
        """The newest reading of each channel: node, channel, time, value, score, flags, message, record."""
        ...

    def series(
        self,
        node: str,
        channel: str,
        start: float,
        end: float,
        resolution: str = "auto",
        limit: int = 5000,
    ) -> dict[str, Any]:
        """One channel of one node as columns, oldest first, at most `limit` rows.

        `resolution` is "raw", "5m", "1h" or "auto": the finest that fits into `limit` rows. The answer names
        it. Raw columns: time, value, score, flags, message, record. Rollup columns: time (start of the
        bucket), n, mean, min, max, last, trusted_n, trusted_mean, flags. `truncated` is True when rows
        after the last one were left out.
        """
        ...

    def flag_counts(self) -> dict[str, int]:
        """How many readings carry each flag, by the flag's name; flags never set are left out."""
        ...

    def counts(self) -> dict[str, int]:
        """Totals: cursor, nodes, messages, readings, judged, trusted, undated, cloned, expired, unreadable."""
        ...

    def messages(
        self,
        nodes: Sequence[str] | None,
        channels: Sequence[str] | None,
        start: float,
        end: float,
    ) -> list[int]:
        """Log indices, ascending, of the messages with at least one such reading; None means any."""
        ...

    def locate(self, node: str, channel: str, time: float) -> dict[str, Any] | None:
        """The reading nearest to `time` (see `latest` for its fields), or None."""
        ...

    def days(
        self, node: str | None, start: float, end: float, channel: str | None = None, limit: int = 5000
    ) -> list[dict[str, Any]]:
        """How readings were judged, by node and day (UTC), at most `limit` of them; see README.md.

        Each: node, time (start of the day), readings, judged, trusted, trusted_share, mean_score, flags {name: readings}.
        `start` and `end` are widened to whole days.
        """
        ...

    def artefacts(self, what: str, start: int = 0) -> list[tuple[int, int, bytes, str]]:
        """Artefact entries of one sort from a log index on: (log index, Unix ms, SHA-256, description), oldest first."""
        ...

    def log_id(self) -> bytes | None:
        """The log it was made from: leaf hash of entry 0, 32 bytes; None while it is empty."""
        ...

    def covers(self) -> int:
        """How many entries of the log it has taken in."""
        ...

    def node_entries(self) -> list[int]:
        """Log indices of the node entries (enrolment, rotation, revocation ...) it has taken in, ascending."""
        ...

    def verdict(self, message: int) -> tuple[int, list[tuple[int, int]]] | None:
        """(log index of the verdict entry in force, [(score 0-255, flags) in record order]) or None."""
        ...

    def close(self) -> None:
        """Lets go of the database."""
        ...
