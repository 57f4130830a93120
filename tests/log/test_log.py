"""Writing and reading a log."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.log.errors import LogDamagedError, LogError, LogLockedError, NotInLogError
from sensorhub.log.journal import SEGMENT
from sensorhub.log.log import MAX_ENTRY, Log
from sensorhub.log.merkle import (
    EMPTY_ROOT,
    Tree,
    leaf_hash,
    root_from_multiproof,
    verify_consistency,
    verify_inclusion,
)
from sensorhub.log.note import Checkpoint, NoteSigner, open_checkpoint, sign_note
from sensorhub.log.reader import LogReader

ORIGIN = "site.gw/sensorhub"
LARGE = 2 * SEGMENT + 1_000


@pytest.fixture
def reader(tmp_path):
    with LogReader(tmp_path / "log") as reader:
        yield reader


def test_only_committed_entries_are_seen(open_log, reader):
    assert reader.size() == 0
    log = open_log()
    assert log.append(b"one") == 0
    assert log.append_many([b"two", b"three"]) == 1
    assert (log.size, log.committed, reader.size()) == (3, 0, 0)
    with pytest.raises(NotInLogError):
        reader.entry(0)
    assert log.commit() == 3
    assert (log.size, log.committed, reader.size()) == (3, 3, 3)
    assert list(reader.entries(0)) == [(0, b"one"), (1, b"two"), (2, b"three")]
    assert log.commit() == 3
    assert log.append(b"four") == 3
    assert log.rollback() == 3
    assert log.append(b"five") == 3
    log.commit()
    assert reader.entry(3) == b"five"
    assert log.root() == reader.root() == Tree([b"one", b"two", b"three", b"five"]).root()


def test_entries_that_no_log_takes(open_log):
    log = open_log()
    for bad in (b"", bytes(MAX_ENTRY + 1)):
        with pytest.raises(LogError, match="1 to 65535 bytes"):
            log.append(bad)
        with pytest.raises(LogError, match="1 to 65535 bytes"):
            log.append_many([b"good", bad])
    assert log.size == 0
    assert log.append_many([]) == 0
    log.append(bytes(MAX_ENTRY))
    assert log.commit() == 1


def test_reopening_goes_on_where_it_ended(open_log, reader, numbered):
    entries = numbered(0, 1000)
    for start in range(0, 1000, 100):
        log = open_log()
        assert log.committed == start
        log.append_many(entries[start : start + 100])
        log.commit()
        log.close()
    assert [entry for _, entry in reader.entries(0)] == entries
    assert reader.root() == Tree(entries).root()
    with pytest.raises(LogError, match="closed"):
        log.commit()
    log.close()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.sampled_from(["commit", "reopen", "checkpoint"])), max_size=6)
)
def test_any_order_of_work(tmp_path_factory, signer, numbered, steps):
    path = tmp_path_factory.mktemp("any") / "log"
    log = Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0)
    tree = Tree()
    with LogReader(path) as reader:
        for count, then in steps:
            entries = numbered(tree.size, tree.size + count)
            log.append_many(entries)
            tree.extend(entries)
            log.commit()
            if then == "checkpoint":
                log.checkpoint()
            if then == "reopen":
                log.close()
                log = Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0)
            assert reader.size() == log.committed == tree.size
            assert reader.root() == log.root() == tree.root()
            if tree.size:
                assert reader.entry(tree.size - 1) == numbered(tree.size - 1, tree.size)[0]
                old = tree.size // 2
                verify_consistency(old, tree.root(old), tree.size, tree.root(), reader.consistency(old))
    log.close()


def test_segments_become_tiles(large_log, open_log, numbered):
    assert [path.name for path in (large_log / "journal").iterdir()] == [f"{2 * SEGMENT:012d}.wal"]
    assert (large_log / "tile/0/511").stat().st_size == 8192
    assert (large_log / "tile/1/001").stat().st_size == 8192
    assert not list((large_log / "tmp").iterdir())
    entries = numbered(0, LARGE)
    tree = Tree(entries)
    with LogReader(large_log) as reader:
        assert [entry for _, entry in reader.entries(0)] == entries
        assert (
            list(reader.entries(SEGMENT - 2, SEGMENT + 2))
            == list(enumerate(entries))[SEGMENT - 2 : SEGMENT + 2]
        )
        assert reader.root() == tree.root()
        sizes = (1, 255, 256, 257, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, LARGE)
        for size in sizes:
            assert reader.root(size) == tree.root(size)
            for index in (0, size // 2, size - 1):
                verify_inclusion(
                    leaf_hash(entries[index]), index, size, reader.inclusion(index, size), tree.root(size)
                )
            for old in sizes:
                if old <= size:
                    verify_consistency(
                        old, tree.root(old), size, tree.root(size), reader.consistency(old, size)
                    )
        picked = range(0, LARGE, 997)
        proof = reader.multiproof(picked)
        assert (
            root_from_multiproof({index: leaf_hash(entries[index]) for index in picked}, LARGE, proof)
            == tree.root()
        )
        # The writer rebuilds its edge of the tree from tiles and journal, and goes on.
        log = open_log(large_log)
        assert log.root() == tree.root()
        more = numbered(LARGE, LARGE + SEGMENT)
        log.append_many(more)
        log.commit()
        tree.extend(more)
        assert reader.root() == log.root() == tree.root()
        assert log.settle(60)
        log.close()
        assert reader.root(LARGE) == tree.root(LARGE)
    with LogReader(large_log) as reader:
        assert reader.root() == tree.root()


def test_one_commit_over_several_segments(open_log, memory, numbered):
    entries = numbered(0, 2 * SEGMENT + 5)
    path = memory / "log"
    log, reader = open_log(path), LogReader(path)
    log.append_many(entries)
    assert log.commit() == len(entries)
    assert reader.root() == log.root() == Tree(entries).root()
    assert [entry for _, entry in reader.entries(0)] == entries
    assert log.settle(60)
    log.close()
    assert [file.name for file in (path / "journal").iterdir()] == [f"{2 * SEGMENT:012d}.wal"]
    # This reader still has the dropped journal open; a new one reads the tiles.
    assert [entry for _, entry in reader.entries(0)] == entries
    with LogReader(path) as fresh:
        assert [entry for _, entry in fresh.entries(0)] == entries


def test_what_is_not_in_the_log(open_log, reader, numbered):
    log = open_log()
    log.append_many(numbered(0, 300))
    log.commit()
    log.append(b"waits")
    for ask in (
        lambda: reader.entry(300),
        lambda: reader.entry(-1),
        lambda: reader.entries(0, 301),
        lambda: reader.entries(-1),
        lambda: reader.root(301),
        lambda: reader.inclusion(300),
        lambda: reader.inclusion(5, 301),
        lambda: reader.inclusion(5, 5),
        lambda: reader.consistency(301),
        lambda: reader.consistency(6, 5),
        lambda: reader.multiproof([300]),
        lambda: reader.hash_of(8, 1),
        lambda: reader.leaf(300),
    ):
        with pytest.raises(NotInLogError):
            ask()
    assert list(reader.entries(300)) == []
    assert reader.root(0) == EMPTY_ROOT
    assert reader.leaf(299) == leaf_hash(numbered(299, 300)[0])


def test_checkpoints_follow_the_log(open_log, reader, signer, numbered):
    log = open_log()
    assert reader.checkpoint() is None
    sizes = []
    for size in (3, 500):
        log.append_many(numbered(log.committed, size))
        log.commit()
        note = log.checkpoint()
        assert note == reader.checkpoint() == log.checkpoint()
        checkpoint = open_checkpoint(note, signer.verifier, origin=ORIGIN)
        assert checkpoint == Checkpoint(ORIGIN, size, reader.root(size))
        sizes.append(checkpoint.size)
    log.append(b"last")
    log.commit()
    log.close()
    assert open_checkpoint(reader.checkpoint(), signer.verifier).size == 501


def test_checkpoints_are_signed_while_the_log_grows(open_log, reader, signer):
    log = open_log(checkpoint_interval=0.02)
    seen = [0]
    deadline = time.monotonic() + 90
    while log.committed < 60 or len(set(seen)) < 3:
        assert time.monotonic() < deadline, seen
        log.append(b"%d" % log.size)
        log.commit()
        note = reader.checkpoint()
        if note:
            checkpoint = open_checkpoint(note, signer.verifier)
            assert checkpoint.root == reader.root(checkpoint.size)
            seen.append(checkpoint.size)
        threading.Event().wait(0.004)
    assert seen == sorted(seen)
    while open_checkpoint(reader.checkpoint(), signer.verifier).size < log.committed:
        assert time.monotonic() < deadline, "the last entry never got its checkpoint"
        time.sleep(0.01)


def test_a_second_writer_is_refused(open_log, tmp_path):
    log = open_log()
    with pytest.raises(LogLockedError, match=f"process {os.getpid()} holds"):
        open_log()
    program = f"""
        from sensorhub.log.log import Log
        from sensorhub.log.note import NoteSigner
        Log.open({str(tmp_path / "log")!r}, origin={ORIGIN!r}, signer=NoteSigner({ORIGIN!r}, bytes(range(32))))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert f"is being written already: process {os.getpid()} holds {log.path}/lock" in result.stderr
    log.append(b"still mine")
    assert log.commit() == 1
    log.close()
    assert open_log().committed == 1


def test_readers_in_other_processes_see_commits(open_log, tmp_path, numbered):
    program = f"""
        import sys
        from sensorhub.log.reader import LogReader
        reader = LogReader({str(tmp_path / "log")!r})
        at = 0
        while at < 2000:
            if not reader.wait(at, 90):
                sys.exit("nothing came")
            for index, entry in reader.entries(at):
                assert entry.split()[0] == b"%d" % index, (index, entry)
                at = index + 1
        print(reader.root().hex())
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    log = open_log()
    for start in range(0, 2000, 50):
        log.append_many(numbered(start, start + 50))
        log.commit()
        threading.Event().wait(0.002)
    output, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    assert output.strip() == log.root().hex()


def test_wait(open_log, reader):
    assert not reader.wait(0, 0.02)
    log = open_log()
    log.append(b"x")
    threading.Timer(0.05, log.commit).start()
    assert reader.wait(0, 60)
    assert reader.wait(0, 0)
    assert not reader.wait(1, 0)
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert not reader.wait(1, 60, stop)


def test_threads_share_a_reader(open_log, reader, numbered):
    log = open_log()
    entries = numbered(0, 3000)
    log.append_many(entries)
    log.commit()
    root = log.root()
    failures = []

    def work(seed: int) -> None:
        try:
            for index in range(seed, 3000, 37):
                assert reader.entry(index) == entries[index]
                verify_inclusion(leaf_hash(entries[index]), index, 3000, reader.inclusion(index), root)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_log_that_does_not_fit_its_checkpoint_is_not_opened(open_log, tmp_path, signer, numbered):
    log = open_log()
    log.append_many(numbered(0, 400))
    log.commit()
    log.close()
    path = tmp_path / "log/checkpoint"
    good = path.read_bytes()
    real = Tree(numbered(0, 400)).root()

    path.write_bytes(sign_note(Checkpoint(ORIGIN, 400, bytes(32)).format(), signer))
    with pytest.raises(LogDamagedError) as caught:
        open_log()
    assert real.hex() in str(caught.value)
    assert bytes(32).hex() in str(caught.value)

    path.write_bytes(sign_note(Checkpoint(ORIGIN, 401, real).format(), signer))
    with pytest.raises(LogDamagedError, match="has 400 entries but its checkpoint was signed at 401"):
        open_log()

    path.write_bytes(sign_note(Checkpoint(ORIGIN, 400, real).format(), NoteSigner(ORIGIN, b"x" * 32)))
    with pytest.raises(LogDamagedError, match="use the key that the log began with"):
        open_log()

    path.write_bytes(sign_note(Checkpoint("other/log", 400, real).format(), signer))
    with pytest.raises(LogDamagedError, match="of the log 'other/log'"):
        open_log()

    path.write_bytes(good[:40] + b"?" + good[41:])
    with pytest.raises(LogDamagedError, match="checkpoint"):
        open_log()

    path.write_bytes(good)
    assert open_log().committed == 400


@pytest.mark.parametrize(
    "size", [0, 1, 300, SEGMENT - 1, SEGMENT, SEGMENT + 77, 2 * SEGMENT, 2 * SEGMENT + 3, LARGE]
)
def test_an_old_checkpoint_is_checked_too(large_log, open_log, signer, size, numbered):
    # The newest entries may be without a checkpoint after a crash; wherever the last one was, it must fit.
    path = large_log / "checkpoint"
    root = Tree(numbered(0, size)).root()
    path.write_bytes(sign_note(Checkpoint(ORIGIN, size, bytes(32)).format(), signer))
    with pytest.raises(LogDamagedError, match=root.hex()):
        open_log(large_log)
    path.write_bytes(sign_note(Checkpoint(ORIGIN, size, root).format(), signer))
    log = open_log(large_log)
    assert log.committed == LARGE
    assert open_checkpoint(log.checkpoint(), signer.verifier).size == LARGE
