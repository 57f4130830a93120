"""The single writer of a log: append, group commit, recovery, checkpoints.

`append` only remembers an entry; `commit` writes all that wait as one journal write and one fdatasync, then
hashes them into the tree and lets readers see them. Tiles and checkpoints are written by threads of their
own, so that a commit waits for nothing but the journal.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from sensorhub.locks import Lock
from sensorhub.log import merkle
from sensorhub.log.errors import LogDamagedError, LogError, LogLockedError, disk_error
from sensorhub.log.head import HeadWriter, recorded_size
from sensorhub.log.journal import JOURNAL, SEGMENT, SegmentView, SegmentWriter, records, recover, segments
from sensorhub.log.merkle import TILE_HEIGHT, TILE_WIDTH, Frontier, leaf_hashes, perfect_root
from sensorhub.log.note import Checkpoint, NoteError, NoteSigner, open_checkpoint, sign_note
from sensorhub.log.reader import CHECKPOINT
from sensorhub.log.tiler import Tiler
from sensorhub.log.tiles import (
    ENTRIES,
    TilePath,
    frame,
    read_tile,
    split_tile,
    sync_directory,
    write_atomically,
)

#: Longest entry: bundles and journal records carry a 16-bit length.
MAX_ENTRY: Final = 0xFFFF
LOCK: Final = "lock"
TEMPORARY: Final = "tmp"
#: How many entries are read, hashed and tiled at a time when the log is opened.
_REPLAY: Final = 4096


class Log:
    """A log that this process may write. Use `Log.open`.

    `append`, `append_many`, `commit` and `rollback` belong to one thread; `checkpoint` and the properties
    may be used from any.

    Attributes:
        path: directory of the log.
        origin: first line of its checkpoints.
    """

    def __init__(self, path: Path, origin: str, signer: NoteSigner, checkpoint_interval: float) -> None:
        self.path = path
        self.origin = origin
        self._signer = signer
        self._interval = checkpoint_interval
        self._temporary = path / TEMPORARY
        self._lock: Lock | None = None
        self._head: HeadWriter | None = None
        self._segment: SegmentWriter | None = None
        self._pending: list[bytes] = []
        self._committed = 0
        self._published = 0
        self._frontier = Frontier()
        self._bundle: list[bytes] = []
        # Guards size and tree against the thread that signs checkpoints; a commit holds it only after its sync.
        self._state = threading.Lock()
        self._signing = threading.Lock()
        self._checkpoint: Checkpoint | None = None
        self._note = b""
        self._stop = threading.Event()
        self._clerk: threading.Thread | None = None
        self._tiler: Tiler | None = None
        self._problem: str | None = None

    @classmethod
    def open(
        cls, path: Path | str, *, origin: str, signer: NoteSigner, checkpoint_interval: float = 1.0
    ) -> Log:
        """Opens the log at `path` for writing; makes a new one when there is none.

        A torn end of the journal is cut off after its last whole entry. The checkpoint on disk must fit the
        tree, so a log that lost or changed entries is never signed again.

        Args:
            path: directory of the log.
            origin: first line of its checkpoints, `<site>.<gateway>/sensorhub`.
            signer: key of the checkpoints.
            checkpoint_interval: seconds between checkpoints while the log grows; 0 writes one only when
                `checkpoint` is called.

        Raises:
            LogLockedError: another process writes it.
            LogDamagedError: committed entries are missing or changed; the text says what was found where.
            LogFullError: no room for what opening must write.
            LogError: any other failure of the disk.
        """
        log = cls(Path(path), origin, signer, checkpoint_interval)
        try:
            log._open()
        except OSError as error:
            log._abandon()
            raise disk_error(f"cannot open the log {path}", error) from error
        except BaseException:
            log._abandon()
            raise
        return log

    def _open(self) -> None:
        (self.path / JOURNAL).mkdir(parents=True, exist_ok=True)
        (self.path / "tile").mkdir(exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        self._lock = Lock(
            self.path / LOCK,
            what=f"the log {self.path} is being written",
            remedy="a log has one writer, end that one first",
            error=LogLockedError,
        )
        for unfinished in self._temporary.iterdir():
            unfinished.unlink()
        sync_directory(self.path)
        sync_directory(self.path.parent)
        found = segments(self.path)
        durable = recorded_size(self.path) or 0
        last = self._check_segments(found, durable)
        length = 0
        size = last
        if found:
            count, length = recover(self.path, last, max(durable, last))
            size = last + count
        checkpoint = self._read_checkpoint()
        if checkpoint is not None and checkpoint.size > size:
            raise LogDamagedError(
                f"the log {self.path} has {size} entries but its checkpoint was signed at {checkpoint.size}: entries "
                "are missing; restore the directory from its newest copy"
            )
        self._tiler = Tiler(self.path, self._temporary)
        root = self._replay(found, size, checkpoint.size if checkpoint else None)
        if checkpoint is not None and root != checkpoint.root:
            raise LogDamagedError(
                f"the log {self.path} does not fit its checkpoint: the entries have the root "
                f"{root.hex() if root else '-'} at size {checkpoint.size}, the checkpoint was signed for "
                f"{checkpoint.root.hex()}; restore the directory from a copy, never sign both"
            )
        self._checkpoint = checkpoint
        self._committed = self._published = size
        self._segment = SegmentWriter(self.path, last, length)
        self._head = HeadWriter(self.path, size)
        self._tiler.start()
        if self._interval > 0:
            self._clerk = threading.Thread(target=self._sign_regularly, name="log-checkpoint", daemon=True)
            self._clerk.start()

    def _check_segments(self, found: list[int], durable: int) -> int:
        """The first index of the last segment."""
        for left, right in pairwise(found):
            if right != left + SEGMENT:
                raise LogDamagedError(
                    f"the journal of {self.path} lacks the segment of entry {left + SEGMENT}"
                )
        if found:
            return found[-1]
        if durable or any((self.path / "tile").iterdir()):
            raise LogDamagedError(
                f"the journal of {self.path} is gone though the log had {durable} entries; restore the directory "
                "from its newest copy"
            )
        return 0

    def _read_checkpoint(self) -> Checkpoint | None:
        path = self.path / CHECKPOINT
        try:
            note = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            checkpoint = open_checkpoint(note, self._signer.verifier, origin=self.origin)
        except NoteError as error:
            raise LogDamagedError(
                f"the checkpoint {path} is not one of this log and its key {self._signer.name}: {error}; use the key "
                "that the log began with, or restore the file"
            ) from error
        self._note = note
        return checkpoint

    def _replay(self, found: list[int], size: int, marked: int | None) -> bytes | None:
        """Rebuilds the right edge of the tree; returns the root at size `marked`.

        The edge before the journal comes from tiles, the rest from the journal's entries. Their tiles are
        written anew where the files differ: they may have been lost with the last power loss.
        """
        tiler = self._tiler
        assert tiler is not None
        start = found[0] if found else 0
        self._frontier = self._stored_frontier(start)
        root = None
        if marked is not None and marked < start:
            root = merkle.tree_root(marked, self._stored_hash)
        elif marked == start:
            root = self._frontier.root()
        at = start
        for first in found:
            end = min(first + SEGMENT, size)
            view = SegmentView(self.path, first)
            try:
                while at < end:
                    stop = min(at + _REPLAY, end)
                    if marked is not None and at < marked < stop:
                        stop = marked
                    self._grow(view.entries(at, stop, end), at)
                    at = stop
                    if at == marked:
                        root = self._frontier.root()
            finally:
                view.close()
            if first != found[-1]:
                tiler.finish(first)
        return root

    def _stored_frontier(self, size: int) -> Frontier:
        """The right edge at a size that is a multiple of a segment, from the tiles on disk."""
        rows: list[list[bytes]] = []
        level = 0
        while size >> (TILE_HEIGHT * level):
            count = size >> (TILE_HEIGHT * level)
            children = range(count // TILE_WIDTH * TILE_WIDTH, count)
            rows.append(
                [perfect_root(split_tile(read_tile(self.path, level - 1, child))) for child in children]
            )
            level += 1
        return Frontier(rows)

    def _stored_hash(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree before the journal, from the tiles on disk."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index = index >> (TILE_HEIGHT - height)
        if tile_level == 0 or (self.path / str(TilePath(tile_level, tile_index))).exists():
            tile = read_tile(self.path, tile_level, tile_index)
            return merkle.subtree_of_tile(tile, height, index - (tile_index << (TILE_HEIGHT - height)))
        if height == 0:
            return perfect_root(split_tile(read_tile(self.path, tile_level - 1, index)))
        left = self._stored_hash(level - 1, 2 * index)
        return merkle.node_hash(left, self._stored_hash(level - 1, 2 * index + 1))

    def _grow(self, entries: Sequence[bytes], first: int, framed: list[bytes] | None = None) -> None:
        """Takes durable entries into the tree and hands full tiles to the tiler."""
        tiler = self._tiler
        assert tiler is not None
        full = self._frontier.extend(first, leaf_hashes(entries))
        bundle = self._bundle
        bundle.extend(frame(entries) if framed is None else framed)
        at = 0
        for level, index, tile in full:
            if level == 0:
                tiler.put(TilePath(ENTRIES, index), b"".join(bundle[at : at + TILE_WIDTH]))
                at += TILE_WIDTH
            tiler.put(TilePath(level, index), tile)
        if at:
            del bundle[:at]

    @property
    def size(self) -> int:
        """Number of appended entries, committed or not."""
        return self._committed + len(self._pending)

    @property
    def committed(self) -> int:
        """Number of durable entries."""
        return self._committed

    @property
    def problem(self) -> str | None:
        """What keeps tiles or checkpoints from being written at the moment, if anything does.

        Committed entries are safe all the same; both are written when the cause is gone.
        """
        return self._problem or (self._tiler.problem if self._tiler else None)

    def append(self, entry: bytes) -> int:
        """Adds one entry to those that wait for the next commit and returns its index.

        Raises:
            LogError: the entry is empty or longer than `MAX_ENTRY` bytes.
        """
        if not 0 < len(entry) <= MAX_ENTRY:
            raise LogError(f"a log entry has 1 to {MAX_ENTRY} bytes, not {len(entry)}")
        self._pending.append(entry)
        return self._committed + len(self._pending) - 1

    def append_many(self, entries: Sequence[bytes]) -> int:
        """Adds entries, all or none, and returns the index of the first.

        Raises:
            LogError: one is empty or longer than `MAX_ENTRY` bytes.
        """
        lengths = list(map(len, entries))
        if lengths and not 0 < min(lengths) <= max(lengths) <= MAX_ENTRY:
            raise LogError(f"a log entry has 1 to {MAX_ENTRY} bytes, not {min(lengths) or max(lengths)}")
        first = self.size
        self._pending.extend(entries)
        return first

    def commit(self) -> int:
        """Makes all appended entries durable and visible to readers; returns the number of entries.

        Raises:
            LogFullError: the disk is full. The entries keep waiting (those before `committed` are durable):
                call `commit` again when there is room, or `rollback`.
            LogUnsyncedError: a sync failed; nothing helps but to open the log again.
            LogError: the disk failed, or the log is closed.
        """
        if self._segment is None or self._head is None:
            raise LogError(f"the log {self.path} is closed")
        while self._pending:
            room = self._segment.first + SEGMENT - self._committed
            if room == 0:
                self._next_segment()
                room = SEGMENT
            chunk = self._pending if len(self._pending) <= room else self._pending[:room]
            framed = frame(chunk)
            self._segment.append(records(framed, self._committed))
            with self._state:
                self._grow(chunk, self._committed, framed)
                self._committed += len(chunk)
                self._pending = self._pending[len(chunk) :]
                self._publish()
        with self._state:
            self._publish()
        return self._committed

    def _publish(self) -> None:
        """Shows readers what is committed; before anything is signed for it."""
        if self._published == self._committed:
            return
        if self._head is None:
            raise LogError(f"the log {self.path} is closed")
        try:
            self._head.publish(self._committed)
        except OSError as error:
            raise LogError(f"cannot write {self.path / 'head'}: {error.strerror}; commit again") from error
        self._published = self._committed

    def _next_segment(self) -> None:
        assert self._segment is not None
        assert self._tiler is not None
        finished = self._segment
        self._segment = SegmentWriter(self.path, self._committed)
        finished.close()
        self._tiler.finish(finished.first)

    def rollback(self) -> int:
        """Forgets the entries that wait for a commit; returns the number of committed ones."""
        self._pending = []
        return self._committed

    def root(self) -> bytes:
        """The Merkle root of the committed entries."""
        with self._state:
            return self._frontier.root()

    def checkpoint(self) -> bytes:
        """Signs and stores a checkpoint of the committed entries, unless the stored one is of this size.

        Returns:
            The note.

        Raises:
            LogError: the file could not be written; the old one is still there.
        """
        with self._signing:
            with self._state:
                self._publish()
                size = self._committed
                if self._checkpoint is not None and self._checkpoint.size == size:
                    return self._note
                checkpoint = Checkpoint(self.origin, size, self._frontier.root())
            note = sign_note(checkpoint.format(), self._signer)
            try:
                write_atomically(self.path / CHECKPOINT, note, self._temporary, sync=True)
            except OSError as error:
                raise LogError(f"cannot write the checkpoint of {self.path}: {error.strerror}") from error
            self._note = note
            self._checkpoint = checkpoint
            return note

    def _sign_regularly(self) -> None:
        # A new log has no checkpoint until its first commit: the size 0 says nothing.
        while not self._stop.wait(self._interval):
            if self._committed == (self._checkpoint.size if self._checkpoint else 0):
                continue
            try:
                self.checkpoint()
                self._problem = None
            except LogError as error:
                self._problem = str(error)

    def settle(self, timeout: float | None = None) -> bool:
        """Waits until full tiles are on disk and finished journal segments are dropped.

        Nobody needs to: it is for tools that measure or copy a log.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Returns:
            Whether it came to that in time.
        """
        return self._tiler is None or self._tiler.settle(timeout)

    def close(self) -> None:
        """Signs a last checkpoint of what is committed and gives the lock back; what waits is forgotten.

        Tiles that are full are written; work on old journal segments is left to the next writer.
        """
        if self._segment is None:
            return
        try:
            if self._committed:
                self.checkpoint()
        finally:
            self._abandon()

    def _abandon(self) -> None:
        self._stop.set()
        if self._clerk is not None:
            self._clerk.join()
            self._clerk = None
        if self._tiler is not None:
            self._tiler.close()
            self._tiler = None
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        if self._head is not None:
            self._head.close()
            self._head = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
