"""What a log is after crashes, power losses, full and failing disks."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

import pytest

from sensorhub.log import tiler as tiler_module
from sensorhub.log.errors import LogDamagedError, LogError, LogFullError
from sensorhub.log.fsck import fsck
from sensorhub.log.journal import SEGMENT, segment_path
from sensorhub.log.log import Log
from sensorhub.log.merkle import Tree
from sensorhub.log.note import open_checkpoint
from sensorhub.log.reader import LogReader

ORIGIN = "site.gw/sensorhub"
KNOWN, TAIL = 5, 4


@pytest.fixture
def crashed(memory, open_log, numbered):
    """A log whose last commit (4 entries after 5) was written but not acknowledged when the power went."""
    path = memory / "crashed"
    log = open_log(path)
    log.append_many(numbered(0, KNOWN))
    log.commit()
    log.checkpoint()
    before = [(path / name).read_bytes() for name in ("head", "checkpoint")]
    log.append_many(numbered(KNOWN, KNOWN + TAIL))
    log.commit()
    log.close()
    for name, data in zip(("head", "checkpoint"), before, strict=True):
        (path / name).write_bytes(data)
    return path


def ends(entries: list[bytes]) -> list[int]:
    """Where each journal record ends, from 0."""
    offsets = [0]
    for entry in entries:
        offsets.append(offsets[-1] + 6 + len(entry))
    return offsets


def check_opens(path: Path, open_log, entries: list[bytes], size: int) -> None:
    log = open_log(path)
    assert log.committed == size
    log.append(b"goes on")
    log.commit()
    with LogReader(path) as reader:
        assert [entry for _, entry in reader.entries(0)] == [*entries[:size], b"goes on"]
        assert reader.root() == log.root() == Tree([*entries[:size], b"goes on"]).root()
    log.close()
    assert fsck(path).ok


def test_a_tail_cut_off_at_any_byte(crashed, open_log, numbered):
    entries = numbered(0, KNOWN + TAIL)
    journal = segment_path(crashed, 0)
    whole = journal.read_bytes()
    marks = ends(entries)
    assert marks[-1] == len(whole)
    for cut in range(marks[KNOWN], len(whole) + 1):
        path = shutil.copytree(crashed, crashed.parent / "cut")
        os.truncate(segment_path(path, 0), cut)
        check_opens(path, open_log, entries, sum(mark <= cut for mark in marks) - 1)
        shutil.rmtree(path)


def test_a_tail_damaged_at_any_byte(crashed, open_log, numbered):
    entries = numbered(0, KNOWN + TAIL)
    whole = segment_path(crashed, 0).read_bytes()
    marks = ends(entries)
    for at in range(marks[KNOWN], len(whole)):
        path = shutil.copytree(crashed, crashed.parent / "damaged")
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        segment_path(path, 0).write_bytes(damaged)
        check_opens(path, open_log, entries, sum(mark <= at for mark in marks) - 1)
        shutil.rmtree(path)


@pytest.mark.parametrize(
    "tail",
    [
        bytes(1),
        bytes(6),
        bytes(7),
        bytes(70_000),
        random.Random(5).randbytes(5),
        random.Random(6).randbytes(5000),
        b"\xff" * 70_000,
    ],
    ids=["zero", "zero head", "zeros", "many zeros", "short garbage", "garbage", "ones"],
)
def test_garbage_behind_the_last_record(crashed, open_log, numbered, tail):
    with segment_path(crashed, 0).open("ab") as file:
        file.write(tail)
    check_opens(crashed, open_log, numbered(0, KNOWN + TAIL), KNOWN + TAIL)


def test_a_record_in_another_place_is_not_good(crashed, open_log, numbered):
    # The same bytes twice, as a file system may leave them behind: the second is no entry 9.
    journal = segment_path(crashed, 0)
    marks = ends(numbered(0, KNOWN + TAIL))
    with journal.open("ab") as file:
        file.write(journal.read_bytes()[marks[-2] :])
    check_opens(crashed, open_log, numbered(0, KNOWN + TAIL), KNOWN + TAIL)


def test_damage_before_the_committed_size_is_never_cut_off(crashed, open_log, numbered):
    journal = segment_path(crashed, 0)
    whole = journal.read_bytes()
    marks = ends(numbered(0, KNOWN))
    for at in range(0, marks[-1], 3):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        journal.write_bytes(damaged)
        with pytest.raises(
            LogDamagedError, match=f"entry {sum(mark <= at for mark in marks) - 1} cannot be read"
        ):
            open_log(crashed)
        assert journal.read_bytes() == damaged
    journal.write_bytes(whole[: marks[-1] - 1])
    with pytest.raises(LogDamagedError, match="5 entries were committed"):
        open_log(crashed)
    journal.unlink()
    with pytest.raises(LogDamagedError, match="journal of .* is gone"):
        open_log(crashed)


def test_a_checkpoint_beyond_the_tail(crashed, open_log, numbered):
    # The head may be behind after a power loss; the checkpoint is synced and says what must be there.
    with LogReader(crashed) as reader:
        reader.wait(0, 0)
    os.truncate(segment_path(crashed, 0), ends(numbered(0, KNOWN))[-2])
    (crashed / "head").unlink()
    with pytest.raises(LogDamagedError, match="has 4 entries but its checkpoint was signed at 5"):
        open_log(crashed)


@pytest.mark.parametrize(
    "head",
    [None, b"", b"short", bytes(64), b"\xa5" * 64],
    ids=["missing", "empty", "short", "zeros", "garbage"],
)
def test_the_head_file_is_made_anew(crashed, open_log, numbered, head):
    (crashed / "head").unlink()
    if head is not None:
        (crashed / "head").write_bytes(head)
    check_opens(crashed, open_log, numbered(0, KNOWN + TAIL), KNOWN + TAIL)


def test_segments_that_cannot_be(large_log, open_log):
    stray = large_log / "journal" / "notes.wal"
    stray.touch()
    with pytest.raises(LogDamagedError, match="not a journal segment"):
        open_log(large_log)
    stray.unlink()
    shutil.copy(segment_path(large_log, 2 * SEGMENT), segment_path(large_log, 0))
    with pytest.raises(LogDamagedError, match=f"lacks the segment of entry {SEGMENT}"):
        open_log(large_log)
    segment_path(large_log, 0).unlink()
    (large_log / "tile/1/001").unlink()
    with pytest.raises(LogDamagedError, match="tile/1/001"):
        open_log(large_log)


def test_tiles_that_were_not_durable_yet(memory, open_log, numbered):
    # After a power loss a tile may be empty or zeros. The journal has its entries, so nobody notices.
    path = memory / "log"
    entries = numbered(0, 1500)
    log = open_log(path)
    log.append_many(entries)
    log.commit()
    assert log.settle(60)
    log.close()
    (path / "tile/0/000").write_bytes(b"")
    (path / "tile/0/001").write_bytes(bytes(8192))
    (path / "tile/entries/002").write_bytes(bytes(3000))
    (path / "tile/entries/003").unlink()
    (path / "tmp/left.1.tmp").touch()
    with LogReader(path) as reader:
        assert [entry for _, entry in reader.entries(0)] == entries
        assert reader.root() == Tree(entries).root()
    log = open_log(path)
    assert log.settle(60)
    log.close()
    report = fsck(path)
    assert report.ok, report.damages
    assert report.tiles == 10
    assert not list((path / "tmp").iterdir())


WRITER = f"""
    import sys
    from sensorhub.log.log import Log
    from sensorhub.log.note import NoteSigner
    path, batch = sys.argv[1], int(sys.argv[2])
    signer = NoteSigner({ORIGIN!r}, bytes(range(32)))
    log = Log.open(path, origin={ORIGIN!r}, signer=signer, checkpoint_interval=0.02)
    at = log.committed
    print(at, flush=True)
    while True:
        log.append_many([b"%d " % index * (1 + index % 3) for index in range(at, at + batch)])
        at += batch
        assert log.commit() == at
        print(at, flush=True)
"""


@pytest.mark.parametrize("batch", [1, 700, 30_000])
def test_sigkill_at_random_moments(memory, open_log, signer, numbered, batch):
    path = memory / "log"
    moments = random.Random(batch)
    tree = Tree()
    acknowledged = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(batch)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        assert first, f"the writer did not open the log: {child.wait()}"
        assert int(first) >= acknowledged
        time.sleep(moments.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().splitlines():
            acknowledged = int(line)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        with LogReader(path) as reader:
            size = reader.size()
            assert size >= acknowledged
            note = reader.checkpoint()
            tree.extend(numbered(tree.size, size))
            assert reader.root() == tree.root()
            if note:
                checkpoint = open_checkpoint(note, signer.verifier)
                assert checkpoint.root == tree.root(checkpoint.size)
    log = open_log(path)
    tree.extend(numbered(tree.size, log.committed))
    assert log.root() == tree.root()
    with LogReader(path) as reader:
        assert [entry for _, entry in reader.entries(0)] == numbered(0, log.committed)
    assert log.settle(60)
    log.close()
    assert fsck(path).ok


class PowerLoss:
    """Ends this process at the n-th call that changes the file system, and leaves what a disk might have then.

    What was written and not synced may be there, in part or not at all; the same holds for unsynced tiles.
    """

    def __init__(self, root: Path, countdown: int, seed: int) -> None:
        self.root = root
        self.countdown = countdown
        self.random = random.Random(seed)
        self.durable: dict[Path, int] = {}
        self.unsynced: dict[Path, int] = {}
        self.lock = threading.RLock()  # one call at a time, so that it is known what was lost
        self.real = {
            name: getattr(os, name) for name in ("pwrite", "write", "fsync", "fdatasync", "ftruncate")
        }

    def install(self) -> None:
        for name in self.real:
            setattr(os, name, self.hook(name))
        path_rename, path_unlink = Path.rename, Path.unlink

        def rename(path: Path, target: Path) -> Path:
            with self.lock:
                self.tick()
                result = path_rename(path, target)
                if path in self.unsynced:
                    self.unsynced[Path(target)] = self.unsynced.pop(path)
                return result

        def unlink(path: Path, missing_ok: bool = False) -> None:
            with self.lock:
                self.tick()
                path_unlink(path, missing_ok)

        Path.rename, Path.unlink = rename, unlink

    def hook(self, name: str):
        real = self.real[name]

        def call(descriptor: int, *arguments):
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if not path.is_relative_to(self.root):
                return real(descriptor, *arguments)
            with self.lock:
                self.tick()
                result = real(descriptor, *arguments)
                if name in ("fsync", "fdatasync"):
                    self.durable[path] = os.fstat(descriptor).st_size
                    self.unsynced.pop(path, None)
                elif name == "ftruncate":
                    self.durable[path] = min(self.durable.get(path, 0), arguments[0])
                else:
                    self.unsynced[path] = self.durable.get(path, 0)
                return result

        return call

    def tick(self) -> None:
        self.countdown -= 1
        if self.countdown:
            return
        for path, durable in self.unsynced.items():
            if path.name in ("head", "lock") or not path.exists():
                continue  # overwritten in place: the old or the new bytes
            length = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(self.random.randint(min(durable, length), length))
                if self.random.random() < 0.3:
                    file.truncate(length)  # the length arrived, the data did not
        os._exit(7)


def work_until_power_loss(path: Path, signer, numbered, steps, countdown: int) -> tuple[int, bool]:
    """Runs a writer in a child; returns the last size it acknowledged and whether the power went."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(source)
            write = os.write
            PowerLoss(path, countdown, countdown).install()
            log = Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0)
            write(sink, b"%d\n" % log.committed)
            for count in steps:
                log.append_many(numbered(log.size, log.size + count))
                log.commit()
                write(sink, b"%d\n" % log.committed)
                log.checkpoint()
            log.settle()
            log.close()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    os.close(sink)
    with os.fdopen(source) as file:
        lines = file.read().split()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 7)
    return int(lines[-1]) if lines else 0, os.waitstatus_to_exitcode(status) == 7


def check_after_power_loss(path: Path, open_log, tree: Tree, acknowledged: int) -> None:
    if not (path / "journal").exists() and not acknowledged:
        return
    log = open_log(path)
    assert log.committed >= acknowledged
    assert log.root() == tree.root(log.committed)
    with LogReader(path) as reader:
        assert reader.root() == tree.root(log.committed)
    assert log.settle(60)
    log.close()
    report = fsck(path)
    assert report.ok, report.damages


def test_power_loss_at_every_call(memory, open_log, signer, numbered):
    lost = 0
    tree = Tree(numbered(0, 1000))
    for countdown in range(1, 500):
        path = memory / f"{countdown}"
        acknowledged, went = work_until_power_loss(path, signer, numbered, (3, 1, 300, 2, 600), countdown)
        check_after_power_loss(path, open_log, tree, acknowledged)
        shutil.rmtree(path, ignore_errors=True)
        if not went:
            break
        lost += 1
    else:
        pytest.fail("the work never came to its end")
    assert lost > 30


def test_power_loss_around_the_end_of_a_segment(memory, open_log, signer, numbered):
    base = memory / "base"
    log = open_log(base)
    log.append_many(numbered(0, SEGMENT - 600))
    log.commit()
    log.close()
    picks = random.Random(1)
    tree = Tree(numbered(0, SEGMENT + 1000))
    countdown = 1
    while True:
        path = shutil.copytree(base, memory / "now")
        acknowledged, went = work_until_power_loss(path, signer, numbered, (500, 99, 1, 1, 700), countdown)
        check_after_power_loss(path, open_log, tree, max(acknowledged, SEGMENT - 600))
        shutil.rmtree(path)
        if not went:
            break
        countdown += picks.randint(20, 260)
    assert countdown > 300


FULL = f"""
    import os, resource, signal, sys
    from pathlib import Path
    from sensorhub.log.errors import LogFullError
    from sensorhub.log.log import Log
    from sensorhub.log.note import NoteSigner
    from sensorhub.log.reader import LogReader

    path, ballast = Path(sys.argv[1]), sys.argv[2]
    signer = NoteSigner({ORIGIN!r}, bytes(range(32)))
    log = Log.open(path, origin={ORIGIN!r}, signer=signer, checkpoint_interval=0)
    reader = LogReader(path)
    if ballast == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    def commits(times):
        # Threads that sign and write tiles free a page now and then: then it may go through after all.
        for _ in range(times):
            try:
                log.commit()
                return True
            except LogFullError:
                pass
        return False

    failures = 0
    while failures < 3:
        entries = [(b"%d " % index).ljust(500) for index in range(log.size, log.size + 37)]
        log.append_many(entries)
        before = log.committed
        try:
            log.commit()
        except LogFullError as error:
            assert "free space" in str(error), error
            failures += 1
            assert log.committed == reader.size() == before
            assert log.size == before + 37
            if commits(3):
                continue
            if failures == 2:
                # The ingest may also give up what waits, and let the broker send it again.
                assert log.rollback() == before
                continue
            if failures == 3:
                break
            log.rollback()
    log.append_many([(b"%d " % index).ljust(500) for index in range(log.size, log.size + 37)])
    commits(1)
    if ballast == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        os.unlink(ballast)
    assert log.commit() == log.size == reader.size()
    assert log.problem is None or log.settle(120)
    log.close()
    print(log.size)
"""


def run_full(path: Path, ballast: str, open_log) -> None:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(path), ballast],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    size = int(result.stdout)
    entries = [(b"%d " % index).ljust(500) for index in range(size)]
    log = open_log(path)
    assert log.committed == size
    assert log.root() == Tree(entries).root()
    log.close()
    assert fsck(path).ok
    with LogReader(path) as reader:
        assert [entry for _, entry in reader.entries(0)] == entries


ROLLED_BACK = f"""
    import os, resource, sys
    from sensorhub.log.errors import LogFullError
    from sensorhub.log.log import Log
    from sensorhub.log.note import NoteSigner
    signer = NoteSigner({ORIGIN!r}, bytes(range(32)))
    log = Log.open(sys.argv[1], origin={ORIGIN!r}, signer=signer, checkpoint_interval=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    log.append_many([b"given up".ljust(500)] * 100)
    try:
        log.commit()
    except LogFullError:
        log.rollback()
    log.append(b"kept".ljust(500))
    assert log.commit() == 1
    os._exit(0)
"""


def test_what_was_rolled_back_does_not_come_back(memory, open_log):
    # The failed commit left whole records on the disk, right behind where the kept one ends.
    path = memory / "log"
    subprocess.run([sys.executable, "-c", textwrap.dedent(ROLLED_BACK), str(path)], check=True)
    log = open_log(path)
    assert log.committed == 1
    with LogReader(path) as reader:
        assert list(reader.entries(0)) == [(0, b"kept".ljust(500))]


def test_a_file_size_limit_is_a_full_disk(memory, open_log):
    run_full(memory / "log", "limit", open_log)


def test_a_full_disk(tmp_path, open_log):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; the file size limit is tested in its place")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        run_full(disk / "log", str(ballast), open_log)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_does_not_keep_a_log_from_being_opened(tmp_path, open_log, numbered):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        log = open_log(disk / "log")
        log.append_many(numbered(0, 100))
        log.commit()
        log.close()
        with suppress(OSError), (disk / "ballast").open("wb") as file:
            while True:
                file.write(bytes(4096))
        log = open_log(disk / "log")
        assert log.committed == 100
        log.append_many(numbered(100, 5000))
        with pytest.raises(LogFullError):
            log.commit()
        assert log.committed == 100
        (disk / "ballast").unlink()
        assert log.commit() == 5000
        log.close()
        assert fsck(disk / "log").ok
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_failed_sync_is_not_believed(tmp_path, open_log, numbered, monkeypatch):
    # After a failed sync the kernel may call the pages clean: only reopening finds out what is there.
    path = tmp_path / "log"
    log = open_log(path)
    log.append_many(numbered(0, 3))
    log.commit()

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    log.append_many(numbered(3, 5))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(LogError, match="cannot sync .*reopen the log"):
            log.commit()
    with pytest.raises(LogError, match="reopen the log"):
        log.commit()
    assert log.committed == 3
    with LogReader(path) as reader:
        assert reader.size() == 3
    log.close()
    log = open_log(path)
    assert log.committed in (3, 4, 5)
    with LogReader(path) as reader:
        assert [entry for _, entry in reader.entries(0)] == numbered(0, log.committed)


def test_tiles_that_cannot_be_written_wait(memory, open_log, numbered, monkeypatch):
    monkeypatch.setattr(tiler_module, "_FIRST_PAUSE", 0.02)
    path = memory / "log"
    log = open_log(path)
    (path / "tile/0").touch()  # where a directory should be
    log.append_many(numbered(0, SEGMENT + 10))
    log.commit()
    deadline = time.monotonic() + 90
    while log.problem is None:
        assert time.monotonic() < deadline, "it never said so"
        time.sleep(0.01)
    assert "the journal keeps the entries" in log.problem
    log.append_many(numbered(SEGMENT + 10, SEGMENT + 20))
    assert log.commit() == SEGMENT + 20
    with LogReader(path) as reader:
        assert reader.root() == log.root()
    (path / "tile/0").unlink()
    assert log.settle(60)
    assert log.problem is None
    assert not segment_path(path, 0).exists()
    log.close()
    assert fsck(path).ok
