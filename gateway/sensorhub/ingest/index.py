"""`ingest.index`: where in the log the messages of a key and number may be, found without reading the log.

A header (magic, leaf hash of the log's genesis entry), then 8 bytes for each log entry: a BLAKE2b fingerprint
of kid and sequence number for a message, zeros for anything else. Fingerprints may be equal by chance, so what
is found is to be compared with the entry itself. The file is a projection of the log; its beginning is taken
over at a start only as far as it was on disk when the snapshot was taken.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

MAGIC: Final = b"shindex1"
WIDTH: Final = 8
_CHUNK: Final = 1 << 20


def fingerprint(kid: bytes, seq: int) -> bytes:
    """8 bytes that stand for a key and number; never all zeros."""
    return hashlib.blake2b(kid + seq.to_bytes(8, "big"), digest_size=WIDTH).digest()


class MessageIndex:
    """The index file of a log. One thread uses it.

    Args:
        path: the file; made anew when it is not of this log.
        log_id: leaf hash of the log's genesis entry.

    Attributes:
        problem: why the file is out of use until the next start, or None. `find` then gives None.
    """

    def __init__(self, path: Path, log_id: bytes) -> None:
        self.path = path
        self.problem: str | None = None
        self._head = MAGIC + log_id
        self._descriptor = -1
        self._first = 0
        self._waiting = bytearray()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.pread(self._descriptor, len(self._head), 0) != self._head:
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, self._head, 0)
        except OSError as error:
            self._fail(error)

    def covered(self) -> int:
        """Number of log entries that the file has room for."""
        if self.problem is not None:
            return 0
        return max(0, os.fstat(self._descriptor).st_size - len(self._head)) // WIDTH

    def begin(self, size: int) -> None:
        """Keeps what is said of the first `size` log entries and forgets the rest."""
        self._waiting.clear()
        self._resize(size)

    def put(self, index: int, kid: bytes, seq: int) -> None:
        """Notes a message that stands in the log at `index`, higher than all noted before."""
        if self.problem is not None:
            return
        waiting = self._waiting
        if not waiting:
            self._first = index
        elif (ahead := (index - self._first) * WIDTH - len(waiting)) > 0:
            waiting.extend(bytes(ahead))
        waiting.extend(fingerprint(kid, seq))
        if len(waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Writes what was noted."""
        if not self._waiting or self.problem is not None:
            return
        try:
            at = 0
            view = bytes(self._waiting)
            while at < len(view):
                at += os.pwrite(self._descriptor, view[at:], self._offset(self._first) + at)
        except OSError as error:
            self._fail(error)
        self._waiting.clear()

    def sync(self, size: int) -> bool:
        """Puts on disk what is known of the first `size` log entries; False when that failed."""
        self.flush()
        self._resize(size)
        if self.problem is None:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._fail(error)
        return self.problem is None

    def find(self, kid: bytes, seq: int, ranges: list[tuple[int, int]]) -> list[int] | None:
        """Log indices at which the message may be, in ranges of log indices (last included); None: out of use."""
        self.flush()
        if self.problem is not None:
            return None
        wanted = fingerprint(kid, seq)
        found: list[int] = []
        try:
            for first, last in ranges:
                for start in range(first, last + 1, _CHUNK // WIDTH):
                    count = min(_CHUNK // WIDTH, last + 1 - start)
                    data = os.pread(self._descriptor, count * WIDTH, self._offset(start))
                    at = data.find(wanted)
                    while at >= 0:
                        if at % WIDTH == 0:
                            found.append(start + at // WIDTH)
                        at = data.find(wanted, at + 1)
        except OSError as error:
            self._fail(error)
            return None
        return found

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _offset(self, index: int) -> int:
        return len(self._head) + WIDTH * index

    def _resize(self, size: int) -> None:
        if self.problem is None:
            try:
                os.ftruncate(self._descriptor, self._offset(size))
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.problem = (
            f"{self.path} cannot be used: {error.strerror}; old duplicates are looked up slowly until "
            "the next start"
        )
        self._waiting.clear()
