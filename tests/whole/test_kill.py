"""SIGKILL of the whole gateway, again and again, while nodes send: nothing receipted is lost, nothing is there twice."""

import contextlib
import json
import random
import time
from collections import Counter

from sensorhub.log.entries import MessageEntry, decode_entry
from sensorhub.log.fsck import fsck
from sensorhub.log.reader import LogReader
from sensorhub.store import SqliteReader
from sensorhub.wire import parse_pack, parse_signed

ROWS = 180
KILLS = 10


def messages(reader, start=0):
    """(node, seq) and base time of every message that is logged from an index on."""
    for _index, entry in reader.entries(start):
        decoded = decode_entry(entry)
        if isinstance(decoded, MessageEntry):
            signed = parse_signed(decoded.message)
            pack = parse_pack(signed.payload, tq=signed.tq)
            yield (pack.node, signed.seq), pack.base_time


def test_ten_kills_lose_nothing_and_duplicate_nothing(gateway, fleet, interpreter, recordings):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    chosen = recordings[:KILLS]
    for station in chosen:
        gateway.add_node(fleet, station.name, station.rows[: ROWS + 1], status=True, exit_at_end=True)
    gateway.start()
    gateway.wait(lambda: gateway.status("ingest").get("connected"), "the first connection")
    reader = LogReader(gateway.data / "log")
    for newest in (station.name for station in chosen):
        # one more node before each kill: however slow the machine, somebody is still sending, and this one is new to the
        # gateway, so what it sends can only have come since the last kill
        size = reader.size()
        fleet.start(newest, interpreter)
        gateway.wait(
            lambda start=size, name=newest: any(node == name for (node, _), _ in messages(reader, start)),
            f"a message of {newest} between two kills",
        )
        time.sleep(rng.uniform(0, 1.5))
        gateway.kill()
        assert fsck(gateway.data / "log").ok
        gateway.start()
    ended = {}
    gateway.wait(
        lambda: ended.update(fleet.ended()) or len(ended) == len(chosen),
        "the end of every node's recording",
        seconds=400,
    )
    assert set(ended.values()) == {0}, ended

    counted = Counter(key for key, _time in messages(reader))
    assert not [key for key, count in counted.items() if count > 1], "logged twice"
    for station in chosen:
        seqs = sorted(seq for node, seq in counted if node == station.name)
        assert seqs == list(range(1, len(seqs) + 1)), f"{station.name} has holes"
        times = sorted(when for (node, _seq), when in messages(reader) if node == station.name)
        rows = [line.split(",") for line in station.rows[1 : ROWS + 1]]
        assert times == [int(when) for when, *values in rows if any(values)]
        last = json.loads((fleet.root / station.name / "node.log").read_text().splitlines()[-1])
        assert last["receipt"] == last["seq"] == len(seqs)

    # the nodes may have ended before the last start, whose status is then still to come
    gateway.wait(lambda: "clones" in gateway.status("ingest"), "the status")
    status = gateway.status("ingest")
    assert status["clones"] == 0
    assert status["gaps"] == 0
    size = reader.size()
    gateway.wait(lambda: gateway.status("store").get("cursor", 0) >= size, "the store to catch up")
    with contextlib.closing(SqliteReader(gateway.data / "store.sqlite")) as with_rows:
        assert with_rows.counts()["messages"] == sum(counted.values())
    gateway.stop()
    assert fsck(gateway.data / "log").ok
    rebuilt = gateway.call("rebuild", "store")
    assert rebuilt.returncode == 0, rebuilt.stderr
