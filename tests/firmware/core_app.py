"""The application on simulated time, without a broker: what reaches the spool, and what a sensor may do wrong."""

import asyncio
import os
import sys
from hashlib import sha256

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import network
from sensornode import cbor, cose
from sensornode import sensors as drivers
from sensornode.app import App
from sensornode.config import check
from sensornode.spool import MAX_MESSAGE
from world import World

START = 1_481_500_800
COUNT = [0]


class Steady:
    channels = (("temperature", "Cel"), ("humidity", "%RH"))

    def __init__(self, options, services):
        self.reads = 0

    async def read(self):
        self.reads += 1
        return {"temperature": self.reads, "humidity": 50, "not_announced": 1}


class Faulty(Steady):
    """Works, raises, hangs and lies in turn."""

    channels = (("pressure", "hPa"),)

    async def read(self):
        self.reads += 1
        if self.reads % 4 == 1:
            return {"pressure": 1000}
        if self.reads % 4 == 2:
            raise OSError("bus")
        if self.reads % 4 == 3:
            return {"pressure": float("nan")}
        return None


class Hanging(Steady):
    channels = (("rain", "mm"),)

    async def read(self):
        await asyncio.sleep(1000)


class Late(Steady):
    """Is not there before the third attempt."""

    channels = (("wind_speed", "m/s"),)
    attempts = 0

    def __init__(self, options, services):
        Late.attempts += 1
        if Late.attempts < 3:
            raise OSError("no answer on the bus")

    async def read(self):
        return {"wind_speed": 3}


class Many(Steady):
    channels = tuple((f"channel_{n}", "count") for n in range(300))

    async def read(self):
        return {name: 1.25 for name, _ in self.channels}


KINDS = {"steady": Steady, "faulty": Faulty, "hanging": Hanging, "late": Late, "many": Many}


def load(row, services):
    try:
        return KINDS[row["driver"]](row, services)
    except OSError as error:
        raise drivers.DriverError(str(error)) from error


def node(*sensors, **more):
    """An application in a directory of its own, which becomes the working directory."""
    import sensornode.app

    sensornode.app.load = load
    COUNT[0] += 1
    folder = os.getcwd() if not COUNT[0] - 1 else os.getcwd().rpartition("/")[0]
    folder = f"{folder}/{COUNT[0]}"
    os.mkdir(folder)
    os.chdir(folder)
    data = {
        "site": "lab",
        "node": "n",
        "kind": "test",
        "interval": 60,
        "broker": {"host": "127.0.0.1", "port": 1},
        "sensors": [kind if isinstance(kind, dict) else {"driver": kind} for kind in sensors],
        "spool": {"bytes": 65536},
    }
    data.update(more)
    return boot(check(data))


def boot(config, **world):
    world = World(START, 100_000, "time", **world)
    app = App(config, world, ".")
    app.world = world
    return app


async def run(app, slots):
    """Let an application sample that many times."""
    turning = asyncio.create_task(app.world.turn())
    running = asyncio.create_task(app.run())
    end = app.world.now + slots * app.config.interval
    while app.world.now < end:
        assert not running.done()
        await asyncio.sleep(0.01)
    turning.cancel()
    await app.stop()
    running.cancel()
    await asyncio.sleep(0)


def messages(app):
    """[(header values, records)] of everything in the spool."""
    buffer = bytearray(MAX_MESSAGE)
    app.spool.rewind()
    found = []
    while True:
        record = app.spool.next(buffer)
        if not record:
            return found
        raw = bytes(buffer[: record[0]])
        at = 2  # behind the tag and the head of the array
        length = raw[at + 1]
        protected = raw[at + 2 : at + 2 + length]
        at += 2 + length + 1
        payload = raw[at + 3 : -66] if raw[at] == 0x59 else raw[at + 2 : -66]
        found.append((protected, cbor.decode(payload), cose.message_hash(raw)))


def values(app):
    """[(time, channel, value)] of everything in the spool."""
    found = []
    for _, records, _ in messages(app):
        base = records[0].get(-3)
        found.extend((base + record.get(6, 0), record[0], record.get(2)) for record in records)
    return found


async def test_samples_are_packed_with_their_time_and_chained():
    app = node("steady")
    await run(app, 5)
    found = values(app)
    assert found[:4] == [
        (START, "temperature", 1),
        (START, "humidity", 50),
        (START + 60, "temperature", 2),
        (START + 60, "humidity", 50),
    ]
    previous = bytes(32)
    for protected, _, digest in messages(app):
        assert previous in bytes(protected)
        previous = digest
    assert app.state.prev == previous


async def test_the_chain_and_the_numbers_go_on_after_a_reset():
    app = node("steady")
    await run(app, 4)
    seq, prev = app.spool.last[1], app.state.prev
    again = boot(app.config)
    assert again.state.boot == 2
    assert again.key.public == app.key.public
    await run(again, 2)
    newer = messages(again)[seq:]
    assert newer
    assert prev in bytes(newer[0][0])
    assert again.spool.last[1] == seq + len(newer)


async def test_the_client_id_stays_the_same_and_cannot_be_told_from_what_is_public():
    app = node("steady")
    first = app.link._client._identity[0]
    assert boot(app.config).link._client._identity[0] == first
    assert len(first) == 22
    assert all(letter in "0123456789abcdef" for letter in first)
    for known in (app.key.public, cose.kid(app.key.public), b"lab", b"n", b"lab-n"):
        assert sha256(b"client id of " + known).digest().hex()[:22] != first
    os.remove("nvs-sensornode.json")
    assert boot(app.config).link._client._identity[0] != first


async def test_a_new_key_does_not_send_what_an_old_one_signed():
    app = node("steady")
    await run(app, 3)
    os.remove("nvs-sensornode.json")
    again = boot(app.config)
    assert again.spool.empty
    assert messages(again) == []
    assert again.key.public != app.key.public


async def test_a_sensor_that_fails_is_counted_and_stops_no_other():
    app = node("faulty", "steady")
    await run(app, 8)
    found = values(app)
    temperatures = [value for _, channel, value in found if channel == "temperature"]
    assert temperatures == list(range(1, len(temperatures) + 1))
    assert len(temperatures) >= 8
    assert [value for _, channel, value in found if channel == "pressure"][:2] == [1000, 1000]
    errors = [value for _, channel, value in found if channel == "sensor_errors"]
    assert errors[:6] == [1, 2, 3, 4, 5, 6]
    assert "sensor faulty" in app.last_error


async def test_a_sensor_that_hangs_is_given_up():
    import sensornode.app

    patience, sensornode.app.READ_S = sensornode.app.READ_S, 0.05
    app = node("hanging", "steady")
    await run(app, 3)
    sensornode.app.READ_S = patience
    assert app.sensor_errors >= 3
    assert len([value for _, channel, value in values(app) if channel == "temperature"]) >= 3


async def test_a_sensor_that_is_not_there_at_first_is_taken_in_later():
    app = node("late", "steady")
    assert app.sources[0].sensor is None
    await run(app, 5)
    speeds = [time for time, channel, _ in values(app) if channel == "wind_speed"]
    assert speeds
    assert speeds[0] == START + 60


async def test_the_first_row_that_offers_a_channel_provides_it():
    app = node({"driver": "steady", "channels": ["humidity"]}, "steady")
    assert app.sources[0].channels == [("humidity", "%RH")]
    assert app.sources[1].channels == [("temperature", "Cel")]
    await run(app, 2)
    assert [channel for _, channel, _ in values(app)][:2] == ["humidity", "temperature"]


async def test_more_values_than_a_message_holds_take_several():
    app = node("many")
    await run(app, 2)
    first = [channel for time, channel, _ in values(app) if time == START]
    assert first == [name for name, _ in Many.channels]
    assert len(messages(app)) > 2


async def test_a_long_publish_interval_is_cut_when_the_heap_would_fill():
    app = node("steady", publish=60 * 1000)
    await run(app, 250)
    found = messages(app)
    assert len(found) >= 7
    assert [len(records) for _, records, _ in found] == [64] * len(
        found
    )  # a message is made of 64 values each time
    times = [time for time, channel, _ in values(app) if channel == "humidity"]
    assert times == [START + 60 * n for n in range(32 * len(found))]


async def test_a_full_spool_says_how_much_it_dropped():
    app = node("many", spool={"bytes": 16384})
    await run(app, 30)
    counts = [value for _, channel, value in values(app) if channel == "spool_dropped"]
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= app.state.dropped
    assert app.state.dropped == app.spool.dropped
    assert boot(app.config).state.dropped == app.state.dropped


async def test_the_watchdog_is_fed_while_sampling_keeps_its_schedule():
    app = node("steady", watchdog=30)
    await run(app, 3)
    dog = app.watchdog._wdt
    assert dog.timeout == 30_000
    assert dog.fed


async def test_a_spool_that_takes_no_writes_costs_the_message_and_not_the_node():
    app = node("steady")
    append = app.spool.append

    def fails(boot, seq, message):
        if seq == 2:
            raise OSError(28)
        return append(boot, seq, message)

    app.spool.append = fails
    await run(app, 4)
    temperatures = [value for _, channel, value in values(app) if channel == "temperature"]
    assert temperatures[:2] == [1, 3]
    assert app.state.dropped == 1
    found = messages(app)
    assert found[0][2] in bytes(found[1][0])  # the chain goes from 1 to 3


async def test_a_node_whose_spool_cannot_be_read_measures_and_sends_and_uses_no_number_twice():
    app = node("steady")
    await run(app, 2)
    kept = app.spool.last[1]
    assert app.status()["spool"] == "flash"
    assert "spool" not in app.link._about
    os.rename("spool", "away")
    used = kept
    for _ in range(2):
        with open("spool", "w"):
            pass
        blind = boot(app.config)
        assert blind.status()["spool"] == blind.link._about["spool"] == "memory"
        assert blind._sends_now()  # a node that sleeps would lose it
        await run(blind, 3)
        assert [value for _, channel, value in values(blind) if channel == "temperature"][:3] == [1, 2, 3]
        assert blind.spool.oldest() > used
        used = blind.spool.last[1]
        assert blind.state.dropped == 0
    os.remove("spool")
    os.rename("away", "spool")
    again = boot(app.config)
    assert again.spool.last[1] == kept
    assert again.state.next > used
    assert again.status()["spool"] == "flash"
    assert again.spool.passed_over is not None
    again.spool.free(used)
    await run(again, 2)
    again.spool.free(used)
    buffer = bytearray(MAX_MESSAGE)
    again.spool.rewind()
    assert again.spool.next(buffer, again.spool.passed_over)[2] == 1
    assert again.spool.oldest() > used
    assert again.state.dropped == 0


async def test_the_time_is_asked_for_as_soon_as_there_is_a_network_and_told_to_the_link_at_once():
    app = node("steady")
    waits, told, asked = [], [], []

    async def sleep_ms(ms):
        waits.append(ms)
        await asyncio.sleep(0)

    async def unix_ms():
        asked.append(app.world.now)
        if len(asked) < 150:
            raise OSError("no network" if len(asked) < 100 else "no answer")
        return 1000 * START

    app.world.sleep_ms, app.world.unix_ms = sleep_ms, unix_ms
    app.link.wake = lambda: told.append(app.clock.quality)
    network.WLAN.air = False
    task = asyncio.create_task(app._keep_time())
    try:
        while len(asked) < 99:
            assert not task.done()
            await asyncio.sleep(0)
        assert set(waits) == {1000}
        network.WLAN.air = True
        while not told:
            assert not task.done()
            await asyncio.sleep(0)
        # the link may hold a connection whose certificate was not compared with the true date
        assert told == [2]
        assert sorted(waits) == waits
        assert waits[-2] == 60_000
        assert waits[-1] == 6 * 3_600_000
    finally:
        network.WLAN.air = True
        task.cancel()


def test_status_holds_no_secret():
    app = node("steady", broker={"host": "h", "password": "pssst"})
    text = repr(app.status())
    assert "pssst" not in text
    assert repr(app.state.secret) not in text
