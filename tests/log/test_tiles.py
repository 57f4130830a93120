"""C2SP paths, and what a reader serves under them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.log.merkle import TILE_WIDTH, leaf_hash, node_hash, perfect_root
from sensorhub.log.reader import LogReader
from sensorhub.log.tiles import ENTRIES, TilePath, frame, index_path, parse_bundle, split_tile


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, "000"),
        (7, "007"),
        (999, "999"),
        (1000, "x001/000"),
        (1234067, "x001/x234/067"),
        (999_999, "x999/999"),
        (1_000_000, "x001/x000/000"),
        (1_002_003, "x001/x002/003"),
    ],
)
def test_index_paths(index, path):
    assert index_path(index) == path
    assert TilePath.parse(f"tile/0/{path}") == TilePath(0, index)


@given(st.integers(-1, 63), st.integers(0, 10**18), st.integers(1, 256))
def test_paths_round_trip(level, index, width):
    tile = TilePath(level, index, width)
    assert TilePath.parse(str(tile)) == tile


def test_path_examples():
    assert str(TilePath(0, 1_002_003, 17)) == "tile/0/x001/x002/003.p/17"
    assert str(TilePath(ENTRIES, 5)) == "tile/entries/005"
    assert TilePath(1, 0, 3).end == 768
    assert TilePath(ENTRIES, 2, 3).end == 515


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/001/",
        "/tile/0/001",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/256",
        "tile/0/001.p/",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/x001/x002",
        "tile/0/001/002",
        "tile/0/../001",
        "tile/0/001\n",
        "tile/0/\u0660\u0660\u0661",
        "tile/data/001",
        "tile/0/" + "x001/" * 30 + "001",
    ],
)
def test_no_paths(path, read_only_large_log):
    assert TilePath.parse(path) is None
    with LogReader(read_only_large_log) as reader:
        assert reader.tile(path) is None


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_bundles_round_trip(entries):
    data = b"".join(frame(entries))
    assert parse_bundle(data) == entries
    if data:
        with pytest.raises(ValueError, match="cut off"):
            parse_bundle(data[:-1])
    with pytest.raises(ValueError, match="cut off or empty"):
        parse_bundle(data + b"\0\0")


def test_split_tile():
    assert split_tile(b"a" * 32 + b"b" * 32) == [b"a" * 32, b"b" * 32]
    for bad in (bytes(31), bytes(257 * 32)):
        with pytest.raises(ValueError, match="up to 256 hashes"):
            split_tile(bad)


def test_a_client_rebuilds_the_checkpoint_root_from_tiles(read_only_large_log):
    # As tlog-tiles describes it: fetch the entries, compare them with level 0, climb to the root.
    with LogReader(read_only_large_log) as reader:
        size = reader.size()
        level, width = 0, size
        believed: list[bytes] = []
        peaks: list[bytes] = []
        while width:
            row: list[bytes] = []
            for index in range(-(-width // TILE_WIDTH)):
                part = min(TILE_WIDTH, width - index * TILE_WIDTH)
                data = reader.tile(str(TilePath(level, index, part)))
                assert data is not None
                hashes = split_tile(data)
                assert len(hashes) == part
                if level == 0:
                    bundle = reader.tile(str(TilePath(ENTRIES, index, part)))
                    assert [leaf_hash(entry) for entry in parse_bundle(bundle)] == hashes
                else:
                    assert hashes == believed[index * TILE_WIDTH : index * TILE_WIDTH + part]
                row += hashes
            believed = [
                perfect_root(row[at : at + TILE_WIDTH])
                for at in range(0, len(row) // TILE_WIDTH * TILE_WIDTH, TILE_WIDTH)
            ]
            tail = row[len(believed) * TILE_WIDTH :]
            here: list[bytes] = []
            at = 0
            for bit in (128, 64, 32, 16, 8, 4, 2, 1):
                if len(tail) & bit:
                    here.append(perfect_root(tail[at : at + bit]))
                    at += bit
            peaks = here + peaks
            level, width = level + 1, len(believed)
        root = peaks[-1]
        for peak in reversed(peaks[:-1]):
            root = node_hash(peak, root)
        assert root == reader.root()


def test_tiles_beyond_the_log_are_not_served(read_only_large_log):
    with LogReader(read_only_large_log) as reader:
        last, part = divmod(reader.size(), TILE_WIDTH)
        for path in (
            f"tile/0/{last:03}",
            f"tile/0/{last:03}.p/{part + 1}",
            f"tile/0/{last + 1:03}.p/1",
            f"tile/entries/{last:03}",
            f"tile/entries/{last:03}.p/{part + 1}",
            "tile/1/002",
            "tile/1/002.p/4",
            "tile/2/000.p/3",
            "tile/3/000.p/1",
            "tile/63/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ):
            assert reader.tile(path) is None, path
        # Smaller partial tiles of full ones are still there: a checkpoint may have been signed at that size.
        full = reader.tile("tile/0/007")
        assert reader.tile("tile/0/007.p/9") == full[: 9 * 32]
        assert reader.tile("tile/2/000.p/2") == b"".join(reader.hash_of(16, index) for index in range(2))
        assert reader.tile("checkpoint") == reader.checkpoint()
