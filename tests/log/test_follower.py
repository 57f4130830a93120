"""The loop that feeds followers."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from sensorhub.log import follower as follower_module
from sensorhub.log.follower import run
from sensorhub.log.reader import LogReader
from sensorhub.status import StatusFile, read_all


class Collector:
    """Keeps entries and its cursor together, and can be told to fail."""

    name = "collector"

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.largest = 0
        self.failures: list[Exception] = []
        self.failed_at: list[int] = []
        self.blocked = False

    def cursor(self) -> int:
        return len(self.entries)

    def apply(self, batch: list[tuple[int, bytes]]) -> None:
        assert batch[0][0] == len(self.entries)
        assert [index for index, _ in batch] == list(range(batch[0][0], batch[0][0] + len(batch)))
        self.largest = max(self.largest, len(batch))
        if self.failures:
            self.failed_at.append(batch[0][0])
            raise self.failures.pop(0)
        if not self.blocked:
            self.entries += [entry for _, entry in batch]

    def status(self) -> dict[str, object]:
        return {"collected": len(self.entries)}


class Sink:
    def __init__(self) -> None:
        self.records: list[dict] = []

    def write(self, fields) -> None:
        self.records.append(dict(fields))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(follower_module, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(follower_module, "_STATUS_INTERVAL", 0.02)


@pytest.fixture
def reader(tmp_path):
    with LogReader(tmp_path / "log") as reader:
        yield reader


@pytest.fixture
def start(reader):
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start_(follower, **options) -> threading.Event:
        thread = threading.Thread(target=run, args=(follower, reader), kwargs={"stop": stop, **options})
        thread.start()
        threads.append(thread)
        return stop

    yield start_
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(condition) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def append(log, entries) -> None:
    log.append_many(entries)
    log.commit()


def test_everything_arrives_in_order(open_log, start, numbered, tmp_path):
    follower = Collector()
    start(follower, batch=100, status=StatusFile(tmp_path, "collector"))
    until(lambda: "collector" in read_all(tmp_path))  # it waits for a log that is not there yet
    log = open_log()
    for at in range(0, 2000, 250):
        append(log, numbered(at, at + 250))
    until(lambda: follower.cursor() == 2000)
    assert follower.entries == numbered(0, 2000)
    assert follower.largest == 100
    until(lambda: read_all(tmp_path)["collector"]["cursor"] == 2000)
    status = read_all(tmp_path)["collector"]
    assert status["collected"] == status["log_size"] == 2000
    assert status["lag"] == 0
    assert status["error"] is None


def test_a_failing_follower_is_tried_again_and_says_why(open_log, start, numbered):
    follower, sink = Collector(), Sink()
    append(open_log(), numbered(0, 30))
    follower.failures = [ValueError("the store is away"), KeyError(), OSError(5, "disk")]
    start(follower, batch=10, status=sink)
    until(lambda: follower.cursor() == 30)
    assert follower.entries == numbered(0, 30)
    assert follower.failed_at == [0, 0, 0]
    errors = [record["error"] for record in sink.records if record["error"]]
    assert errors[0] == "the store is away"
    assert errors[1] == "KeyError"
    assert "disk" in errors[2]
    until(lambda: sink.records[-1]["error"] is None)
    assert sink.records[-1]["failures"] == 3


def test_pauses_grow(open_log, start, numbered):
    follower, sink = Collector(), Sink()
    append(open_log(), numbered(0, 1))
    follower.failures = [ValueError(str(number)) for number in range(1000)]
    started = time.monotonic()
    stop = start(follower, status=sink)
    until(lambda: len(follower.failed_at) >= 4)
    assert time.monotonic() - started >= 0.02 * (1 + 2 + 4)
    stop.set()  # the pause after it is cut short; the fixture waits for the end


def test_a_follower_that_skips_is_an_error(open_log, start, numbered):
    class Skipper(Collector):
        def cursor(self) -> int:
            return super().cursor() + (1 if self.entries else 0)

    follower, sink = Skipper(), Sink()
    append(open_log(), numbered(0, 3))
    start(follower, status=sink)
    until(lambda: sink.records and sink.records[-1]["error"])
    assert "skipped entries" in sink.records[-1]["error"] or "of a log of 3" in sink.records[-1]["error"]


def test_a_cursor_beyond_the_log_is_an_error(open_log, start, numbered):
    follower, sink = Collector(), Sink()
    follower.entries = [b"from another log"] * 50
    append(open_log(), numbered(0, 3))
    start(follower, status=sink)
    until(lambda: sink.records and sink.records[-1]["error"])
    assert "has read 50 entries of a log of 3" in sink.records[-1]["error"]
    assert follower.entries == [b"from another log"] * 50


def test_a_follower_that_holds_back_is_asked_again(open_log, start, numbered):
    follower = Collector()
    follower.blocked = True
    log = open_log()
    append(log, numbered(0, 5))
    start(follower)
    until(lambda: follower.largest == 5)
    follower.blocked = False
    append(log, numbered(5, 8))
    until(lambda: follower.cursor() == 8)
    assert follower.entries == numbered(0, 8)


def test_a_damaged_log_is_reported_and_not_skipped(large_log, numbered):
    bundle = large_log / "tile/entries/007"
    good = bundle.read_bytes()
    bundle.write_bytes(good[:-1])
    follower, sink, stop = Collector(), Sink(), threading.Event()
    with LogReader(large_log) as reader:
        thread = threading.Thread(
            target=run, args=(follower, reader), kwargs={"stop": stop, "status": sink, "batch": 256}
        )
        thread.start()
        until(lambda: sink.records and sink.records[-1]["error"])
        assert "tile/entries/007 is damaged" in sink.records[-1]["error"]
        assert follower.cursor() == 7 * 256
        bundle.write_bytes(good)
        until(lambda: follower.cursor() == reader.size())
        stop.set()
        thread.join(60)
    assert follower.entries == numbered(0, 2 * 65_536 + 1_000)
    shutil.rmtree(large_log)


def test_a_status_that_fails_does_not_stop_anything(open_log, start, numbered):
    class Shy(Collector):
        def status(self) -> dict[str, object]:
            raise RuntimeError("not now")

    follower, sink = Shy(), Sink()
    start(follower, status=sink)
    append(open_log(), numbered(0, 3))
    until(lambda: follower.cursor() == 3 and sink.records)
    assert "not now" in sink.records[-1]["error"]


def test_the_end_is_prompt_and_leaves_the_last_status(open_log, start, numbered):
    follower, sink = Collector(), Sink()
    append(open_log(), numbered(0, 3))
    stop = start(follower, status=sink)
    until(lambda: follower.cursor() == 3)
    stop.set()
    until(lambda: sink.records and sink.records[-1]["collected"] == 3)
