"""Reading a log that another process writes: committed entries, tiles, roots and proofs.

Entries of a segment that is still in the journal are read from there; a tile file is believed only when
its journal segment is gone, because only then it is known to be durable.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from sensorhub.log import merkle
from sensorhub.log.errors import LogDamagedError, NotInLogError
from sensorhub.log.head import HeadReader
from sensorhub.log.journal import SEGMENT, SegmentView
from sensorhub.log.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, leaf_hashes, parent_row, perfect_root
from sensorhub.log.tiles import ENTRIES, TilePath, frame, read_bundle, read_tile, split_tile

CHECKPOINT: Final = "checkpoint"

#: How many full bundles (each some tens of kB) and tile pyramids (16 kB) a reader keeps.
_BUNDLES: Final = 32
_PYRAMIDS: Final = 128
_ROOTS: Final = 1 << 14
_VIEWS: Final = 2
#: `wait` looks at the head after 1 ms, then ever more slowly down to every 16 ms.
_FIRST_PAUSE: Final = 0.001
_LAST_PAUSE: Final = 0.016

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Cache(OrderedDict[K, V]):
    """Keeps the values that were used last."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def fetch(self, key: K, make: Callable[[], V]) -> V:
        if key in self:
            self.move_to_end(key)
            return self[key]
        value = make()
        self[key] = value
        while len(self) > self._limit:
            self.popitem(last=False)
        return value


class LogReader:
    """The log at `path`, which may not exist yet: until it does its size is 0.

    Threads may share a reader. Sizes, indices and proofs only ever concern committed entries.

    Args:
        path: directory of the log.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._head = HeadReader(self.path)
        self._lock = threading.RLock()
        self._tiled = 0  # every entry before this one is known to have left the journal
        self._views: OrderedDict[int, SegmentView] = OrderedDict()
        self._bundles: _Cache[int, list[bytes]] = _Cache(_BUNDLES)
        self._pyramids: _Cache[tuple[int, int], list[bytes]] = _Cache(_PYRAMIDS)
        self._roots: _Cache[tuple[int, int], bytes] = _Cache(_ROOTS)

    def close(self) -> None:
        """Lets go of files; a reader may be used again afterwards."""
        with self._lock:
            for view in self._views.values():
                view.close()
            self._views.clear()
            self._head.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def size(self) -> int:
        """Number of committed entries."""
        return self._head.size()

    def wait(self, size: int, timeout: float, stop: threading.Event | None = None) -> bool:
        """Waits until the log has more than `size` entries.

        Args:
            size: what the caller has seen.
            timeout: seconds to wait at most.
            stop: ends the wait when set.

        Returns:
            Whether the log has more.
        """
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while self.size() <= size:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            nap = min(pause, left)
            if stop is None:
                time.sleep(nap)
            elif stop.wait(nap):
                return self.size() > size
            pause = min(2 * pause, _LAST_PAUSE)
        return True

    def entry(self, index: int) -> bytes:
        """One entry.

        Raises:
            NotInLogError: not committed (yet).
            LogDamagedError: the file that holds it is damaged.
        """
        if not 0 <= index < self.size():
            raise NotInLogError(f"entry {index} is not in the log {self.path} of {self.size()} entries")
        return self._entries(index, index + 1)[0]

    def entries(self, start: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Entries from `start` on as (index, entry): up to `stop`, or those committed when this is called.

        Raises:
            NotInLogError: `start` is negative or `stop` is beyond the log.
            LogDamagedError: a file that holds some is damaged.
        """
        size = self.size()
        end = size if stop is None else stop
        if start < 0 or end > size:
            raise NotInLogError(
                f"entries {start} to {end} are not all in the log {self.path} of {size} entries"
            )
        return self._iterate(start, end)

    def _iterate(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        while start < end:
            stop = min(end, (start // TILE_WIDTH + 1) * TILE_WIDTH)
            yield from enumerate(self._entries(start, stop), start)
            start = stop

    def root(self, size: int | None = None) -> bytes:
        """The Merkle root when the log had `size` entries (all of them by default).

        Raises:
            NotInLogError, LogDamagedError: as `entry`.
        """
        return merkle.tree_root(self._checked(size), self.hash_of)

    def leaf(self, index: int) -> bytes:
        """The leaf hash of an entry."""
        self._checked(index + 1)
        return self.hash_of(0, index)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion path of an entry in the tree of `size` entries (all by default)."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise NotInLogError(f"entry {index} is not in a tree of {size} entries")
        return merkle.inclusion_path(index, size, self.hash_of)

    def consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """The consistency path between two sizes of the log."""
        new_size = self._checked(new_size)
        if not 0 <= old_size <= new_size:
            raise NotInLogError(f"a log of {old_size} entries is not a beginning of one of {new_size}")
        return merkle.consistency_path(old_size, new_size, self.hash_of)

    def multiproof(self, indices: Iterable[int], size: int | None = None) -> list[bytes]:
        """The node hashes that prove many entries at once; see `merkle.multiproof`."""
        size = self._checked(size)
        wanted = list(indices)
        if wanted and not 0 <= min(wanted) <= max(wanted) < size:
            raise NotInLogError(
                f"entries {min(wanted)} to {max(wanted)} are not all in a tree of {size} entries"
            )
        return merkle.multiproof(wanted, size, self.hash_of)

    def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint, a C2SP note; None before the first."""
        try:
            return (self.path / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None

    def tile(self, path: str) -> bytes | None:
        """What a C2SP path below the log's prefix serves: `checkpoint`, tiles and entry bundles.

        Full and partial tiles are made as asked, up to the committed size.

        Args:
            path: such as `tile/0/x001/234`, `tile/1/000.p/17` or `tile/entries/000.p/3`.

        Returns:
            The bytes, or None when the path is none or the log has not grown that far.

        Raises:
            LogDamagedError: a file that should hold it is damaged.
        """
        if path == CHECKPOINT:
            return self.checkpoint()
        tile = TilePath.parse(path)
        if tile is None or tile.end > self.size():
            return None
        start = tile.index * TILE_WIDTH
        if tile.level == ENTRIES:
            return b"".join(frame(self._entries(start, start + tile.width)))
        if tile.width == TILE_WIDTH:
            return self._pyramid(tile.level, tile.index)[0]
        return b"".join(self._row(tile.level, start, start + tile.width))

    def hash_of(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree `(level, index)` (see `merkle`).

        Raises:
            NotInLogError: not complete yet.
            LogDamagedError: a file that holds its hashes is damaged.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.size():
            raise NotInLogError(f"subtree {index} of level {level} is not complete in the log {self.path}")
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index = index >> (TILE_HEIGHT - height)
        if (tile_index + 1) << (TILE_HEIGHT * (tile_level + 1)) <= self.size():
            row = self._pyramid(tile_level, tile_index)[height]
            at = (index - (tile_index << (TILE_HEIGHT - height))) * HASH_SIZE
            return row[at : at + HASH_SIZE]
        return perfect_root(self._row(tile_level, index << height, (index + 1) << height))

    def _checked(self, size: int | None) -> int:
        committed = self.size()
        if size is None:
            return committed
        if not 0 <= size <= committed:
            raise NotInLogError(f"the log {self.path} has {committed} entries, not {size}")
        return size

    def _row(self, tile_level: int, start: int, stop: int) -> list[bytes]:
        """The hashes [start, stop) of a tile row, of which the last tile is not full."""
        if tile_level == 0:
            return leaf_hashes(self._entries(start, stop))
        return [self._tile_root(tile_level - 1, index) for index in range(start, stop)]

    def _tile_root(self, tile_level: int, index: int) -> bytes:
        with self._lock:
            key = (tile_level, index)
            return self._roots.fetch(key, lambda: self._pyramid(*key)[TILE_HEIGHT])

    def _pyramid(self, tile_level: int, index: int) -> list[bytes]:
        """The nine levels of hashes of a full tile, joined, from its own 256 hashes to its root."""
        with self._lock:
            return self._pyramids.fetch((tile_level, index), lambda: self._build(tile_level, index))

    def _build(self, tile_level: int, index: int) -> list[bytes]:
        end = (index + 1) << (TILE_HEIGHT * (tile_level + 1))
        start = index * TILE_WIDTH
        if self._is_tiled(end):
            row = split_tile(read_tile(self.path, tile_level, index))
        else:
            row = self._row(tile_level, start, start + TILE_WIDTH)
        pyramid = [b"".join(row)]
        while len(row) > 1:
            row = parent_row(row)
            pyramid.append(b"".join(row))
        return pyramid

    def _is_tiled(self, end: int) -> bool:
        """Whether all entries before `end` have left the journal (segments leave it in order)."""
        if end > self._tiled and self._view((end - 1) // SEGMENT * SEGMENT) is None:
            self._tiled = max(self._tiled, -(-end // SEGMENT) * SEGMENT)
        return end <= self._tiled

    def _entries(self, start: int, stop: int) -> list[bytes]:
        """Entries of one bundle's range, committed."""
        with self._lock:
            if not self._is_tiled(stop):
                view = self._view(start // SEGMENT * SEGMENT)
                if view is not None:
                    return view.entries(start, stop, self.size())
            index = start // TILE_WIDTH
            bundle = self._bundles.fetch(index, lambda: read_bundle(self.path, index))
            return bundle[start - index * TILE_WIDTH : stop - index * TILE_WIDTH]

    def _view(self, first: int) -> SegmentView | None:
        view = self._views.get(first)
        if view is not None:
            self._views.move_to_end(first)
            return view
        try:
            view = SegmentView(self.path, first)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LogDamagedError(
                f"cannot read the journal segment {first} of {self.path}: {error.strerror}"
            ) from error
        self._views[first] = view
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)[1].close()
        return view
