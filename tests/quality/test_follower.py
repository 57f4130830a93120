"""The follower with a real log: every message judged once, whatever is killed when."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sensorhub.log.appender import AppendError
from sensorhub.log.entries import MAX_ENTRY, ArtefactEntry, VerdictEntry, decode_entry, encode_entry
from sensorhub.log.follower import run
from sensorhub.quality import follower as module
from sensorhub.quality.follower import RulesFollower
from sensorhub.quality.rules import VERSION

BASE = 1_700_000_000


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)


def fill(house, count: int, *, start: int = 0, nodes: int = 3, records: int = 2) -> None:
    """Messages with some of everything: spikes, values out of range, gaps."""
    entries = []
    for i in range(start, start + count):
        value = 20 + 3 * math.sin(i / 9) + (40 if i % 50 == 17 else 0)
        fields = [("temperature", round(value, 2), 0), ("humidity", 40 + i % 13, 0), ("rain", 0, 0)]
        fields += [("pressure", 1000 + (i * 7 + k) % 11, k) for k in range(3, records)]
        entries.append(
            house.message(f"node-{i % nodes}", BASE + 60 * (i + 30 * (i // 100)), fields[:records])
        )
    house.append(entries)


def judge_all(
    house, *, snapshot: Path | None = None, batch: int = 1024, upto: int | None = None
) -> RulesFollower:
    with house.client() as client:
        follower = RulesFollower(house.reader, client, snapshot=snapshot)
        while (cursor := follower.cursor()) < min(house.reader.size(), upto or 10**9):
            follower.apply(list(house.reader.entries(cursor, min(cursor + batch, house.reader.size()))))
    return follower


def verdicts(house) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
    found = []
    for _, entry in house.reader.entries(0):
        decoded = decode_entry(entry)
        if isinstance(decoded, VerdictEntry):
            assert (decoded.model, decoded.rules) == (b"", VERSION)
            found += decoded.verdicts
    return found


def messages(house) -> list[int]:
    return [i for i, entry in house.reader.entries(0) if entry[1] == 2]


@pytest.fixture
def expected(make_house):
    def make(count: int, **kinds: int):
        house = make_house("reference")
        fill(house, count, **kinds)
        judge_all(house)
        return verdicts(house)

    return make


def test_every_message_is_judged_once_in_order(house):
    fill(house, 500)
    follower = judge_all(house)
    found = verdicts(house)
    assert [index for index, _ in found] == messages(house)
    assert all(len(pairs) == 2 for _, pairs in found)
    status = follower.status()
    assert status["cursor"] == house.reader.size()
    assert status["judged"] == 1000
    assert 0 < status["trusted"] < 1000
    assert status["flags"]["range"] == sum(flags & 1 for _, pairs in found for _, flags in pairs)


def test_a_restart_at_any_point_changes_no_verdict(house, expected, tmp_path):
    fill(house, 300)
    for upto in (2, 50, 51, 170, 299, 300):
        judge_all(house, batch=7, upto=upto, snapshot=tmp_path / "state" if upto != 51 else None).close()
    judge_all(house, batch=64, snapshot=tmp_path / "state")
    assert verdicts(house) == expected(300)


def test_a_verdict_on_what_was_not_there_yet_stops_nothing(house, expected):
    fill(house, 20)
    judge_all(house)
    ahead = house.reader.size() + 5
    house.append([encode_entry(VerdictEntry(1, b"", VERSION, ((2**60, ()), (ahead, ((255, 0), (255, 0))))))])
    fill(house, 20, start=20)
    judge_all(house)
    told = [verdict for verdict in verdicts(house) if verdict[1] and verdict != (ahead, ((255, 0), (255, 0)))]
    assert [pairs for _, pairs in told] == [pairs for _, pairs in expected(40)]


def test_status_counts_the_whole_log_after_a_restart(house, tmp_path):
    fill(house, 200)
    before = judge_all(house, snapshot=tmp_path / "state")
    before.close()
    for snapshot in (tmp_path / "state", None):
        after = RulesFollower(house.reader, house.client(), snapshot=snapshot)
        after.cursor()
        assert {**after.status(), "cursor": 0} == {**before.status(), "cursor": 0}


def test_a_snapshot_saves_reading_the_log_again(house, tmp_path, monkeypatch):
    fill(house, 200)
    judge_all(house, snapshot=tmp_path / "state").close()
    read = []
    monkeypatch.setattr(module, "read_messages", lambda batch: read.extend(batch) or [])
    RulesFollower(house.reader, house.client(), snapshot=tmp_path / "state").cursor()
    assert [entry for _, entry in read if entry[1] == 2] == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other log", "ahead"])
def test_a_snapshot_that_does_not_fit_is_passed_over(damage, house, make_house, expected, tmp_path):
    path = tmp_path / "state"
    source = make_house("other") if damage == "other log" else house
    fill(house, 200)
    if source is not house:
        fill(source, 200, nodes=2)
    judge_all(source, snapshot=path, upto=100).close()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 0x55
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "ahead":
        # as if the log had been restored from a copy made before the verdicts
        fresh = make_house("restored")
        fresh.append([e for _, e in house.reader.entries(1, 201)])
        assert [e for _, e in fresh.reader.entries(0, 201)] == [e for _, e in house.reader.entries(0, 201)]
        house = fresh
    judge_all(house, snapshot=path)
    assert verdicts(house) == expected(200)


def test_an_append_that_failed_is_repeated_once(house, expected):
    fill(house, 120)

    class Unreliable:
        """Loses requests, and answers to requests that were carried out."""

        def __init__(self, client):
            self.client = client
            self.calls = 0

        def append(self, entries):
            self.calls += 1
            if self.calls % 3 == 1:
                raise AppendError("no connection")
            first = self.client.append(entries)
            if self.calls % 3 == 2:
                raise AppendError("no answer", uncertain=True)
            return first

    follower = RulesFollower(house.reader, Unreliable(house.client()))
    failures = 0
    while (cursor := follower.cursor()) < house.reader.size():
        try:
            follower.apply(list(house.reader.entries(cursor, min(cursor + 20, house.reader.size()))))
        except AppendError:
            failures += 1
            assert follower.cursor() == cursor
    assert failures > 5
    assert verdicts(house) == expected(120)


def test_entries_stay_within_what_the_log_takes(house):
    fill(house, 300, records=60)
    judge_all(house, batch=1024)
    sizes = [len(entry) for _, entry in house.reader.entries(0) if entry[1] == 4]
    assert len(sizes) > 1
    assert max(sizes) <= MAX_ENTRY
    assert [index for index, _ in verdicts(house)] == messages(house)


def test_its_own_entries_make_it_neither_write_nor_spin(house):
    fill(house, 30)
    applied = []
    with house.client() as client:
        follower = RulesFollower(house.reader, client)
        original = follower.apply
        follower.apply = lambda batch: (applied.append(len(batch)), original(batch))  # type: ignore[method-assign]
        stop = threading.Event()
        thread = threading.Thread(target=run, args=(follower, house.reader), kwargs={"stop": stop})
        thread.start()
        deadline = time.monotonic() + 120
        while house.reader.size() < 32 and time.monotonic() < deadline:
            time.sleep(0.01)
        size = house.reader.size()
        time.sleep(0.7)
        house.append([encode_entry(ArtefactEntry(1, "model", bytes(32)))])
        while follower.cursor() < size + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join()
    assert (size, house.reader.size()) == (32, 33)
    assert len(applied) <= 4


def test_small_batches_share_an_append(house, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.2)
    with house.client() as client:
        follower = RulesFollower(house.reader, client)
        stop = threading.Event()
        thread = threading.Thread(target=run, args=(follower, house.reader), kwargs={"stop": stop})
        began = time.monotonic()
        thread.start()
        for i in range(40):
            fill(house, 1, start=i)
            time.sleep(0.01)
        deadline = began + 120
        while len(verdicts(house)) < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        thread.join()
    assert [index for index, _ in verdicts(house)] == messages(house)
    assert house.reader.size() - 41 <= 1 + (time.monotonic() - began) / 0.2


CHILD = """
import sys, threading
from pathlib import Path
from sensorhub.log.appender import LogClient
from sensorhub.log.follower import run
from sensorhub.log.reader import LogReader
from sensorhub.quality import follower
follower.PAUSE, follower.SNAPSHOT_ENTRIES, follower.SNAPSHOT_SECONDS = 0.0, 1, 0.0
log, socket, state = map(Path, sys.argv[1:])
reader = LogReader(log)
run(follower.RulesFollower(reader, LogClient(socket), snapshot=state), reader, stop=threading.Event(), batch=5)
"""


def test_killed_at_random_moments_it_judges_all_and_nothing_twice(house, expected, tmp_path, monkeypatch):
    fill(house, 600)
    arguments = [sys.executable, "-c", CHILD, str(house.path), str(house.socket), str(tmp_path / "state")]
    deadline = time.monotonic() + 600
    kills = 0
    # no life is longer than 40 appends, though the machine may be slow to end it
    left = threading.Semaphore(0)
    append = house._append
    monkeypatch.setattr(house, "_append", lambda entries: left.acquire() and append(entries))
    while len(verdicts(house)) < 600 and time.monotonic() < deadline:
        while left.acquire(blocking=False):
            pass
        left.release(40)
        house._thread.submit(int).result()  # what the one before had asked for is in the log
        before = house.reader.size()
        child = subprocess.Popen(arguments)
        while house.reader.size() < before + 20 and len(verdicts(house)) < 600 and child.poll() is None:
            time.sleep(0.002)
        time.sleep(int.from_bytes(os.urandom(1), "big") / 5000)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    left.release(1000)
    assert kills > 2
    assert verdicts(house) == expected(600)
