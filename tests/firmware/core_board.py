"""The board's edge, and the way from the boot code to the application, on fakes of the three modules."""

import json
import os
import sys
import time

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import esp32
import machine
import network
from core_boot import Nvs, boot
from sensornode import board, node, running, setup, sntp

NODE = {
    "site": "lab",
    "node": "n",
    "kind": "test",
    "interval": 60,
    "wifi": [{"ssid": "home", "password": "secret"}],
    "broker": {"host": "h"},
    "sensors": [],
}


class Replaced:
    """Puts other functions into modules, and the old ones back."""

    def __init__(self, *changes):
        self.changes = changes

    def __enter__(self):
        self.before = [(where, name, getattr(where, name)) for where, name, _ in self.changes]
        for where, name, value in self.changes:
            setattr(where, name, value)

    def __exit__(self, *error):
        for where, name, value in self.before:
            setattr(where, name, value)


def write(**more):
    data = dict(NODE)
    data.update(more)
    with open("node.json", "w") as file:
        json.dump(data, file)


def started(**more):
    """What `node.main` does with a configuration: [(what, details), ...]."""
    did = []

    class App:
        def __init__(self, config, directory="", life=None, path=""):
            did.append(("app", config.node))
            self.sleep_ms = 5000 if config.sleep else 0

        async def run(self):
            did.append(("runs", len(running)))

    async def setting_up(path, seconds):
        did.append(("set up", path))

    running.clear()
    with Replaced(
        (node, "App", App),
        (setup, "run", setting_up),
        (board, "reset", lambda: did.append(("reset", None))),
        (board, "deep_sleep", lambda ms: did.append(("sleep", ms))),
    ):
        node.main(boot(Nvs()), os.getcwd())
    running.clear()
    return did


def test_a_configured_node_runs_and_starts_again():
    write()
    assert started() == [("app", "n"), ("runs", 1), ("reset", None)]


def test_one_that_wants_to_sleep_sleeps():
    write(sleep=True)
    assert started()[2:] == [("sleep", 5000), ("reset", None)]


def test_one_without_a_network_or_with_a_broken_file_is_set_up():
    for data in ({"wifi": []}, {"interval": 0}):
        write(**data)
        assert started() == [("set up", "node.json"), ("reset", None)]
    os.remove("node.json")
    assert started() == [("set up", "node.json"), ("reset", None)]


def test_credentials_come_from_nvs_when_the_file_has_none():
    assert board.credentials() == {}
    nvs = esp32.NVS("credentials")
    nvs.set_blob("wifi", b'[{"ssid": "home", "password": "secret"}]')
    nvs.set_blob("claim", bytes(16))
    nvs.set_i32("mqtt", 5)  # of another type: not there
    nvs.commit()
    assert sorted(board.credentials()) == ["claim", "wifi"]
    without = {key: value for key, value in NODE.items() if key != "wifi"}
    with open("node.json", "w") as file:
        json.dump(without, file)
    assert started() == [("app", "n"), ("runs", 1), ("reset", None)]
    write(wifi=[])
    assert started() == [("set up", "node.json"), ("reset", None)]
    os.remove("nvs-credentials.json")
    os.remove("node.json")


async def test_time_comes_from_the_first_server_that_answers_and_sets_the_clock():
    asked = []
    unix = 1_800_000_123_456

    async def ask(host):
        asked.append(host)
        if host == "silent":
            raise OSError("no answer")
        return unix

    fields = []

    class Clock:
        def datetime(self, value):
            fields.append(value)

    source = board.TimeSource(["silent", "good", "never"])
    network.WLAN.networks = None
    with Replaced((sntp, "unix_ms", ask), (machine, "RTC", Clock)):
        assert await source.unix_ms() == unix
        assert asked == ["silent", "good"]
        asked.clear()
        assert await board.TimeSource(["silent"], "silent").unix_ms() == unix
        assert asked == ["silent", "silent", "192.168.4.1"]  # broker, and gateway of the network
        assert fields[0][:3] == time.gmtime(unix // 1000 - board._EPOCH)[:3]

    async def fails(host):
        raise OSError("no answer from " + host)

    async def lies(host):
        return 1_600_000_000_000

    async def exaggerates(host):
        return 6_000_000_000_000

    async def finds_nothing(host):
        raise IndexError

    with Replaced((machine, "RTC", Clock)):
        for server, servers, word in (
            (fails, ["silent"], "from silent"),
            (ask, [], "no time server"),
            (lies, ["x"], "before 2025"),
            (exaggerates, ["x"], "after 2064"),
            (finds_nothing, ["x"], ""),
        ):
            try:
                with Replaced((sntp, "unix_ms", server)):
                    await board.TimeSource(servers).unix_ms()
            except OSError as error:
                assert word in str(error)
            else:
                raise AssertionError("told the time")
        network.WLAN.air = False
        try:
            await source.unix_ms()
        except OSError as error:
            assert "no network" in str(error)
        else:
            raise AssertionError("told the time")
        network.WLAN.air = True


class System:
    """A system clock that the board sets; it stood in 2000 when the power came."""

    unix = 946_684_800

    def datetime(self, fields):
        year, month, day, weekday, hour, minute, second, _ = fields
        # days since 1 March of the year 0, in which leap days come last
        year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
        days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1
        System.unix = 86_400 * (days - 719_468) + 3600 * hour + 60 * minute + second
        assert weekday == time.gmtime(System.unix)[6]


async def test_a_date_that_stands_in_is_for_certificates_and_never_dates_a_reading():
    async def ask(host):
        return 1_800_000_123_456

    network.WLAN.networks = None
    with Replaced((machine, "RTC", System), (board, "_now", lambda: System.unix)):
        source = board.TimeSource(["good"])
        assert source.held_ms() is None
        board.stand_in_date()
        assert System.unix == board._PLAUSIBLE
        System.unix += 500
        assert board.TimeSource(["good"]).held_ms() is None  # after a reset that the clock survived
        board.stand_in_date()
        assert System.unix == board._PLAUSIBLE + 500
        with Replaced((sntp, "unix_ms", ask)):
            await source.unix_ms()
        assert source.held_ms() == 1_800_000_123_000
        board.remember_date(System.unix)
        System.unix = 946_684_800  # the power was cut
        board.stand_in_date()
        assert 0 <= 1_800_000_123 - System.unix < 60
        assert board.TimeSource(["good"]).held_ms() is None
    os.remove("nvs-sensornode.json")


def test_a_date_is_written_down_once_a_day():
    changes = []

    class Counted(board.Nvs):
        def set_int(self, key, value):
            changes.append((key, value))
            super().set_int(key, value)

    with Replaced((board, "Nvs", Counted)):
        for hour in range(72):
            board.remember_date(1_800_000_000 + 3600 * hour)
        for wrong in (0, 1_700_000_000, 9_999_999_999):  # a chip's gmtime ends before the last one
            board.remember_date(wrong)
    assert changes == [("date", 30_000_000 + 1440 * day) for day in range(3)]
    os.remove("nvs-sensornode.json")


async def test_a_clock_that_was_never_set_holds_no_time():
    source = board.TimeSource([])
    assert source.held_ms() is None or source.held_ms() > 1_735_689_600_000
    with Replaced((board, "_PLAUSIBLE", 1 << 60)):
        assert source.held_ms() is None
    await source.sleep_ms(1)
    assert source.ticks_diff(source.ticks_ms(), 0) is not None


def test_the_access_point_is_named_after_the_radio_and_open():
    assert board.access_point("sensorhub") == "sensorhub-bbcc"


def test_a_led_that_lights_when_low_is_switched_the_other_way_round():
    pins = []

    class Pin(machine.Pin):
        def __init__(self, *more):
            super().__init__(*more)
            pins.append(self)

    with Replaced((machine, "Pin", Pin)):
        for low in (False, True):
            light = board.led(2, low)
            light(True)
            light(False)
    assert [pin.levels for pin in pins] == [[1, 0], [0, 1]]


def test_without_seconds_there_is_no_watchdog():
    dog = board.Watchdog(0)
    dog.feed()
    assert dog._wdt is None
    dog = board.Watchdog(30)
    dog.feed()
    assert (dog._wdt.timeout, dog._wdt.fed) == (30_000, 1)


def test_deep_sleep_switches_the_radio_off_and_reset_starts_again():
    slept = []
    machine.deepsleep = slept.append
    network.WLAN.calls.clear()
    board.deep_sleep(1234)
    assert slept == [1234]
    assert ("active", False) in network.WLAN.calls
    try:
        board.reset()
    except SystemExit:
        return
    raise AssertionError("went on")
