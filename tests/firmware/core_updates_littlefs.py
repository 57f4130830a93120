"""An update on a real LittleFS v2, on a block device that loses power at every single write.

Only MicroPython brings LittleFS; on CPython there is nothing to test here.
"""

# ruff: noqa: SIM105 - MicroPython has no contextlib

import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from core_boot import Nvs, PowerCut, boot
from core_littlefs import Flash
from nodeboot import SLOTS
from ota_server import archive
from sensornode.updates import FileSlot

OLD = [("sensornode/__init__.py", b"old"), ("sensornode/node.py", b"o" * 900)]
NEW = [
    ("sensornode/__init__.py", b"new"),
    ("sensornode/node.mpy", bytes(range(256)) * 5),
    ("sensornode/sensors/x.mpy", b"n" * 700),
]
NEW += [(f"sensornode/part{n}.mpy", bytes((n,)) * 1500) for n in range(6)]
ROOT = "/flash"


def mount(flash):
    os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), ROOT)


async def install(nvs, files, slot, sequence):
    target = FileSlot(f"{ROOT}/{SLOTS[slot]}")
    try:
        image = archive(files)
        for at in range(0, len(image), 1000):
            target.write(image[at : at + 1000])
        await target.check()
    finally:
        target.close()
    boot(nvs).begin_update(sequence, slot, 20, 10)


def content(slot):
    """What a slot holds: {name in the archive: content}."""
    found = {}

    def walk(path, name):
        for entry in os.ilistdir(path):
            if entry[1] & 0x4000:
                walk(path + "/" + entry[0], name + entry[0] + "/")
            else:
                with open(path + "/" + entry[0], "rb") as file:
                    found[name + entry[0]] = file.read()

    walk(f"{ROOT}/{SLOTS[slot]}", "")
    return found


async def test_power_cut_at_every_write_of_the_flash_leaves_an_application_that_starts():
    if not hasattr(os, "VfsLfs2"):
        return
    first = Flash()
    os.VfsLfs2.mkfs(first, progsize=64, readsize=64, lookahead=32)
    mount(first)
    kept = Nvs()
    await install(kept, OLD, 0, 1)
    boot(kept).well(True)
    await install(kept, OLD, 1, 2)  # what an earlier update left
    boot(kept).give_up()
    os.umount(ROOT)
    power = 1
    while True:
        flash = Flash(first.data)
        flash.power = power
        nvs = Nvs()
        nvs.values = dict(kept.values)
        mount(flash)
        try:
            await install(nvs, NEW, 1, 3)
        except (OSError, PowerCut, ValueError):
            pass
        os.umount(ROOT)
        left, flash.power = flash.power, None
        mount(Flash(flash.data))
        life = boot(nvs)
        assert content(life.active) == dict(NEW if life.active else OLD), (power, life.active)
        assert content(0) == dict(OLD), power
        if power % 16 == 0 and not life.active:  # whatever the cut left, the same update goes through
            await install(nvs, NEW, 1, 3)
            assert content(boot(nvs).active) == dict(NEW)
        os.umount(ROOT)
        if left:
            assert life.active == 1
            assert power > 50, power
            return
        power += 1
