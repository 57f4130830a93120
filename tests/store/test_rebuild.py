"""The store is a function of the log: however it is cut, killed or rebuilt, it comes out the same."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorhub.log.entries import REVIEW
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.store import SqliteReader, SqliteStore, StoreError, rebuild
from sensorhub.store.schema import CONTENT

START = 1_700_006_400
DAY = 86_400
RETENTION = {"raw_days": 2, "five_minute_days": 4, "hourly_days": 7}


@st.composite
def logs(draw, network):
    """A log with everything in it: late, clockless, cloned, judged twice, across days."""
    clock = START
    for _ in range(draw(st.integers(5, 45))):
        action = draw(st.integers(0, 11))
        sent = sorted(network.records)
        if action <= 6 or not sent:
            clock += draw(st.sampled_from([0, 10, 60, 300, 3600, 20_000, DAY]))
            late = draw(st.sampled_from([0, 0, 0, 299, 7000, DAY, 5 * DAY]))
            synced = draw(st.integers(0, 5))
            records = draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["temperature", "wind_direction", "rain"]),
                        st.sampled_from([0, 1.5, 90, 350.25, 1e-3]),
                        st.sampled_from([0, 0, 10.5, 301, -400, -DAY]),
                    ),
                    min_size=1,
                    max_size=4,
                )
            )
            network.message(
                draw(st.sampled_from(["alder", "birch"])),
                clock - late if synced else None,
                records,
                tq=1 if synced == 1 else 2,
                boot=draw(st.integers(1, 2)),
                uptime=draw(st.integers(0, 100_000)),
                received=clock + draw(st.sampled_from([0, 0, -400])),
            )
        elif action <= 9:
            chosen = draw(st.lists(st.sampled_from(sent), min_size=1, max_size=6, unique=True))
            score, flags = draw(st.integers(0, 255)), draw(st.sampled_from([0, 0, 1, 6, 1024]))
            rules = draw(st.sampled_from(["rules/1", "rules/1", REVIEW]))
            network.verdict({i: [(score, flags)] * network.records[i] for i in sorted(chosen)}, rules)
        elif action == 10:
            network.enrol(draw(st.sampled_from(["alder", "birch", "cedar"])))
        else:
            network.clone("alder", draw(st.sampled_from(sent)), draw(st.sampled_from(sent)))


def settled(path: Path, entries: list[tuple[int, bytes]], **retention: int) -> dict[str, list[tuple]]:
    with SqliteStore(path, **(retention or RETENTION)) as store:
        store.apply(entries)
        return store.dump()


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_batches_and_kills_change_nothing(tmp_path_factory, make_network, data):
    network = make_network()
    data.draw(logs(network))
    folder = tmp_path_factory.mktemp("stores")
    expected = settled(folder / "once", network.batch())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(network.entries)), max_size=8)))
    path = folder / "often"
    store = SqliteStore(path, **RETENTION)
    for stop in [*cuts, len(network.entries)]:
        batch = network.batch(store.cursor(), stop)
        match data.draw(st.sampled_from(["go on", "settle", "die before", "die inside", "die after"])):
            case "settle":
                store.apply(batch)
                store.settle()
            case "die before":
                store = died(store)
            case "die inside":
                with pytest.raises(StoreError, match="was given"):
                    store.apply([*batch, (stop + 7, b"")])
                store = died(store)
            case "die after":
                store.apply(batch)
                store = died(store)
            case _:
                store.apply(batch)
    store.apply(network.batch(store.cursor()))
    assert store.dump() == expected
    store.close()


def died(store: SqliteStore) -> SqliteStore:
    """A new store on the file that a killed one leaves: what was committed, nothing settled at the end."""
    path = store.path
    store._db.close()
    store._guard.release()
    store._guard = None
    return SqliteStore(path, **RETENTION)


def test_rollups_are_what_the_raw_rows_say(network, tmp_path):
    """Each bucket checked against plain SQL over the readings, as long as none has gone."""
    for i in range(400):
        network.message(
            f"n{i % 3}", START + 97 * i, [("temperature", i % 41 / 7, 0), ("humidity", i % 60, 5)]
        )
        if i % 3 and i > 5:
            network.judge(sorted(network.records)[-3], 100 + i % 100, i % 4)
    with SqliteStore(tmp_path / "s") as store:
        for i in range(0, len(network.entries), 33):
            store.apply(network.batch(i, min(i + 33, len(network.entries))))
        store.settle()
    db = sqlite3.connect(tmp_path / "s")
    for table, seconds in (("rollup_5m", 300), ("rollup_1h", 3600)):
        kept = db.execute(
            f"SELECT n.name, c.name, r.bucket, r.n, r.min, r.max, r.trusted_n, r.mean FROM {table} r"
            " JOIN node n ON n.id = r.node JOIN channel c ON c.id = r.channel ORDER BY 1, 2, 3"
        ).fetchall()
        told = db.execute(
            f"SELECT node, channel, CAST(t AS INTEGER) / {seconds} * {seconds}, count(*), min(value), max(value),"
            " sum(coalesce(score, 0) >= 128), avg(value) FROM reading GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
        assert [row[:-1] for row in kept] == [row[:-1] for row in told]
        assert [row[-1] for row in kept] == pytest.approx([row[-1] for row in told], rel=1e-12)
    db.close()


@pytest.fixture
def log(network, tmp_path):
    """A real log of some days, and its reader."""
    for i in range(1500):
        node = f"node-{i % 4}"
        index = network.message(node, START + 311 * i, [("temperature", i % 50 / 3, 0), ("rain", 0, 0)])
        if i % 2:
            network.judge(index, 60 + i % 190, 2 if i % 90 == 1 else 0)
    signer = NoteSigner.generate("lab.gateway/sensorhub")
    log = Log.open(tmp_path / "log", origin="lab.gateway/sensorhub", signer=signer, checkpoint_interval=0)
    log.append_many(network.entries)
    log.commit()
    with LogReader(tmp_path / "log") as reader:
        yield reader
    log.close()


def content(path: Path) -> dict[str, list[tuple]]:
    db = sqlite3.connect(path)
    found = {t: db.execute(f"SELECT * FROM {t} ORDER BY {o}").fetchall() for t, o in CONTENT.items()}
    db.close()
    return found


def test_a_rebuilt_store_is_the_same_store(log, network, tmp_path):
    path = tmp_path / "store.sqlite"
    with SqliteStore(path, **RETENTION) as store:
        for start in range(0, len(network.entries), 100):
            store.apply(network.batch(start, min(start + 100, len(network.entries))))
    before = content(path)
    shown = []
    assert rebuild(log, path, lambda done, total: shown.append((done, total)), **RETENTION) == log.size()
    assert shown[-1] == (log.size(), log.size())
    assert content(path) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("store")) == [
        "store.sqlite",
        "store.sqlite.lock",
    ]


def test_an_open_reader_moves_to_the_rebuilt_store(log, network, tmp_path):
    path = tmp_path / "store.sqlite"
    with SqliteStore(path) as store:
        store.apply(network.batch(0, 10))
    with contextlib.closing(SqliteReader(path)) as reader:
        assert reader.counts()["cursor"] == 10
        rebuild(log, path)
        assert reader.counts()["cursor"] == log.size()


def test_a_store_in_use_is_not_rebuilt(log, tmp_path):
    with SqliteStore(tmp_path / "store.sqlite"), pytest.raises(StoreError, match="is being written already"):
        rebuild(log, tmp_path / "store.sqlite")


def test_rebuild_replaces_a_damaged_store_and_its_leftovers(log, tmp_path):
    path = tmp_path / "store.sqlite"
    for suffix in ("", "-wal", "-shm", ".rebuild", ".rebuild-wal"):
        Path(f"{path}{suffix}").write_bytes(b"rubbish" * 1000)
    rebuild(log, path)
    assert _cursor(path) == log.size()


def _cursor(path: Path) -> int:
    # a connection of sqlite3 that nobody closes stays open until the garbage is collected
    with contextlib.closing(SqliteReader(path)) as reader:
        return reader.counts()["cursor"]


CHILD = """
import sys, threading, time
from pathlib import Path
from sensorhub.log.follower import run
from sensorhub.log.reader import LogReader
from sensorhub.store import SqliteStore, sqlite
sqlite.SETTLE_INTERVAL = 0.01
class Slow(SqliteStore):
    def apply(self, batch):
        super().apply(batch)
        time.sleep(0.01)  # so that whoever kills it sees how far it is
store = Slow(Path(sys.argv[2]), raw_days=2, five_minute_days=4, hourly_days=7)
run(store, LogReader(Path(sys.argv[1])), stop=threading.Event(), batch=7)
"""


def test_a_follower_killed_at_random_moments_leaves_the_same_store(log, network, tmp_path):
    path = tmp_path / "store.sqlite"
    expected = settled(tmp_path / "once", network.batch())
    deadline, kills, cursor = time.monotonic() + 300, 0, 0
    while cursor < log.size() and time.monotonic() < deadline:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(log.path), str(path)])
        before = cursor
        while cursor < min(before + 200, log.size()) and child.poll() is None:
            time.sleep(0.005)
            if path.exists() and path.stat().st_size:
                try:
                    cursor = _cursor(path)
                except (StoreError, sqlite3.Error):
                    continue  # not begun yet
        time.sleep(os.urandom(1)[0] / 10_000)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    assert kills > 3
    assert settled(path, []) == expected
