"""The write-ahead journal: what a commit makes durable.

A segment holds 65,536 entries (one tile of level 1) in `journal/<first index, 12 digits>.wal`. A record is
a CRC-32 (4 bytes, big-endian), the length (2 bytes, big-endian) and the entry; the CRC covers length and
entry and starts from the low 32 bits of the entry's index, so a record is only good in its own place. No
entry is empty, so zeros are never a record.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final
from zlib import crc32

from sensorhub.log.errors import LogDamagedError, LogUnsyncedError, disk_error
from sensorhub.log.tiles import sync_directory

JOURNAL: Final = "journal"
SEGMENT: Final = 1 << 16
RECORD_HEAD: Final = 6

_CHUNK: Final = 1 << 20
_MASK: Final = 0xFFFFFFFF


def segment_path(root: Path, first: int) -> Path:
    """The file of the segment that begins with entry `first`."""
    return root / JOURNAL / f"{first:012d}.wal"


def segments(root: Path) -> list[int]:
    """The first indices of the segments on disk, ascending.

    Raises:
        LogDamagedError: a `.wal` file whose name is not the first index of a segment.
    """
    found = []
    for path in (root / JOURNAL).glob("*.wal"):
        if (
            not path.stem.isdecimal()
            or segment_path(root, int(path.stem)) != path
            or int(path.stem) % SEGMENT
        ):
            raise LogDamagedError(f"{path} is not a journal segment of this log; move it away")
        found.append(int(path.stem))
    return sorted(found)


def records(framed: Sequence[bytes], first: int) -> bytes:
    """The journal bytes of entries that already carry their length, `first` being the index of the first."""
    start = first & _MASK  # a segment never crosses a multiple of 2**32, so the low bits only count up
    return b"".join([crc32(data, at).to_bytes(4, "big") + data for at, data in enumerate(framed, start)])


def scan(descriptor: int, index: int, offset: int = 0) -> Iterator[tuple[list[bytes], int]]:
    """Reads whole records from a segment until its end or the first record that is not good.

    Args:
        descriptor: the segment, open for reading.
        index: index of the entry at `offset`.
        offset: where to begin, in bytes.

    Yields:
        Entries in batches, and the offset behind the last of them.
    """
    rest = b""
    while chunk := os.pread(descriptor, _CHUNK, offset + len(rest)):
        buffer = rest + chunk
        batch = []
        at, end = 0, len(buffer)
        good = True
        while end - at > RECORD_HEAD:
            stop = at + RECORD_HEAD + (buffer[at + 4] << 8 | buffer[at + 5])
            if stop > end:
                break
            if stop == at + RECORD_HEAD or crc32(buffer[at + 4 : stop], index & _MASK) != int.from_bytes(
                buffer[at : at + 4], "big"
            ):
                good = False
                break
            batch.append(buffer[at + RECORD_HEAD : stop])
            index += 1
            at = stop
        offset += at
        if batch:
            yield batch, offset
        if not good:
            return
        rest = buffer[at:]


class SegmentWriter:
    """The last segment of the journal, open for appending.

    Args:
        root: directory of the log.
        first: index of the segment's first entry.
        length: durable bytes in it; 0 makes a new file.
    """

    def __init__(self, root: Path, first: int, length: int = 0) -> None:
        self.path = segment_path(root, first)
        self.first = first
        self._length = length
        self._clean = True
        self._broken = False
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (0 if length else os.O_CREAT | os.O_TRUNC)
            self._descriptor = os.open(self.path, flags, 0o644)
            if not length:
                try:
                    sync_directory(self.path.parent)
                except OSError:
                    os.close(self._descriptor)
                    raise
        except OSError as error:
            raise disk_error(f"cannot open the journal segment {self.path}", error) from error

    def append(self, data: bytes) -> None:
        """Writes whole records behind the durable ones and waits until they are durable too.

        Raises:
            LogFullError: no room; the segment is as it was before.
            LogUnsyncedError: the sync failed, now or before; nobody knows what the disk holds: reopen the log.
            LogError: the disk failed otherwise.
        """
        if self._broken:
            raise LogUnsyncedError(
                f"{self.path} could not be synced; reopen the log to find out what the disk holds"
            )
        try:
            self._clean_up()
            self._clean = False
            view = memoryview(data)
            at = 0
            while at < len(data):
                at += os.pwrite(self._descriptor, view[at:], self._length + at)
        except OSError as error:
            failure = disk_error(f"cannot append {len(data)} bytes to {self.path}", error)
            try:
                self._clean_up()
            except OSError as second:
                failure.add_note(f"cutting off the unfinished part failed too and is repeated: {second}")
            raise failure from error
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._broken = True
            raise LogUnsyncedError(
                f"cannot sync {self.path}: {error.strerror}; reopen the log to find out what the disk holds"
            ) from error
        self._clean = True
        self._length += len(data)

    def _clean_up(self) -> None:
        if not self._clean:
            os.ftruncate(self._descriptor, self._length)
            self._clean = True

    def close(self) -> None:
        """Closes the file; what was not durable is not kept."""
        os.close(self._descriptor)


def recover(root: Path, first: int, durable: int) -> tuple[int, int]:
    """Makes the last segment end with a whole record and everything in it durable.

    Args:
        root: directory of the log.
        first: index of the segment's first entry.
        durable: number of entries of the whole log that are known to be durable.

    Returns:
        (number of entries in the segment, its length in bytes).

    Raises:
        LogDamagedError: fewer entries are readable than were committed.
        LogFullError, LogError: the tail cannot be written.
    """
    path = segment_path(root, first)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise disk_error(f"cannot open the journal segment {path}", error) from error
    try:
        count, length, known = 0, 0, 0
        for batch, end in scan(descriptor, first):
            count += len(batch)
            length = end
            if first + count <= durable:
                known = end
        if first + count < durable:
            raise LogDamagedError(
                f"{path} is damaged at byte {length}: entry {first + count} cannot be read though {durable} entries "
                "were committed; run the log's fsck and restore the file from a copy"
            )
        if count > SEGMENT:
            raise LogDamagedError(f"{path} holds {count} entries, more than a segment's {SEGMENT}")
        try:
            if os.fstat(descriptor).st_size > length:
                os.ftruncate(descriptor, length)
            # A sync that failed may have left the newest records in memory only, marked as written. Writing
            # the same bytes again makes the kernel write them out.
            at = known
            while at < length:
                at += os.pwrite(descriptor, os.pread(descriptor, min(_CHUNK, length - at), at), at)
            os.fsync(descriptor)
        except OSError as error:
            raise disk_error(f"cannot repair the end of {path}", error) from error
        return count, length
    finally:
        os.close(descriptor)


class SegmentView:
    """Reads one segment by index, also while its writer appends to it.

    The file stays readable through this view when the writer deletes it.

    Raises:
        FileNotFoundError: the segment does not exist (any more).
    """

    def __init__(self, root: Path, first: int) -> None:
        self.first = first
        self.path = segment_path(root, first)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._ends = array("Q", [0])

    def entries(self, start: int, stop: int, committed: int) -> list[bytes]:
        """The entries [start, stop) of this segment.

        Args:
            start: index of the first.
            stop: index behind the last, at most `committed`.
            committed: size of the log, so that what is read anyway is remembered up to there.

        Raises:
            LogDamagedError: one of the records up to `stop` is damaged.
        """
        if stop - self.first >= len(self._ends):
            self._index(stop, min(committed, self.first + SEGMENT))
        low, high = start - self.first, stop - self.first
        ends = self._ends
        base = ends[low]
        data = os.pread(self._descriptor, ends[high] - base, base)
        marks = [end - base for end in ends[low : high + 1]]
        return [data[left + RECORD_HEAD : right] for left, right in pairwise(marks)]

    def _index(self, stop: int, committed: int) -> None:
        ends = self._ends
        for batch, _ in scan(self._descriptor, self.first + len(ends) - 1, ends[-1]):
            at = ends[-1]
            for entry in batch[: committed - self.first - (len(ends) - 1)]:
                at += RECORD_HEAD + len(entry)
                ends.append(at)
            if len(ends) > committed - self.first:
                return
        if len(ends) > stop - self.first:
            return
        raise LogDamagedError(
            f"{self.path} is damaged at byte {self._ends[-1]}: the record of entry "
            f"{self.first + len(self._ends) - 1} cannot be read; run the log's fsck"
        )

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
