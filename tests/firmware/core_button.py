"""The way back to set-up: a button that is held, or power that comes five times in a row."""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import core_board
import machine
import network
from core_boot import Nvs, boot
from sensornode import board, button, node, setup
from sensornode.button import LOOK_S, QUICK_S, STARTS, asked, watch
from sensornode.config import check


class Numbers(Nvs):
    """NVS of numbers; `changes` counts what is written."""

    def get_int(self, key, default):
        return self.values.get(key, default)

    def set_int(self, key, value):
        self.set_blob(key, value)


class Holding:
    """A person at the button: what it says at each look, and how long the program waits in between."""

    def __init__(self, looks):
        self.looks = list(looks)
        self.waited = 0

    def __call__(self):
        return self.looks.pop(0)


async def play(nvs, pressed, seconds=1000):
    """Let `watch` run; returns why it wants to start again and when."""
    original = asyncio.sleep
    reasons = []
    waited = [0]

    async def sleep(wait):
        waited[0] += wait
        if waited[0] > seconds or reasons or (pressed and not pressed.looks):
            raise asyncio.CancelledError
        await original(0)

    asyncio.sleep = sleep
    try:
        await watch(nvs, pressed, reasons.append)
    except asyncio.CancelledError:
        pass
    finally:
        asyncio.sleep = original
    return reasons


def looks(*spans):
    """(held, seconds) one after the other, as the button is looked at."""
    return [held for held, seconds in spans for _ in range(int(seconds / LOOK_S + 0.5))]


async def test_a_button_held_for_5_s_opens_set_up_at_the_next_start():
    nvs = Numbers()
    assert len(await play(nvs, Holding(looks((False, 1), (True, 5.2))))) == 1
    assert asked(nvs, False, 0)
    assert not asked(nvs, False, 0)  # once


async def test_what_is_no_long_press_does_nothing():
    for spans in (
        ((False, 1), (True, 4.6), (False, 1), (True, 4.6), (False, 1)),
        ((True, 60),),  # a pin that is always low: no button is there, or it is stuck
        ((False, 60),),
        ((True, 60), (False, 1), (True, 1)),
    ):
        nvs = Numbers()
        assert not await play(nvs, Holding(looks(*spans))), spans
        assert nvs.changes == 0
        assert not asked(nvs, True, 0)
    nvs = Numbers()
    assert await play(nvs, Holding(looks((True, 60), (False, 1), (True, 6))))  # stuck, and then let go of


async def test_without_a_button_power_that_comes_five_times_does_it():
    nvs = Numbers()
    for _ in range(STARTS - 1):
        assert not asked(nvs, True, -1)
        await play(nvs, None, QUICK_S - 1)
    assert asked(nvs, True, -1)
    for _ in range(STARTS - 1):  # and again from the start
        assert not asked(nvs, True, -1)


async def test_a_start_that_lasted_or_was_a_reset_begins_the_count_anew():
    nvs = Numbers()
    for _ in range(3 * STARTS):
        assert not asked(nvs, True, -1)
        await play(nvs, None, QUICK_S + 1)
    for turn in range(3 * STARTS):
        assert not asked(nvs, turn % 3 != 0, -1)
    for _ in range(3 * STARTS):  # with a button the power may come as it likes, and nothing is written
        changes = nvs.changes
        assert not asked(nvs, True, 0)
        assert nvs.changes <= changes + 1
        changes = nvs.changes


async def test_a_power_cut_at_any_change_only_delays_it():
    for cut in range(3):
        nvs = Numbers()
        nvs.power = cut
        try:
            for _ in range(STARTS):
                asked(nvs, True, -1)
        except Exception:
            nvs.power = None
        nvs.power = None
        assert any(asked(nvs, True, -1) for _ in range(STARTS))


def settings(**more):
    return check(dict(core_board.NODE, **more))


def test_the_button_is_pin_0_where_nothing_else_is():
    assert settings().button_pin == 0
    assert settings(sensors=[{"driver": "bme280", "bus": 0, "scl": 22, "sda": 21}]).button_pin == 0
    assert settings(sensors=[{"driver": "rain", "pin": 0}]).button_pin == -1
    assert settings(sensors=[{"driver": "camera"}]).button_pin == -1
    assert settings(led={"pin": 0}).button_pin == -1
    assert settings(sensors=[{"driver": "camera"}], button={"pin": 13}).button_pin == 13
    assert settings(button={"pin": -1}).button_pin == -1


def test_the_board_knows_a_button_and_where_a_start_comes_from():
    pressed = board.button(9)
    assert not pressed()
    machine.bench.signal(9).level = 0
    assert pressed()
    before = machine.reset_cause
    for cause in (machine.PWRON_RESET, machine.SOFT_RESET, machine.DEEPSLEEP_RESET):
        machine.reset_cause = lambda cause=cause: cause
        assert board.powered() == (cause == machine.PWRON_RESET)
    machine.reset_cause = before


def test_set_up_that_was_asked_for_ends_by_itself_and_a_node_without_network_waits():
    did = []

    async def setting_up(path, seconds):
        did.append(seconds)

    class App:
        sleep_ms = 0

        def __init__(self, *arguments, **more):
            pass

        async def run(self):
            did.append("app")

    core_board.write()
    board.Nvs().set_int("setup", 0)
    with core_board.Replaced(
        (setup, "run", setting_up), (node, "App", App), (board, "reset", lambda: did.append("reset"))
    ):
        nvs = board.Nvs()
        nvs.set_int("setup", STARTS)
        nvs.commit()
        node.main(boot(Nvs()), os.getcwd())
        node.main(boot(Nvs()), os.getcwd())
        core_board.write(wifi=[])
        node.main(boot(Nvs()), os.getcwd())
    assert did == [600, "reset", "app", "reset", 0, "reset"]
    os.remove("node.json")


async def test_the_portal_that_nobody_uses_closes_and_changes_nothing():
    core_board.write()
    with open("node.json") as file:
        before = json.load(file)
    network.WLAN.networks = {}
    setup.WEB = 20000 + int.from_bytes(os.urandom(2), "big") % 20000
    setup.NAMES = setup.WEB + 1

    async def nobody(setup):
        await asyncio.sleep(1000)

    with core_board.Replaced((setup, "_serial", nobody)):
        await setup.run("node.json", 0.2)
    with open("node.json") as file:
        assert json.load(file) == before
    network.WLAN.networks = None
    assert button.HOLD_S == 5
