"""Starts a node from the image of its file system, under MicroPython on a computer.

    micropython -X heapsize=32M boot.py IMAGE NVS SIM

IMAGE is what lies in the flash partition `vfs`; MicroPython's own VfsLfs2 mounts it at the root, in place of the computer's files,
and then main.py runs as after a reset. NVS is what lies in the partition `nvs`, as JSON: namespace to key to number, or blob in hexadecimal digits.
SIM is firmware/sim: the board's modules, and a TMP105 on the I2C bus.
"""

import json
import sys
import time

import vfs


class Flash:
    """A block device in memory, with blocks as an ESP32's partition has them."""

    BLOCK = 4096

    def __init__(self, content):
        self.content = bytearray(content)

    def readblocks(self, number, into, offset=0):
        start = number * self.BLOCK + offset
        into[:] = self.content[start : start + len(into)]

    def writeblocks(self, number, data, offset=None):
        start = number * self.BLOCK
        if offset is None:
            self.ioctl(6, number)
            offset = 0
        for index in range(len(data)):
            self.content[start + offset + index] &= data[index]  # flash only clears bits

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.content) // self.BLOCK
        if operation == 5:
            return self.BLOCK
        if operation == 6:
            start = argument * self.BLOCK
            self.content[start : start + self.BLOCK] = b"\xff" * self.BLOCK
        return 0


class Clock:
    def uptime_ms(self):
        return time.ticks_ms()


def main():
    with open(sys.argv[1], "rb") as file:
        flash = Flash(file.read())
    with open(sys.argv[2]) as file:
        nvs = json.load(file)
    sys.path.insert(0, sys.argv[3])
    # what stands for the board's own modules is loaded while the computer's files can be seen
    import esp32  # noqa: F401
    import machine
    import network  # noqa: F401
    from devices.bench import Bench
    from devices.light_and_heat import TMP105

    bench = Bench(Clock())
    bench.plug(TMP105())
    for name in ("Pin", "I2C", "UART", "ADC"):
        setattr(machine, name, getattr(bench, name))
    sys.path[:] = ["", ".frozen", "/lib"]
    vfs.umount("/")
    vfs.mount(flash, "/")  # finds out that it is LittleFS, as the board does
    for namespace, values in nvs.items():
        with open("nvs-" + namespace + ".json", "w") as file:
            json.dump(values, file)
    with open("/main.py") as file:
        source = file.read()
    exec(source, {"__name__": "__main__"})


main()
