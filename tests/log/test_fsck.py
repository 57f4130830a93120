"""Every damage is found and named."""

from __future__ import annotations

import random
import shutil

import pytest

from sensorhub.log.entries import Genesis, MessageEntry, encode_entry
from sensorhub.log.errors import LogDamagedError, LogError
from sensorhub.log.fsck import fsck
from sensorhub.log.journal import SEGMENT, segment_path
from sensorhub.log.log import Log
from sensorhub.log.merkle import Tree
from sensorhub.log.note import Checkpoint, NoteSigner, sign_note
from sensorhub.log.reader import LogReader

ORIGIN = "site.gw/sensorhub"
LARGE = 2 * SEGMENT + 1_000


def flip(path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def named(report) -> set[str]:
    return {damage.file for damage in report.damages}


@pytest.fixture
def small_log(memory, open_log, signer):
    """300 entries that begin with a genesis, all of them still in the journal."""
    path = memory / "small"
    log = open_log(path)
    log.append(encode_entry(Genesis("site", "gw", signer.public_key)))
    log.append_many([encode_entry(MessageEntry(index, b"m" * (index % 40))) for index in range(1, 300)])
    log.commit()
    assert log.settle(60)
    log.close()
    return path


def test_a_sound_log(read_only_large_log, signer, numbered):
    steps = []
    report = fsck(
        read_only_large_log, lambda done, total: steps.append((done, total)), verifier=signer.verifier
    )
    assert report.ok
    assert report.damages == report.notes == ()
    root = Tree(numbered(0, LARGE)).root()
    assert (report.size, report.root) == (LARGE, root)
    assert report.checkpoint == Checkpoint(ORIGIN, LARGE, root)
    assert report.tiles == 2 * 513 + 3 + 3
    assert steps == sorted(steps)
    assert steps[-1] == (LARGE, LARGE)


def test_no_log(tmp_path):
    with pytest.raises(LogError, match="no log in"):
        fsck(tmp_path)


def test_a_new_log(tmp_path, open_log):
    open_log().close()
    report = fsck(tmp_path / "log")
    assert report.ok
    assert report.size == 0
    assert report.notes == ("there is no checkpoint yet",)


def test_any_flipped_byte_is_named(read_only_large_log, large_log):
    # Each in a file of its own kind, alone: exactly that file is named, and the entry where it has one.
    picks = random.Random(5)
    files = [
        "tile/entries/000",
        f"tile/entries/{picks.randrange(512):03}",
        "tile/0/256",
        "tile/1/000",
        "tile/1/001",
    ]
    for name in files:
        path = large_log / name
        at = picks.randrange(path.stat().st_size)
        flip(path, at, picks.randrange(8))
        report = fsck(large_log)
        assert named(report) == {name}, report.damages
        first, last = report.damages[0].entries
        bundle = int(name.rsplit("/", 1)[1])
        if name.startswith("tile/1"):
            assert (first, last) == (
                bundle * SEGMENT + at // 32 * 256,
                bundle * SEGMENT + at // 32 * 256 + 255,
            )
        elif name.startswith("tile/0"):
            assert first == last == bundle * 256 + at // 32
        else:
            assert bundle * 256 <= first <= last < (bundle + 1) * 256
        assert report.root == fsck_root(read_only_large_log)
        shutil.copy(read_only_large_log / name, path)


def fsck_root(path) -> bytes:
    with LogReader(path) as reader:
        return reader.root()


def test_several_damages_are_all_named(large_log):
    (large_log / "tile/entries/005").unlink()
    flip(large_log / "tile/0/300", 64)
    (large_log / "tile/1/000").write_bytes(b"")
    flip(large_log / "tile/entries/200", 3)
    (large_log / "tile/0/201").unlink()
    report = fsck(large_log)
    assert named(report) >= {
        "tile/entries/005",
        "tile/0/300",
        "tile/1/000",
        "tile/entries/200",
        "tile/0/201",
    }
    # Without tile/1/000 nobody can tell whether bundle 200 or its tile is wrong; both are named.
    assert named(report) - {"tile/0/200"} == {
        "tile/entries/005",
        "tile/0/300",
        "tile/1/000",
        "tile/entries/200",
        "tile/0/201",
    }


def test_a_bundle_and_its_tile_together(large_log):
    for name in ("tile/entries/009", "tile/0/009"):
        (large_log / name).unlink()
    report = fsck(large_log)
    assert named(report) == {"tile/entries/009", "tile/0/009"}
    assert report.root is not None  # the tile above still has the hash
    assert all(damage.entries == (9 * 256, 10 * 256 - 1) for damage in report.damages)


def test_a_forged_bundle_with_its_tile_is_found_by_the_tile_above(large_log):
    with LogReader(large_log) as reader:
        entries = [entry for _, entry in reader.entries(2560, 2816)]
    entries[7] = b"forged"
    (large_log / "tile/entries/010").write_bytes(b"".join(len(e).to_bytes(2, "big") + e for e in entries))
    tree = Tree(entries)
    (large_log / "tile/0/010").write_bytes(b"".join(tree.hash_of(0, index) for index in range(256)))
    report = fsck(large_log)
    assert not report.ok
    assert "tile/1/000" in named(report) or "checkpoint" in named(report)


@pytest.mark.parametrize("field", ["crc", "length", "entry"])
def test_a_damaged_journal_record_is_named(large_log, field):
    path = segment_path(large_log, 2 * SEGMENT)
    with LogReader(large_log) as reader:
        lengths = [len(entry) for _, entry in reader.entries(2 * SEGMENT)]
    for position in (0, 999):
        at = sum(lengths[:position]) + 6 * position + {"crc": 1, "length": 5, "entry": 8}[field]
        flip(path, at, 2)
        report = fsck(large_log)
        assert [(damage.file, damage.entries) for damage in report.damages] == [
            (f"journal/{2 * SEGMENT:012}.wal", (2 * SEGMENT + position, 2 * SEGMENT + position))
        ]
        flip(path, at, 2)


def test_a_lost_end_of_the_journal(large_log):
    path = segment_path(large_log, 2 * SEGMENT)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    report = fsck(large_log)
    assert [damage.entries for damage in report.damages] == [(LARGE - 1, LARGE - 1)]
    assert "the checkpoint's root" in report.notes[-1]
    path.write_bytes(b"")
    report = fsck(large_log)
    assert [damage.entries for damage in report.damages] == [(2 * SEGMENT, LARGE - 1)]
    path.unlink()
    report = fsck(large_log)
    assert [damage.entries for damage in report.damages] == [(2 * SEGMENT, LARGE - 1)]
    path.write_bytes(whole + b"not committed")
    report = fsck(large_log)
    assert report.ok
    assert "13 bytes behind the" in report.notes[0]


def test_tiles_beside_a_journal(small_log):
    assert fsck(small_log).ok
    for name in ("tile/entries/000", "tile/0/000"):
        flip(small_log / name, 40)
        report = fsck(small_log)
        assert named(report) == {name}
        flip(small_log / name, 40)
    # A damaged record whose leaf tile is there does not hide the root.
    flip(segment_path(small_log, 0), 200)
    report = fsck(small_log)
    assert [damage.file for damage in report.damages] == ["journal/000000000000.wal"]
    assert report.root is not None
    assert report.notes == ()


def test_a_damaged_genesis_does_not_accuse_the_checkpoint(memory, small_log, open_log):
    flip(segment_path(small_log, 0), 30)
    report = fsck(small_log)
    assert [(damage.file, damage.entries) for damage in report.damages] == [
        ("journal/000000000000.wal", (0, 0))
    ]
    assert "signature is not checked" in report.notes[0]
    flip(segment_path(small_log, 0), 30)
    log = open_log(small_log)
    log.append_many([encode_entry(MessageEntry(index, b"m")) for index in range(300, SEGMENT + 1)])
    log.commit()
    assert log.settle(60)
    log.close()
    assert fsck(small_log).notes == ()
    for at in (3, 20, 50):  # its site, gateway and key
        flip(small_log / "tile/entries/000", at)
        assert named(fsck(small_log)) == {"tile/entries/000"}
        flip(small_log / "tile/entries/000", at)


def test_every_byte_of_the_checkpoint_counts(small_log):
    path = small_log / "checkpoint"
    assert fsck(small_log).checkpoint.size == 300
    for at in range(path.stat().st_size):
        flip(path, at, at % 8)
        assert named(fsck(small_log)) == {"checkpoint"}, at
        flip(path, at, at % 8)


def test_a_checkpoint_for_another_tree(large_log, signer):
    reader = LogReader(large_log)
    for size in (300, SEGMENT, 2 * SEGMENT + 256, LARGE - 1):
        root = reader.root(size)
        (large_log / "checkpoint").write_bytes(sign_note(Checkpoint(ORIGIN, size, root).format(), signer))
        assert fsck(large_log, verifier=signer.verifier).ok
    (large_log / "checkpoint").write_bytes(sign_note(Checkpoint(ORIGIN, LARGE, bytes(32)).format(), signer))
    reader.close()
    report = fsck(large_log, verifier=signer.verifier)
    assert named(report) == {"checkpoint"}
    assert bytes(32).hex() in report.damages[0].what
    (large_log / "checkpoint").write_bytes(
        sign_note(Checkpoint(ORIGIN, LARGE + 1, bytes(32)).format(), signer)
    )
    assert "entries are missing" in fsck(large_log, verifier=signer.verifier).damages[0].what
    stranger = NoteSigner(ORIGIN, b"s" * 32)
    assert named(fsck(large_log, verifier=stranger.verifier)) == {"checkpoint"}


def test_no_key_is_said(read_only_large_log):
    report = fsck(read_only_large_log)
    assert report.ok
    assert "signature is not checked" in report.notes[0]


def test_a_damaged_head(small_log, open_log):
    (small_log / "head").write_bytes(bytes(64))
    report = fsck(small_log)
    assert named(report) == {"head"}
    assert report.size == 300
    with LogReader(small_log) as reader, pytest.raises(LogDamagedError, match="head is damaged"):
        reader.size()
    open_log(small_log).close()
    assert fsck(small_log).ok


def test_a_log_that_is_being_written(memory, signer, numbered):
    path = memory / "live"
    with Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0.01) as log:
        for start in range(0, 100_000, 10_000):
            log.append_many(numbered(start, start + 10_000))
            log.commit()
            if start % 30_000 == 0:
                report = fsck(path, verifier=signer.verifier)
                assert report.ok, report.damages


def test_damages_speak(large_log):
    flip(large_log / "tile/0/003", 0)
    assert str(fsck(large_log).damages[0]) == "tile/0/003: the leaf hash was changed (entry 768)"
