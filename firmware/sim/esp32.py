"""What the firmware uses of MicroPython's `esp32`: NVS, kept in the file `nvs-<namespace>.json` of the working directory.

As on the chip a commit is atomic: the file is replaced whole or not at all.
"""

import binascii
import json
import os

_NOT_FOUND = -0x1102  # ESP_ERR_NVS_NOT_FOUND


class NVS:
    def __init__(self, namespace):
        self._path = "nvs-%s.json" % namespace
        try:
            with open(self._path) as file:
                self._values = json.load(file)
        except OSError:
            self._values = {}

    def set_i32(self, key, value):
        if not -(1 << 31) <= value < 1 << 31:
            raise OverflowError(key)
        self._values[key] = value

    def get_i32(self, key):
        value = self._values.get(key)
        if not isinstance(value, int):
            raise OSError(_NOT_FOUND)
        return value

    def set_blob(self, key, value):
        self._values[key] = binascii.hexlify(value).decode()

    def get_blob(self, key, into):
        value = self._values.get(key)
        if not isinstance(value, str):
            raise OSError(_NOT_FOUND)
        blob = binascii.unhexlify(value)
        into[: len(blob)] = blob
        return len(blob)

    def commit(self):
        with open(self._path + ".new", "w") as file:
            json.dump(self._values, file)
        os.rename(self._path + ".new", self._path)
