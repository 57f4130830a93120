"""What the firmware uses of MicroPython's `machine`, for a node that is a process on a computer."""

import sys


class WDT:
    """A watchdog that never bites; `fed` counts."""

    def __init__(self, timeout=5000):
        self.timeout = timeout
        self.fed = 0

    def feed(self):
        self.fed += 1


class RTC:
    """A clock nobody reads: sim/world.py is the time."""

    def datetime(self, fields=None):
        return fields


def reset():
    sys.exit(1)
