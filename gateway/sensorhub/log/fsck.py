"""Checking every byte of a log: entries, tiles, journal, head and checkpoint.

Everything is read again and the tree is built anew from the entries. Three witnesses tell which file is
wrong when two disagree: the entry bundle, the tile of its leaf hashes, and the tile above that one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from sensorhub.log.entries import EntryError, Genesis, decode_entry
from sensorhub.log.errors import LogDamagedError, LogError
from sensorhub.log.head import HEAD, recorded_size
from sensorhub.log.journal import RECORD_HEAD, SEGMENT, segment_path, segments
from sensorhub.log.merkle import TILE_WIDTH, Frontier, leaf_hash, leaf_hashes, perfect_root
from sensorhub.log.note import Checkpoint, NoteError, NoteVerifier, open_checkpoint
from sensorhub.log.reader import CHECKPOINT
from sensorhub.log.tiles import ENTRIES, TILE_BYTES, TilePath, frame, parse_bundle, split_tile

_MASK: Final = 0xFFFFFFFF
_LONGEST: Final = RECORD_HEAD + 0xFFFF

#: Called with entries checked so far and entries in all.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it should be.

    Attributes:
        file: path below the log's directory.
        what: what is wrong with it.
        entries: range [first, last] of log entries that are concerned, if that is known.
    """

    file: str
    what: str
    entries: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.entries is None:
            return f"{self.file}: {self.what}"
        first, last = self.entries
        where = f"entry {first}" if first == last else f"entries {first} to {last}"
        return f"{self.file}: {self.what} ({where})"


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What a check found.

    Attributes:
        path: directory of the log.
        size: committed entries.
        root: Merkle root of them, None when damage keeps it from being known.
        checkpoint: the stored checkpoint, None when there is none or it is damaged.
        tiles: tile files that were compared.
        damages: what is wrong, in the order it was met; empty when all is well.
        notes: what is worth knowing and harmless.
    """

    path: Path
    size: int
    root: bytes | None
    checkpoint: Checkpoint | None
    tiles: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


def fsck(
    path: Path | str, on_progress: OnProgress | None = None, *, verifier: NoteVerifier | None = None
) -> FsckReport:
    """Reads a whole log and reports everything that is damaged. Changes nothing.

    The log may be written meanwhile: only what was committed at the beginning is checked.

    Args:
        path: directory of the log.
        on_progress: told now and then how far the check is.
        verifier: key of the checkpoints; by default the one that the genesis entry names.

    Raises:
        LogError: there is no log at `path`.
    """
    root = Path(path)
    if not (root / "journal").is_dir():
        raise LogError(f"there is no log in {root}")
    return _Check(root, on_progress or _no_progress, verifier).run()


class _Check:
    def __init__(self, root: Path, on_progress: OnProgress, verifier: NoteVerifier | None) -> None:
        self._root = root
        self._progress = on_progress
        self._verifier = verifier
        self._damages: list[Damage] = []
        self._notes: list[str] = []
        self._tiles = 0
        self._size = 0
        self._first: bytes | None = None
        self._mark: int | None = None
        self._marked_root: bytes | None = None
        # The tile rows that are not full yet, with None where damage hides a hash.
        self._rows: list[list[bytes | None]] = [[]]

    def run(self) -> FsckReport:
        note = self._read_checkpoint()
        head = recorded_size(self._root)
        if head is None:
            self._damage(HEAD, "missing or unreadable; opening the log makes it anew")
        self._size = self._recoverable() if head is None else head
        self._mark = _claimed_size(note)
        for first in range(0, self._size, SEGMENT):
            # The writer drops a segment when its tiles are durable, so its absence is only odd at the end.
            if (self._root / self._name(first)).exists() or first + SEGMENT > self._size:
                self._check_segment(first)
            else:
                self._check_tiled(first)
        self._note_mark(self._size // TILE_WIDTH * TILE_WIDTH, self._rows[0])
        total = _fold(self._rows)
        checkpoint = self._check_checkpoint(note)
        self._progress(self._size, self._size)
        return FsckReport(
            self._root, self._size, total, checkpoint, self._tiles, tuple(self._damages), tuple(self._notes)
        )

    def _damage(
        self, file: str | TilePath, what: str, first: int | None = None, last: int | None = None
    ) -> None:
        entries = None if first is None else (first, first if last is None else last)
        self._damages.append(Damage(str(file), what, entries))

    def _name(self, first: int) -> str:
        return str(segment_path(Path(), first))

    def _recoverable(self) -> int:
        try:
            found = segments(self._root)
        except LogDamagedError as error:
            self._damage("journal", str(error))
            return 0
        return found[-1] + sum(1 for _ in self._records(found[-1], None)) if found else 0

    # --- tiles without a journal segment -------------------------------------------------------------------

    def _check_tiled(self, first: int) -> None:
        """Checks bundles and tiles of the segment that began with entry `first`."""
        above = self._read(TilePath(1, first // SEGMENT))
        for at in range(TILE_WIDTH):
            index = first // TILE_WIDTH + at
            self._push(index, self._check_bundle(index, above[at] if above else None), above)
            if at % 64 == 63:
                self._progress((index + 1) * TILE_WIDTH, self._size)

    def _push(self, index: int, hash_: bytes | None, above: list[bytes] | None) -> None:
        """Takes the root of leaf tile `index` into the rows and checks each upper tile that is full then."""
        level = 1
        while True:
            if level == len(self._rows):
                self._rows.append([])
            row = self._rows[level]
            row.append(hash_)
            if len(row) < TILE_WIDTH:
                return
            path = TilePath(level, index // TILE_WIDTH**level)
            hash_ = self._check_row(path, row, above if level == 1 else self._read(path))
            row.clear()
            level += 1

    def _read(self, path: TilePath) -> list[bytes] | None:
        """The hashes of a full tile, None (and named) when it cannot be read."""
        file = self._root / str(path)
        self._tiles += 1
        height = 8 * path.level
        first, last = path.index * TILE_WIDTH << height, ((path.index + 1) * TILE_WIDTH << height) - 1
        try:
            data = file.read_bytes()
        except OSError as error:
            self._damage(path, f"cannot be read: {error.strerror}", first, last)
            return None
        if len(data) != TILE_BYTES:
            self._damage(path, f"has {len(data)} bytes instead of {TILE_BYTES}", first, last)
            return None
        return split_tile(data)

    def _check_bundle(self, index: int, witness: bytes | None) -> bytes | None:
        """Checks one bundle and its leaf tile against each other; returns the root that is to be believed."""
        start = index * TILE_WIDTH
        path, tile_path = TilePath(ENTRIES, index), TilePath(0, index)
        entries: list[bytes] | None = None
        trouble = ""
        self._tiles += 1
        try:
            entries = parse_bundle((self._root / str(path)).read_bytes())
        except OSError as error:
            trouble = f"cannot be read: {error.strerror}"
        except ValueError as error:
            trouble = f"is malformed: {error}"
        if entries is not None and len(entries) != TILE_WIDTH:
            trouble = f"has {len(entries)} entries instead of {TILE_WIDTH}"
            entries = None
        if trouble:
            self._damage(path, trouble, start, start + TILE_WIDTH - 1)
        tile = self._read(tile_path)
        leaves = leaf_hashes(entries) if entries is not None else None
        if leaves is None or tile is None:
            row = leaves or tile
            if row is None:
                self._note_mark(start, None)
                return witness
            found = perfect_root(row)
            if witness is not None and found != witness:
                what = "does not fit the tile above it"
                self._damage(path if leaves else tile_path, what, start, start + TILE_WIDTH - 1)
                self._note_mark(start, None)
                return witness
            self._note_mark(start, row)
            self._note_genesis(index, entries)
            return found
        if leaves == tile:
            self._note_mark(start, leaves)
            self._note_genesis(index, entries)
            return perfect_root(leaves)
        wrong = [
            start + at for at, (left, right) in enumerate(zip(leaves, tile, strict=True)) if left != right
        ]
        from_entries, from_tile = perfect_root(leaves), perfect_root(tile)
        if witness == from_tile:
            for entry in wrong:
                self._damage(path, "the entry was changed", entry)
            self._note_mark(start, tile)
            return from_tile
        if witness == from_entries:
            for entry in wrong:
                self._damage(tile_path, "the leaf hash was changed", entry)
            self._note_mark(start, leaves)
            self._note_genesis(index, entries)
            return from_entries
        what = "entries and leaf hashes differ and the tile above fits neither"
        self._damage(path, what, wrong[0], wrong[-1])
        self._damage(tile_path, what, wrong[0], wrong[-1])
        self._note_mark(start, None)
        return witness

    def _note_genesis(self, index: int, entries: list[bytes] | None) -> None:
        """Remembers entry 0 once its bundle is believed: a damaged one must not accuse the checkpoint."""
        if index == 0 and entries:
            self._first = entries[0]

    def _check_row(self, path: TilePath, row: list[bytes | None], stored: list[bytes] | None) -> bytes | None:
        """Compares a tile with the roots of the tiles below it; returns its root."""
        believed = list(row)
        height = 8 * path.level
        for at, computed in enumerate(row):
            if stored is None:
                continue
            if computed is None:
                believed[at] = stored[at]
            elif computed != stored[at]:
                first = (path.index * TILE_WIDTH + at) << height
                self._damage(path, f"hash {at} was changed", first, first + (1 << height) - 1)
        return _complete_root(believed)

    # --- the journal ---------------------------------------------------------------------------------------

    def _check_segment(self, first: int) -> None:
        """Checks the committed records of one segment, and the tiles that were already made of them."""
        leaves: list[bytes | None] = []
        entries: list[bytes | None] = []
        for index, entry in self._records(first, min(first + SEGMENT, self._size)):
            if index == 0:
                self._first = entry
            entries.append(entry)
            leaves.append(None if entry is None else leaf_hash(entry))
            if len(leaves) == TILE_WIDTH:
                tile = index // TILE_WIDTH
                self._compare_tile(tile, entries, leaves)
                self._note_mark(tile * TILE_WIDTH, leaves)
                self._push(tile, _complete_root(leaves), self._stored(TilePath(1, tile // TILE_WIDTH)))
                leaves, entries = [], []
            if index % 0x4000 == 0x3FFF:
                self._progress(index + 1, self._size)
        self._rows[0] = leaves

    def _stored(self, path: TilePath) -> list[bytes] | None:
        """A tile that need not be on disk yet because the journal still has its entries."""
        return self._read(path) if (self._root / str(path)).exists() else None

    def _compare_tile(self, index: int, entries: list[bytes | None], leaves: list[bytes | None]) -> None:
        """Compares the files of a leaf tile with the journal, and fills in hashes that the journal lost."""
        again = "; opening the log writes it anew"
        start = index * TILE_WIDTH
        path = TilePath(ENTRIES, index)
        file = self._root / str(path)
        if file.exists():
            self._tiles += 1
            whole = [entry for entry in entries if entry is not None]
            if len(whole) == TILE_WIDTH and file.read_bytes() != b"".join(frame(whole)):
                self._damage(path, f"differs from the journal{again}", start, start + TILE_WIDTH - 1)
        tile_path = TilePath(0, index)
        tile = self._stored(tile_path)
        if tile is None:
            return
        for at, (computed, stored) in enumerate(zip(leaves, tile, strict=True)):
            if computed is None:
                leaves[at] = stored
            elif computed != stored:
                self._damage(tile_path, f"hash {at} differs from the journal{again}", start + at)

    def _records(self, first: int, end: int | None) -> Iterator[tuple[int, bytes | None]]:
        """The entries [first, end) of a segment; None (and named) where the record is damaged.

        Without `end` the good records at the beginning of the segment.
        """
        name = self._name(first)
        if end is not None and end <= first:
            return
        try:
            with (self._root / name).open("rb") as file:
                length = os.fstat(file.fileno()).st_size
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if length else b""
        except OSError as error:
            if end is not None:
                self._damage(name, f"cannot be read: {error.strerror}", first, end - 1)
                yield from ((index, None) for index in range(first, end))
            return
        at, index = 0, first
        while end is None or index < end:
            stop = _record_end(data, at, index)
            if stop:
                yield index, data[at + RECORD_HEAD : stop]
                at = stop
                index += 1
                continue
            if end is None:
                return
            following = self._resume(data, at, index, end)
            if following is None:
                what = f"the record at byte {at} is damaged and none can be found behind it"
                self._damage(name, what if at < length else f"ends at byte {length}", index, end - 1)
                yield from ((missing, None) for missing in range(index, end))
                return
            self._damage(name, f"the record at byte {at} is damaged", index)
            yield index, None
            index += 1
            at = following
        if at < length and end is not None and end < first + SEGMENT:
            self._notes.append(f"{name}: {length - at} bytes behind the {self._size} committed entries")

    def _resume(self, data: mmap.mmap | bytes, at: int, index: int, end: int) -> int | None:
        """Where the record after a damaged one begins: where its length says, or where a good one is found."""
        length = len(data)
        if length - at >= RECORD_HEAD:
            said = at + RECORD_HEAD + (data[at + 4] << 8 | data[at + 5])
            if _record_end(data, said, index + 1) or (said == length and index + 1 == end):
                return said
        if index + 1 == end:
            return None
        for candidate in range(at + RECORD_HEAD + 1, min(at + _LONGEST, length - RECORD_HEAD) + 1):
            if _record_end(data, candidate, index + 1):
                return candidate
        return None

    # --- the checkpoint ------------------------------------------------------------------------------------

    def _note_mark(self, start: int, leaves: Sequence[bytes | None] | None) -> None:
        """Remembers the root at the checkpoint's size when that lies in the leaf tile from `start`.

        Args:
            start: index of the tile's first entry; the upper rows stand as they were before it.
            leaves: leaf hashes of the tile, None when damage hides them.
        """
        if self._mark is None or not start <= self._mark < start + TILE_WIDTH:
            return
        count = self._mark - start
        if leaves is None and count:
            return
        self._marked_root = _fold([list((leaves or ())[:count]), *self._rows[1:]])

    def _read_checkpoint(self) -> bytes | None:
        try:
            return (self._root / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            self._notes.append("there is no checkpoint yet")
        except OSError as error:
            self._damage(CHECKPOINT, f"cannot be read: {error.strerror}")
        return None

    def _check_checkpoint(self, note: bytes | None) -> Checkpoint | None:
        if note is None:
            return None
        verifier = self._verifier or self._own_verifier()
        try:
            if verifier is None:
                self._notes.append(
                    "the checkpoint's signature is not checked: no key was given, no genesis names one"
                )
                checkpoint = Checkpoint.parse(note.decode("utf-8").partition("\n\n")[0] + "\n")
            else:
                checkpoint = open_checkpoint(note, verifier)
        except (NoteError, UnicodeDecodeError) as error:
            self._damage(CHECKPOINT, str(error))
            return None
        if checkpoint.size > self._size:
            self._damage(
                CHECKPOINT,
                f"was signed for {checkpoint.size} entries, the log has {self._size}: entries are missing",
            )
        elif self._marked_root is None:
            self._notes.append("damage keeps the checkpoint's root from being computed")
        elif self._marked_root != checkpoint.root:
            self._damage(
                CHECKPOINT,
                f"was signed for the root {checkpoint.root.hex()}, the {checkpoint.size} entries have "
                f"{self._marked_root.hex()}",
            )
        return checkpoint

    def _own_verifier(self) -> NoteVerifier | None:
        """The key that the log's own genesis names; its name is the checkpoint's origin."""
        try:
            genesis = decode_entry(self._first) if self._first else None
            if not isinstance(genesis, Genesis):
                return None
            return NoteVerifier(f"{genesis.site}.{genesis.gateway}/sensorhub", genesis.note_key)
        except (EntryError, NoteError):
            return None


def _record_end(data: mmap.mmap | bytes, at: int, index: int) -> int:
    """Where the record at `at` ends when it is the good record of entry `index`, else 0."""
    if len(data) - at <= RECORD_HEAD:
        return 0
    stop = at + RECORD_HEAD + (data[at + 4] << 8 | data[at + 5])
    if stop > len(data) or stop == at + RECORD_HEAD:
        return 0
    good = crc32(data[at + 4 : stop], index & _MASK) == int.from_bytes(data[at : at + 4], "big")
    return stop if good else 0


def _complete_root(row: Sequence[bytes | None]) -> bytes | None:
    whole = [hash_ for hash_ in row if hash_ is not None]
    return perfect_root(whole) if len(whole) == len(row) else None


def _fold(rows: Sequence[Sequence[bytes | None]]) -> bytes | None:
    """The root over unfinished tile rows, None when a hash is unknown."""
    known = [[hash_ for hash_ in row if hash_ is not None] for row in rows]
    if any(len(left) != len(right) for left, right in zip(known, rows, strict=True)):
        return None
    return Frontier(known).root()


def _claimed_size(note: bytes | None) -> int | None:
    """The size that a checkpoint claims, before anything of it is believed."""
    try:
        return int((note or b"").split(b"\n", 2)[1])
    except (IndexError, ValueError):
        return None


def _no_progress(_done: int, _total: int) -> None:
    pass
