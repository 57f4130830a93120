from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def _large_log(tmp_path_factory: pytest.TempPathFactory, signer: NoteSigner) -> Path:
    path = tmp_path_factory.mktemp("large") / "log"
    with Log.open(path, origin=ORIGIN, signer=signer, checkpoint_interval=0) as log:
        for start in range(0, LARGE, 5000):
            log.append_many(_numbered(start, min(start + 5000, LARGE)))
            log.commit()
        assert log.settle(60)
    return path


@pytest.fixture
def large_log(_large_log: Path, tmp_path: Path) -> Path:
    """A closed log of two whole segments, which are tiles only, and 1,000 entries in the journal."""
    return shutil.copytree(_large_log, tmp_path / "large")


@pytest.fixture(scope="session")
def read_only_large_log(_large_log: Path) -> Path:
    """The same for tests that change nothing."""
    return _large_log
