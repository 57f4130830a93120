"""What one process at a time may hold: who else wants it is told who has it, where, and what to do."""

import os
import subprocess
import sys
import textwrap
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sensorhub import processes
from sensorhub.chain.errors import ChainError
from sensorhub.chain.records import Records
from sensorhub.errors import SensorhubError
from sensorhub.locks import Lock
from sensorhub.log.errors import LogLockedError
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.store import SqliteStore, StoreError

ORIGIN = "site.gw/sensorhub"


def take_log(path: Path):
    return Log.open(path / "log", origin=ORIGIN, signer=NoteSigner(ORIGIN, bytes(range(32))))


def take_records(path: Path):
    return closing(Records(path / "chain.sqlite"))


def take_store(path: Path):
    return SqliteStore(path / "store.sqlite")


def take_process(path: Path):
    return processes.only_one(path, "quality")


HOLDERS = [
    pytest.param(
        take_log,
        LogLockedError,
        "the log {0}/log is being written already: process {1} holds {0}/log/lock; a log has one writer, end that "
        "one first",
        id="log",
    ),
    pytest.param(
        take_records,
        ChainError,
        "checkpoints are being posted from {0}/chain.sqlite already: process {1} holds {0}/chain.sqlite.lock; stop "
        "`sensorhub run` or its chain process first",
        id="posts",
    ),
    pytest.param(
        take_store,
        StoreError,
        "the store {0}/store.sqlite is being written already: process {1} holds {0}/store.sqlite.lock; stop "
        "`sensorhub run` or its store process first",
        id="store",
    ),
    pytest.param(
        take_process,
        SensorhubError,
        "the quality process of {0} runs already: process {1} holds {0}/run/quality.lock; end that one first, or set "
        "another gateway.data_dir",
        id="process",
    ),
]


@contextmanager
def elsewhere(program: str, *arguments: str):
    """Runs a program in another process until it has said a line; it ends with the block."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def held_by_another(take, path: Path):
    """The real thing is taken in the other process, by the function of this file."""
    return elsewhere(
        """
        import runpy, sys, pathlib
        with runpy.run_path(sys.argv[1])[sys.argv[2]](pathlib.Path(sys.argv[3])):
            print("held", flush=True)
            sys.stdin.readline()
        """,
        __file__,
        take.__name__,
        str(path),
    )


@pytest.mark.parametrize(("take", "error", "said"), HOLDERS)
def test_a_second_process_is_told_who_where_and_what_to_do(take, error, said, tmp_path):
    with held_by_another(take, tmp_path) as child:
        for _ in range(2):  # to be refused changes nothing
            with pytest.raises(error) as caught, take(tmp_path):
                pass
            assert str(caught.value) == said.format(tmp_path, child.pid)
        child.communicate("\n")
        assert child.returncode == 0
        with take(tmp_path):
            pass


@pytest.mark.parametrize(("take", "error", "said"), HOLDERS)
def test_a_killed_process_leaves_no_lock(take, error, said, tmp_path):
    with held_by_another(take, tmp_path) as child:
        child.kill()
        child.wait()
        with take(tmp_path), pytest.raises(error) as caught, take(tmp_path):
            pass
        assert str(caught.value) == said.format(tmp_path, os.getpid())


@pytest.mark.parametrize(("take", "error", "said"), HOLDERS)
def test_what_is_let_go_of_is_free_at_once(take, error, said, tmp_path):
    for _ in range(3):
        with take(tmp_path):
            pass


def lock(path: Path) -> Lock:
    return Lock(path, what="the kettle is on", remedy="wait")


def test_a_program_that_the_holder_started_does_not_hold_it(tmp_path):
    with elsewhere(
        """
        import os, sys, subprocess, pathlib
        from sensorhub.locks import Lock
        lock = Lock(pathlib.Path(sys.argv[1]), what="the kettle is on", remedy="wait")
        child = subprocess.Popen([sys.executable, "-c", "import sys; print('held', flush=True); sys.stdin.readline()"],
            close_fds=False)
        child.wait()
        """,
        str(tmp_path / "lock"),
    ) as holder:
        holder.kill()  # the program lives on, with the pipes
        holder.wait()
        with lock(tmp_path / "lock"):
            holder.stdin.write("\n")


def test_a_fork_that_lets_go_leaves_it_with_the_holder(tmp_path):
    path = tmp_path / "lock"
    with (
        elsewhere(
            """
        import os, sys, pathlib
        from sensorhub.locks import Lock
        lock = Lock(pathlib.Path(sys.argv[1]), what="the kettle is on", remedy="wait")
        fork = os.fork()
        if not fork:
            lock.release()
            os._exit(0)
        os.waitpid(fork, 0)
        print("held", flush=True)
        sys.stdin.readline()
        """,
            str(path),
        ) as holder,
        pytest.raises(SensorhubError, match=f"the kettle is on already: process {holder.pid} holds"),
    ):
        lock(path)


def test_many_at_once_are_never_two(tmp_path):
    """Processes that take it over and over note when they have it: no one's notes lie within another's."""
    notes = tmp_path / "notes"
    program = """
        import os, sys, time, pathlib
        from sensorhub.errors import SensorhubError
        from sensorhub.locks import Lock
        path, notes = map(pathlib.Path, sys.argv[1:])
        descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        taken = 0
        end = time.monotonic() + 60
        while taken < 20 and time.monotonic() < end:
            try:
                with Lock(path, what="the kettle is on", remedy="wait"):
                    os.write(descriptor, b"%d in\\n" % os.getpid())
                    time.sleep(0.001)
                    os.write(descriptor, b"%d out\\n" % os.getpid())
                taken += 1
            except SensorhubError:
                pass
            time.sleep(0.001)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "lock"), str(notes)]
    children = [subprocess.Popen(arguments) for _ in range(4)]
    assert [child.wait(90) for child in children] == [0] * 4
    lines = [line.split() for line in notes.read_text().splitlines()]
    assert len(lines) == 2 * 20 * 4
    for (who, into), (same, out) in zip(lines[::2], lines[1::2], strict=True):
        assert (who, into, out) == (same, "in", "out")


def test_who_has_not_said_its_id_is_not_named(tmp_path):
    path = tmp_path / "lock"
    with (
        elsewhere(
            """
        import fcntl, os, sys
        descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.readline()
        """,
            str(path),
        ),
        pytest.raises(SensorhubError) as caught,
    ):
        lock(path)
    assert str(caught.value) == (
        f"the kettle is on already: a process that has not said its id holds {path}; wait"
    )


def test_the_file_stays_small_and_its_owners_own(tmp_path):
    path = tmp_path / "lock"
    with lock(path) as held:
        assert path.read_bytes() == f"{os.getpid():<15}\n".encode()
        assert path.stat().st_mode & 0o777 == 0o600
    held.release()
    assert path.read_bytes() == b" " * 15 + b"\n"
    with lock(path) as again:
        held.release()
        with pytest.raises(SensorhubError, match=str(os.getpid())):
            lock(path)
    again.release()


def test_without_room_for_the_number_the_lock_holds():
    """/dev/full takes no byte, as a full disk, and can be locked."""
    with lock(Path("/dev/full")), pytest.raises(SensorhubError, match="holds /dev/full"):
        lock(Path("/dev/full"))


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "no" / "lock")


def test_records_that_cannot_be_opened_are_not_kept_from_the_next_try(tmp_path):
    path = tmp_path / "chain.sqlite"
    path.write_bytes(b"rubbish" * 1000)
    for _ in range(2):
        with pytest.raises(ChainError, match="not a database"):
            Records(path)
    path.unlink()
    Records(path).close()
