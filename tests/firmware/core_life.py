"""Staying alive: who feeds the watchdog, when a start counts as good, safe mode, and starting again without loss."""

import asyncio
import json
import os

import core_app
import machine
from core_boot import Nvs
from nodeboot import PARTITION, SAFE_AFTER, Life
from sensornode import app as application
from sensornode import board
from sensornode import node as node_module
from sensornode.app import App
from sensornode.orders import version_number


def node(life=None, **more):
    """An application with a boot record, in a directory of its own."""
    plain = core_app.node("steady", **more)
    app = App(plain.config, plain.world, ".", life)
    app.world = plain.world
    return app


def quick(**constants):
    """Make the supervisor's waits short; seconds are turns of its loop."""
    before = {name: getattr(application, name) for name in constants}
    for name, value in constants.items():
        setattr(application, name, value)
    return before


async def supervise(app, turns, online=None):
    """Let the supervisor alone have so many seconds."""
    original = asyncio.sleep
    count = 0

    async def sleep(seconds):
        nonlocal count
        count += 1
        if online is not None and count == online:
            app.link.online = True
        await original(0)

    asyncio.sleep = sleep
    try:
        running = asyncio.create_task(app._supervise())
        while count < turns:
            assert not running.done()
            await original(0)
        running.cancel()
    finally:
        asyncio.sleep = original
    await original(0)


def started(failures):
    life = Life(Nvs())
    for _ in range(failures + 1):
        life.start()
    return life


def test_a_spool_that_cannot_be_read_has_some_starts_before_the_node_goes_on_without():
    plain = node()
    os.rename("spool", "away")
    with open("spool", "w"):
        pass
    life = Life(Nvs())
    failed = 0
    while True:
        life.start(powered=not failed)
        try:
            app = App(plain.config, plain.world, ".", life)
            break
        except OSError:
            failed += 1
    assert failed == application.BLIND
    assert app.in_memory
    assert app.last_error.startswith("spool: ")
    assert not app.safe
    life.well(True)
    os.remove("spool")
    os.rename("away", "spool")
    life.start()
    assert not App(plain.config, plain.world, ".", life).in_memory


def test_a_node_that_sleeps_goes_on_without_its_spool_at_once():
    plain = node(sleep=True)
    os.rename("spool", "away")
    with open("spool", "w"):
        pass
    life = Life(Nvs())
    life.start(powered=True)
    assert App(plain.config, plain.world, ".", life).in_memory


async def test_the_watchdog_is_fed_only_while_sampling_and_link_are_healthy():
    app = node()
    dog = app.watchdog._wdt
    assert dog.timeout == 120_000
    await supervise(app, 5)
    assert dog.fed >= 5
    app.link._due = application.board.ticks_ms() - 1
    fed = dog.fed
    await supervise(app, 5)
    assert dog.fed == fed
    app.link._beat(0)
    app.clock._uptime += 10_000_000  # sampling has not come to its turn for hours
    await supervise(app, 5)
    assert dog.fed == fed
    app._slot = app.clock.uptime_ms()
    await supervise(app, 5)
    assert dog.fed > fed


async def test_a_good_start_is_one_with_a_receipt_or_some_minutes_of_health():
    for online in (3, None):
        life = started(3)
        app = node(life)
        await supervise(app, 10, online)
        assert life.failures == (0 if online else 4)
        await supervise(app, application.WELL_S + 2)
        assert life.failures == 0
        assert not app.ending


async def test_a_trial_without_a_receipt_ends_in_time_and_the_node_starts_again():
    life = started(0)
    life.begin_config(7)
    app = node(life)
    await supervise(app, application.WELL_S + 5)
    assert life.on_trial
    await supervise(app, application.TRIAL_S + 5)
    assert not life.on_trial
    assert "trial" in app.ending


async def test_a_trial_with_a_receipt_is_passed():
    life = started(0)
    life.begin_config(7)
    app = node(life)
    await supervise(app, 10, 3)
    assert (life.config, life.on_trial) == (7, False)
    assert not app.ending


async def test_the_image_in_a_partition_is_confirmed_with_the_bootloader():
    told = []
    original, board.confirm_partition = board.confirm_partition, lambda: told.append(1)
    try:
        life = started(0)
        life.begin_update(1, PARTITION, version_number(application.__version__), 0)
        await supervise(node(life), 10, 3)
        assert told == [1]
        # the bootloader went back: another version runs than the one on trial
        life.begin_update(2, PARTITION, 5, 0)
        node(life)
        assert not life.on_trial
    finally:
        board.confirm_partition = original


async def test_safe_mode_runs_the_link_and_no_sensor_and_ends_after_a_while():
    life = started(SAFE_AFTER)
    app = node(life)
    assert app.safe
    assert app.sources == []
    assert app.status()["safe"]
    running = asyncio.create_task(app.run())
    turning = asyncio.create_task(app.world.turn())
    await asyncio.sleep(0.3)
    assert app.spool.empty
    turning.cancel()
    await app.stop()
    running.cancel()
    app = node(life)
    await supervise(app, application.SAFE_S + 5)
    assert "safe mode" in app.ending
    life.start()
    assert not life.safe


async def test_starting_again_keeps_what_was_sampled():
    app = node(publish=60 * 1000)
    turning = asyncio.create_task(app.world.turn())
    running = asyncio.create_task(app.run())
    end = app.world.now + 10 * 60
    while app.world.now < end:
        await asyncio.sleep(0)  # looks at every step: time that was held up makes many at once
    assert app.spool.last is None
    app.restart("a reason")
    await running
    turning.cancel()
    assert app.ending == "a reason"
    found = [value for _, channel, value in core_app.values(app) if channel == "temperature"]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 9


async def test_a_value_that_no_message_holds_is_left_out():
    app = node()
    app._samples = [(0, [("a", "Cel", 1), ("frame", None, bytes(1900)), ("b", "Cel", 2)])]
    await app._publish()
    assert app.spool.last[1] == 2  # the others are kept
    assert not app._samples
    assert app.sensor_errors == 1
    assert "frame" in app.last_error


async def test_a_sleeping_node_tells_the_bootloader_before_it_sleeps():
    told = []
    original, board.confirm_partition = board.confirm_partition, lambda: told.append(1)
    try:
        life = started(0)
        life.begin_update(1, PARTITION, version_number(application.__version__), 0)
        app = node(life, sleep=True, interval=1)
        app.link.online = True
        app.spool.freed = 1 << 30  # everything is receipted
        await app._sample_and_sleep(True)
        assert not life.on_trial
        assert told == [1]
    finally:
        board.confirm_partition = original


class Machine:
    """A board that counts what is asked of it; without `deepsleep` unless it is given."""

    PWRON_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 4, 5

    def __init__(self, did, **more):
        self.WDT, self.RTC, self.Pin = machine.WDT, machine.RTC, machine.Pin
        self.did = did
        for name, value in more.items():
            setattr(self, name, value)

    def reset_cause(self):
        return self.SOFT_RESET

    def reset(self):
        self.did.append("reset")


def lived(sleep, **more):
    """What the board is asked for at the end of a start of the whole node, from node.json on; it ends after some samples."""
    did = []
    plain = core_app.node("steady", interval=1, sleep=sleep)
    with open("node.json", "w") as file:
        json.dump(
            {
                "site": "lab", "node": "n", "kind": "test", "interval": 1, "sleep": sleep, "ntp": [],
                "broker": {"host": "127.0.0.1", "port": 1}, "wifi": [{"ssid": "home"}],
                "sensors": [{"driver": "steady"}], "spool": {"bytes": 65536},
            },
            file,
        )  # fmt: skip
    made = []

    class Short(App):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            made.append(self)

        async def run(self):
            async def end():
                while len(core_app.messages(self)) < 2:
                    await asyncio.sleep(0.05)
                self.restart("a test")

            works = [super().run()] if sleep else [super().run(), end()]
            await asyncio.gather(*works)

    awake, application.AWAKE_S = application.AWAKE_S, 0.5
    before, board.machine = board.machine, Machine(did, **more)
    usual, node_module.App = node_module.App, Short
    try:
        node_module.main(started(0), os.getcwd())
    finally:
        board.machine, node_module.App, application.AWAKE_S = before, usual, awake
    assert plain.config.sleep == sleep
    return did, core_app.messages(made[0])


def test_deep_sleep_is_never_required():
    did, messages = lived(False)  # this board has none
    assert did == ["reset"]
    assert len(messages) >= 2

    def never(ms):
        raise AssertionError("asleep")

    assert lived(False, deepsleep=never)[0] == ["reset"]


def test_a_node_that_may_sleep_does_when_its_sample_is_kept():
    slept = []
    did, messages = lived(True, deepsleep=slept.append)
    assert len(messages) == 1
    assert len(slept) == 1
    assert slept[0] >= 1000
    assert did == ["reset"]  # where deep sleep returns at once


async def test_a_row_that_no_driver_can_take_is_a_failed_sensor_and_not_a_dead_node():
    def fails(row, services):
        raise TypeError("a driver that did not expect this")

    plain = node()
    original, application.load = application.load, fails
    try:
        app = App(plain.config, plain.world, ".")
        assert app.sensor_errors == 1
        assert "TypeError" in app.last_error
    finally:
        application.load = original


def test_status_tells_of_the_node_and_no_secret():
    import sensornode

    app = node(started(0), broker={"host": "h", "password": "pssst"})
    status = app.status()
    assert status["firmware"] == "0.1.0"
    assert status["link"] == "joining"
    assert "pssst" not in repr(status)
    sensornode.running.append(app)
    sensornode.show()
    sensornode.running.clear()
    sensornode.show()
    assert os.getcwd()
