"""Which network is joined, and what the link does when there is none."""

# ruff: noqa: UP041 - MicroPython has a TimeoutError of its own

import asyncio
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from errno import ECONNREFUSED

import network
from sensornode import aside, link, wifi
from sensornode.config import check
from sensornode.wifi import Wifi

WLAN = network.WLAN


def air(**networks):
    WLAN.networks = networks
    WLAN.air = True
    WLAN.calls.clear()
    wifi.JOIN_MS = 30


def radio(*known):
    return Wifi(WLAN(network.STA_IF), known)


def tried():
    return [ssid for what, ssid in WLAN.calls if what == "connect"]


async def fails(radio):
    try:
        await radio.join()
    except OSError:
        return
    raise AssertionError("joined")


async def test_the_strongest_known_network_is_joined():
    air(home=(-80, "secret", False), barn=(-50, "hay", False), cafe=(-30, None, False))
    one = radio(("home", "secret"), ("barn", "hay"))
    await one.join()
    assert tried() == ["barn"]
    assert one.joined == "barn"
    assert one.connected
    await one.join()  # already there
    assert tried() == ["barn"]


async def test_an_open_network_is_one_without_a_password():
    air(cafe=(-30, None, False))
    one = radio(("cafe", ""))
    await one.join()
    assert one.joined == "cafe"


async def test_a_radio_that_can_do_no_more_than_join_is_enough():
    class Plain(WLAN):
        """As in an emulator: nothing to break off, no scan, no signal strength."""

        def disconnect(self):
            raise OSError("Wifi Not Started")

        def scan(self):
            raise RuntimeError("Wifi Unknown Error")

        def status(self, what=None):
            raise OSError("Wifi Not Connected")

    air(cafe=(-30, None, False))
    one = Wifi(Plain(network.STA_IF), (("nowhere", ""), ("cafe", "")))
    await one.join()
    assert one.joined == "cafe"
    assert one.rssi() is None


async def test_a_hidden_network_comes_after_those_that_are_heard():
    air(hidden=(-30, "x", True), home=(-80, "secret", False))
    one = radio(("hidden", "x"), ("home", "wrong"))
    await one.join()
    assert tried() == ["home", "hidden"]


async def test_one_that_fails_goes_behind_the_others_for_a_while():
    air(home=(-40, "secret", False), barn=(-70, "hay", False))
    one = radio(("home", "wrong"), ("barn", "hay"))
    await one.join()
    assert tried() == ["home", "barn"]
    one._wlan.disconnect()
    WLAN.calls.clear()
    await one.join()
    assert tried() == ["barn"]
    # when its time is over it is tried first again
    one._networks[0].failed -= wifi.MINUTE_MS << wifi.LONGEST
    one._wlan.disconnect()
    WLAN.calls.clear()
    await one.join()
    assert tried() == ["home", "barn"]


async def test_one_that_the_radio_does_not_even_try_keeps_no_other_away():
    air(home=(-40, "secret", False), barn=(-70, "hay", False))

    class Picky(WLAN):
        def connect(self, ssid, password=None):
            if ssid == "home":
                raise OSError("Wifi Invalid Argument")
            super().connect(ssid, password)

    one = Wifi(Picky(), (("home", "x"), ("barn", "hay")))
    await one.join()
    assert one.joined == "barn"
    assert one._networks[0].failures == 1

    class Broken(WLAN):
        def connect(self, ssid, password=None):
            raise RuntimeError("Wifi Unknown Error 0x0101")

    try:
        await Wifi(Broken(), (("home", "x"), ("barn", "hay"))).join()
    except OSError as error:
        assert "0x0101" in str(error)
    else:
        raise AssertionError("joined")


async def test_when_none_lets_the_node_in_all_are_tried_each_time():
    air(home=(-40, "secret", False))
    one = radio(("home", "wrong"), ("barn", "hay"))
    for _ in range(3):
        WLAN.calls.clear()
        await fails(one)
        assert sorted(tried()) == ["barn", "home"]
    assert one.joined == ""


async def test_a_radio_that_cannot_scan_is_no_reason_to_stay_away():
    air(home=(-40, "secret", False))

    class Deaf(WLAN):
        def scan(self):
            raise OSError("radio")

    one = Wifi(Deaf(), (("barn", "x"), ("home", "secret")))
    await one.join()
    assert tried() == ["barn", "home"]


async def until(condition):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited for a minute")


async def test_a_look_that_comes_late_still_finds_the_network():
    """Another program may have the processor for longer than the patience with a network, between two looks at it."""
    air(home=(-40, "secret", False))
    late = [0]

    def ticks():
        late[0] += 10 * wifi.JOIN_MS
        return late[0]

    before, wifi.ticks_ms = wifi.ticks_ms, ticks
    try:
        one = radio(("home", "secret"))
        await one.join()
    finally:
        wifi.ticks_ms = before
    assert one.joined == "home"


async def test_blocking_calls_run_beside_the_scheduler():
    import time

    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.005)

    def work(fail):
        for _ in range(6000):  # until the others have had their turns
            if turns > 5:
                break
            time.sleep(0.01)
        if fail:
            raise OSError("as expected")
        return turns

    if not aside._thread:
        return
    task = asyncio.create_task(other())
    aside.THREADS = True
    try:
        assert await aside.aside(work, False) > 5
        try:
            await aside.aside(work, True)
        except OSError as error:
            assert "as expected" in str(error)
        else:
            raise AssertionError("lost")
    finally:
        aside.THREADS = False
        task.cancel()
    assert await aside.address("host", 1) == "host"


class Spool:
    freed = 0
    longest = 2048
    passed_over = None

    def rewind(self):
        pass


CONFIG = {
    "site": "lab",
    "node": "n",
    "kind": "k",
    "interval": 1,
    "broker": {"host": "h", "retry": 1},
    "sensors": [],
}


class Radio:
    """Wi-Fi as the link sees it."""

    patience = 1

    def __init__(self, error=None):
        self.error = error
        self.joins = self.resets = 0

    def rssi(self):
        return -50

    async def join(self):
        self.joins += 1
        if self.error:
            raise self.error

    async def reset(self):
        self.resets += 1


async def play(radio, connect, attempts):
    """Let a link try; returns it and why it wanted to start again."""
    restarts = []
    one = link.Link(check(CONFIG), radio, Spool(), None, {}, "id", restart=restarts.append)
    one._client.connect = connect
    original = asyncio.sleep
    waits = []

    async def sleep(seconds, *more):
        waits.append(seconds)
        await original(0)

    asyncio.sleep = sleep
    try:
        running = asyncio.create_task(one.run())
        while radio.joins < attempts:
            assert not running.done()
            assert one.healthy
            await original(0)
        running.cancel()
    finally:
        asyncio.sleep = original
    await original(0)
    return one, restarts, waits


async def test_without_a_network_the_radio_is_reset_and_at_last_the_node():
    radio = Radio(OSError("no network"))
    _, restarts, _ = await play(radio, None, link.RESTART + 2)
    assert radio.resets == link.RESTART // link.RADIO
    assert restarts == ["no network"]


async def test_errors_of_the_radio_that_have_no_name_are_no_end():
    radio = Radio(RuntimeError("Wifi Unknown Error 0x0101"))
    one, restarts, _ = await play(radio, None, link.RESTART + 2)
    assert radio.resets
    assert restarts == ["no network"]
    assert "0x0101" in one.error

    class Broken(WLAN):
        def active(self, on=None):
            raise RuntimeError("Wifi Unknown Error 0x0101")

        disconnect = active

    await Wifi(Broken(), ()).reset()
    wifi.leave(Broken())


async def test_a_name_without_an_address_is_an_error_like_any_other():
    class Socket:
        SOCK_STREAM = 1

        @staticmethod
        def getaddrinfo(*what):
            return []

    before = aside.socket
    aside.socket, aside.THREADS = Socket, True
    try:
        await aside.address("broker.lan", 1883)
    except OSError as error:
        assert "broker.lan" in str(error)
    else:
        raise AssertionError("found")
    finally:
        aside.socket, aside.THREADS = before, False


async def test_a_network_that_swallows_everything_counts_the_same():
    async def connect():
        raise asyncio.TimeoutError

    radio = Radio()
    one, restarts, _ = await play(radio, connect, link.RESTART + 2)
    assert radio.resets
    assert restarts
    assert "TimeoutError" in str(one.error)


async def test_a_broker_that_is_down_is_no_reason_to_reset_anything():
    async def connect():
        raise OSError(ECONNREFUSED, "refused")

    radio = Radio()
    _, restarts, waits = await play(radio, connect, 100)
    assert radio.resets == 0
    assert not restarts
    assert min(waits) >= 0.5
    assert max(waits) <= 1.5
    assert len(set(waits)) > 10  # jitter


async def test_without_a_date_tls_takes_one_that_is_past_and_connects_again_when_there_is_one():
    dated = []
    did = []

    class Talk:
        """A broker that says nothing more."""

        down = asyncio.Event()
        error = None
        unacked = ()

        async def connect(self):
            did.append("connect")

        async def close(self, polite=False):
            pass

        async def publish(self, topic, payload, qos=0, retain=False):
            return 1

        async def subscribe(self, *topics):
            pass

    async def announcement():
        return b""

    waits, link.DATE_S = link.DATE_S, 0.4
    try:
        one = link.Link(
            check(CONFIG), Radio(), Spool(), announcement, {}, "id", tls=object(),
            dated=lambda: bool(dated), stand_in=lambda: did.append("stand in"),
        )  # fmt: skip
        one._client = Talk()
        running = asyncio.create_task(one.run())
        await until(lambda: one.stage != "joining")
        assert not did
        assert one.stage == "dating"
        await until(lambda: one.stage != "dating")
        assert did == ["stand in", "connect"]
        assert one.stage == "announcing"
        dated.append(1)
        one.wake()
        await until(lambda: len(did) > 2)
        assert did == ["stand in", "connect", "connect"]
        assert "date is known" in str(one.error)
        one.wake()
        await asyncio.sleep(0.2)
        assert one.stage == "announcing"
        running.cancel()
    finally:
        link.DATE_S = waits


async def test_tls_waits_for_the_date():
    dated = []

    async def connect():
        assert dated
        raise OSError(ECONNREFUSED, "refused")

    radio = Radio()
    one = link.Link(check(CONFIG), radio, Spool(), None, {}, "id", tls=object(), dated=lambda: bool(dated))
    one._client.connect = connect
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0.3)
    assert one.stage == "dating"
    assert one.healthy
    dated.append(1)
    await until(lambda: one.stage != "dating")
    assert one.stage == "waiting"
    running.cancel()


async def test_a_link_that_does_not_move_is_not_healthy():
    async def hangs():
        await asyncio.sleep(1000)

    radio = Radio()
    one = link.Link(check(CONFIG), radio, Spool(), None, {}, "id")
    one._client.connect = hangs
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0.05)
    assert one.healthy
    one._due = link.ticks_add(link.ticks_ms(), -1)
    assert not one.healthy
    running.cancel()
