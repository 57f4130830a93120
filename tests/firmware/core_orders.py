"""Signed configuration and updates: what takes effect, what must not, and that nothing else ever does."""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import signed_orders as signed
from core_boot import Nvs, PowerCut
from nodeboot import NONE, TRIES, Life
from sensornode import cbor, cose
from sensornode.config import load as load_file
from sensornode.inbox import MAX_ORDER, Orders
from sensornode.orders import CONFIG, load, version_number

NODE = {
    "site": "lab",
    "node": "n",
    "kind": "test",
    "interval": 60,
    "broker": {"host": "h", "password": "pssst"},
    "sensors": [{"driver": "a"}],
}
COUNT = [0]


class Node:
    """The part of a node that takes orders, in a directory of its own."""

    def __init__(self, **more):
        COUNT[0] += 1
        self.root = f"{os.getcwd()}/{COUNT[0]}"
        os.mkdir(self.root)
        self.path = self.root + "/node.json"
        data = dict(NODE)
        data["keys"] = {"site": signed.SITE.public.hex(), "release": signed.RELEASE.public.hex()}
        data.update(more)
        with open(self.path, "w") as file:
            json.dump(data, file)
        self.nvs = Nvs()
        self.restarts = []
        self.updates = []
        self.now = None
        self.boot()

    def boot(self):
        self.life = Life(self.nvs)
        self.life.start()
        self.config = load(self.path, self.root, self.life)

        async def ready():
            pass

        async def update(order):
            self.updates.append(order)

        self.orders = Orders(
            self.config, self.path, self.root, self.life, 1 << 10, ready, self.restarts.append, update,
            lambda: self.now,
        )  # fmt: skip

    def confirm(self):
        self.life.well(True)

    async def give(self, leaf, message):
        """Let it look at one order; returns why it was refused, "" for not."""
        self.orders.refused = ""
        before = self.orders.handled
        self.orders.take(leaf, message)
        if not self.orders._waiting:
            return "not taken"
        running = asyncio.create_task(self.orders.run())
        while self.orders.handled == before:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        return self.orders.refused

    @property
    def files(self):
        return sorted(name for name in os.listdir(self.root) if name != "node.json")


def test_versions_compare_as_numbers():
    assert version_number("0.10.0") > version_number("0.9.1023")
    assert version_number("1.0.0") > version_number("0.1023.1023")
    for text in ("", "1", "1.2", "1.2.3.4", "1.2.x", "1..2", "1.2.1024", "-1.2.3", "1.2.+3", "1.2.00003"):
        try:
            version_number(text)
        except ValueError:
            continue
        raise AssertionError(text)


async def test_a_configuration_is_on_trial_until_a_receipt():
    node = Node()
    assert await node.give("config", signed.config(7, {"interval": 5, "broker": {"host": "other"}})) == ""
    assert node.restarts == ["configuration 7"]
    assert node.config.interval == 60  # not before the node has started again
    node.boot()
    assert node.life.on_trial
    assert (node.config.interval, node.config.broker_host, node.config.broker_password) == (
        5,
        "other",
        "pssst",
    )
    node.confirm()
    assert (node.life.config, node.life.config_trial) == (7, 0)
    for _ in range(10):
        node.boot()
        assert node.config.interval == 5


async def test_one_without_a_receipt_is_taken_back_after_some_starts():
    node = Node()
    await node.give("config", signed.config(1, {"interval": 5}))
    node.boot()
    node.confirm()
    await node.give("config", signed.config(2, {"interval": 9, "broker": {"host": "nowhere"}}))
    for _ in range(TRIES):
        node.boot()
        assert node.config.interval == 9
    node.boot()
    assert (node.config.interval, node.config.broker_host) == (5, "h")
    assert not node.life.on_trial


async def test_or_when_the_application_gives_it_up():
    node = Node()
    await node.give("config", signed.config(1, {"interval": 5}))
    node.boot()
    node.life.give_up()
    node.boot()
    assert node.config.interval == 60


async def test_a_failed_one_comes_again_a_few_times_and_then_no_more():
    node = Node()
    message = signed.config(1, {"interval": 5})
    for n in range(1, TRIES + 1):
        await node.give("config", message)
        assert len(node.restarts) == n
        node.boot()
        node.life.give_up()
        node.boot()
    await node.give("config", message)
    assert len(node.restarts) == TRIES
    await node.give("config", signed.config(2, {"interval": 6}))
    assert len(node.restarts) == TRIES + 1


async def test_an_older_version_and_the_same_again_change_nothing():
    node = Node()
    await node.give("config", signed.config(5, {"interval": 5}))
    node.boot()
    node.confirm()
    for version in (1, 4, 5):
        assert await node.give("config", signed.config(version, {"interval": 8})) == ""
    assert node.restarts == ["configuration 5"]
    assert node.files == ["config-5"]


async def test_an_order_that_has_expired_begins_nothing_once_the_time_is_known():
    until = 1_800_000_000
    for now, begins in ((None, True), (until, True), (until + 1, False)):
        for expires in (until, None):
            node = Node()
            node.now = now
            refused = await node.give("config", signed.config(1, {"interval": 5}, expires=expires))
            assert (refused == "") == (begins or expires is None), (now, expires, refused)
            assert bool(node.restarts) == (not refused)
            assert node.life.config_seen == (0 if refused else 1)
            other = Node()
            other.now = now
            said = await other.give("update", signed.update(1, expires=expires))
            assert ("expired" in said) == bool(refused)
            assert len(other.updates) == (0 if refused else 1)


async def test_one_in_effect_stays_so_when_its_time_is_over():
    node = Node()
    node.now = 1000
    message = signed.config(1, {"interval": 5}, expires=2000)
    await node.give("config", message)
    node.boot()
    node.confirm()
    node.now = 3000
    node.boot()
    assert node.config.interval == 5
    assert await node.give("config", message) == ""


async def test_the_highest_version_is_kept_through_a_power_cut_at_every_change():
    cut = 0
    while True:
        node = Node()
        node.nvs.power = cut
        begun = 0
        try:
            for version in (1, 2, 3):
                said = await node.give("config", signed.config(version, {"interval": version}))
                if "PowerCut" in said:
                    raise PowerCut
                begun = version if len(node.restarts) == version else begun
                node.boot()
                node.confirm()
        except PowerCut:
            pass
        over = node.nvs.power
        node.nvs.power = None
        node.restarts.clear()
        for _ in range(TRIES + 1):  # the node starts until nothing is on trial
            node.boot()
        for version in range(begun):
            await node.give("config", signed.config(version, {"interval": 9}))
        assert not node.restarts, (cut, begun)
        assert node.life.config_seen >= begun
        if over:
            break
        cut += 1
    assert cut >= 6


async def test_while_something_is_on_trial_nothing_new_begins():
    node = Node()
    await node.give("config", signed.config(5, {"interval": 5}))
    node.boot()
    node.orders.take("config", signed.config(6, {"interval": 6}))
    running = asyncio.create_task(node.orders.run())
    for _ in range(2000):
        await asyncio.sleep(0)
    running.cancel()
    assert node.life.config_trial == 5


async def test_who_signs_what_for_whom():
    node = Node()
    good = {"interval": 5}
    name = "urn:dev:sensorhub:%s:"
    for who in ("lab:n", "lab:*"):
        other = Node()
        await other.give("config", signed.config(1, good, name % who))
        assert other.restarts, who
    for who in ("lab:m", "lab2:n", "*:*", "*:n", "lab:", ""):
        assert "another node" in await node.give("config", signed.config(1, good, name % who))
        if who != "*:*":
            assert "another node" in await node.give("update", signed.update(1, name=name % who))
    assert "another key" in await node.give("config", signed.config(1, good, key=signed.RELEASE))
    assert "another key" in await node.give("update", signed.update(1, key=signed.SITE))
    # the same key for both does not make one the other
    both = Node(keys={"site": signed.SITE.public.hex(), "release": signed.SITE.public.hex()})
    assert "content type" in await both.give("update", signed.config(1, good))
    assert "content type" in await both.give("config", signed.update(1, key=signed.SITE))
    keyless = Node(keys={})
    assert "no key" in await keyless.give("config", signed.config(1, good))
    assert "no key" in await keyless.give("update", signed.update(1))
    for restarts in (node.restarts, both.restarts, keyless.restarts, node.updates):
        assert restarts == []


async def test_settings_that_are_wrong_or_not_for_others_to_set_are_refused():
    node = Node()
    for settings in (
        {"interval": 0},
        {"interval": "5"},
        {"interval": 7, "publish": 10},
        {"broker": {"port": 70000}},
        {"sensors": [1]},
        {"sensors": {}},
        {"wifi": [{"ssid": "mine"}]},
        {"keys": {"site": ""}},
        {"unknown": 1},
        {"ntp": "pool"},
        {1: 2},
    ):
        assert await node.give("config", signed.config(1, settings)), settings
    assert "newer firmware" in await node.give("config", signed.config(1, {}, firmware="0.2.0"))
    assert not node.restarts
    assert node.files == []
    assert node.life.config_seen == 0


async def test_no_settings_mean_those_of_the_file():
    node = Node()
    for version, settings, interval in ((1, {"interval": 5}, 5), (2, {}, 60)):
        await node.give("config", signed.config(version, settings))
        node.boot()
        node.confirm()
        assert node.config.interval == interval
    assert node.files == ["config-1", "config-2"]
    await node.give("config", signed.config(3, {}))
    assert node.files == ["config-2", "config-3"]


async def test_a_rotten_file_of_a_configuration_does_not_count():
    node = Node()
    await node.give("config", signed.config(1, {"interval": 5}))
    node.boot()
    node.confirm()
    path = node.root + "/config-1"
    with open(path, "rb") as file:
        good = file.read()
    for bad in (b"", good[:3], good[:-1], good + b"\0", bytes(len(good)), good[:-1] + b"\0"):
        with open(path, "wb") as file:
            file.write(bad)
        node.boot()
        assert node.config.interval == 60
    os.remove(path)
    node.boot()
    assert node.config.interval == 60


async def test_an_update_reaches_the_installer_once_it_is_new_and_not_too_old():
    node = Node()
    assert await node.give("update", signed.update(3, board="ESP32")) == ""
    order = node.updates[0]
    assert (order.sequence, order.form, order.url, order.board) == (3, "files", "http://h/", "ESP32")
    node.life.begin_update(3, 1, order.version, version_number("0.1.5"))
    node.life.well(True)
    assert node.life.minimum == version_number("0.1.5")
    assert await node.give("update", signed.update(3)) == ""  # the one in effect, come again
    assert await node.give("update", signed.update(2)) == ""
    assert "minimum" in await node.give("update", signed.update(4, version="0.1.4"))
    assert await node.give("update", signed.update(4, version="0.0.1", minimum="0.0.1"))
    assert await node.give("update", signed.update(4, version="0.1.0", minimum="0.1.0"))
    assert len(node.updates) == 1
    assert await node.give("update", signed.update(4, version="0.1.5", minimum="0.0.1")) == ""
    assert len(node.updates) == 2


async def test_a_manifest_that_is_not_consistent_is_refused():
    node = Node()
    for more in (
        {"form": "zip"},
        {"size": 0},
        {"size": -1},
        {"size": 1 << 40},
        {"sha256": bytes(31)},
        {"url": "ftp://h/"},
        {"url": "http://h/\r\nX: y"},
        {"url": "http://h/\u00e4"},
        {"version": "1.0"},
        {"version": "0.1.0", "minimum": "0.2.0"},
        {"board": 5},
        {"size": True},
    ):
        assert await node.give("update", signed.update(1, **more)), more
    assert not node.updates


async def test_whatever_comes_changes_nothing_and_breaks_nothing():
    node = Node()
    good = {
        "config": signed.config(1, {"interval": 5, "sensors": [{"driver": "a", "x": [1.5, None, True]}]}),
        "update": signed.update(1),
    }
    before = dict(node.nvs.values)
    chance = bytearray(os.urandom(4096))

    at = 0

    def number(below):
        nonlocal at
        at = (at + 2) % 4094
        return (chance[at] << 8 | chance[at + 1]) % below

    for leaf, message in good.items():
        for n in range(300):
            bad = bytearray(message)
            if n < 4:
                bad = bytearray(os.urandom((1, 7, 200, MAX_ORDER)[n]))
            elif n % 3 == 0:
                bad[number(len(bad))] ^= 1 << number(8)
            elif n % 3 == 1:
                bad = bad[: number(len(bad))]
            else:
                start = number(len(bad))
                bad[start : start + number(9)] = os.urandom(number(9))
            if bytes(bad) != message:
                assert await node.give(leaf, bad), bytes(bad)
    assert await node.give("config", bytes(MAX_ORDER + 1)) == "not taken"
    assert await node.give("config", b"") == "not taken"
    assert node.restarts == node.updates == node.files == []
    assert node.nvs.values == before
    assert node.life.trial == NONE


async def test_signed_nonsense_is_still_nonsense():
    node = Node()
    payloads = [
        b"",
        b"\xff",
        b"\xa0",
        b"\x80",
        b"\xf6",
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1"}),
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1", 3: {}}),
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1", 3: {}, 4: None, 5: 0}),
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1", 3: {}, 4: "2030"}),
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1", 3: {}, 4: True}),
        cbor.encode({0: signed.NAME, 1: True, 2: "0.0.1", 3: {}, 4: None}),
        cbor.encode({0: signed.NAME, 1: 0, 2: "0.0.1", 3: {}, 4: None}),
        cbor.encode({0: signed.NAME, 1: 1 << 31, 2: "0.0.1", 3: {}, 4: None}),
        cbor.encode({0: signed.NAME, 1: 1, 2: "0.0.1", 3: [], 4: None}),
        cbor.encode({0: signed.NAME.encode(), 1: 1, 2: "0.0.1", 3: {}, 4: None}),
        b"\x81" * 9 + b"\x00",
        b"\x9b" + b"\xff" * 8,
        b"\x5b" + b"\x7f" * 8,
        b"\x61\xff",
    ]
    payloads += [os.urandom(n) for n in range(60)]
    for payload in payloads:
        assert await node.give("config", signed.sign(signed.SITE, payload, CONFIG)), payload
    assert not node.restarts


async def test_a_flash_that_takes_no_file_costs_the_order_and_not_the_node():
    node = Node()
    os.mkdir(node.root + "/config-1")
    assert await node.give("config", signed.config(1, {"interval": 5}))
    assert not node.restarts
    assert node.life.config_seen == 0


async def test_what_cannot_be_tidied_up_does_not_leave_a_configuration_begun_and_not_started():
    node = Node()
    os.mkdir(node.root + "/config-9")  # looks like an old one, and cannot be removed as a file
    await node.give("config", signed.config(1, {"interval": 5}))
    assert node.life.on_trial
    assert node.restarts == ["configuration 1"]


async def test_open_order_takes_no_other_frame():
    from sensornode.verify import VerifyingKey

    key = VerifyingKey(signed.SITE.public)
    message = signed.config(1, {})
    assert await cose.open_order(key, message, CONFIG)
    protected, _, payload, signature = cbor.decode(message[1:])
    for parts in (
        [protected, {}, payload],
        [protected, {1: 2}, payload, signature],
        [protected, [], payload, signature],
        [protected, {}, None, signature],
        [protected, {}, payload, signature[:63]],
        [b"", {}, payload, signature],
        {},
        5,
    ):
        for tag in (b"\xd2", b"\xd1", b""):
            try:
                await cose.open_order(key, tag + cbor.encode(parts), CONFIG)
            except ValueError:
                continue
            raise AssertionError(parts)


def test_a_config_file_alone_loads_without_orders():
    node = Node()
    assert load(node.path, node.root, Life(Nvs())).interval == 60
    assert isinstance(load_file(node.path, {"sensors": []}).signed_sensors, bool)
    assert load_file(node.path, {"sensors": []}).signed_sensors
    assert not node.config.signed_sensors


async def test_a_module_left_half_loaded_is_loaded_anew_for_the_next_order():
    import sensornode

    node = Node()
    sensornode.forget("verify")
    # what an import leaves behind that runs out of memory, in MicroPython's older versions
    sys.modules["sensornode.verify"] = json
    assert "VerifyingKey" in await node.give("config", signed.config(1, {"interval": 5}))
    assert await node.give("config", signed.config(1, {"interval": 5})) == ""
    assert node.restarts == ["configuration 1"]
