"""The Merkle tree of RFC 9162, section 2.1, as pure functions over bytes.

Nothing here reads a file or a clock, so the verifier can import it. Hashes are always 32-byte SHA-256
values. `level` counts binary levels from the leaves (0) upwards and `index` counts complete subtrees of
2**level leaves from the left, so `(level, index)` names the subtree over leaves
`[index << level, (index + 1) << level)`. A *tile row* is the row of hashes at every eighth level, which is
what C2SP tlog-tiles stores, 256 to a tile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from sensorhub.errors import SensorhubError

HASH_SIZE = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
#: The root of a tree without leaves: the SHA-256 of nothing (RFC 9162, 2.1.1).
EMPTY_ROOT = sha256(b"").digest()

_LEAF = b"\x00"
_NODE = b"\x01"

#: Gives the hash of the complete subtree `(level, index)`.
HashOf = Callable[[int, int], bytes]


class ProofError(SensorhubError):
    """Raised when a Merkle proof does not show what it should show."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry): the hash under which an entry enters the tree (RFC 9162, 2.1.1)."""
    return sha256(_LEAF + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """`leaf_hash` of many entries; about a third faster than calling it for each."""
    digest = sha256
    prefix = _LEAF
    return [digest(prefix + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): the hash of an inner node (RFC 9162, 2.1.1)."""
    return sha256(_NODE + left + right).digest()


def parent_row(row: Sequence[bytes]) -> list[bytes]:
    """The level above a row of hashes; an odd last hash has no parent yet and is left out."""
    digest = sha256
    prefix = _NODE
    pairs = iter(row)
    return [digest(prefix + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]


def perfect_root(row: Sequence[bytes]) -> bytes:
    """The root over a row whose length is a power of two.

    Raises:
        ValueError: the length is not a power of two.
    """
    width = len(row)
    if width == 0 or width & (width - 1):
        raise ValueError(f"a complete subtree has 2**n hashes, not {width}")
    while len(row) > 1:
        row = parent_row(row)
    return row[0]


def _split(width: int) -> int:
    """The largest power of two smaller than `width` (k in RFC 9162, 2.1.1)."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_root(start: int, end: int, hash_of: HashOf) -> bytes:
    """The Merkle tree hash over leaves [start, end), `start` aligned as the RFC's splits leave it."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return hash_of(level, start >> level)
    middle = start + _split(width)
    return node_hash(_range_root(start, middle, hash_of), _range_root(middle, end, hash_of))


def tree_root(size: int, hash_of: HashOf) -> bytes:
    """The root of the tree of the first `size` leaves, from its complete subtrees."""
    if size < 0:
        raise ValueError(f"a tree size is not negative: {size}")
    return _range_root(0, size, hash_of) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """PATH(index, D[size]) of RFC 9162, 2.1.3.1, from the leaf upwards.

    Raises:
        ValueError: `index` is not a leaf of a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, hash_of))
            end = middle
        else:
            path.append(_range_root(start, middle, hash_of))
            start = middle
    path.reverse()
    return path


def consistency_path(old_size: int, new_size: int, hash_of: HashOf) -> list[bytes]:
    """PROOF(old_size, D[new_size]) of RFC 9162, 2.1.4.1; empty when the sizes are equal or `old_size` is 0.

    Raises:
        ValueError: the sizes do not grow.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {old_size} leaves is not a beginning of one of {new_size}")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    start, end = 0, new_size
    whole = True  # the old tree still spans [start, end) from its own beginning, so its root is known
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_range_root(middle, end, hash_of))
            end = middle
        else:
            path.append(_range_root(start, middle, hash_of))
            start = middle
            whole = False
    if not whole:
        path.append(_range_root(start, end, hash_of))
    path.reverse()
    return path


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2).

    Args:
        leaf: leaf hash, 32 bytes.
        index: position of the leaf.
        size: tree size of the root.
        path: the audit path, from the leaf upwards.

    Raises:
        ProofError: the index is outside of the tree or the path has the wrong shape.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    _check_hashes([leaf], "leaf")
    _check_hashes(path, "inclusion path")
    position, last = index, size - 1
    root = leaf
    for hash_ in path:
        if last == 0:
            raise ProofError(
                f"the inclusion path of leaf {index} in {size} leaves is too long ({len(path)} hashes)"
            )
        if position & 1 or position == last:
            root = node_hash(hash_, root)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            root = node_hash(root, hash_)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError(
            f"the inclusion path of leaf {index} in {size} leaves is too short ({len(path)} hashes)"
        )
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Checks that the leaf hash `leaf` is number `index` of the tree of `size` leaves under `root`.

    Raises:
        ProofError: it is not, or the proof is malformed.
    """
    found = root_from_inclusion(leaf, index, size, path)
    if found != root:
        raise ProofError(
            f"leaf {index} is not in the tree of {size} leaves: its path leads to {found.hex()}, the root is {root.hex()}"
        )


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Checks that the tree of `old_size` leaves is a beginning of the one of `new_size` (RFC 9162, 2.1.4.2).

    Every tree begins with the empty one, so `old_size` 0 needs an empty path and the empty root.

    Raises:
        ProofError: it is not, or the proof is malformed.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {old_size} leaves is not a beginning of one of {new_size}")
    _check_hashes([old_root, new_root], "root")
    _check_hashes(path, "consistency path")
    if old_size in (0, new_size):
        if path:
            raise ProofError(f"the consistency path from {old_size} to {new_size} leaves must be empty")
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if old_root != expected:
            raise ProofError(f"the root of {old_size} leaves is {old_root.hex()}, expected {expected.hex()}")
        if new_size == 0 and new_root != EMPTY_ROOT:
            raise ProofError(f"the root of 0 leaves is {new_root.hex()}, expected {EMPTY_ROOT.hex()}")
        return
    hashes = list(path)
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        raise ProofError(f"the consistency path from {old_size} to {new_size} leaves is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = hashes[0]
    for hash_ in hashes[1:]:
        if last == 0:
            raise ProofError(f"the consistency path from {old_size} to {new_size} leaves is too long")
        if position & 1 or position == last:
            old = node_hash(hash_, old)
            new = node_hash(hash_, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, hash_)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError(f"the consistency path from {old_size} to {new_size} leaves is too short")
    if old != old_root:
        raise ProofError(
            f"the path leads to the root {old.hex()} at {old_size} leaves, not to {old_root.hex()}"
        )
    if new != new_root:
        raise ProofError(
            f"the path leads to the root {new.hex()} at {new_size} leaves, not to {new_root.hex()}"
        )


def multiproof(indices: Iterable[int], size: int, hash_of: HashOf) -> list[bytes]:
    """The fewest node hashes that prove all of `indices` at once in a tree of `size` leaves.

    The tree is walked from the root, left child first, split as RFC 9162 splits it. A subtree without any of
    the indices contributes its root; a leaf that is one of them contributes nothing. With every leaf proven
    the proof is empty, with none it is the root alone.

    Raises:
        ValueError: an index is not a leaf of a tree of that size.
    """
    wanted = sorted(set(indices))
    if wanted and not (wanted[0] >= 0 and wanted[-1] < size):
        raise ValueError(f"leaves {wanted[0]} to {wanted[-1]} are not all in a tree of {size} leaves")
    hashes: list[bytes] = []
    if size == 0:
        return hashes

    def walk(start: int, end: int, first: int, last: int) -> None:
        if first == last:
            hashes.append(_range_root(start, end, hash_of))
        elif last - first < end - start:  # a subtree whose every leaf is proven needs no hash at all
            middle = start + _split(end - start)
            cut = bisect_left(wanted, middle, first, last)
            walk(start, middle, first, cut)
            walk(middle, end, cut, last)

    walk(0, size, 0, len(wanted))
    return hashes


def root_from_multiproof(leaves: Mapping[int, bytes], size: int, hashes: Sequence[bytes]) -> bytes:
    """The root that the leaf hashes `leaves` (by index) and the hashes of `multiproof` lead to.

    Raises:
        ProofError: an index is outside of the tree, or there are too few or too many hashes.
    """
    wanted = sorted(leaves)
    if size < 0 or (wanted and not (wanted[0] >= 0 and wanted[-1] < size)):
        raise ProofError(f"the proven leaves are not all in a tree of {size} leaves")
    _check_hashes(leaves.values(), "leaf")
    _check_hashes(hashes, "multiproof")
    remaining = iter(hashes)

    def walk(start: int, end: int, first: int, last: int) -> bytes:
        if first == last:
            hash_ = next(remaining, None)
            if hash_ is None:
                raise ProofError(
                    f"the multiproof of {len(wanted)} leaves in {size} has too few hashes ({len(hashes)})"
                )
            return hash_
        if end - start == 1:
            return leaves[start]
        middle = start + _split(end - start)
        cut = bisect_left(wanted, middle, first, last)
        return node_hash(walk(start, middle, first, cut), walk(middle, end, cut, last))

    root = walk(0, size, 0, len(wanted)) if size else EMPTY_ROOT
    if next(remaining, None) is not None:
        raise ProofError(
            f"the multiproof of {len(wanted)} leaves in {size} has too many hashes ({len(hashes)})"
        )
    return root


def _check_hashes(hashes: Iterable[bytes], what: str) -> None:
    for hash_ in hashes:
        if len(hash_) != HASH_SIZE:
            raise ProofError(f"a hash of the {what} has {len(hash_)} bytes instead of {HASH_SIZE}")


class Frontier:
    """The right edge of a growing tree: for each tile row the hashes that do not fill a tile yet.

    All that a writer needs to know the root after each append: at most 255 hashes in each row.

    Args:
        rows: the unfinished rows from level 0 upwards, for a tree that already has leaves.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: Iterable[Iterable[bytes]] = ()) -> None:
        self.rows: list[list[bytes]] = [list(row) for row in rows]

    def extend(self, size: int, hashes: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
        """Appends leaf hashes to a tree of `size` leaves.

        Returns:
            The tiles that became full, as (tile level, index in the level, 8,192 bytes), children first.
        """
        full: list[tuple[int, int, bytes]] = []
        self._extend(0, size, hashes, full)
        return full

    def _extend(
        self, tile_level: int, count: int, hashes: Sequence[bytes], full: list[tuple[int, int, bytes]]
    ) -> None:
        if tile_level == len(self.rows):
            self.rows.append([])
        row = self.rows[tile_level]
        start = 0
        number = count // TILE_WIDTH
        while len(row) + len(hashes) - start >= TILE_WIDTH:
            take = TILE_WIDTH - len(row)
            row.extend(hashes[start : start + take])
            start += take
            full.append((tile_level, number, b"".join(row)))
            self._extend(tile_level + 1, number, [perfect_root(row)], full)
            row.clear()
            number += 1
        row.extend(hashes[start:])

    def root(self) -> bytes:
        """The root of the tree: its complete subtrees folded from the smallest (rightmost) leftwards."""
        root: bytes | None = None
        for row in self.rows:
            end = len(row)
            while end:
                width = end & -end
                peak = perfect_root(row[end - width : end])
                root = peak if root is None else node_hash(peak, root)
                end -= width
        return EMPTY_ROOT if root is None else root


def subtree_of_tile(tile: bytes, level: int, index: int) -> bytes:
    """The hash of a complete subtree inside of one tile (or the filled beginning of one).

    Args:
        tile: concatenated hashes of the tile, a multiple of 32 bytes.
        level: height above the tile's own hashes, 0 to 8.
        index: which subtree of that height inside of the tile.

    Raises:
        ValueError: the subtree is not complete in this tile.
    """
    start = (index << level) * HASH_SIZE
    end = ((index + 1) << level) * HASH_SIZE
    if end > len(tile):
        raise ValueError(
            f"subtree {index} of height {level} is not inside of {len(tile) // HASH_SIZE} hashes"
        )
    return perfect_root([tile[at : at + HASH_SIZE] for at in range(start, end, HASH_SIZE)])


class Tree:
    """A whole tree in memory: 32 bytes a leaf and a little. For tests, tools and benchmarks.

    The log itself keeps its tiles on disk (`sensorhub.log.log`) and only a `Frontier` in memory.
    """

    __slots__ = ("_frontier", "_size", "_tiles")

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._frontier = Frontier()
        self._size = 0
        self._tiles: dict[tuple[int, int], bytes] = {}
        self.extend(entries)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, entry: bytes) -> int:
        """Appends one entry and returns its index."""
        self.extend((entry,))
        return self._size - 1

    def extend(self, entries: Iterable[bytes]) -> None:
        """Appends entries; in batches of hundreds this is several times faster than one by one."""
        hashes = leaf_hashes(entries)
        for level, index, tile in self._frontier.extend(self._size, hashes):
            self._tiles[level, index] = tile
        self._size += len(hashes)

    def root(self, size: int | None = None) -> bytes:
        """The root now, or when the tree had `size` leaves."""
        if size is None or size == self._size:
            return self._frontier.root()
        self._check_size(size)
        return tree_root(size, self.hash_of)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion path of leaf `index` in the tree of `size` leaves (all of them by default)."""
        return inclusion_path(index, self._check_size(size), self.hash_of)

    def consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """The consistency path between two sizes of this tree."""
        return consistency_path(old_size, self._check_size(new_size), self.hash_of)

    def multiproof(self, indices: Iterable[int], size: int | None = None) -> list[bytes]:
        """The node hashes that prove many leaves at once; see `multiproof` in this module."""
        return multiproof(indices, self._check_size(size), self.hash_of)

    def hash_of(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree `(level, index)`.

        Raises:
            ValueError: the tree has no such complete subtree.
        """
        if level < 0 or index < 0 or (index + 1) << level > self._size:
            raise ValueError(
                f"subtree {index} of level {level} is not complete in a tree of {self._size} leaves"
            )
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index = index >> (TILE_HEIGHT - height)
        tile = self._tiles.get((tile_level, tile_index))
        if tile is None:
            tile = b"".join(self._frontier.rows[tile_level])
        return subtree_of_tile(tile, height, index - (tile_index << (TILE_HEIGHT - height)))

    def _check_size(self, size: int | None) -> int:
        if size is None:
            return self._size
        if not 0 <= size <= self._size:
            raise ValueError(f"the tree has {self._size} leaves, so it never had {size}")
        return size
