"""The way back to set-up: a button that is held, or power that comes five times in a row."""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from errno import EADDRINUSE

import core_board
import core_life
import machine
import network
from core_boot import Nvs, boot
from sensornode import app as application
from sensornode import board, node, setup
from sensornode.button import STARTS, asked
from sensornode.config import check


class Numbers(Nvs):
    """NVS of numbers; `changes` counts what is written."""

    def get_int(self, key, default):
        return self.values.get(key, default)

    def set_int(self, key, value):
        self.set_blob(key, value)


def looks(*spans):
    """(held, seconds) one after the other, as the button is looked at once a second."""
    return [held for held, seconds in spans for _ in range(seconds)]


async def play(pressed, seconds=0):
    """Let a node run with a button that says this at each look, or without one for some seconds; returns why it starts again."""
    app = core_life.node(button={"pin": 4 if pressed else -1})
    turns = len(pressed) or seconds
    with core_board.Replaced((board, "button", lambda pin: lambda: bool(pressed) and pressed.pop(0))):
        await core_life.supervise(app, turns)
    return app.ending


async def test_a_button_held_for_5_s_opens_set_up_at_the_next_start():
    assert "set-up" in await play(looks((False, 1), (True, 6)))
    assert asked(board.Nvs(), False, 0)
    assert not asked(board.Nvs(), False, 0)  # once
    assert "set-up" in await play(looks((True, 60), (False, 1), (True, 6)))  # stuck, and then let go of


async def test_what_is_no_long_press_does_nothing():
    for spans in (
        ((False, 1), (True, 4), (False, 1), (True, 4), (False, 1)),
        ((True, 60),),  # a pin that is always low: no button is there, or it is stuck
        ((False, 60),),
        ((True, 60), (False, 1), (True, 1)),
    ):
        assert not await play(looks(*spans)), spans
        assert board.Nvs().get_int("setup", 0) == 0
        assert not asked(board.Nvs(), True, 0)


async def test_without_a_button_power_that_comes_five_times_does_it():
    nvs = Numbers()
    for _ in range(2):  # and again from the start
        for _ in range(STARTS - 1):
            assert not asked(nvs, True, -1)
        assert asked(nvs, True, -1)


async def test_a_start_that_lasted_or_was_a_reset_begins_the_count_anew():
    for seconds, counted in ((application.QUICK_S, 3), (application.QUICK_S + 2, 0)):
        app = core_life.node(button={"pin": -1})
        board.Nvs().set_int("setup", 0)
        nvs = board.Nvs()
        for _ in range(3):
            asked(nvs, True, -1)
        await core_life.supervise(app, seconds)
        assert board.Nvs().get_int("setup", 0) == counted
    nvs = Numbers()
    for turn in range(3 * STARTS):
        assert not asked(nvs, turn % 3 != 0, -1)
    changes = nvs.changes
    for _ in range(3 * STARTS):  # with a button the power may come as it likes
        assert not asked(nvs, True, 0)
    assert nvs.changes <= changes + 1


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

    async def nobody(setup):
        await asyncio.sleep(1000)

    with core_board.Replaced((setup, "_serial", nobody)):
        while True:
            setup.WEB = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
            setup.NAMES = setup.WEB + 1
            try:
                await setup.run("node.json", 0.2)
                break
            except OSError as error:
                if error.errno != EADDRINUSE:
                    raise
    with open("node.json") as file:
        assert json.load(file) == before
    network.WLAN.networks = None
