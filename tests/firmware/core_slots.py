"""Application directories that rot after they were confirmed: what starts then, and what must not."""

import asyncio
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import machine
import nodeboot
import slots
from core_boot import Nvs
from nodeboot import LEAVE_AFTER, NONE, PARTITION, SAFE_AFTER, Life
from sensornode import updates

FILES = (
    ("__init__.py", b"__version__ = '0.2.0'\n"),
    ("node.py", b"x" * 5000),
    ("sensors/a.py", b""),
    ("comb.bin", bytes(3000)),
)
COUNT = [0]


def write(name, data):
    with open(name, "wb") as file:
        file.write(data)


class Flash:
    """A file system with an application in each of some slots, and the record of the one that starts."""

    def __init__(self, *filled, slot=0, minimum=0, sealed=True):
        COUNT[0] += 1
        self.root = f"{os.getcwd()}/{COUNT[0]}"
        os.mkdir(self.root)
        for number in filled:
            path = self.path(number)
            for name in ("", "/sensornode", "/sensornode/sensors"):
                os.mkdir(path + name)
            for name, data in FILES:
                write(f"{path}/sensornode/{name}", data)
            if sealed:
                self.seal(number)
        self.nvs = Nvs()
        life = Life(self.nvs)
        life.slot = slot
        life.minimum = minimum
        life.save()

    def path(self, number):
        return f"{self.root}/{nodeboot.SLOTS[number]}"

    def seal(self, number, version=20):
        path = self.path(number)
        files = list(updates._files(updates.Disk, path))
        buffer = bytearray(100)
        members = [(name, asyncio.run(updates._digest(updates.Disk, name, buffer))) for name in files]
        updates._seal(updates.Disk, path, version, members)

    def rot(self, number, name="sensornode/node.py", data=b"rotten"):
        write(f"{self.path(number)}/{name}", data)

    def boot(self, cause=machine.SOFT_RESET):
        """Start; returns the slot whose application runs."""
        sys.modules.pop("slots", None)
        path, machine.reset_cause = list(sys.path), lambda: cause
        self.life = nodeboot.start(self.root, self.nvs)
        first, sys.path[:] = sys.path[0], path
        assert "slots" not in sys.modules  # it costs a running node nothing
        if not first.startswith(self.root):
            return None
        assert first == self.path(self.life.active)
        return self.life.active


def test_a_whole_application_starts_and_nothing_is_written():
    for sealed in (True, False):
        flash = Flash(0, 1, slot=1, sealed=sealed)
        assert flash.boot() == 1
        flash.life.well(True)
        changes = flash.nvs.changes
        assert flash.boot(machine.PWRON_RESET) == 1
        assert flash.nvs.changes == changes


def test_a_confirmed_one_with_a_rotten_file_gives_way_for_good():
    for name, data in FILES:
        for bad in (b"", data[:-1], data + b"x", b"\xff" * len(data)):
            if bad == data:
                continue
            flash = Flash(0, 1, slot=1)
            flash.rot(1, "sensornode/" + name, bad)
            assert flash.boot() == 0, name
            assert flash.life.slot == 0
            assert Life(flash.nvs).slot == 0
    flash = Flash(0, 1, slot=1)
    os.remove(flash.path(1) + "/sensornode/comb.bin")
    assert flash.boot() == 0
    flash = Flash(0, slot=1)  # it is gone altogether
    assert flash.boot() == 0


def test_when_both_have_rotted_the_confirmed_one_is_tried_all_the_same():
    flash = Flash(0, 1, slot=1)
    flash.rot(0)
    flash.rot(1)
    for _ in range(3):
        assert flash.boot() == 1


def test_nothing_below_the_minimum_comes_back():
    for minimum, starts in ((20, 0), (21, 1)):
        flash = Flash(0, 1, slot=1, minimum=minimum)
        flash.rot(1)
        assert flash.boot() == starts
    flash = Flash(0, 1, slot=1, minimum=1)
    os.remove(flash.path(0) + "/whole")  # nobody knows its version
    flash.rot(1)
    assert flash.boot() == 1


def test_what_was_written_down_may_itself_be_torn_and_then_does_not_count():
    with open(Flash(0).path(0) + "/whole", "rb") as file:
        good = file.read()
    for length in range(len(good)):
        flash = Flash(0, 1)
        flash.rot(0, "whole", good[:length])
        if length % 7 == 0:
            flash.rot(0, "sensornode/node.py", b"other")
        assert flash.boot() == 0, length
    for at in range(0, len(good), 11):
        bad = bytearray(good)
        bad[at] ^= 4
        flash = Flash(0, 1)
        flash.rot(0, "whole", bytes(bad))
        assert flash.boot() == 0, at


def test_a_rotten_one_on_trial_ends_its_trial_at_once():
    flash = Flash(0, 1)
    Life(flash.nvs).begin_update(1, 1, 20, 10)
    flash.rot(1)
    assert flash.boot() == 0
    assert not flash.life.on_trial
    assert flash.life.takes_update(1)  # it may come again
    assert flash.life.minimum == 0


def test_an_image_in_a_partition_is_not_looked_at():
    flash = Flash(0, 1)
    Life(flash.nvs).begin_update(1, PARTITION, 20, 10)
    flash.rot(0)
    assert flash.boot() == 0
    assert flash.life.trial == PARTITION
    assert not nodeboot.failed(flash.life)


def unloadable(flash, starts):
    """Starts whose import fails: which application each of them had, and whether it was left at once."""
    return [(flash.boot(), nodeboot.failed(flash.life)) for _ in range(starts)]


def test_one_that_no_start_can_load_gives_way_though_its_files_are_right():
    flash = Flash(0, 1, slot=1)
    assert unloadable(flash, LEAVE_AFTER) == [(1, False)] * LEAVE_AFTER
    assert flash.boot() == 0
    assert Life(flash.nvs).slot == 0
    flash.rot(1)
    os.rename(flash.path(1), flash.root + "/away")
    assert unloadable(flash, 2 * LEAVE_AFTER) == [(0, False)] * 2 * LEAVE_AFTER
    assert flash.boot() == 0


def test_an_import_that_fails_now_and_then_changes_nothing_for_good():
    """Too little memory in one piece, say."""
    flash = Flash(0, 1, slot=1)
    for _ in range(5):
        assert unloadable(flash, LEAVE_AFTER - 1) == [(1, False)] * (LEAVE_AFTER - 1)
        assert flash.boot() == 1
        flash.life.well(False)  # it ran for some minutes, or a receipt came
    assert Life(flash.nvs).slot == 1


def test_one_on_trial_that_cannot_be_loaded_ends_its_trial_at_once():
    flash = Flash(0, 1)
    Life(flash.nvs).begin_update(1, 1, 20, 10)
    assert unloadable(flash, 1) == [(1, True)]
    assert flash.boot() == 0
    assert not flash.life.on_trial
    assert flash.life.takes_update(1)


def test_what_nobody_has_written_down_never_takes_the_place_of_a_confirmed_one():
    flash = Flash(0, 1, sealed=False)  # the second was fetched, and is not what was signed
    flash.seal(0)
    for _ in range(2 * LEAVE_AFTER):
        assert flash.boot() == 0
    assert not nodeboot.failed(flash.life)
    flash.rot(0)
    assert flash.boot() == 0


def test_an_application_that_is_part_of_the_image_comes_back_after_a_trial_that_failed():
    flash = Flash(1)
    Life(flash.nvs).begin_update(1, 1, 20, 10)
    assert [flash.boot() for _ in range(nodeboot.TRIES + 2)] == [1, 1, 1, None, None]
    assert (flash.life.slot, flash.life.trial) == (0, NONE)


def test_safe_mode_comes_first_and_the_other_one_when_that_fails_too():
    flash = Flash(0, 1, slot=1)
    for start in range(1, LEAVE_AFTER + 1):
        assert flash.boot() == 1
        assert flash.life.safe == (start > SAFE_AFTER)
    assert flash.boot() == 0
    assert not flash.life.safe
    alone = Flash(1, slot=1)
    for start in range(1, 3 * LEAVE_AFTER):
        assert alone.boot() == 1
        assert alone.life.safe == (start > SAFE_AFTER)


def test_a_node_that_wakes_up_does_not_read_its_flash_each_time():
    flash = Flash(0, 1, slot=1)
    flash.rot(1)
    assert flash.boot(machine.DEEPSLEEP_RESET) == 1
    assert flash.boot(machine.PWRON_RESET) == 0


def test_a_power_cut_at_every_change_leaves_one_that_starts():
    for cut in range(3):
        flash = Flash(0, 1, slot=1)
        flash.rot(1)
        flash.nvs.power = cut
        try:
            flash.boot()
        except Exception:  # the cut
            assert cut < 2
        flash.nvs.power = None
        assert flash.boot() == 0
        assert flash.life.trial == NONE


def test_without_directories_nothing_is_looked_for():
    flash = Flash()
    assert flash.boot() is None
    assert not nodeboot.failed(flash.life)


def test_the_name_of_the_rotten_file_is_told():
    flash = Flash(0)
    flash.rot(0)
    import slots as again

    try:
        again.installed(flash.path(0))
    except again.RottenError as error:
        assert str(error).endswith("app_a/sensornode/node.py")
    else:
        raise AssertionError("whole")
    assert slots.SEAL == updates.SEAL
    del sys.modules["slots"]


def run_main(life, other):
    """What main.py does when the application cannot be loaded: what it calls, and how it ends."""
    did = []

    def failed(life):
        did.append("failed")
        return other

    def reset():
        did.append("reset")
        raise SystemExit(3)

    with open(os.getenv("PROJECT") + "/firmware/main.py") as file:
        source = file.read()

    class Time:
        sleep = did.append

    before = nodeboot.start, nodeboot.failed, machine.reset
    modules = {name: sys.modules.get(name) for name in ("time", "sensornode.node")}
    nodeboot.start, nodeboot.failed, machine.reset = lambda: life, failed, reset
    sys.modules["time"] = Time
    sys.modules["sensornode.node"] = slots  # anything that has no `main`
    try:
        exec(source, {"__name__": "__main__"})
    except SystemExit:
        did.append("end")
    finally:
        nodeboot.start, nodeboot.failed, machine.reset = before
        for name, module in modules.items():
            del sys.modules[name]
            if module:
                sys.modules[name] = module
    return did


def test_main_starts_again_with_the_other_application_or_with_the_same_after_a_while():
    life = Life(Nvs())
    assert run_main(life, True) == ["failed", "reset", "end"]
    assert run_main(life, False) == ["failed", 10, "reset", "end"]
