from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner

ORIGIN = "site.gw/sensorhub"


@pytest.fixture(scope="session")
def signer() -> NoteSigner:
    return NoteSigner(ORIGIN, bytes(range(32)))


@pytest.fixture
def open_log(tmp_path: Path, signer: NoteSigner) -> Iterator[Callable[..., Log]]:
    """Opens logs and closes them in the end; checkpoints are only signed when asked for."""
    opened: list[Log] = []

    def open_(path: Path = tmp_path / "log", **options: object) -> Log:
        log = Log.open(path, **{"origin": ORIGIN, "signer": signer, "checkpoint_interval": 0, **options})
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()


def _numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d " % index * (1 + index % 3) for index in range(start, stop)]


@pytest.fixture(scope="session")
def numbered() -> Callable[[int, int], list[bytes]]:
    """Makes entries of different lengths that say their own index."""
    return _numbered


LARGE = 2 * 65_536 + 1_000


@contextmanager
def _memory(elsewhere: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield elsewhere
        return
    with tempfile.TemporaryDirectory(dir=shm) as path:
        yield Path(path)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where the machine has one: for tests of thousands of files, not of the disk."""
    with _memory(tmp_path) as path:
        yield path


@pytest.fixture(scope="session")
def read_only_large_log(tmp_path_factory: pytest.TempPathFactory, signer: NoteSigner) -> Iterator[Path]:
    """A closed log of two whole segments, which are tiles only, and 1,000 entries in the journal."""
    with _memory(tmp_path_factory.mktemp("large")) as directory:
        path = directory / "log"
        with Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0) as log:
            for start in range(0, LARGE, 5000):
                log.append_many(_numbered(start, min(start + 5000, LARGE)))
                log.commit()
            assert log.settle(60)
        yield path


@pytest.fixture
def large_log(read_only_large_log: Path, memory: Path) -> Path:
    """A copy of it to change."""
    return shutil.copytree(read_only_large_log, memory / "large")
