"""What the firmware uses of MicroPython's `esp32`: NVS, kept in the file `nvs-<namespace>.json` of the working directory.

As on the chip a commit is atomic - the file is replaced whole or not at all - and what one handle has committed all others see.
"""

import binascii
import json
import os

_NOT_FOUND = -0x1102  # ESP_ERR_NVS_NOT_FOUND


class NVS:
    def __init__(self, namespace):
        self._path = "nvs-%s.json" % namespace
        self._changes = {}

    def _values(self):
        try:
            with open(self._path) as file:
                values = json.load(file)
        except OSError:
            values = {}
        values.update(self._changes)
        return values

    def set_i32(self, key, value):
        if not -(1 << 31) <= value < 1 << 31:
            raise OverflowError(key)
        self._changes[key] = value

    def get_i32(self, key):
        value = self._values().get(key)
        if not isinstance(value, int):
            raise OSError(_NOT_FOUND)
        return value

    def set_blob(self, key, value):
        self._changes[key] = binascii.hexlify(value).decode()

    def get_blob(self, key, into):
        value = self._values().get(key)
        if not isinstance(value, str):
            raise OSError(_NOT_FOUND)
        blob = binascii.unhexlify(value)
        into[: len(blob)] = blob
        return len(blob)

    def commit(self):
        with open(self._path + ".new", "w") as file:
            json.dump(self._values(), file)
        os.rename(self._path + ".new", self._path)
        self._changes = {}


class Partition:
    """Flash partitions of a board with OTA slots, as the files `ota_0` and `ota_1` of the working directory; a board
    without, while there are none. The file `otadata` holds what the bootloader knows: [starts next, runs, on trial].
    """

    BOOT = 0
    RUNNING = 1
    SIZE = 1 << 20
    BLOCK = 4096

    def __init__(self, which):
        if which == Partition.RUNNING:
            which = _otadata()[1]
        elif which == Partition.BOOT:
            which = _otadata()[0]
        self._label = which

    def info(self):
        """(type, subtype, address, size, label, encrypted)"""
        return (0, 16, 65536, Partition.SIZE, self._label, False)

    def get_next_update(self):
        return Partition("ota_1" if self._label == "ota_0" else "ota_0")

    def writeblocks(self, number, buffer):
        with open(self._label, "r+b") as file:
            file.seek(number * Partition.BLOCK)
            file.write(buffer)

    def readblocks(self, number, buffer):
        with open(self._label, "rb") as file:
            file.seek(number * Partition.BLOCK)
            file.readinto(buffer)

    def set_boot(self):
        _, running, _ = _otadata()
        _otadata([self._label, running, True])

    @staticmethod
    def mark_app_valid_cancel_rollback():
        boot, running, _ = _otadata()
        if boot == "factory":
            raise OSError(-0x105)
        _otadata([boot, running, False])


def bootloader():
    """What the bootloader does at a reset: starts a new image once, and goes back when it was not confirmed."""
    boot, running, trial = _otadata()
    if trial and running == boot:
        boot = "ota_1" if boot == "ota_0" else "ota_0"
        trial = False
    _otadata([boot, boot, trial])
    return boot


def _otadata(new=None):
    if new:
        with open("otadata.new", "w") as file:
            json.dump(new, file)
        os.rename("otadata.new", "otadata")
    try:
        with open("otadata") as file:
            return json.load(file)
    except OSError:
        return ["factory", "factory", False]
