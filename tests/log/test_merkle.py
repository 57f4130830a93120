"""The tree against the recursive definitions of RFC 9162, section 2.1, written down again here."""

from __future__ import annotations

import hashlib
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.log import merkle
from sensorhub.log.merkle import (
    EMPTY_ROOT,
    ProofError,
    Tree,
    leaf_hash,
    multiproof,
    node_hash,
    root_from_multiproof,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = [bytes([7]) * (index % 50) + index.to_bytes(3, "big") for index in range(1400)]


@cache
def mth(start: int, end: int) -> bytes:
    if start == end:
        return hashlib.sha256(b"").digest()
    if end - start == 1:
        return hashlib.sha256(b"\x00" + ENTRIES[start]).digest()
    k = largest_power(end - start)
    return hashlib.sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def largest_power(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def naive_path(m: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    k = largest_power(end - start)
    if m < k:
        return [*naive_path(m, start, start + k), mth(start + k, end)]
    return [*naive_path(m - k, start + k, end), mth(start, start + k)]


def naive_subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = largest_power(n)
    if m <= k:
        return [*naive_subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*naive_subproof(m - k, start + k, end, False), mth(start, start + k)]


def hash_of(level: int, index: int) -> bytes:
    return mth(index << level, (index + 1) << level)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_known_roots():
    # The eight leaves that implementations of certificate transparency share, and the roots of their trees.
    leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    tree = Tree()
    assert tree.root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    for leaf, root in zip(leaves, roots, strict=True):
        tree.append(bytes.fromhex(leaf))
        assert tree.root().hex() == root


def test_roots_of_every_size():
    tree = Tree()
    for size, entry in enumerate(ENTRIES):
        assert tree.size == size
        if size <= 600 or size % 97 == 0:
            assert tree.root() == mth(0, size)
        assert tree.append(entry) == size
    for size in range(0, len(ENTRIES) + 1, 13):
        assert tree.root(size) == mth(0, size)


@pytest.mark.parametrize("size", range(301))
def test_every_inclusion_proof(size: int):
    root = mth(0, size)
    for index in range(size):
        path = merkle.inclusion_path(index, size, hash_of)
        assert path == naive_path(index, 0, size)
        verify_inclusion(mth(index, index + 1), index, size, path, root)
    for index in (-1, size):
        with pytest.raises(ValueError, match="not in a tree"):
            merkle.inclusion_path(index, size, hash_of)
        with pytest.raises(ProofError):
            verify_inclusion(bytes(32), index, size, [], root)


@pytest.mark.parametrize("size", range(301))
def test_every_consistency_proof(size: int):
    root = mth(0, size)
    for old in range(size + 1):
        path = merkle.consistency_path(old, size, hash_of)
        assert path == (naive_subproof(old, 0, size, True) if old else [])
        verify_consistency(old, mth(0, old), size, root, path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_inclusion_proof_fails(data: st.DataObject):
    size = data.draw(st.integers(1, len(ENTRIES)))
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(index, size, hash_of)
    leaf, root = mth(index, index + 1), mth(0, size)
    verify_inclusion(leaf, index, size, path, root)
    bit = data.draw(st.integers(0, 255))
    bad = [(flipped(leaf, bit), index, size, path, root), (leaf, index, size, path, flipped(root, bit))]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        bad.append((leaf, index, size, [*path[:at], flipped(path[at], bit), *path[at + 1 :]], root))
        bad.append((leaf, index, size, path[:at] + path[at + 1 :], root))
        bad.append((leaf, index, size, [*path[:at], path[at][:-1], *path[at + 1 :]], root))
    bad.append((leaf, index, size, [*path, bytes(32)], root))
    bad.append((leaf[:31], index, size, path, root))
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        bad.append((leaf, other, size, path, root))
    for case in bad:
        with pytest.raises(ProofError):
            verify_inclusion(*case)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_consistency_proof_fails(data: st.DataObject):
    new = data.draw(st.integers(1, len(ENTRIES)))
    old = data.draw(st.integers(1, new))
    path = merkle.consistency_path(old, new, hash_of)
    roots = mth(0, old), mth(0, new)
    bit = data.draw(st.integers(0, 255))
    bad = [
        (old, flipped(roots[0], bit), new, roots[1], path),
        (old, roots[0], new, flipped(roots[1], bit), path),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        bad.append((old, roots[0], new, roots[1], [*path[:at], flipped(path[at], bit), *path[at + 1 :]]))
        bad.append((old, roots[0], new, roots[1], path[:at] + path[at + 1 :]))
    bad.append((old, roots[0], new, roots[1], [*path, bytes(32)]))
    bad.append((old, roots[0], new, roots[1], [*path, b""]))
    bad.append((new + 1, roots[0], new, roots[1], path))
    for case in bad:
        with pytest.raises(ProofError):
            verify_consistency(*case)


def test_a_rewritten_log_is_not_consistent():
    honest = Tree(ENTRIES[:900])
    rewritten = Tree([*ENTRIES[:450], b"another", *ENTRIES[451:1000]])
    with pytest.raises(ProofError, match="at 900 leaves"):
        verify_consistency(900, honest.root(), 1000, rewritten.root(), rewritten.consistency(900))


def test_the_empty_tree_begins_every_tree():
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 5, mth(0, 5), [])
    for bad in (
        (0, bytes(32), 5, mth(0, 5), []),
        (0, bytes(32), 0, bytes(32), []),
        (0, EMPTY_ROOT, 5, mth(0, 5), [bytes(32)]),
    ):
        with pytest.raises(ProofError):
            verify_consistency(*bad)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_multiproofs(data: st.DataObject):
    size = data.draw(st.integers(1, len(ENTRIES)))
    indices = data.draw(st.sets(st.integers(0, size - 1), max_size=40))
    hashes = multiproof(indices, size, hash_of)
    leaves = {index: mth(index, index + 1) for index in indices}
    assert root_from_multiproof(leaves, size, hashes) == mth(0, size)
    singly = {hash_ for index in indices for hash_ in naive_path(index, 0, size)}
    if indices:
        assert set(hashes) <= singly or len(hashes) < len(singly)
    for wrong in ([*hashes, bytes(32)], hashes[:-1] if hashes else [bytes(31)]):
        with pytest.raises(ProofError):
            root_from_multiproof(leaves, size, wrong)
    if leaves:
        index = data.draw(st.sampled_from(sorted(leaves)))
        changed = {**leaves, index: flipped(leaves[index], data.draw(st.integers(0, 255)))}
        assert root_from_multiproof(changed, size, hashes) != mth(0, size)
    with pytest.raises(ProofError):
        root_from_multiproof({size: bytes(32)}, size, hashes)


def test_multiproofs_are_minimal():
    assert multiproof(range(300), 300, hash_of) == []
    assert multiproof([], 300, hash_of) == [mth(0, 300)]
    assert multiproof([], 0, hash_of) == []
    assert root_from_multiproof({}, 0, []) == EMPTY_ROOT
    assert multiproof(range(256), 300, hash_of) == [mth(256, 300)]
    assert multiproof([3], 8, hash_of) == [mth(0, 2), mth(2, 3), mth(4, 8)]
    with pytest.raises(ValueError, match="not all in a tree"):
        multiproof([300], 300, hash_of)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=5))
def test_batches_make_the_same_tree(batches: list[int]):
    tree = Tree()
    at = 0
    for count in batches:
        count = min(count, len(ENTRIES) - at)
        tree.extend(ENTRIES[at : at + count])
        at += count
    assert tree.root() == mth(0, at)
    if at:
        index = random.Random(at).randrange(at)
        verify_inclusion(leaf_hash(ENTRIES[index]), index, at, tree.inclusion(index), tree.root())


def test_a_tree_of_three_tile_levels():
    # 70,000 leaves: the example of tlog-tiles, with an unfinished tile on levels 0, 1 and 2.
    entries = [index.to_bytes(4, "big") for index in range(70_000)]
    tree = Tree(entries)
    row = [leaf_hash(entry) for entry in entries]
    peaks: list[bytes] = []
    while row:
        if len(row) % 2:
            peaks.append(row[-1])
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
    root = peaks[0]
    for peak in peaks[1:]:
        root = node_hash(peak, root)
    assert tree.root() == root
    for index in (0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999):
        verify_inclusion(leaf_hash(entries[index]), index, 70_000, tree.inclusion(index), root)
    for old in (1, 256, 65_535, 65_536, 65_537, 69_999):
        verify_consistency(old, tree.root(old), 70_000, root, tree.consistency(old))
    with pytest.raises(ValueError, match="not complete"):
        tree.hash_of(16, 1)
