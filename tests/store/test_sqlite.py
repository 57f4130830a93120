"""What the store says of a log."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import threading
from pathlib import Path

import pytest

from sensorhub.log import follower
from sensorhub.log.entries import REVIEW, ArtefactEntry, NodeEvent, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.merkle import leaf_hash
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.store import ResolutionError, SqliteReader, SqliteStore, StoreError, StoreNotBegunError

START = 1_700_006_400
DAY = 86_400


@pytest.fixture
def store(tmp_path: Path):
    with SqliteStore(tmp_path / "store.sqlite") as store:
        yield store


def test_a_reading_comes_back_as_it_was_sent(network, store):
    index = network.message(
        "alder", START, [("temperature", 21.25, 0), ("humidity", 40, 0), ("temperature", 21.5, 10.5)]
    )
    store.apply(network.batch())
    raw = store.series("alder", "temperature", START, START + 60, "raw")
    assert raw["time"] == [START, START + 10.5]
    assert raw["value"] == [21.25, 21.5]
    assert raw["message"] == [index, index]
    assert raw["record"] == [0, 2]
    assert raw["score"] == [None, None]
    assert raw["flags"] == [None, None]
    assert not raw["truncated"]


def test_a_range_includes_its_start_and_excludes_its_end(network, store):
    for minute in range(5):
        network.message("alder", START + 60 * minute, [("temperature", minute, 0)])
    store.apply(network.batch())
    assert store.series("alder", "temperature", START + 60, START + 180, "raw")["value"] == [1.0, 2.0]
    assert store.messages(["alder"], ["temperature"], START + 60, START + 180) == [1, 2]


def test_verdicts_give_score_and_flags_and_a_newer_one_replaces_them(network, store):
    index = network.message("alder", START, [("temperature", 21, 0), ("humidity", 40, 0)])
    first = network.verdict({index: [(255, 0), (0, 1)]})
    store.apply(network.batch())
    assert store.verdict(index) == (first, [(255, 0), (0, 1)])
    assert store.flag_counts() == {"range": 1}
    assert store.counts()["trusted"] == 1
    second = network.verdict({index: [(51, 2 | 1024), (204, 0)]})
    store.apply(network.batch(2))
    assert store.verdict(index) == (second, [(51, 1026), (204, 0)])
    assert store.flag_counts() == {"spike": 1, "time suspect": 1}
    assert store.counts()["judged"] == 2
    assert store.counts()["trusted"] == 1
    latest = {row["channel"]: row for row in store.latest("alder")}
    assert latest["temperature"]["score"] == 0.2
    assert latest["temperature"]["flags"] == 1026
    assert latest["humidity"]["score"] == 0.8


def test_a_persons_verdict_stays_in_force_until_another_person_speaks(network, store):
    index = network.message("alder", START, [("temperature", 21, 0)])
    network.judge(index, 20, 2)
    said = network.verdict({index: [(255, 0)]}, REVIEW)
    network.judge(index, 30, 4)
    store.apply(network.batch())
    assert store.verdict(index) == (said, [(255, 0)])
    assert store.flag_counts() == {}
    assert store.counts()["trusted"] == 1
    network.judge(index, 40, 4)
    again = network.verdict({index: [(0, 16)]}, REVIEW)
    store.apply(network.batch(4))
    assert store.verdict(index) == (again, [(0, 16)])
    assert store.counts()["trusted"] == 0
    assert store.flag_counts() == {"offset": 1}


def test_quality_by_node_and_day_with_its_reasons(network, store):
    for node, hours in (("alder", 30), ("birch", 3)):
        for hour in range(hours):
            index = network.message(node, START + 3600 * hour, [("temperature", 20, 0), ("humidity", 50, 0)])
            if hour < 28:
                bad = hour % 10 == 5
                network.verdict({index: [(51 if bad else 204, 2 if bad else 0), (204, 256)]})
    network.message("alder", START + 7200, [("frame_sha256", b"x" * 32, 0)])
    store.apply(network.batch())
    store.settle()
    days = store.days(None, START, START + 2 * DAY)
    assert [(d["node"], d["time"] - START, d["readings"], d["judged"]) for d in days] == [
        ("alder", 0, 48, 48),
        ("alder", DAY, 12, 8),
        ("birch", 0, 6, 6),
    ]
    assert days[0]["flags"] == {"spike": 2, "isolated": 24}
    assert days[0]["trusted_share"] == 46 / 48
    assert days[0]["mean_score"] == round((46 * 204 + 2 * 51) / 48 / 255, 4)
    assert days[1]["flags"] == {"spike": 1, "isolated": 4}
    assert store.days("birch", START + 3600, START + 3601) == days[2:]
    assert [d["flags"] for d in store.days("alder", START, START + 1, "humidity")] == [{"isolated": 24}]
    assert store.days("alder", START, START + 3 * DAY, limit=1) == days[:1]
    assert store.days("elm", START, START + DAY) == []
    assert store.days("alder", START + 9 * DAY, START + 10 * DAY) == []


def test_artefacts_are_kept_as_the_log_holds_them(network, store):
    for what in ("review", "dataset", "review"):
        network.add(encode_entry(ArtefactEntry(7, what, b"h" * 32, f"a {what}")))
    store.apply(network.batch())
    assert store.artefacts("review") == [(0, 7, b"h" * 32, "a review"), (2, 7, b"h" * 32, "a review")]
    assert [entry for entry, *_ in store.artefacts("review", 1)] == [2]
    assert store.artefacts("model") == []


def test_a_verdict_that_does_not_fit_its_message_is_passed_over(network, store):
    index = network.message("alder", START, [("temperature", 21, 0)])
    network.verdict({index: [(255, 0), (255, 0)], 77: [(255, 0)]})
    store.apply(network.batch())
    assert store.verdict(index) is None
    assert store.counts()["judged"] == 0


def test_rollups_summarise_all_and_trusted_readings(network, store):
    values = [1.5, 2.25, 10.0, 4.75]
    for i, value in enumerate(values):
        index = network.message("alder", START + 60 * i, [("temperature", value, 0)])
        network.judge(index, 20 if value == 10.0 else 200, 2 if value == 10.0 else 0)
    store.apply(network.batch())
    store.settle()
    for resolution in ("5m", "1h"):
        row = {
            k: v[0]
            for k, v in store.series("alder", "temperature", START, START + 1, resolution).items()
            if isinstance(v, list)
        }
        assert row == {
            "time": START, "n": 4, "mean": math.fsum(values) / 4, "min": 1.5, "max": 10.0, "last": 4.75,
            "steadiness": None, "trusted_n": 3, "trusted_mean": (1.5 + 2.25 + 4.75) / 3,
            "trusted_steadiness": None, "flags": 2,
        }  # fmt: skip


def test_directions_are_averaged_on_the_circle(network, store):
    for i, degrees in enumerate([350, 10, 340, 20]):
        network.message("alder", START + 400 * i, [("wind_direction", degrees, 0)])
    store.apply(network.batch())
    store.settle()
    hour = store.series("alder", "wind_direction", START, START + 1, "1h")
    assert min(hour["mean"][0], 360 - hour["mean"][0]) == pytest.approx(0, abs=1e-9)
    assert hour["steadiness"][0] == pytest.approx(
        (2 * math.cos(math.radians(10)) + 2 * math.cos(math.radians(20))) / 4
    )
    assert hour["min"] == [None]
    assert hour["max"] == [None]


def test_opposite_directions_have_no_mean(network, store):
    network.message("alder", START, [("wind_direction", 90, 0), ("wind_direction", 270, 1)])
    store.apply(network.batch())
    store.settle()
    row = store.series("alder", "wind_direction", START, START + 1, "5m")
    assert row["mean"] == [None]
    assert row["steadiness"] == [0.0]


def test_late_messages_and_late_verdicts_reach_their_rollups(network, store):
    network.message("alder", START + DAY, [("temperature", 1, 0)])
    store.apply(network.batch())
    store.settle()
    late = network.message("alder", START, [("temperature", 5, 0)])
    store.apply(network.batch(1))
    store.settle()
    assert store.series("alder", "temperature", START, START + 1, "1h")["mean"] == [5.0]
    network.judge(late)
    store.apply(network.batch(2))
    store.settle()
    assert store.series("alder", "temperature", START, START + 1, "1h")["trusted_n"] == [1]


def test_clockless_messages_are_dated_when_the_node_learns_the_time(network, tmp_path):
    path = tmp_path / "s"
    first = network.message("alder", None, [("temperature", 1, 0), ("temperature", 2, -5)], uptime=10)
    network.judge(first)
    with SqliteStore(path) as store:
        store.apply(network.batch())
        assert store.counts()["undated"] == 1
        assert store.latest() == []
    network.message("alder", START + 100, [("temperature", 3, 0)], uptime=100)
    after = network.message("alder", None, [("temperature", 4, 0)], uptime=200)
    with SqliteStore(path) as store:  # what waited for a date survives the process
        store.apply(network.batch(store.cursor()))
        store.settle()
        assert store.counts()["undated"] == 0
        raw = store.series("alder", "temperature", START, START + 300, "raw")
        assert raw["time"] == [START + 5, START + 10, START + 100, START + 200]
        assert raw["message"] == [first, first, 2, after]
        assert store.series("alder", "temperature", START, START + 1, "5m")["n"] == [4]


def test_a_held_over_clock_ahead_of_the_gateway_gives_no_date(network, store):
    network.message("alder", START + 10_000, [("temperature", 1, 0)], tq=1, received=START)
    network.message("birch", START + 30, [("temperature", 1, 0)], tq=1, received=START)
    store.apply(network.batch())
    assert store.counts()["undated"] == 1
    assert [row["node"] for row in store.latest()] == ["birch"]


def test_cloned_messages_are_kept_marked_and_never_trusted(network, store):
    first = network.message("alder", START, [("temperature", 1, 0)])
    second = network.message("alder", START, [("temperature", 9, 0)])
    network.judge(first)
    network.judge(second)
    store.apply(network.batch())
    network.clone("alder", first, second)
    network.clone("alder", first)  # no evidence of anything
    network.clone("alder", 0, 2**63)
    store.apply(network.batch(4))
    store.settle()
    assert store.counts()["cloned"] == 2
    row = store.series("alder", "temperature", START, START + 1, "5m")
    assert (row["n"], row["trusted_n"]) == ([2], [0])


def test_data_channels_are_counted_but_hold_no_readings(network, store):
    index = network.message(
        "eye", START, [("luminance", 0.5, 0), ("frame_sha256", b"\1" * 32, 0), ("contrast", 0.25, 0)]
    )
    network.verdict({index: [(200, 0), (90, 0), (200, 1)]})
    store.apply(network.batch())
    store.settle()
    assert store.counts()["readings"] == 2
    assert store.counts()["judged"] == 2
    assert [row["channel"] for row in store.latest("eye")] == ["contrast", "luminance"]
    assert store.latest("eye")[0]["flags"] == 1
    assert store.series("eye", "frame_sha256", START, START + 1, "5m")["n"] == []


def test_nodes_tell_kind_counts_and_trust(network, store):
    network.enrol("alder")
    index = network.message("alder", START, [("temperature", 1, 0), ("humidity", 50, 0)])
    network.message("birch", START, [("temperature", 1, 0)])
    network.verdict({index: [(200, 0), (0, 1)]})
    store.apply(network.batch())
    alder, birch = store.nodes()
    assert (alder["node"], alder["kind"], alder["geohash"], alder["revoked"]) == (
        "alder",
        "weather",
        "u33db",
        False,
    )
    assert (alder["messages"], alder["readings"], alder["judged"], alder["trusted_share"]) == (1, 2, 2, 0.5)
    assert alder["last_time"] == START
    assert (birch["kind"], birch["trusted_share"]) == (None, None)
    network.enrol("alder", event=NodeEvent.REVOKE)
    store.apply(network.batch(4))
    assert store.nodes()[0]["revoked"]
    network.enrol("alder", event=NodeEvent.ROTATE)
    network.enrol("alder", event=NodeEvent.MOVE, geohash="u33dc")
    store.apply(network.batch(5))
    assert not store.nodes()[0]["revoked"]
    assert store.nodes()[0]["geohash"] == "u33dc"


def test_latest_looks_into_every_layout(network, store):
    network.message("alder", START, [("temperature", 1, 0), ("pressure", 1000, 0)])
    network.message("alder", START + 60, [("temperature", 2, 0)])
    network.message("alder", START + 30, [("temperature", 3, 0)])
    store.apply(network.batch())
    assert [(r["channel"], r["value"]) for r in store.latest("alder")] == [
        ("pressure", 1000.0),
        ("temperature", 2.0),
    ]
    assert store.latest("nobody") == []


def test_auto_takes_the_finest_resolution_that_fits(network, store):
    for minute in range(600):
        network.message("alder", START + 60 * minute, [("temperature", minute % 30, 0)])
    store.apply(network.batch())
    store.settle()
    ask = lambda limit: store.series("alder", "temperature", START, START + DAY, limit=limit)  # noqa: E731
    assert (ask(600)["resolution"], len(ask(600)["time"])) == ("raw", 600)
    assert (ask(599)["resolution"], len(ask(599)["time"])) == ("5m", 120)
    assert (ask(119)["resolution"], len(ask(119)["time"])) == ("1h", 10)
    assert ask(5)["truncated"]
    assert store.series("alder", "temperature", -math.inf, math.inf)["resolution"] == "raw"
    with pytest.raises(ResolutionError, match="1d"):
        store.series("alder", "temperature", 0, 1, "1d")


def test_locate_finds_the_nearest_reading(network, store):
    for minute in (0, 1, 5):
        network.message(
            "alder", START + 60 * minute, [("temperature", minute, 0), ("temperature", minute + 0.5, 20)]
        )
    network.message("alder", START + 61, [("pressure", 1000, 0)])
    store.apply(network.batch())
    near = lambda t: (store.locate("alder", "temperature", START + t) or {})["value"]  # noqa: E731
    assert [near(t) for t in (-1e6, 9, 11, 79, 85, 189, 191, 1e6)] == [0, 0, 0.5, 1.5, 1.5, 1.5, 5, 5.5]
    assert store.locate("alder", "rain", START) is None


def test_old_readings_go_with_the_data_not_with_the_wall_clock(network, tmp_path):
    with SqliteStore(tmp_path / "s", raw_days=2, five_minute_days=4, hourly_days=6) as store:
        for day in range(9):
            network.judge(network.message("alder", START + DAY * day + 3600, [("temperature", day, 0)]))
        store.apply(network.batch())
        store.settle()
        ask = lambda r: [  # noqa: E731
            (t - START) // DAY
            for t in store.series("alder", "temperature", START, START + 10 * DAY, r)["time"]
        ]
        assert ask("raw") == [6, 7, 8]
        assert ask("5m") == [4, 5, 6, 7, 8]
        assert ask("1h") == [2, 3, 4, 5, 6, 7, 8]
        assert store.counts()["raw_from"] == START + 6 * DAY
        assert store.series("alder", "temperature", START, START + 10 * DAY, "1h")["trusted_n"] == [1] * 7
        late = network.message("alder", START + 5 * DAY + 3600, [("temperature", 99, 0)])
        network.judge(late)
        store.apply(network.batch(18))
        store.settle()
        assert store.counts()["expired"] == 1
        assert store.counts()["messages"] == 10
        assert store.series("alder", "temperature", START, START + 10 * DAY, "5m")["n"] == [1] * 5
        assert store.verdict(late) is None


def test_a_message_across_the_horizon_changes_no_summary_of_the_past(network, tmp_path):
    with SqliteStore(tmp_path / "s", raw_days=1, five_minute_days=0, hourly_days=0) as store:
        network.message("alder", START + DAY - 300, [("temperature", 1, 0), ("temperature", 2, 600)])
        network.message("alder", START + 2 * DAY, [("temperature", 3, 0)])
        network.message("alder", START + DAY - 300, [("temperature", 50, 0), ("temperature", 60, 600)])
        store.apply(network.batch())
        store.settle()
        rows = store.series("alder", "temperature", START, START + 2 * DAY, "5m")
        assert rows["mean"] == [1.0, 31.0]


def test_a_coarser_resolution_must_be_kept_as_long(tmp_path):
    with pytest.raises(StoreError, match="at least as long"):
        SqliteStore(tmp_path / "s", raw_days=0, five_minute_days=10)


def test_entries_must_continue_the_store(network, store):
    network.message("alder", START, [("temperature", 1, 0)])
    network.message("alder", START + 1, [("temperature", 1, 0)])
    with pytest.raises(StoreError, match="entry 0 next"):
        store.apply(network.batch(1))
    store.apply(network.batch())
    store.apply(network.batch())
    assert store.counts()["messages"] == 2
    assert store.cursor() == 2


def test_a_failed_batch_leaves_no_trace(network, store):
    network.message("alder", START, [("temperature", 1, 0)])
    before = store.dump()
    with pytest.raises(Exception, match="log entry"):
        store.apply([*network.batch(), (1, b"\x82\x07\x00")])
    assert store.dump() == before
    store.apply(network.batch())
    assert store.counts()["messages"] == 1


def test_another_process_reads_while_one_writes(network, store):
    with contextlib.closing(SqliteStore.open_readonly(store.path)) as reader:
        for i in range(50):
            network.message("alder", START + i, [("temperature", i, 0)])
            store.apply(network.batch(i))
            assert reader.latest("alder")[0]["value"] == i


def test_only_one_process_may_write(store):
    with pytest.raises(StoreError, match="is being written already"):
        SqliteStore(store.path)


def refusal(path, opened) -> StoreError:
    """What is said when `opened` opens the store at `path`; the file is left as it was."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreError) as caught:
        opened(path)
    assert (path.read_bytes() if path.exists() else None) == before
    return caught.value


@pytest.mark.parametrize("opened", [SqliteStore, SqliteReader])
def test_a_file_that_is_no_store_is_named(tmp_path, opened):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database, certainly not" * 100)
    assert re.search(r"store\.sqlite is damaged .*`sensorhub rebuild store`", str(refusal(path, opened)))
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert re.search(r"version 99, .*`sensorhub rebuild store`", str(refusal(path, opened)))
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipe (name)")
    assert "a database of something else" in str(refusal(path, opened))


def test_a_store_that_has_not_begun_is_not_called_damaged(network, tmp_path):
    path = tmp_path / "store.sqlite"
    said = refusal(path, SqliteReader)
    assert isinstance(said, StoreNotBegunError)
    assert "there is no store at" in str(said)
    assert "rebuild" not in str(said)
    path.touch()  # the two moments of a writer that begins, before it has made the tables
    for make in ("", "PRAGMA journal_mode = WAL"):
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute(make)
        said = refusal(path, SqliteReader)
        assert isinstance(said, StoreNotBegunError)
        assert "nothing has been stored" in str(said)
        assert "rebuild" not in str(said)
    network.message("alder", START, [("temperature", 21, 0)])
    with SqliteStore(path) as store:
        store.apply(network.batch())
    with contextlib.closing(SqliteReader(path)) as reader:
        assert reader.counts()["messages"] == 1


def test_readers_of_a_store_that_begins_see_it_whole_or_not_at_all(tmp_path):
    paths, done, said = [tmp_path / "0.sqlite"], threading.Event(), set()

    def read():
        while not done.is_set():
            try:
                SqliteReader(paths[-1]).close()
            except StoreError as error:
                said.add(type(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 21):
            SqliteStore(paths[-1]).close()
            paths.append(tmp_path / f"{number}.sqlite")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert said == {StoreNotBegunError}


def test_a_store_that_was_damaged_while_open_says_so(network, tmp_path):
    path = tmp_path / "store.sqlite"
    for second in range(2000):
        network.message("alder", START + second, [("temperature", second, 0)])
    with SqliteStore(path) as store:
        store.apply(network.batch())
    with contextlib.closing(SqliteReader(path)) as reader:
        assert reader.counts()["messages"] == 2000
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
    with (
        contextlib.closing(SqliteReader(path)) as reader,
        pytest.raises(StoreError, match=r"is damaged.*`sensorhub rebuild store`"),
    ):
        reader.series("alder", "temperature", START, START + 2000, "raw")


def test_a_full_disk_is_said_and_passes(network, store):
    for second in range(500):
        network.message("alder", START + second, [("temperature", second, 0)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(
        StoreError, match=r"cannot be used now \(database or disk is full\): see that its disk"
    ):
        store.apply(network.batch())
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.apply(network.batch(store.cursor()))
    assert store.counts()["messages"] == 500


def test_readings_can_be_read_with_plain_sql(network, store):
    index = network.message("alder", START, [("temperature", 21.25, 0), ("humidity", 40, 2)])
    network.verdict({index: [(200, 0), (10, 4)]})
    store.apply(network.batch())
    db = sqlite3.connect(store.path)
    rows = db.execute("SELECT id, node, channel, t, value, score, flags FROM reading ORDER BY id").fetchall()
    db.close()
    assert rows == [
        (0, "alder", "temperature", START, 21.25, 200, 0),
        (1, "alder", "humidity", START + 2, 40.0, 10, 4),
    ]


def test_absurd_numbers_do_not_stop_the_store(network, store):
    network.message(
        "alder", START, [("temperature", 1e308, 0), ("temperature", 1.5e308, 1), ("temperature", -1e308, 2)]
    )
    network.message("alder", START + 300, [("temperature", 1.7e308, 0), ("temperature", 1.7e308, 1)])
    store.apply(network.batch())
    store.settle()
    assert store.series("alder", "temperature", START, START + 1, "1h")["n"] == [5]


def two_logs(make_network):
    """A log, and one that began with the same four entries and then went on otherwise."""
    one, other = make_network(), make_network()
    for second in range(10):
        one.message("alder", START + second, [("temperature", second, 0)])
        other.message("alder", START + second, [("temperature", second if second < 4 else 77, 0)])
    assert one.entries[:4] == other.entries[:4]
    return one, other


def test_a_store_does_not_go_on_with_another_log(make_network, tmp_path):
    one, other = two_logs(make_network)
    other.message("alder", START + 100, [("temperature", 77, 0)])
    with SqliteStore(tmp_path / "s") as store:
        store.apply(one.batch())
        content = store.dump()
    with SqliteStore(tmp_path / "s") as store:
        assert store.cursor() == 9
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"made from another log.*entry 9.*`sensorhub rebuild store`"
            ):
                store.apply(other.batch(store.cursor()))
        with pytest.raises(StoreError, match="needs log entry 9 once more"):
            store.apply(other.batch(10))
        assert store.dump() == content
        one.message("alder", START + 100, [("temperature", 5, 0)])
        store.apply(one.batch(store.cursor()))
        assert store.cursor() == 11
        assert store.counts()["messages"] == 11


def test_a_store_knows_its_log(make_network, tmp_path):
    one, _ = two_logs(make_network)
    with SqliteStore(tmp_path / "s") as store:
        assert store.log_id() is None
        store.apply(one.batch(0, 3))
        assert store.log_id() == leaf_hash(one.entries[0])
    stranger = make_network()
    stranger.message("birch", START, [("temperature", 1, 0)])
    with SqliteStore(tmp_path / "s") as store:
        with pytest.raises(StoreError, match="entry 0 is not"):
            store.apply(stranger.batch())
        store.apply(one.batch())
        with contextlib.closing(SqliteStore.open_readonly(tmp_path / "s")) as reader:
            assert reader.log_id() == leaf_hash(one.entries[0])


def test_a_follower_stops_at_another_log(make_network, tmp_path):
    logs = []
    signer = NoteSigner.generate("lab.g/sensorhub")
    for name, network in zip("ab", two_logs(make_network), strict=True):
        with Log.open(tmp_path / name, origin=signer.name, signer=signer) as log:
            for entry in network.entries:
                log.append(entry)
            log.commit()
        logs.append(LogReader(tmp_path / name))

    def follow(reader, until):
        stop = threading.Event()
        with SqliteStore(tmp_path / "s") as store:
            sink = Sink(lambda fields: until(fields) and stop.set())
            follower.run(store, reader, stop=stop, status=sink)
            return store.dump()

    content = follow(logs[0], lambda fields: fields["messages"] == 10)
    seen = []
    assert follow(logs[1], lambda fields: fields["error"] and not seen.append(fields["error"])) == content
    assert "`sensorhub rebuild store`" in seen[0]


class Sink:
    def __init__(self, write):
        self.write = write


def test_totals_look_at_no_message_that_is_neither_undated_nor_cloned(network, store):
    plans = []
    store._db.set_trace_callback(plans.append)
    store.counts()
    store._db.set_trace_callback(None)
    for query in plans:
        for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {query}"):
            assert "message" not in step or "INDEX message_undated" in step or "INDEX message_cloned" in step
